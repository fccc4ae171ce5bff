/* conformance: pipes | a full pipe | kept | to the last byte; room is made as it is read
 *
 * A writer that would wait before the freeze would wait after it, and as much fits in after a read. */
#include "help.h"

int main(void)
{
    static char block[65536], got[65536];
    int ends[2];
    CHECK(pipe2(ends, O_NONBLOCK) == 0);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 13 + i / 4093);
    CHECK_EQUAL(write(ends[1], block, sizeof block), sizeof block);
    CHECK(write(ends[1], "x", 1) < 0 && errno == EAGAIN);

    test_freeze_point();
    CHECK_EQUAL(test_poll(ends[1]), 0);
    CHECK(write(ends[1], "x", 1) < 0 && errno == EAGAIN);
    CHECK_EQUAL(read(ends[0], got, 4096), 4096);
    CHECK_EQUAL(test_poll(ends[1]), POLLOUT);
    CHECK_EQUAL(write(ends[1], block, sizeof block), 4096);
    CHECK_EQUAL(read(ends[0], got + 4096, sizeof got - 4096), sizeof got - 4096);
    CHECK(memcmp(got, block, sizeof got) == 0);
    CHECK_EQUAL(read(ends[0], got, sizeof got), 4096);
    CHECK(memcmp(got, block, 4096) == 0);
    CHECK(test_is_own(ends[1], ends[0]));
    return 0;
}
