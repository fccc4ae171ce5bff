/* Advice about contents, given before the freeze and after the thaw: what was thrown away reads as zeros, what was only
 * moved out of the way is still there, what was freed lazily is one of both.
 *
 * conformance: memory | `MADV_DONTNEED`, `FREE`, `COLD`, `PAGEOUT`, `POPULATE_READ`, `POPULATE_WRITE`, `COLLAPSE`, `REMOVE` | kept | before the freeze and after the thaw
 */
#include "look.h"

#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define LEN (32 * TEST_PAGE)

static char *filled(unsigned seed)
{
    char *at = test_map(LEN, PROT_READ | PROT_WRITE);
    test_fill(at, LEN, seed);
    return at;
}

static bool zero(const char *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (at[i] != 0)
            return false;
    return true;
}

/* After MADV_FREE a page holds what it held, or zeros. */
static void check_freed(const char *at, unsigned seed)
{
    for (size_t page = 0; page < LEN / TEST_PAGE; page++) {
        static char whole[LEN];
        memset(whole, 0, LEN);
        test_fill(whole, LEN, seed);
        CHECK(zero(at + page * TEST_PAGE, TEST_PAGE) ||
              memcmp(at + page * TEST_PAGE, whole + page * TEST_PAGE, TEST_PAGE) == 0);
    }
}

static void advise(char *gone, char *freed, char *cold, char *out, char *collapsed)
{
    CHECK(madvise(gone + TEST_PAGE, 4 * TEST_PAGE, MADV_DONTNEED) == 0);
    CHECK(madvise(freed, LEN, MADV_FREE) == 0);
    CHECK(madvise(cold, LEN, MADV_COLD) == 0);
    CHECK(madvise(out, LEN, MADV_PAGEOUT) == 0);
    CHECK(madvise(collapsed, 2 << 20, MADV_COLLAPSE) == 0 || errno == EAGAIN || errno == ENOMEM);
}

static void check(char *gone, char *freed, char *cold, char *out, char *collapsed)
{
    CHECK(test_filled(gone, TEST_PAGE, 1) && zero(gone + TEST_PAGE, 4 * TEST_PAGE));
    check_freed(freed, 2);
    CHECK(test_filled(cold, LEN, 3) && test_filled(out, LEN, 4) && test_filled(collapsed, 2 << 20, 5));
}

int main(void)
{
    char *gone = filled(1), *freed = filled(2), *cold = filled(3), *out = filled(4);
    char *area = test_map(4 << 20, PROT_READ | PROT_WRITE);
    char *collapsed = (char *)(((uintptr_t)area + (2 << 20) - 1) & ~((2ul << 20) - 1));
    test_fill(collapsed, 2 << 20, 5);
    char *shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    test_fill(shared, LEN, 6);
    CHECK(madvise(shared, 3 * TEST_PAGE, MADV_REMOVE) == 0);
    char *empty = test_map(LEN, PROT_READ | PROT_WRITE);
    CHECK(madvise(empty, 2 * TEST_PAGE, MADV_POPULATE_READ) == 0);
    CHECK(madvise(empty + 8 * TEST_PAGE, 2 * TEST_PAGE, MADV_POPULATE_WRITE) == 0);
    advise(gone, freed, cold, out, collapsed);

    test_freeze_point();
    check(gone, freed, cold, out, collapsed);
    CHECK(zero(shared, 3 * TEST_PAGE) && zero(empty, LEN));
    CHECK(!zero(shared + 3 * TEST_PAGE, TEST_PAGE));
    /* Written to, a freed page is no longer free. */
    test_fill(freed, LEN, 2);
    CHECK(test_filled(freed, LEN, 2));
    advise(gone, freed, cold, out, collapsed);
    check(gone, freed, cold, out, collapsed);
    CHECK(madvise(empty, LEN, MADV_POPULATE_WRITE) == 0 && zero(empty, LEN));
    CHECK(madvise(shared, LEN, MADV_REMOVE) == 0 && zero(shared, LEN));
    test_fill(empty, LEN, (unsigned)test_clone_index);
    test_barrier();
    CHECK(test_filled(empty, LEN, (unsigned)test_clone_index));
    return 0;
}
