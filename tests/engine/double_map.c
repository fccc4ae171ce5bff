/* Code written through one mapping and run through another, as .NET's W^X does it: a memfd of 2 TiB, reserved, with many
 * pieces mapped read-write and read-execute at different places, some of them closed again.
 *
 * conformance: shared memory | a memfd mapped writable here and executable there (.NET's W^X) | kept | holes of it cost nothing
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PIECES 24
#define PIECE (16 * TEST_PAGE)

static char *map(int fd, int protection, size_t piece)
{
    char *at = mmap(NULL, PIECE, protection, MAP_SHARED, fd, (off_t)(piece * PIECE * 3));
    CHECK(at != MAP_FAILED);
    return at;
}

static void put_function(char *at, int value)
{
    const unsigned char code[] = {0xb8, (unsigned char)value, (unsigned char)(value >> 8), 0, 0, 0xc3};
    memcpy(at, code, sizeof code);
}

static int call(const char *at)
{
    return ((int (*)(void))at)();
}

int main(void)
{
    char *executable[PIECES], *writable[PIECES];
    int fd = memfd_create("doublemapper", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 2l << 40) == 0);
    char *reserved = mmap(NULL, 1 << 20, PROT_NONE, MAP_SHARED, fd, 1l << 30);
    CHECK(reserved != MAP_FAILED);
    for (size_t i = 0; i < PIECES; i++) {
        executable[i] = map(fd, PROT_READ | PROT_EXEC, i);
        writable[i] = map(fd, PROT_READ | PROT_WRITE, i);
        put_function(writable[i] + 64, (int)i * 100 + 7);
        if (i % 3 == 0)
            CHECK(munmap(writable[i], PIECE) == 0);
    }

    test_freeze_point();
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && st.st_size == 2l << 40 && st.st_blocks < 8 * PIECES * 4);
    for (size_t i = 0; i < PIECES; i++) {
        CHECK_EQUAL(call(executable[i] + 64), i * 100 + 7);
        CHECK_EQUAL(test_fault(executable[i], true), SIGSEGV);
        if (i % 3 == 0) /* another view of the same piece, as the next compilation makes it */
            writable[i] = map(fd, PROT_READ | PROT_WRITE, i);
        put_function(writable[i] + 128, test_clone_index * 10 + 1);
        CHECK_EQUAL(call(executable[i] + 128), test_clone_index * 10 + 1);
    }
    CHECK(mprotect(reserved, TEST_PAGE, PROT_READ | PROT_WRITE) == 0);
    put_function(reserved, 5);
    CHECK(mprotect(reserved, TEST_PAGE, PROT_READ | PROT_EXEC) == 0);
    CHECK_EQUAL(call(reserved), 5);
    test_barrier();
    for (size_t i = 0; i < PIECES; i++)
        CHECK_EQUAL(call(executable[i] + 128), test_clone_index * 10 + 1);
    return 0;
}
