/* conformance: pipes | a pipe that was made smaller or larger (`F_SETPIPE_SZ`) | kept | with its contents
 *
 * A page, and a mebibyte: both full. */
#include "help.h"

static char block[1 << 20], got[1 << 20];

static void check_full(const int ends[2], size_t size)
{
    CHECK_EQUAL(fcntl(ends[0], F_GETPIPE_SZ), size);
    CHECK(write(ends[1], "x", 1) < 0 && errno == EAGAIN);
    size_t at = 0;
    for (ssize_t n; (n = read(ends[0], got + at, size)) > 0;)
        at += (size_t)n;
    CHECK_EQUAL(at, size);
    CHECK(memcmp(got, block, size) == 0);
    CHECK_EQUAL(write(ends[1], block, sizeof block), size);
}

int main(void)
{
    int small[2], large[2], empty[2];
    CHECK(pipe2(small, O_NONBLOCK) == 0 && pipe2(large, O_NONBLOCK) == 0 && pipe2(empty, O_NONBLOCK) == 0);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 31 + i / 65521);
    CHECK_EQUAL(fcntl(small[1], F_SETPIPE_SZ, 4096), 4096);
    CHECK_EQUAL(fcntl(large[0], F_SETPIPE_SZ, 1 << 20), 1 << 20);
    CHECK_EQUAL(fcntl(empty[0], F_SETPIPE_SZ, 8192), 8192);
    CHECK_EQUAL(write(small[1], block, 4096), 4096);
    CHECK_EQUAL(write(large[1], block, sizeof block), sizeof block);

    test_freeze_point();
    check_full(small, 4096);
    check_full(large, 1 << 20);
    CHECK_EQUAL(fcntl(empty[1], F_GETPIPE_SZ), 8192);
    CHECK_EQUAL(write(empty[1], block, sizeof block), 8192);
    return 0;
}
