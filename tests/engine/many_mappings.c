/* Twelve thousand mappings: one area split by mprotect into pages of alternating rights, some unmapped.
 *
 * conformance: memory | thousands of mappings, split by `mprotect` and `munmap` | kept |
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>

#define PAGES 12000

static int protection(size_t page)
{
    static const int kinds[] = {PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC,
        PROT_READ | PROT_WRITE | PROT_EXEC};
    return kinds[page % 5];
}

int main(void)
{
    char *area = test_map(PAGES * TEST_PAGE, PROT_READ | PROT_WRITE);
    test_fill(area, PAGES * TEST_PAGE, 3);
    for (size_t page = 0; page < PAGES; page++) {
        if (page % 50 == 7)
            CHECK(munmap(area + page * TEST_PAGE, TEST_PAGE) == 0);
        else
            CHECK(mprotect(area + page * TEST_PAGE, TEST_PAGE, protection(page)) == 0);
    }
    size_t before = test_mapping_count();
    CHECK(before > PAGES * 9 / 10);

    test_freeze_point();
    CHECK_EQUAL(test_mapping_count(), before + 1); /* and the arena */
    for (size_t page = 0; page < PAGES; page += 50) {
        for (size_t i = page; i < page + 10; i++) {
            bool gone = i % 50 == 7;
            CHECK_EQUAL(
                test_fault(area + i * TEST_PAGE, false), gone || protection(i) == PROT_NONE ? SIGSEGV : 0);
            CHECK_EQUAL(
                test_fault(area + i * TEST_PAGE, true), gone || !(protection(i) & PROT_WRITE) ? SIGSEGV : 0);
        }
    }
    for (size_t page = 7; page < PAGES; page += 50)
        CHECK(mmap(area + page * TEST_PAGE, TEST_PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED);
    CHECK(mprotect(area, PAGES * TEST_PAGE, PROT_READ | PROT_WRITE) == 0);
    static char expected[PAGES * 4096];
    test_fill(expected, sizeof expected, 3);
    for (size_t page = 0; page < PAGES; page++)
        CHECK(page % 50 == 7 || memcmp(area + page * TEST_PAGE, expected + page * TEST_PAGE, TEST_PAGE) == 0);
    return 0;
}
