/* UDP on loopback: bound, connected, with datagrams waiting.
 *
 * conformance: sockets | loopback UDP | kept | with datagrams waiting
 */
#include "engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

static struct sockaddr_in at(uint16_t port)
{
    return (struct sockaddr_in){AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
}

int main(void)
{
    char text[32] = {0};
    struct sockaddr_in here = at(7001), there = at(7002), from;
    int a = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), b = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
        loose = socket(AF_INET6, SOCK_DGRAM, 0);
    CHECK(bind(a, (struct sockaddr *)&here, sizeof here) == 0 &&
          bind(b, (struct sockaddr *)&there, sizeof there) == 0);
    CHECK(connect(b, (struct sockaddr *)&here, sizeof here) == 0);
    CHECK_EQUAL(send(b, "one", 3, 0), 3);
    CHECK_EQUAL(send(b, "", 0, 0), 0);
    CHECK_EQUAL(send(b, "three", 5, 0), 5);
    CHECK_EQUAL(sendto(a, "back", 4, 0, (struct sockaddr *)&there, sizeof there), 4);
    CHECK(setsockopt(a, SOL_SOCKET, SO_BROADCAST, &(int){1}, sizeof(int)) == 0);

    test_freeze_point();
    socklen_t len = sizeof from;
    CHECK_EQUAL(recvfrom(a, text, sizeof text, 0, (struct sockaddr *)&from, &len), 3);
    CHECK(memcmp(text, "one", 3) == 0 && ntohs(from.sin_port) == 7002);
    CHECK_EQUAL(recv(a, text, sizeof text, 0), 0);
    CHECK_EQUAL(recv(a, text, sizeof text, 0), 5);
    CHECK(recv(a, text, sizeof text, 0) < 0 && errno == EAGAIN);
    CHECK_EQUAL(recv(b, text, sizeof text, 0), 4);
    CHECK_EQUAL(send(b, "more", 4, 0), 4);
    CHECK_EQUAL(recv(a, text, sizeof text, 0), 4);
    int value = 0;
    len = sizeof value;
    CHECK(getsockopt(a, SOL_SOCKET, SO_BROADCAST, &value, &len) == 0 && value == 1);
    CHECK(fcntl(loose, F_GETFD) == 0 && fcntl(b, F_GETFD) == FD_CLOEXEC);
    return 0;
}
