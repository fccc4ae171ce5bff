/* conformance: sockets | TCP connections with both ends inside: many, duplicated, the listener gone, on several loopback addresses | kept | with both ports
 *
 * Forty connections at one listener, half of them read from. */
#include "sockets.h"

#define PAIRS 40

int main(void)
{
    int listener = test_listen(5000, PAIRS), clients[PAIRS], servers[PAIRS];
    uint16_t ports[PAIRS];
    char text[16];
    for (int i = 0; i < PAIRS; i++) {
        clients[i] = test_connect(5000);
        servers[i] = accept(listener, NULL, NULL);
        ports[i] = test_port(clients[i]);
        snprintf(text, sizeof text, "%d", i);
        CHECK(servers[i] >= 0 && (i % 2 == 0 || test_writes(servers[i], text)));
    }
    CHECK(close(listener) == 0);
    struct sockaddr_in other = test_address(5001), peer;
    other.sin_addr.s_addr = htonl(0x7f000005);
    int second = socket(AF_INET, SOCK_STREAM, 0), far = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(second, (struct sockaddr *)&other, sizeof other) == 0 && listen(second, 1) == 0);
    CHECK(connect(far, (struct sockaddr *)&other, sizeof other) == 0);
    int near = accept(second, NULL, NULL), twin = dup(near);

    test_freeze_point();
    for (int i = 0; i < PAIRS; i++) {
        snprintf(text, sizeof text, "%d", i);
        CHECK(test_port(clients[i]) == ports[i] && test_port(servers[i]) == 5000);
        CHECK(i % 2 == 0 ? test_would_block(clients[i]) : test_receives(clients[i], text));
        CHECK(test_talks(clients[i], servers[i]));
    }
    socklen_t len = sizeof peer;
    CHECK(getpeername(far, (struct sockaddr *)&peer, &len) == 0 && memcmp(&peer, &other, len) == 0);
    CHECK(test_talks(far, twin) && test_talks(near, far));
    test_barrier();
    CHECK(close(near) == 0 && test_is_idle(far) && close(twin) == 0);
    CHECK(poll(&(struct pollfd){far, POLLIN, 0}, 1, -1) == 1 && test_ends(far));
    int none = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = test_address(5000);
    CHECK(connect(none, (struct sockaddr *)&at, sizeof at) < 0 && errno == ECONNREFUSED);
    return 0;
}
