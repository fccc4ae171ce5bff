/* conformance: sockets | options of UDP sockets, IPv4 and IPv6 | kept |
 *
 * Also a socket that is told of the addresses of what it receives. */
#include "sockets.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SO_RXQ_OVFL
#define SO_RXQ_OVFL 40
#endif

static const struct {
    int level, name, value;
} four[] = {{SOL_SOCKET, SO_BROADCAST, 1}, {SOL_SOCKET, SO_TIMESTAMP, 1}, {SOL_SOCKET, SO_RXQ_OVFL, 1},
    {SOL_SOCKET, SO_PRIORITY, 3}, {IPPROTO_IP, IP_PKTINFO, 1}, {IPPROTO_IP, IP_RECVTOS, 1},
    {IPPROTO_IP, IP_RECVERR, 1}, {IPPROTO_IP, IP_RECVORIGDSTADDR, 1},
    {IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO}, {IPPROTO_IP, IP_FREEBIND, 1}, {IPPROTO_UDP, UDP_GRO, 1},
    {IPPROTO_UDP, UDP_SEGMENT, 500}, {IPPROTO_IP, IP_RECVOPTS, 1}},
  six[] = {{IPPROTO_IPV6, IPV6_RECVPKTINFO, 1}, {IPPROTO_IPV6, IPV6_RECVTCLASS, 1},
      {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1}, {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 5},
      {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0}, {IPPROTO_IPV6, IPV6_DONTFRAG, 1},
      {IPPROTO_IPV6, IPV6_V6ONLY, 1}, {IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO},
      {SOL_SOCKET, SO_RCVLOWAT, 3}};

int main(void)
{
    int v4 = socket(AF_INET, SOCK_DGRAM, 0), v6 = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0),
        plain = test_udp(7001);
    for (size_t i = 0; i < sizeof four / sizeof *four; i++)
        CHECK(test_set_option(v4, four[i].level, four[i].name, four[i].value));
    for (size_t i = 0; i < sizeof six / sizeof *six; i++)
        CHECK(test_set_option(v6, six[i].level, six[i].name, six[i].value));

    test_freeze_point();
    for (size_t i = 0; i < sizeof four / sizeof *four; i++) {
        if (test_option(v4, four[i].level, four[i].name) != four[i].value)
            printf("FAIL: option %d of level %d\n", four[i].name, four[i].level);
        CHECK_EQUAL(test_option(v4, four[i].level, four[i].name), four[i].value);
    }
    for (size_t i = 0; i < sizeof six / sizeof *six; i++) {
        if (test_option(v6, six[i].level, six[i].name) != six[i].value)
            printf("FAIL: option %d of level %d\n", six[i].name, six[i].level);
        CHECK_EQUAL(test_option(v6, six[i].level, six[i].name), six[i].value);
    }
    CHECK(
        test_option(plain, SOL_SOCKET, SO_BROADCAST) == 0 && test_option(plain, IPPROTO_IP, IP_PKTINFO) == 0);
    CHECK(test_has_flag(v6, O_NONBLOCK) && test_send_to(v4, "goes", 7001) && test_message(plain, "goes"));
    return 0;
}
