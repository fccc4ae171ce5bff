/* Address space that is only reserved, as Go, Java and .NET do it: 200 GiB without access, a few pieces of it in use; the
 * same for shared memory; after the thaw more pieces are taken, and some given back.
 *
 * conformance: memory | 200 GiB reserved with `PROT_NONE` and `MAP_NORESERVE`, with pieces in use | kept | costs nothing
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>

#define GIB (1ul << 30)
#define PIECES 20

int main(void)
{
    char *area = mmap(NULL, 200 * GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *writable =
        mmap(NULL, 200 * GIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(area != MAP_FAILED && writable != MAP_FAILED);
    for (unsigned i = 0; i < PIECES; i++) {
        char *piece = area + i * 10 * GIB + 5 * TEST_PAGE;
        CHECK(mprotect(piece, 16 * TEST_PAGE, PROT_READ | PROT_WRITE) == 0);
        test_fill(piece, 16 * TEST_PAGE, i);
        writable[i * 10 * GIB + 123] = (char)(i + 1);
    }

    test_freeze_point();
    CHECK(test_vm_flag(area, "nr") && test_vm_flag(writable, "nr"));
    for (unsigned i = 0; i < PIECES; i++) {
        char *piece = area + i * 10 * GIB + 5 * TEST_PAGE;
        CHECK(test_filled(piece, 16 * TEST_PAGE, i));
        CHECK_EQUAL(test_fault(piece - 1, false), SIGSEGV);
        CHECK_EQUAL(test_fault(piece + 16 * TEST_PAGE, false), SIGSEGV);
        CHECK_EQUAL(writable[i * 10 * GIB + 123], i + 1);
        CHECK_EQUAL(writable[i * 10 * GIB + GIB], 0);
    }
    CHECK(mprotect(area + GIB, GIB, PROT_READ | PROT_WRITE) == 0);
    area[GIB + 77] = (char)(test_clone_index + 1);
    CHECK(munmap(area + 150 * GIB, 50 * GIB) == 0);
    CHECK_EQUAL(test_fault(area + 199 * GIB, false), SIGSEGV);
    test_barrier();
    CHECK_EQUAL(area[GIB + 77], test_clone_index + 1);
    return 0;
}
