/* Memory that was moved before the freeze and is moved after the thaw: mremap grows, shrinks, moves, leaves behind
 * (MREMAP_DONTUNMAP), duplicates shared memory; pages of a file in another order (remap_file_pages).
 *
 * conformance: memory | memory that `mremap` moved, grew, shrank, duplicated; before the freeze and after the thaw | kept |
 * conformance: shared memory | parts of shared memory, pages in another order (`remap_file_pages`) | kept |
 */
#include "look.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define LEN (16 * TEST_PAGE)

static void move_all(char **grown, char **left, char **shared)
{
    char *more = mremap(*grown, LEN, 2 * LEN, MREMAP_MAYMOVE);
    CHECK(more != MAP_FAILED);
    *grown = mremap(more, 2 * LEN, LEN, 0);
    CHECK(*grown == more);
    char *copy = mremap(*left, LEN, LEN, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    CHECK(copy != MAP_FAILED && (*left)[TEST_PAGE + 8] == 0);
    *left = copy;
    char *again = mremap(*shared, 0, LEN, MREMAP_MAYMOVE); /* a second mapping of the same */
    CHECK(again != MAP_FAILED);
    again[100]++;
    CHECK_EQUAL(again[100], (*shared)[100]);
    CHECK(munmap(*shared, LEN) == 0);
    *shared = again;
}

int main(void)
{
    char *grown = test_map(LEN, PROT_READ | PROT_WRITE), *left = test_map(LEN, PROT_READ | PROT_WRITE);
    char *shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *order = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *part = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED && order != MAP_FAILED && part != MAP_FAILED);
    test_fill(grown, LEN, 1);
    test_fill(left, LEN, 2);
    move_all(&grown, &left, &shared);
    for (int i = 0; i < 16; i++) {
        order[i * (int)TEST_PAGE] = (char)i;
        part[i * (int)TEST_PAGE] = (char)(50 + i);
    }
    for (int i = 0; i < 8; i++)
        CHECK(syscall(SYS_remap_file_pages, order + i * (int)TEST_PAGE, TEST_PAGE, 0, 15 - i, 0) == 0);
    CHECK(munmap(part, 4 * TEST_PAGE) == 0 && munmap(part + 8 * TEST_PAGE, 2 * TEST_PAGE) == 0);

    test_freeze_point();
    for (int i = 0; i < 8; i++) {
        CHECK_EQUAL(order[i * (int)TEST_PAGE], 15 - i);
        order[i * (int)TEST_PAGE] = (char)(test_clone_index + i);
        CHECK_EQUAL(order[(15 - i) * (int)TEST_PAGE], test_clone_index + i);
    }
    for (int i = 4; i < 16; i++)
        CHECK(i == 8 || i == 9 || part[i * (int)TEST_PAGE] == 50 + i);
    CHECK(test_filled(grown, LEN, 1) && test_filled(left, LEN, 2));
    CHECK_EQUAL(shared[100], 1);
    move_all(&grown, &left, &shared);
    move_all(&grown, &left, &shared);
    CHECK(test_filled(grown, LEN, 1) && test_filled(left, LEN, 2));
    CHECK_EQUAL(shared[100], 3);
    test_barrier();
    for (int i = 0; i < 8; i++)
        CHECK_EQUAL(order[(15 - i) * (int)TEST_PAGE], test_clone_index + i);
    return 0;
}
