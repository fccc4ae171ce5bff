/* Stretches of memory that are larger than a huge page, with holes, ends that are no huge page's, and advice of the
 * program's own: every clone finds every byte, and keeps its writes to itself.
 *
 * conformance: memory | large stretches of it, with holes | kept |
 */
#include "engine.h"

#include <sys/mman.h>

#define PAGE 4096
#define BYTES (11 * 1024 * 1024 + 5 * PAGE)
#define HOLE 700 /* a page in so many was never written to */

static uint32_t *map(int advice)
{
    uint32_t *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(advice == 0 || madvise(memory, BYTES, advice) == 0);
    return memory;
}

static bool is_hole(uint32_t page)
{
    return page % HOLE == HOLE - 1;
}

static void fill(uint32_t *memory, uint32_t seed)
{
    for (uint32_t i = 0; i < BYTES / 4; i++)
        if (!is_hole(i * 4 / PAGE))
            memory[i] = i * 2654435761u + seed;
}

static void check(const uint32_t *memory, uint32_t seed)
{
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < BYTES / 4; i++)
        wrong += memory[i] != (is_hole(i * 4 / PAGE) ? 0 : i * 2654435761u + seed);
    CHECK_EQUAL(wrong, 0);
}

static void check_isolation(uint32_t *memory)
{
    for (uint32_t page = 0; page < BYTES / PAGE; page += 37)
        memory[page * PAGE / 4] = (uint32_t)test_clone_index + page;
    test_barrier();
    for (uint32_t page = 0; page < BYTES / PAGE; page += 37)
        CHECK_EQUAL(memory[page * PAGE / 4], (uint32_t)test_clone_index + page);
    test_barrier();
}

int main(void)
{
    uint32_t *plain = map(0), *huge = map(MADV_HUGEPAGE), *small = map(MADV_NOHUGEPAGE), *read_only = map(0);
    fill(plain, 1);
    fill(huge, 2);
    fill(small, 3);
    fill(read_only, 4);
    CHECK(mprotect(read_only, BYTES, PROT_READ) == 0);
    test_freeze_point();
    check(plain, 1);
    check(huge, 2);
    check(small, 3);
    check(read_only, 4);
    check_isolation(plain);
    check_isolation(huge);
    check_isolation(small);
    return 0;
}
