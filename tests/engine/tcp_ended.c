/* conformance: sockets | TCP connections whose other end is closed, or that both ends have shut | kept | what was received before is still read, then comes the end of the stream
 *
 * The other end is no longer there to be frozen; neither is one that was never inside. */
#include "sockets.h"

int main(void)
{
    int listener = test_listen(5000, 5), fds[3], others[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = test_connect(5000);
        others[i] = accept(listener, NULL, NULL);
    }
    uint16_t port = test_port(fds[0]);
    CHECK(test_writes(others[0], "last words") && close(others[0]) == 0);
    CHECK(close(others[1]) == 0);
    CHECK(test_writes(others[2], "from one") && test_writes(fds[2], "from the other") &&
          shutdown(fds[2], SHUT_WR) == 0 && shutdown(others[2], SHUT_WR) == 0);
    while (test_poll(others[2]) == 0 || !(test_poll(fds[2]) & POLLHUP))
        usleep(1000);

    test_freeze_point();
    CHECK(test_receives(fds[0], "last words") && test_ends(fds[0]));
    CHECK(test_poll(fds[0]) == (POLLIN | POLLOUT | POLLRDHUP) && port > 0);
    CHECK(test_ends(fds[1]));
    /* Nobody is there to take it: the first write may not know that yet. */
    CHECK(send(fds[1], "x", 1, MSG_NOSIGNAL) == 1);
    CHECK(poll(&(struct pollfd){fds[1], 0, 0}, 1, -1) == 1);
    CHECK(send(fds[1], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    CHECK(test_receives(fds[2], "from one") && test_ends(fds[2]));
    CHECK(test_receives(others[2], "from the other") && test_ends(others[2]));
    CHECK(send(fds[2], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
    return 0;
}
