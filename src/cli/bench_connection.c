/* A keep-alive HTTP connection for measuring: one write for the request, and the clock is read right before
 * it and right after the last byte of the reply. */
#include "base/clock.h"
#include "base/fd.h"
#include "cli/bench.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD_BYTES_MAX 65536
#define REPLY_WAIT_MS 920000 /* a little more than the longest time-out of a function */

/* "127.0.0.1:8429" of "http://127.0.0.1:8429". */
static const char *authority_of(const char *endpoint)
{
    const char *scheme_end = strstr(endpoint, "://");
    return scheme_end ? scheme_end + 3 : endpoint;
}

void bench_request_invoke(struct bench_request *request, const char *endpoint,
    const struct cli_target *target, struct bytes payload)
{
    CLEANUP_FREE char *path = invoke_path(target);
    buffer_printf(&request->wire,
        "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nX-Thaw-Trace: 1\r\n"
        "Content-Length: %zu\r\n\r\n",
        path, authority_of(endpoint), payload.len);
    buffer_append(&request->wire, payload.data, payload.len);
}

void bench_request_status(struct bench_request *request, const char *endpoint)
{
    buffer_printf(&request->wire, "GET /thaw/v1/status HTTP/1.1\r\nHost: %s\r\n\r\n", authority_of(endpoint));
}

static int connect_to(const char *host, const char *port, struct error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int code = getaddrinfo(host, port, &hints, &found);
    if (code != 0)
        return error_set(err, ERROR_NOT_FOUND, "%s: %s", host, gai_strerror(code));
    CLEANUP_FD int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) < 0)
        error_system(err, "connect to %s port %s", host, port);
    else
        code = 1;
    freeaddrinfo(found);
    return code == 1 ? fd_steal(&fd) : -1;
}

int bench_connect(struct bench_connection *connection, const char *endpoint, struct error *err)
{
    *connection = (struct bench_connection){.fd = -1};
    const char *host = authority_of(endpoint);
    size_t host_len = strcspn(host, ":/");
    CLEANUP_FREE char *name = xstrndup(host, host_len);
    CLEANUP_FREE char *port = host[host_len] == ':'
                                  ? xstrndup(host + host_len + 1, strcspn(host + host_len + 1, "/"))
                                  : xstrdup("80");
    connection->fd = connect_to(name, port, err);
    if (connection->fd < 0)
        return -1;
    struct bench_request status = {0};
    bench_request_status(&status, endpoint);
    int result = bench_exchange(connection, &status, err);
    buffer_free(&status.wire);
    return result;
}

void bench_disconnect(struct bench_connection *connection)
{
    fd_close(&connection->fd);
    buffer_free(&connection->reply);
}

int bench_begin(struct bench_connection *connection, const struct bench_request *request, struct error *err)
{
    connection->request = request;
    connection->reply.len = 0;
    connection->head_bytes = connection->body_bytes = 0;
    connection->status = 0;
    connection->started_ns = clock_monotonic_ns();
    return fd_write_all(connection->fd, request->wire.data, request->wire.len, err);
}

/* The status line and Content-Length, once the empty line has come. */
static int parse_head(struct bench_connection *connection, struct error *err)
{
    const char *text = (const char *)connection->reply.data;
    const char *end = memmem(text, connection->reply.len, "\r\n\r\n", 4);
    if (!end)
        return connection->reply.len <= HEAD_BYTES_MAX
                   ? 0
                   : error_set(err, ERROR_CORRUPT, "the head of the reply does not end");
    if (connection->reply.len < 12 || memcmp(text, "HTTP/1.1 ", 9) != 0)
        return error_set(err, ERROR_CORRUPT, "the reply is not HTTP/1.1");
    connection->status = (int)strtol(text + 9, NULL, 10);
    connection->head_bytes = (size_t)(end - text) + 4;
    CLEANUP_FREE char *length = bench_header(connection, "Content-Length");
    if (!length)
        return error_set(err, ERROR_CORRUPT, "the reply has no Content-Length");
    connection->body_bytes = strtoull(length, NULL, 10);
    return 0;
}

int bench_advance(struct bench_connection *connection, struct error *err)
{
    char piece[16384];
    ssize_t got = recv(connection->fd, piece, sizeof piece, 0);
    if (got < 0 && errno == EINTR)
        return 0;
    if (got < 0)
        return error_system(err, "read the reply");
    if (got == 0)
        return error_set(err, ERROR_CORRUPT, "the server closed the connection before it had replied");
    connection->ended_ns = clock_monotonic_ns();
    buffer_append(&connection->reply, piece, (size_t)got);
    if (connection->head_bytes == 0 && parse_head(connection, err) < 0)
        return -1;
    return connection->head_bytes > 0 &&
           connection->reply.len >= connection->head_bytes + connection->body_bytes;
}

int bench_exchange(
    struct bench_connection *connection, const struct bench_request *request, struct error *err)
{
    if (bench_begin(connection, request, err) < 0)
        return -1;
    struct pollfd wait = {.fd = connection->fd, .events = POLLIN};
    int done = 0;
    while (done == 0) {
        int ready = poll(&wait, 1, REPLY_WAIT_MS);
        if (ready == 0)
            return error_set(err, ERROR_BUSY, "the server did not answer for %d s", REPLY_WAIT_MS / 1000);
        if (ready > 0)
            done = bench_advance(connection, err);
    }
    return done < 0 ? -1 : 0;
}

char *bench_header(const struct bench_connection *connection, const char *name)
{
    const char *text = (const char *)connection->reply.data, *end = text + connection->head_bytes;
    size_t name_len = strlen(name);
    for (const char *line = text; line < end;) {
        const char *line_end = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (!line_end)
            return NULL;
        if ((size_t)(line_end - line) > name_len && strncasecmp(line, name, name_len) == 0 &&
            line[name_len] == ':') {
            const char *value = line + name_len + 1;
            while (value < line_end && *value == ' ')
                value++;
            return xstrndup(value, (size_t)(line_end - value));
        }
        line = line_end + 2;
    }
    return NULL;
}
