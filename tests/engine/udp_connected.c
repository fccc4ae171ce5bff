/* conformance: sockets | UDP sockets: bound, bound by the kernel's choice, connected one way and to each other | kept | with their ports
 *
 * A connected one hears only the one that it is connected to. */
#include "sockets.h"

int main(void)
{
    struct sockaddr_in to_a = test_address(7001), to_b = test_address(7002), peer;
    int a = test_udp(7001), b = test_udp(7002), chosen = test_udp(0),
        unbound = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one_way = socket(AF_INET, SOCK_DGRAM, 0),
        stranger = test_udp(7003);
    CHECK(connect(a, (struct sockaddr *)&to_b, sizeof to_b) == 0 &&
          connect(b, (struct sockaddr *)&to_a, sizeof to_a) == 0);
    CHECK(connect(one_way, (struct sockaddr *)&to_a, sizeof to_a) == 0);
    uint16_t port = test_port(chosen), one_way_port = test_port(one_way);

    test_freeze_point();
    socklen_t len = sizeof peer;
    CHECK(test_port(chosen) == port && test_port(one_way) == one_way_port && test_port(unbound) == 0);
    CHECK(getpeername(a, (struct sockaddr *)&peer, &len) == 0 && ntohs(peer.sin_port) == 7002);
    CHECK(getpeername(chosen, (struct sockaddr *)&peer, &len) < 0 && errno == ENOTCONN &&
          fcntl(unbound, F_GETFD) == FD_CLOEXEC);
    CHECK(test_writes(a, "to b") && test_message(b, "to b") && test_writes(b, "to a") &&
          test_message(a, "to a"));
    CHECK(test_send_to(stranger, "unheard", 7001) && test_writes(one_way, "unheard too") &&
          test_would_block(a));
    CHECK(test_send_to(unbound, "heard", 7003) && test_message(stranger, "heard"));
    test_barrier();
    CHECK(test_would_block(b) && test_would_block(stranger));
    return 0;
}
