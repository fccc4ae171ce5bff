/* The least: memory, stdout, the runtime API's connection.
 *
 * conformance: whole programs | a small C program | kept |
 */
#include "engine.h"

static char before[] = "written before the freeze";

int main(void)
{
    char *heap = strdup(before);
    test_freeze_point();
    CHECK(strcmp(heap, before) == 0);
    heap[0] = (char)('0' + test_clone_index);
    test_barrier();
    CHECK_EQUAL(heap[0], '0' + test_clone_index);
    printf("clone %d speaks\n", test_clone_index);
    return 0;
}
