/* conformance: sockets | TCP connections shut down by one end: for writing, for reading, with bytes waiting both ways | kept |
 *
 * The client's end and the server's end, each with what was sent before. */
#include "sockets.h"

int main(void)
{
    int listener = test_listen(5000, 5), clients[3], servers[3];
    for (int i = 0; i < 3; i++) {
        clients[i] = test_connect(5000);
        servers[i] = accept(listener, NULL, NULL);
    }
    CHECK(test_writes(clients[0], "request") && shutdown(clients[0], SHUT_WR) == 0 &&
          test_writes(servers[0], "part of an answer"));
    CHECK(test_writes(servers[1], "good bye") && shutdown(servers[1], SHUT_WR) == 0);
    CHECK(shutdown(clients[2], SHUT_RD) == 0);

    test_freeze_point();
    CHECK(test_receives(servers[0], "request") && test_ends(servers[0]) &&
          test_receives(clients[0], "part of an answer"));
    CHECK(send(clients[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    CHECK(test_writes(servers[0], "the rest") && test_receives(clients[0], "the rest") &&
          close(servers[0]) == 0);
    CHECK(poll(&(struct pollfd){clients[0], POLLIN, 0}, 1, -1) == 1 && test_ends(clients[0]));
    CHECK(test_receives(clients[1], "good bye") && test_ends(clients[1]));
    CHECK(send(servers[1], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    CHECK(test_writes(clients[1], "and you") && test_receives(servers[1], "and you"));
    CHECK((test_poll(clients[2]) & POLLRDHUP) && test_ends(clients[2]) && test_is_idle(servers[2]));
    CHECK(test_writes(clients[2], "still here") && test_receives(servers[2], "still here"));
    return 0;
}
