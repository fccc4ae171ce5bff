/* Transparent huge pages are there at the freeze: the contents are kept, also of one that was split, and of one with a
 * hole; whether they are huge again is the kernel's affair.
 *
 * conformance: memory | transparent huge pages | kept | the contents; stretches that are mostly filled become huge again
 */
#include "look.h"

#include <sys/mman.h>

#define HUGE (2ul << 20)

int main(void)
{
    char *area = test_map(8 * HUGE, PROT_READ | PROT_WRITE);
    char *first = (char *)(((uintptr_t)area + HUGE - 1) & ~(HUGE - 1));
    CHECK(madvise(first, 6 * HUGE, MADV_HUGEPAGE) == 0);
    test_fill(first, 4 * HUGE, 1);
    first[4 * HUGE + 12345] = 'x'; /* one byte: the rest of a huge page of zeros */
    CHECK(test_vm_number(first, "AnonHugePages:") >= 2048);
    CHECK(mprotect(first + HUGE + 5 * TEST_PAGE, TEST_PAGE, PROT_READ) == 0);
    CHECK(madvise(first + 2 * HUGE + 7 * TEST_PAGE, TEST_PAGE, MADV_DONTNEED) == 0);
    CHECK(munmap(first + 3 * HUGE + 9 * TEST_PAGE, TEST_PAGE) == 0);

    test_freeze_point();
    CHECK(test_filled(first, HUGE, 1));
    static char expected[4 * HUGE];
    test_fill(expected, sizeof expected, 1);
    memset(expected + 2 * HUGE + 7 * TEST_PAGE, 0, TEST_PAGE);
    for (size_t page = 0; page < 4 * HUGE / TEST_PAGE; page++)
        CHECK(page == 3 * HUGE / TEST_PAGE + 9 ||
              memcmp(first + page * TEST_PAGE, expected + page * TEST_PAGE, TEST_PAGE) == 0);
    for (size_t i = 0; i < HUGE; i++)
        CHECK_EQUAL(first[4 * HUGE + i], i == 12345 ? 'x' : 0);
    CHECK(test_vm_flag(first, "hg"));
    memset(first, test_clone_index + 1, HUGE);
    test_barrier();
    for (size_t i = 0; i < HUGE; i += 1000)
        CHECK_EQUAL(first[i], test_clone_index + 1);
    return 0;
}
