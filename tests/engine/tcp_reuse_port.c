/* conformance: sockets | several sockets at one port (`SO_REUSEPORT`, `SO_REUSEADDR`) | kept | listeners that nobody is connected to; UDP sockets with nothing waiting
 *
 * Who of them gets a connection is the kernel's choice, before and after. */
#include "sockets.h"

static int bind_shared(int type, int option, uint16_t port)
{
    struct sockaddr_in at = test_address(port);
    int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0);
    CHECK(test_set_option(fd, SOL_SOCKET, option, 1) && bind(fd, (struct sockaddr *)&at, sizeof at) == 0);
    return fd;
}

int main(void)
{
    int listeners[3], sockets[2];
    for (int i = 0; i < 3; i++)
        CHECK((listeners[i] = bind_shared(SOCK_STREAM, SO_REUSEPORT, 5000)) >= 0 &&
              listen(listeners[i], 4) == 0);
    for (int i = 0; i < 2; i++)
        sockets[i] = bind_shared(SOCK_DGRAM, SO_REUSEPORT, 5001);
    int idle[2] = {
        bind_shared(SOCK_STREAM, SO_REUSEADDR, 5002), bind_shared(SOCK_STREAM, SO_REUSEADDR, 5002)};

    test_freeze_point();
    int client = test_connect(5000), server = -1;
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(test_option(listeners[i], SOL_SOCKET, SO_REUSEPORT), 1);
        int fd = accept(listeners[i], NULL, NULL);
        CHECK(fd < 0 || server < 0);
        server = fd >= 0 ? fd : server;
    }
    CHECK(server >= 0 && test_talks(client, server));
    CHECK(test_send_to(sockets[0], "datagram", 5001));
    CHECK(test_message(sockets[0], "datagram") || test_message(sockets[1], "datagram"));
    struct sockaddr_in at = test_address(5000);
    int stranger = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(stranger, (struct sockaddr *)&at, sizeof at) < 0 && errno == EADDRINUSE);
    CHECK(test_port(idle[0]) == 5002 && test_port(idle[1]) == 5002 && listen(idle[0], 1) == 0);
    CHECK(listen(idle[1], 1) < 0 && errno == EADDRINUSE);
    return 0;
}
