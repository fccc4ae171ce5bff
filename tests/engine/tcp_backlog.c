/* conformance: sockets | a TCP listener with connections waiting | kept | in their order, with what they have sent; the backlog
 *
 * Four wait; one has been shut for writing. */
#include "sockets.h"

int main(void)
{
    char text[32];
    int listener = test_listen(5000, 7), clients[4];
    uint16_t ports[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = test_connect(5000);
        ports[i] = test_port(clients[i]);
        snprintf(text, sizeof text, "I am %d", i);
        CHECK(test_writes(clients[i], text));
    }
    CHECK(shutdown(clients[1], SHUT_WR) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0);

    test_freeze_point();
    struct tcp_info info;
    socklen_t len = sizeof info;
    CHECK(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
    CHECK(info.tcpi_sacked == 7 && info.tcpi_unacked == 4); /* for a listener: its backlog, and who waits */
    for (int i = 0; i < 4; i++) {
        struct sockaddr_in peer;
        len = sizeof peer;
        int server = accept4(listener, (struct sockaddr *)&peer, &len, i == 2 ? SOCK_NONBLOCK : 0);
        snprintf(text, sizeof text, "I am %d", i);
        CHECK(server >= 0 && ntohs(peer.sin_port) == ports[i] && test_port(clients[i]) == ports[i]);
        CHECK(poll(&(struct pollfd){server, POLLIN, 0}, 1, -1) == 1 && test_receives(server, text));
        CHECK(i == 1 ? test_ends(server) : i == 2 || test_talks(server, clients[i]));
    }
    CHECK(accept(listener, NULL, NULL) < 0 && errno == EAGAIN && fcntl(listener, F_GETFD) == FD_CLOEXEC);
    int client = test_connect(5000);
    CHECK(poll(&(struct pollfd){listener, POLLIN, 0}, 1, -1) == 1);
    int server = accept(listener, NULL, NULL);
    CHECK(test_talks(client, server));
    return 0;
}
