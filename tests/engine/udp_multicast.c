/* conformance: sockets | UDP multicast: memberships, time to live, loop, interface | kept | groups that were joined for all senders, an interface that was chosen by its address
 *
 * What is sent to the group arrives where it was joined, and nowhere else. */
#include "sockets.h"

#include <net/if.h>

int main(void)
{
    struct sockaddr_in any = {AF_INET, htons(7000), {htonl(INADDR_ANY)}, {0}},
                       group = {AF_INET, htons(7000), {0}, {0}};
    group.sin_addr.s_addr = inet_addr("239.1.2.3");
    struct ip_mreqn join = {group.sin_addr, {0}, (int)if_nametoindex("lo")}, other = join;
    other.imr_multiaddr.s_addr = inet_addr("239.9.9.9");
    struct in_addr by_address = {htonl(INADDR_LOOPBACK)};
    int member = socket(AF_INET, SOCK_DGRAM, 0), outsider = socket(AF_INET, SOCK_DGRAM, 0),
        sender = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(test_set_option(member, SOL_SOCKET, SO_REUSEADDR, 1) &&
          test_set_option(outsider, SOL_SOCKET, SO_REUSEADDR, 1));
    CHECK(test_set_option(outsider, IPPROTO_IP, IP_MULTICAST_ALL, 0));
    CHECK(bind(member, (struct sockaddr *)&any, sizeof any) == 0 &&
          bind(outsider, (struct sockaddr *)&any, sizeof any) == 0);
    CHECK(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join) == 0 &&
          setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &other, sizeof other) == 0);
    CHECK(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &by_address, sizeof by_address) == 0 &&
          test_set_option(sender, IPPROTO_IP, IP_MULTICAST_TTL, 7));
    int six = socket(AF_INET6, SOCK_DGRAM, 0);
    struct ipv6_mreq join6 = {.ipv6mr_interface = if_nametoindex("lo")};
    CHECK(inet_pton(AF_INET6, "ff05::1234", &join6.ipv6mr_multiaddr) == 1);
    CHECK(setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &join6, sizeof join6) == 0);

    test_freeze_point();
    CHECK(sendto(sender, "to the group", 12, 0, (struct sockaddr *)&group, sizeof group) == 12);
    CHECK(test_message(member, "to the group") && test_would_block(outsider));
    CHECK(test_option(outsider, IPPROTO_IP, IP_MULTICAST_ALL) == 0 &&
          test_option(member, IPPROTO_IP, IP_MULTICAST_ALL) == 1);
    CHECK_EQUAL(test_option(sender, IPPROTO_IP, IP_MULTICAST_TTL), 7);
    CHECK(setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, &other, sizeof other) < 0 && errno == EADDRINUSE);
    CHECK(setsockopt(member, IPPROTO_IP, IP_DROP_MEMBERSHIP, &other, sizeof other) == 0 &&
          setsockopt(member, IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join) == 0);
    CHECK(setsockopt(outsider, IPPROTO_IP, IP_DROP_MEMBERSHIP, &join, sizeof join) < 0);
    CHECK(setsockopt(six, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &join6, sizeof join6) == 0);
    return 0;
}
