/* Address space that is reserved without access and without MAP_NORESERVE, more than the machine has memory, as .NET's
 * collector does it: pieces are committed by mprotect, and given back by madvise and mprotect.
 *
 * conformance: memory | 256 GiB reserved with `PROT_NONE` alone, pieces committed and given back | kept | costs nothing
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>

#define GIB (1ul << 30)
#define PIECES 8
#define PIECE_BYTES (16 * TEST_PAGE)

int main(void)
{
    char *area = mmap(NULL, 256 * GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *zeros = mmap(NULL, GIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED && zeros != MAP_FAILED);
    for (unsigned i = 0; i < PIECES; i++) {
        char *piece = area + i * 30 * GIB;
        CHECK(mprotect(piece, 2 * PIECE_BYTES, PROT_READ | PROT_WRITE) == 0);
        test_fill(piece, 2 * PIECE_BYTES, i);
        CHECK(madvise(piece + PIECE_BYTES, PIECE_BYTES, MADV_DONTNEED) == 0);
        CHECK(mprotect(piece + PIECE_BYTES, PIECE_BYTES, PROT_NONE) == 0);
    }
    CHECK_EQUAL(zeros[GIB / 2], 0);

    test_freeze_point();
    CHECK(!test_vm_flag(area + GIB, "ac") && !test_vm_flag(area + GIB, "nr") && test_vm_flag(area, "ac"));
    for (unsigned i = 0; i < PIECES; i++) {
        char *piece = area + i * 30 * GIB;
        CHECK(test_filled(piece, PIECE_BYTES, i));
        CHECK_EQUAL(test_fault(piece + PIECE_BYTES, false), SIGSEGV);
        CHECK_EQUAL(test_fault(piece + 2 * PIECE_BYTES, false), SIGSEGV);
        CHECK(mprotect(piece + PIECE_BYTES, PIECE_BYTES, PROT_READ | PROT_WRITE) == 0);
        CHECK_EQUAL(piece[PIECE_BYTES + 1], 0);
    }
    CHECK_EQUAL(zeros[GIB / 2], 0);
    CHECK_EQUAL(test_fault(zeros, true), SIGSEGV);
    CHECK(mprotect(area + GIB, GIB, PROT_READ | PROT_WRITE) == 0);
    area[GIB + 77] = (char)(test_clone_index + 1);
    test_barrier();
    CHECK_EQUAL(area[GIB + 77], test_clone_index + 1);
    return 0;
}
