/* conformance: sockets | TCP sockets that are not connected: fresh, bound, once a listener, refused, still connecting | noted | one that is still connecting reports `ECONNRESET`
 *
 * A refusal that nobody has asked for yet is still there to be asked for. */
#include "sockets.h"

int main(void)
{
    struct sockaddr_in at = test_address(5000), nowhere = test_address(4999),
                       any = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    int fresh = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), bound = socket(AF_INET, SOCK_STREAM, 0),
        chosen = socket(AF_INET, SOCK_STREAM, 0), stopped = test_listen(5001, 3),
        refused = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(bind(bound, (struct sockaddr *)&at, sizeof at) == 0 &&
          bind(chosen, (struct sockaddr *)&any, sizeof any) == 0);
    uint16_t port = test_port(chosen);
    CHECK(shutdown(stopped, SHUT_RDWR) == 0);
    CHECK(connect(refused, (struct sockaddr *)&nowhere, sizeof nowhere) < 0 && errno == EINPROGRESS);
    while (!(test_poll(refused) & POLLERR))
        usleep(1000);
    /* A listener with one place: the second connection gets no answer. */
    int full = test_listen(5002, 0), in = test_connect(5002),
        connecting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in there = test_address(5002);
    CHECK(connect(connecting, (struct sockaddr *)&there, sizeof there) < 0 && errno == EINPROGRESS);
    CHECK(test_poll(connecting) == 0);

    test_freeze_point();
    char byte;
    CHECK(recv(fresh, &byte, 1, 0) < 0 && errno == ENOTCONN && test_has_flag(fresh, O_NONBLOCK) &&
          test_port(fresh) == 0);
    CHECK(test_port(bound) == 5000 && listen(bound, 1) == 0 && test_port(chosen) == port);
    CHECK(test_port(stopped) == 5001 && test_option(stopped, SOL_SOCKET, SO_ACCEPTCONN) == 0 &&
          listen(stopped, 1) == 0);
    CHECK(test_accepts(stopped, 5001));
    CHECK(test_poll(refused) & POLLERR);
    CHECK_EQUAL(test_option(refused, SOL_SOCKET, SO_ERROR), ECONNREFUSED);
    CHECK_EQUAL(test_option(refused, SOL_SOCKET, SO_ERROR), 0);
    CHECK_EQUAL(test_option(connecting, SOL_SOCKET, SO_ERROR), ECONNRESET);
    CHECK(test_talks(in, accept(full, NULL, NULL)));
    CHECK(connect(fresh, (struct sockaddr *)&there, sizeof there) == 0 || errno == EINPROGRESS);
    return 0;
}
