/* conformance: sockets | IPv6: listeners of one family and of both, connections by either, options of its own | kept |
 *
 * A listener for both takes IPv4 as mapped addresses; one with IPV6_V6ONLY leaves the IPv4 port to others. */
#include "sockets.h"

static int listen6(uint16_t port, bool only)
{
    struct sockaddr_in6 at = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(test_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, only));
    CHECK(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 5) == 0);
    return fd;
}

static int connect6(uint16_t port)
{
    struct sockaddr_in6 at = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
    return fd;
}

int main(void)
{
    int both = listen6(6000, false), only = listen6(6001, true), four = test_listen(6001, 3);
    int six_client = connect6(6000), six = accept(both, NULL, NULL), mapped_client = test_connect(6000),
        mapped = accept(both, NULL, NULL), only_client = connect6(6001),
        only_server = accept(only, NULL, NULL), four_client = test_connect(6001),
        four_server = accept(four, NULL, NULL);
    CHECK(test_set_option(six_client, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9) &&
          test_set_option(six_client, IPPROTO_IPV6, IPV6_TCLASS, 0x20) &&
          test_set_option(six_client, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1));
    CHECK(test_writes(six, "six") && test_writes(mapped, "mapped") && test_writes(only_client, "only") &&
          test_writes(four_client, "four"));
    int waiting = connect6(6000);

    test_freeze_point();
    struct sockaddr_in6 peer;
    socklen_t len = sizeof peer;
    CHECK(test_receives(six_client, "six") && test_receives(mapped_client, "mapped"));
    CHECK(test_receives(only_server, "only") && test_receives(four_server, "four"));
    CHECK(getpeername(mapped, (struct sockaddr *)&peer, &len) == 0 && IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    CHECK(test_option(only, IPPROTO_IPV6, IPV6_V6ONLY) == 1 &&
          test_option(both, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
    CHECK(test_option(six_client, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 9 &&
          test_option(six_client, IPPROTO_IPV6, IPV6_TCLASS) == 0x20 &&
          test_option(six_client, IPPROTO_IPV6, IPV6_RECVHOPLIMIT) == 1);
    CHECK(test_talks(six, six_client) && test_talks(mapped, mapped_client) &&
          test_talks(waiting, accept(both, NULL, NULL)));
    CHECK(test_accepts(four, 6001));
    int more = connect6(6001);
    CHECK(test_talks(more, accept(only, NULL, NULL)));
    return 0;
}
