/* Shared anonymous memory in parts: the first half unmapped, the middle without access, locked and advised pieces, one
 * piece inherited nowhere; a fork after the thaw shares it; atomics work across it.
 *
 * conformance: shared memory | shared anonymous memory in parts, with rights, locks and advice of each | kept |
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LEN (32 * TEST_PAGE)

int main(void)
{
    char *area = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    for (size_t page = 0; page < 32; page++)
        area[page * TEST_PAGE + page] = (char)(page + 1);
    CHECK(munmap(area, 8 * TEST_PAGE) == 0);
    CHECK(mprotect(area + 12 * TEST_PAGE, 2 * TEST_PAGE, PROT_NONE) == 0);
    CHECK(mprotect(area + 16 * TEST_PAGE, 2 * TEST_PAGE, PROT_READ) == 0);
    CHECK(mlock(area + 20 * TEST_PAGE, TEST_PAGE) == 0);
    CHECK(madvise(area + 24 * TEST_PAGE, 2 * TEST_PAGE, MADV_DONTFORK) == 0);
    char *moved = mremap(area + 28 * TEST_PAGE, 4 * TEST_PAGE, 4 * TEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
        test_map(4 * TEST_PAGE, PROT_NONE));
    CHECK(moved != MAP_FAILED);

    test_freeze_point();
    CHECK_EQUAL(test_fault(area, false), SIGSEGV);
    CHECK_EQUAL(test_fault(area + 12 * TEST_PAGE, false), SIGSEGV);
    CHECK_EQUAL(test_fault(area + 16 * TEST_PAGE, true), SIGSEGV);
    CHECK_EQUAL(test_fault(area + 28 * TEST_PAGE, false), SIGSEGV);
    CHECK(test_vm_flag(area + 20 * TEST_PAGE, "lo") && !test_vm_flag(area + 19 * TEST_PAGE, "lo"));
    CHECK(mprotect(area + 12 * TEST_PAGE, 2 * TEST_PAGE, PROT_READ) == 0);
    for (size_t page = 8; page < 28; page++)
        CHECK_EQUAL(area[page * TEST_PAGE + page], page + 1);
    for (size_t page = 28; page < 32; page++)
        CHECK_EQUAL(moved[(page - 28) * TEST_PAGE + page], page + 1);
    int *counter = (int *)(area + 10 * TEST_PAGE);
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 1000; i++)
            __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
        _exit(test_fault(area + 24 * TEST_PAGE, false) == SIGSEGV ? 7 : 8);
    }
    for (int i = 0; i < 1000; i++)
        __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_EQUAL(*counter, 2000);
    test_barrier();
    CHECK_EQUAL(*counter, 2000);
    return 0;
}
