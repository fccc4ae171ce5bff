/* TCP on loopback: listeners with options, connections with both ends inside (either end first), queued bytes
 * in both directions, half closed, waiting to be accepted, IPv6; the runtime API's own; one to nowhere.
 *
 * conformance: sockets | loopback TCP with both ends inside | kept | with queued bytes; listeners with who waits at them
 * conformance: sockets | the runtime API connection | noted | connected anew from the same port; a request that was already sent is sent again
 * conformance: sockets | TCP connections to anywhere else | noted | become a socket that reports `ECONNRESET`
 */
#include "engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

static int listen_at(int family, uint16_t port, int backlog)
{
    struct sockaddr_in v4 = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_ANY_INIT};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0);
    CHECK(bind(fd, family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
              family == AF_INET ? sizeof v4 : sizeof v6) == 0);
    CHECK(listen(fd, backlog) == 0);
    return fd;
}

static int connect_to(int family, uint16_t port)
{
    struct sockaddr_in v4 = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(family, SOCK_STREAM, 0);
    CHECK(connect(fd, family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
              family == AF_INET ? sizeof v4 : sizeof v6) == 0);
    return fd;
}

static void check_text(int fd, const char *text)
{
    char got[256] = {0};
    CHECK_EQUAL(recv(fd, got, strlen(text), MSG_WAITALL), strlen(text));
    CHECK(strcmp(got, text) == 0);
}

static void check_talk(int a, int b)
{
    CHECK_EQUAL(send(a, "ping", 4, 0), 4);
    check_text(b, "ping");
    CHECK_EQUAL(send(b, "pong", 4, 0), 4);
    check_text(a, "pong");
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    CHECK(getsockopt(fd, level, name, &value, &len) == 0);
    return value;
}

