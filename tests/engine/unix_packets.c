/* conformance: sockets | unix seqpacket pairs and connections with packets waiting | kept | their bounds
 *
 * A packet is read as a whole; what does not fit is lost, and MSG_TRUNC tells how long it was. */
#include "sockets.h"

int main(void)
{
    static char large[60000], got[sizeof large];
    int pair[2], listener = test_unix(SOCK_SEQPACKET, "/tmp/packets", 3);
    memset(large, 'p', sizeof large);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    int client = test_unix_connect(SOCK_SEQPACKET, "/tmp/packets"), server = accept(listener, NULL, NULL);
    CHECK(test_writes(pair[0], "a") && test_writes(pair[0], "bb") && test_writes(pair[1], "back"));
    CHECK_EQUAL(send(client, large, sizeof large, MSG_DONTWAIT), sizeof large);
    CHECK(test_writes(client, "after it") && test_writes(server, "answer"));
    CHECK(shutdown(client, SHUT_WR) == 0);

    test_freeze_point();
    CHECK(test_message(pair[1], "a") && test_message(pair[1], "bb") && test_would_block(pair[1]));
    CHECK(test_message(pair[0], "back") && fcntl(pair[0], F_GETFD) == FD_CLOEXEC);
    CHECK(recv(server, got, sizeof got, 0) == sizeof large && memcmp(got, large, sizeof large) == 0);
    CHECK(recv(server, got, 3, MSG_TRUNC) == 8 && memcmp(got, "aft", 3) == 0);
    CHECK(test_ends(server) && test_message(client, "answer"));
    CHECK(send(client, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    CHECK(test_is_named(client, true, "/tmp/packets") && test_talks(pair[0], pair[1]));
    int more = test_unix_connect(SOCK_SEQPACKET, "/tmp/packets"), accepted = accept(listener, NULL, NULL);
    CHECK(test_talks(more, accepted));
    return 0;
}
