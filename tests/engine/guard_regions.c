/* Guard regions (MADV_GUARD_INSTALL): an access faults in each clone where it faulted before, in private, shared and file
 * memory; what is beside them is there; they can be removed, and others installed (but where a pager serves).
 *
 * conformance: memory | guard regions (`MADV_GUARD_INSTALL`), of anonymous, shared and file memory | kept |
 */
#include "look.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>

#define MADV_GUARD_INSTALL_VALUE 102
#define MADV_GUARD_REMOVE_VALUE 103
#define LEN (64 * TEST_PAGE)

static bool guarded(size_t page)
{
    return page % 7 == 3 || page >= 60;
}

static void install(char *at)
{
    for (size_t page = 0; page < LEN / TEST_PAGE; page++)
        if (guarded(page))
            CHECK(madvise(at + page * TEST_PAGE, TEST_PAGE, MADV_GUARD_INSTALL_VALUE) == 0);
}

/* `seed` 0: of the program's file, whose bytes nobody knows. */
static void check(char *at, unsigned seed)
{
    for (size_t page = 0; page < LEN / TEST_PAGE; page++) {
        char *here = at + page * TEST_PAGE;
        CHECK_EQUAL(test_fault(here, false), guarded(page) ? SIGSEGV : 0);
        if (guarded(page) || seed == 0)
            continue;
        char expected[TEST_PAGE];
        memset(expected, (int)(seed + page), sizeof expected);
        CHECK(memcmp(here, expected, TEST_PAGE) == 0);
    }
}

static void fill(char *at, unsigned seed)
{
    for (size_t page = 0; page < LEN / TEST_PAGE; page++)
        memset(at + page * TEST_PAGE, (int)(seed + page), TEST_PAGE);
}

int main(void)
{
    char *private = test_map(LEN, PROT_READ | PROT_WRITE), *read_only = test_map(LEN, PROT_READ | PROT_WRITE);
    fill(private, 1);
    fill(read_only, 2);
    install(private);
    install(read_only);
    CHECK(mprotect(read_only, LEN, PROT_READ) == 0);
    char *untouched = test_map(LEN, PROT_READ | PROT_WRITE);
    CHECK(madvise(untouched, LEN, MADV_GUARD_INSTALL_VALUE) == 0);
    int memory = memfd_create("guarded", 0);
    CHECK(ftruncate(memory, LEN) == 0);
    char *shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    char *plain = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    CHECK(shared != MAP_FAILED && plain != MAP_FAILED);
    fill(shared, 3);
    install(shared);
    int fd = open("/usr/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    char *file = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(file != MAP_FAILED);
    close(fd);
    install(file);
    check(private, 1);

    test_freeze_point();
    check(private, 1);
    check(read_only, 2);
    check(shared, 3);
    check(file, 0);
    for (size_t page = 0; page < LEN / TEST_PAGE; page++) {
        CHECK(plain[page * TEST_PAGE + 9] == (char)(3 + page)); /* the other mapping has no guards */
        CHECK_EQUAL(test_fault(untouched + page * TEST_PAGE, page % 2), SIGSEGV);
    }
    CHECK(madvise(private, LEN, MADV_GUARD_REMOVE_VALUE) == 0);
    CHECK(private[3 * TEST_PAGE] == 0 && private[4 * TEST_PAGE] == 5);
    private[3 * TEST_PAGE] = 1;
    CHECK(madvise(untouched, TEST_PAGE, MADV_GUARD_REMOVE_VALUE) == 0);
    untouched[0] = (char)test_clone_index;
    bool may_install = madvise(private + 9 * TEST_PAGE, TEST_PAGE, MADV_GUARD_INSTALL_VALUE) == 0;
    CHECK(may_install || errno == EINVAL); /* a clone that a pager serves may not */
    CHECK_EQUAL(test_fault(private + 9 * TEST_PAGE, true), may_install ? SIGSEGV : 0);
    test_barrier();
    CHECK_EQUAL(untouched[0], test_clone_index);
    return 0;
}
