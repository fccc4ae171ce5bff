/* conformance: sockets | options of TCP sockets: `TCP_NODELAY`, keep-alive, linger, congestion control, buffers, `TCP_USER_TIMEOUT`, `SO_BINDTODEVICE` and more | kept |
 *
 * Set on one end of a connection, on a listener (whose connections inherit them), and on a socket that is not connected. */
#include "sockets.h"

#ifndef TCP_INQ
#define TCP_INQ 36
#endif

static const struct {
    int level, name, value;
} wanted[] = {
    {IPPROTO_TCP, TCP_NODELAY, 1},
    {SOL_SOCKET, SO_KEEPALIVE, 1},
    {IPPROTO_TCP, TCP_KEEPIDLE, 77},
    {IPPROTO_TCP, TCP_KEEPINTVL, 7},
    {IPPROTO_TCP, TCP_KEEPCNT, 4},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 12345},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000},
    {IPPROTO_TCP, TCP_INQ, 1},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1},
    {IPPROTO_IP, IP_TOS, 0x10},
    {IPPROTO_IP, IP_TTL, 33},
    {IPPROTO_IP, IP_MINTTL, 5},
    {IPPROTO_IP, IP_RECVTTL, 1},
    {SOL_SOCKET, SO_PRIORITY, 5},
    {SOL_SOCKET, SO_OOBINLINE, 1},
    {SOL_SOCKET, SO_TIMESTAMPNS, 1},
    {SOL_SOCKET, SO_ZEROCOPY, 1},
    {SOL_SOCKET, SO_BUSY_POLL, 0},
    {SOL_SOCKET, SO_REUSEADDR, 1},
};

static void set_all(int fd)
{
    struct linger linger = {1, 9};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        CHECK(test_set_option(fd, wanted[i].level, wanted[i].name, wanted[i].value));
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
    CHECK(test_set_option(fd, SOL_SOCKET, SO_SNDBUF, 50000) &&
          test_set_option(fd, SOL_SOCKET, SO_RCVBUF, 40000));
}

/* The priority is not inherited by the connections of a listener. */
static void check_all(int fd, int priority)
{
    struct linger linger;
    char name[16] = {0};
    socklen_t len = sizeof linger, name_len = sizeof name;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        int value =
            wanted[i].name == SO_PRIORITY && wanted[i].level == SOL_SOCKET ? priority : wanted[i].value;
        if (test_option(fd, wanted[i].level, wanted[i].name) != value)
            printf("FAIL: option %d of level %d\n", wanted[i].name, wanted[i].level);
        CHECK_EQUAL(test_option(fd, wanted[i].level, wanted[i].name), value);
    }
    CHECK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) == 0 && linger.l_onoff == 1 &&
          linger.l_linger == 9);
    CHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &name_len) == 0 && strcmp(name, "reno") == 0);
    CHECK(
        test_option(fd, SOL_SOCKET, SO_SNDBUF) == 100000 && test_option(fd, SOL_SOCKET, SO_RCVBUF) == 80000);
}

int main(void)
{
    char device[16] = {0};
    socklen_t len = sizeof device;
    struct sockaddr_in at = test_address(5001);
    int listener = test_listen(5000, 5), client = test_connect(5000), server = accept(listener, NULL, NULL),
        plain = socket(AF_INET, SOCK_STREAM, 0), set_listener = socket(AF_INET, SOCK_STREAM, 0),
        bound = socket(AF_INET, SOCK_STREAM, 0);
    set_all(client);
    set_all(plain);
    set_all(set_listener);
    CHECK(bind(set_listener, (struct sockaddr *)&at, sizeof at) == 0 && listen(set_listener, 3) == 0);
    CHECK(test_set_option(set_listener, IPPROTO_TCP, TCP_FASTOPEN, 6));
    int inherited_client = test_connect(5001), inherited = accept(set_listener, NULL, NULL);
    CHECK(setsockopt(bound, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) == 0);

    test_freeze_point();
    check_all(client, 5);
    check_all(plain, 5);
    check_all(set_listener, 5);
    check_all(inherited, 0);
    CHECK(test_option(server, IPPROTO_TCP, TCP_NODELAY) == 0 &&
          test_option(server, SOL_SOCKET, SO_KEEPALIVE) == 0);
    CHECK(test_option(inherited_client, IPPROTO_TCP, TCP_NODELAY) == 0 &&
          test_option(listener, IPPROTO_IP, IP_TTL) != 33);
    CHECK_EQUAL(test_option(set_listener, IPPROTO_TCP, TCP_FASTOPEN), 6);
    CHECK(getsockopt(bound, SOL_SOCKET, SO_BINDTODEVICE, device, &len) == 0 && strcmp(device, "lo") == 0);
    CHECK(test_talks(client, server) && test_talks(inherited_client, inherited));
    return 0;
}