static uint16_t local_port(int fd)
{
    struct sockaddr_in6 address;
    socklen_t len = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &len) == 0);
    return ntohs(address.sin6_port);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_at(AF_INET, 5000, 17), v6_listener = listen_at(AF_INET6, 5006, 5);
    int client = connect_to(AF_INET, 5000), server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    CHECK(setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0);
    CHECK(setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)) == 0);
    CHECK(setsockopt(client, IPPROTO_TCP, TCP_KEEPIDLE, &(int){33}, sizeof(int)) == 0);
    CHECK_EQUAL(send(client, "request", 7, 0), 7);
    CHECK_EQUAL(send(server, "response", 8, 0), 8);
    uint16_t client_port = local_port(client);
    CHECK(fcntl(listener, F_SETFL, O_NONBLOCK) == 0);
    CHECK(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){3}, sizeof(int)) == 0);

    int v6_client = connect_to(AF_INET6, 5006), v6_server = accept(v6_listener, NULL, NULL);
    int mixed_client = connect_to(AF_INET, 5006), mixed_server = accept(v6_listener, NULL, NULL);
    CHECK_EQUAL(send(mixed_server, "mixed", 5, 0), 5);

    int gone = listen_at(AF_INET, 5001, 1);
    int orphan_client = connect_to(AF_INET, 5001), orphan_server = accept(gone, NULL, NULL);
    close(gone);
    /* The server's end at the lower number. */
    int low = dup(orphan_client);
    CHECK_EQUAL(dup2(orphan_server, orphan_client), orphan_client);
    orphan_server = orphan_client;
    orphan_client = low;

    CHECK(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){0}, sizeof(int)) == 0);
    int half_client = connect_to(AF_INET, 5000), half_server = accept(listener, NULL, NULL);
    CHECK_EQUAL(send(half_client, "the end", 7, 0), 7);
    CHECK(shutdown(half_client, SHUT_WR) == 0);
    int waiting = connect_to(AF_INET, 5000);
    CHECK_EQUAL(send(waiting, "early", 5, 0), 5);
    CHECK(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){3}, sizeof(int)) == 0);
    static char large[100000], got[sizeof large];
    memset(large, 'x', sizeof large);
    int bulk_client = connect_to(AF_INET6, 5006), bulk_server = accept(v6_listener, NULL, NULL);
    size_t sent = 0;
    for (ssize_t n;
         sent < sizeof large && (n = send(bulk_client, large + sent, sizeof large - sent, MSG_DONTWAIT)) > 0;)
        sent += (size_t)n;

    int lost_client = connect_to(AF_INET, 5006), lost_server = accept(v6_listener, NULL, NULL);
    CHECK(lost_server >= 0);
    close(lost_server);
    int fresh = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    /* A second connection to the runtime API, which has said nothing: it is connected again. */
    int silent = connect_to(AF_INET, ENGINE_PORT);

    test_freeze_point();
    CHECK_EQUAL(local_port(client), client_port);
    check_text(server, "request");
    check_text(client, "response");
    check_talk(client, server);
    CHECK((fcntl(server, F_GETFL) & O_NONBLOCK) && !(fcntl(client, F_GETFL) & O_NONBLOCK));
    CHECK_EQUAL(option(client, IPPROTO_TCP, TCP_NODELAY), 1);
    CHECK_EQUAL(option(server, IPPROTO_TCP, TCP_NODELAY), 0);
    CHECK_EQUAL(option(client, SOL_SOCKET, SO_KEEPALIVE), 1);
    CHECK_EQUAL(option(client, IPPROTO_TCP, TCP_KEEPIDLE), 33);
    CHECK_EQUAL(option(listener, SOL_SOCKET, SO_REUSEADDR), 1);
    CHECK_EQUAL(option(client, SOL_SOCKET, SO_REUSEADDR), 0);
    check_talk(v6_client, v6_server);
    check_text(mixed_client, "mixed");
    check_talk(mixed_client, mixed_server);
    check_talk(orphan_client, orphan_server);
    CHECK_EQUAL(local_port(orphan_server), 5001);
    check_text(half_server, "the end");
    CHECK_EQUAL(recv(half_server, got, 1, 0), 0);
    CHECK_EQUAL(send(half_server, "bye", 3, 0), 3);
    check_text(half_client, "bye");
    CHECK(send(half_client, "x", 1, 0) < 0 && errno == EPIPE);
    CHECK(fcntl(listener, F_GETFL) & O_NONBLOCK);
    struct pollfd wait = {listener, POLLIN, 0};
    CHECK_EQUAL(poll(&wait, 1, -1), 1);
    int accepted = accept(listener, NULL, NULL);
    CHECK(accepted >= 0);
    check_text(accepted, "early");
    check_talk(accepted, waiting);
    CHECK(accept(listener, NULL, NULL) < 0 && errno == EAGAIN);
    CHECK(option(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT) > 0);
    int more = connect_to(AF_INET, 5000);
    CHECK_EQUAL(send(more, "now", 3, 0), 3);
    wait.revents = 0;
    CHECK_EQUAL(poll(&wait, 1, -1), 1);
    CHECK((accepted = accept(listener, NULL, NULL)) >= 0);
    check_text(accepted, "now");
    check_talk(more, accepted);
    CHECK_EQUAL(recv(bulk_server, got, sent, MSG_WAITALL), sent);
    CHECK(memcmp(got, large, sent) == 0);
    check_talk(bulk_client, bulk_server);
    ssize_t n = recv(lost_client, got, 1, 0);
    CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
    CHECK(recv(fresh, got, 1, 0) < 0 && errno == ENOTCONN);
    CHECK(fcntl(fresh, F_GETFL) & O_NONBLOCK);
    struct sockaddr_in api = {AF_INET, htons(5000), {htonl(INADDR_LOOPBACK)}, {0}};
    CHECK(connect(fresh, (struct sockaddr *)&api, sizeof api) == 0 || errno == EINPROGRESS);
    socklen_t len = sizeof api;
    CHECK(getpeername(silent, (struct sockaddr *)&api, &len) == 0 && ntohs(api.sin_port) == ENGINE_PORT);
    return 0;
}
