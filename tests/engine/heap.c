/* A heap of 1 GiB with something on every page.
 *
 * conformance: memory | a heap of 1 GiB | kept | pages that are not zero
 */
#include "engine.h"

#include <sys/mman.h>

#define PAGES ((1ul << 30) / 4096)

int main(void)
{
    uint64_t *heap = mmap(NULL, 1ul << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(heap != MAP_FAILED);
    for (uint64_t i = 0; i < PAGES; i++)
        heap[i * 512 + i % 512] = i * 0x9e3779b97f4a7c15ull + 1;
    test_freeze_point();
    for (uint64_t i = 0; i < PAGES; i++)
        CHECK(heap[i * 512 + i % 512] == i * 0x9e3779b97f4a7c15ull + 1);
    for (uint64_t i = 0; i < PAGES; i += 4096)
        heap[i * 512] = (uint64_t)test_clone_index;
    test_barrier();
    for (uint64_t i = 4096; i < PAGES; i += 4096)
        CHECK_EQUAL(heap[i * 512], test_clone_index);
    return 0;
}
