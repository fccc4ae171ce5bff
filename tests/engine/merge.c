/* Memory that the kernel may merge (KSM): the advice stays, each clone's copy is its own.
 *
 * conformance: memory | mergeable memory (KSM) | kept |
 */
#include "look.h"

#include <sys/mman.h>

#define LEN (128 * TEST_PAGE)

int main(void)
{
    char *a = test_map(LEN, PROT_READ | PROT_WRITE), *b = test_map(LEN, PROT_READ | PROT_WRITE);
    memset(a, 'k', LEN);
    memset(b, 'k', LEN);
    CHECK(madvise(a, LEN, MADV_MERGEABLE) == 0 && madvise(b, LEN, MADV_MERGEABLE) == 0);

    test_freeze_point();
    CHECK(test_vm_flag(a, "mg") && test_vm_flag(b, "mg"));
    CHECK(memcmp(a, b, LEN) == 0 && a[LEN - 1] == 'k');
    a[5] = (char)test_clone_index;
    CHECK_EQUAL(b[5], 'k');
    CHECK(madvise(b, LEN, MADV_UNMERGEABLE) == 0 && !test_vm_flag(b, "mg"));
    test_barrier();
    CHECK(a[5] == test_clone_index && b[5] == 'k');
    return 0;
}
