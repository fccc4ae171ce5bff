/* Advice that stays with a mapping: /proc shows it in the clone as it did before, and a fork after the thaw heeds it.
 *
 * conformance: memory | `MADV_DONTFORK`, `WIPEONFORK`, `HUGEPAGE`, `NOHUGEPAGE`, `DONTDUMP`, `MERGEABLE`, `SEQUENTIAL`, `RANDOM` | kept |
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGES 16

static const struct {
    int advice;
    const char *code;
} advices[] = {{MADV_DONTFORK, "dc"}, {MADV_WIPEONFORK, "wf"}, {MADV_HUGEPAGE, "hg"}, {MADV_NOHUGEPAGE, "nh"},
    {MADV_DONTDUMP, "dd"}, {MADV_MERGEABLE, "mg"}, {MADV_SEQUENTIAL, "sr"}, {MADV_RANDOM, "rr"}};
#define COUNT (sizeof advices / sizeof *advices)

int main(void)
{
    char *private[COUNT], *shared[COUNT];
    bool shared_has[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        private[i] = test_map(PAGES * TEST_PAGE, PROT_READ | PROT_WRITE);
        shared[i] = mmap(NULL, PAGES * TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shared[i] != MAP_FAILED);
        test_fill(private[i], PAGES * TEST_PAGE, (unsigned)i);
        test_fill(shared[i], PAGES * TEST_PAGE, (unsigned)i + 100);
        /* To the middle, so that each is three mappings; some advice is not for shared memory. */
        CHECK(madvise(private[i] + 4 * TEST_PAGE, 8 * TEST_PAGE, advices[i].advice) == 0);
        (void)!madvise(shared[i] + 4 * TEST_PAGE, 8 * TEST_PAGE, advices[i].advice);
        shared_has[i] = test_vm_flag(shared[i] + 5 * TEST_PAGE, advices[i].code);
        CHECK(test_vm_flag(private[i] + 5 * TEST_PAGE, advices[i].code));
    }
    CHECK(shared_has[0] && shared_has[4] && shared_has[6] && shared_has[7]);

    test_freeze_point();
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(test_vm_flag(private[i] + 5 * TEST_PAGE, advices[i].code));
        CHECK(!test_vm_flag(private[i], advices[i].code) &&
              !test_vm_flag(private[i] + 12 * TEST_PAGE, advices[i].code));
        CHECK_EQUAL(test_vm_flag(shared[i] + 5 * TEST_PAGE, advices[i].code), shared_has[i]);
        CHECK(!test_vm_flag(shared[i], advices[i].code));
        CHECK(test_filled(shared[i], PAGES * TEST_PAGE, (unsigned)i + 100));
        if (advices[i].advice == MADV_WIPEONFORK)
            test_fill(
                private[i] + 4 * TEST_PAGE, 8 * TEST_PAGE, 7); /* each thaw is a fork: it came as zeros */
        else
            CHECK(test_filled(private[i], PAGES * TEST_PAGE, (unsigned)i));
    }
    pid_t child = fork();
    if (child == 0) {
        bool wiped = private[1][4 * TEST_PAGE] == 0 && private[1][5 * TEST_PAGE + 8] == 0;
        _exit(wiped && test_fault(private[0] + 4 * TEST_PAGE, false) == SIGSEGV &&
                      test_fault(shared[0] + 4 * TEST_PAGE, false) == SIGSEGV &&
                      test_fault(private[0], false) == 0
                  ? 7
                  : 8);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 7);
    return 0;
}
