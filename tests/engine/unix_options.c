/* conformance: sockets | options of unix sockets: buffer sizes, time-outs, low-water mark, `SO_PEEK_OFF`, `SO_PASSPIDFD` | kept |
 *
 * Each on one end only: the other has what it had. */
#include "sockets.h"

#include <sys/time.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

int main(void)
{
    char got[8] = {0};
    int pair[2], peek[2];
    struct timeval limit = {3, 500000}, now;
    socklen_t len = sizeof now;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, peek) == 0);
    CHECK(test_set_option(pair[0], SOL_SOCKET, SO_SNDBUF, 30000) &&
          test_set_option(pair[0], SOL_SOCKET, SO_RCVBUF, 20000));
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    CHECK(test_set_option(pair[0], SOL_SOCKET, SO_RCVLOWAT, 5) &&
          test_set_option(pair[0], SOL_SOCKET, SO_PASSPIDFD, 1));
    CHECK(test_set_option(peek[1], SOL_SOCKET, SO_PEEK_OFF, 2) && test_writes(peek[0], "0123456789"));
    CHECK(recv(peek[1], got, 3, MSG_PEEK) == 3 && memcmp(got, "234", 3) == 0);

    test_freeze_point();
    CHECK_EQUAL(test_option(pair[0], SOL_SOCKET, SO_SNDBUF), 60000);
    CHECK_EQUAL(test_option(pair[0], SOL_SOCKET, SO_RCVBUF), 40000);
    CHECK(test_option(pair[1], SOL_SOCKET, SO_SNDBUF) > 60000 &&
          test_option(pair[1], SOL_SOCKET, SO_RCVLOWAT) == 1);
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &now, &len) == 0 && now.tv_sec == 3 &&
          now.tv_usec == 500000);
    CHECK(getsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &now, &len) == 0 && now.tv_sec == 3);
    CHECK(getsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &now, &len) == 0 && now.tv_sec == 0);
    CHECK_EQUAL(test_option(pair[0], SOL_SOCKET, SO_RCVLOWAT), 5);
    CHECK(test_option(pair[0], SOL_SOCKET, SO_PASSPIDFD) == 1 &&
          test_option(pair[1], SOL_SOCKET, SO_PASSPIDFD) == 0);
    CHECK(test_option(peek[1], SOL_SOCKET, SO_PEEK_OFF) == 5 &&
          test_option(peek[0], SOL_SOCKET, SO_PEEK_OFF) == -1);
    CHECK(recv(peek[1], got, 2, MSG_PEEK) == 2 && memcmp(got, "56", 2) == 0 &&
          test_reads(peek[1], "0123456789"));
    return 0;
}
