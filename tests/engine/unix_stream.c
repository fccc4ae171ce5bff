/* conformance: sockets | unix stream pairs with bytes waiting in both directions | kept | up to what a socket takes
 *
 * Small and large queues, flags of each end by itself, duplicates. */
#include "sockets.h"

int main(void)
{
    static char large[120000], got[sizeof large];
    int pair[2], big[2], quiet[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, big) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM, 0, quiet) == 0);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)(i * 17 + i / 8191);
    CHECK(test_writes(pair[0], "one, ") && test_writes(pair[0], "two") && test_writes(pair[1], "back"));
    CHECK(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(quiet[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK_EQUAL(send(big[0], large, sizeof large, MSG_DONTWAIT), sizeof large);
    CHECK_EQUAL(send(big[1], large, sizeof large, MSG_DONTWAIT), sizeof large);
    int twin = dup(pair[0]);

    test_freeze_point();
    CHECK(test_reads(pair[1], "one, two") && test_reads(twin, "back"));
    CHECK(test_would_block(pair[0]) && test_would_block(pair[1]) && test_would_block(quiet[0]));
    CHECK(test_has_flag(pair[1], O_NONBLOCK) && !test_has_flag(pair[0], O_NONBLOCK));
    for (int i = 0; i < 2; i++) {
        CHECK(
            fcntl(big[i], F_GETFD) == FD_CLOEXEC && recv(big[i], got, sizeof got, MSG_WAITALL) == sizeof got);
        CHECK(memcmp(got, large, sizeof got) == 0 && test_would_block(big[i]));
    }
    CHECK(test_talks(big[0], big[1]) && test_talks(quiet[1], quiet[0]));
    CHECK(test_is_own(twin, pair[1]) && test_is_own(pair[1], pair[0]));
    CHECK(close(twin) == 0 && test_is_idle(pair[1]) && close(pair[0]) == 0 && test_ends(pair[1]));
    return 0;
}
