/* conformance: sockets | unix sockets that are shut down in one direction, in both, or whose other end is closed | kept | what was sent before is still read
 *
 * poll tells which direction is shut. */
#include "sockets.h"

int main(void)
{
    int writes[2], reads[2], both[2], closed[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, writes) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM, 0, reads) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, both) == 0 &&
          socketpair(AF_UNIX, SOCK_SEQPACKET, 0, closed) == 0);
    CHECK(test_writes(writes[0], "last") && shutdown(writes[0], SHUT_WR) == 0);
    CHECK(test_writes(writes[1], "answer"));
    CHECK(shutdown(reads[0], SHUT_RD) == 0);
    CHECK(test_writes(both[0], "a") && test_writes(both[1], "b") && shutdown(both[0], SHUT_RDWR) == 0);
    CHECK(test_writes(closed[1], "will") && close(closed[1]) == 0);
    int before[] = {test_poll(writes[0]), test_poll(writes[1]), test_poll(reads[0]), test_poll(reads[1]),
        test_poll(both[0]), test_poll(both[1]), test_poll(closed[0])};

    test_freeze_point();
    int now[] = {test_poll(writes[0]), test_poll(writes[1]), test_poll(reads[0]), test_poll(reads[1]),
        test_poll(both[0]), test_poll(both[1]), test_poll(closed[0])};
    for (size_t i = 0; i < sizeof now / sizeof *now; i++)
        CHECK_EQUAL(now[i], before[i]);
    CHECK(test_reads(writes[1], "last") && test_ends(writes[1]) && test_reads(writes[0], "answer"));
    CHECK(send(writes[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE && test_writes(writes[1], "x"));
    CHECK(send(reads[1], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE && test_ends(reads[0]));
    CHECK(test_writes(reads[0], "out") && test_reads(reads[1], "out"));
    CHECK(test_reads(both[1], "a") && test_ends(both[1]) && test_reads(both[0], "b") && test_ends(both[0]));
    CHECK(send(both[1], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    CHECK(test_message(closed[0], "will") && test_ends(closed[0]));
    CHECK(send(closed[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    return 0;
}
