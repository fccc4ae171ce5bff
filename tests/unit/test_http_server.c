/* The server in a loop of its own thread, and clients that speak raw bytes over loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELD_MAX 8
#define PATIENCE_MS 20000 /* a test that waits this long has failed */

/* Orders from the test to the server's thread, as an eventfd's value. */
enum order {
    ORDER_STOP = 1,
    ORDER_REPLY_HELD,
    ORDER_UNLISTEN,
    ORDER_STREAM_WRITE,
    ORDER_STREAM_END,
    ORDER_QUIET
};

struct rig {
    struct loop *loop;
    struct http_server *server;
    struct http_listener *listener;
    struct loop_watch *order_watch;
    int listen_fd, order_fd, answer_fd;
    uint16_t port;
    enum order order;
    pthread_t thread;
    struct http_exchange *held[HELD_MAX];
    size_t held_count;
    struct http_exchange *stream;
    uint64_t quiet;
    int done_replied, done_died, closed; /* events so far, read by tests after an order was answered */
};

static size_t limit_body(void *context, const struct http_exchange *exchange)
{
    (void)context;
    return strcmp(http_path(exchange), "/big") == 0 ? 8u << 20 : 1000;
}

static void refuse_large(void *context, struct http_exchange *exchange)
{
    (void)context;
    const struct http_field type = {"Content-Type", "text/plain"};
    http_reply(exchange, 413, &type, 1, "too large", 9);
}

/* /echo answers method, body length and body; /hold keeps the exchange; /stream begins a stream. */
static void on_request(void *context, struct http_exchange *exchange)
{
    struct rig *rig = context;
    const char *path = http_path(exchange);
    struct bytes body = http_body(exchange);
    if (strcmp(path, "/hold") == 0 && rig->held_count < HELD_MAX) {
        rig->held[rig->held_count++] = exchange;
        return;
    }
    if (strcmp(path, "/stream") == 0) {
        rig->stream = exchange;
        http_stream_begin(exchange, 200, NULL, 0);
        http_stream_write(exchange, "first", 5);
        return;
    }
    CLEANUP_BUFFER struct buffer out = {0};
    const char *query = http_query(exchange, "q"), *header = http_header(exchange, "x-test");
    buffer_printf(&out, "%s %zu q=%s h=%s port=%d ", http_method(exchange), body.len, query ? query : "-",
        header ? header : "-", http_peer_port(http_exchange_connection(exchange)) != 0);
    buffer_append(&out, body.data, body.len < 64 ? body.len : 64);
    const struct http_field fields[] = {{"X-Tricky", "a\r\nInjected: b"}};
    if (strcmp(path, "/owned") == 0)
        http_reply_owned(exchange, 200, fields, 1, steal_pointer(out.data), out.len);
    else if (strcmp(path, "/big") == 0)
        http_reply(exchange, 200, fields, 1, body.data, body.len);
    else
        http_reply(exchange, 200, fields, 1, out.data, out.len);
}

static void on_done(void *context, struct http_exchange *exchange, bool replied)
{
    struct rig *rig = context;
    *(replied ? &rig->done_replied : &rig->done_died) += 1;
    for (size_t i = 0; i < rig->held_count; i++)
        if (rig->held[i] == exchange)
            rig->held[i] = rig->held[--rig->held_count];
    if (rig->stream == exchange)
        rig->stream = NULL;
}

static void on_closed(void *context, struct http_connection *connection)
{
    (void)connection;
    struct rig *rig = context;
    rig->closed++;
}

static const struct http_callbacks callbacks = {limit_body, refuse_large, on_request, on_done, on_closed};

static void on_order(void *context, uint32_t events)
{
    (void)events;
    struct rig *rig = context;
    uint64_t order;
    assert_int_equal(read(rig->order_fd, &order, sizeof order), sizeof order);
    if (order == ORDER_STOP)
        loop_stop(rig->loop);
    while (order == ORDER_REPLY_HELD && rig->held_count > 0)
        http_reply(rig->held[0], 200, NULL, 0, "held", 4);
    if (order == ORDER_UNLISTEN)
        http_unlisten(&rig->listener);
    if (order == ORDER_STREAM_WRITE && rig->stream != NULL)
        http_stream_write(rig->stream, "more", 4);
    if (order == ORDER_STREAM_END && rig->stream != NULL)
        http_stream_end(rig->stream);
    if (order == ORDER_QUIET)
        rig->quiet = http_listener_quiet(rig->listener);
    uint64_t one = 1;
    assert_int_equal(write(rig->answer_fd, &one, sizeof one), sizeof one);
}

static void *run(void *context)
{
    struct rig *rig = context;
    struct error err;
    if (loop_run(rig->loop, &err) < 0)
        fprintf(stderr, "%s\n", err.text);
    return NULL;
}

static void order(struct rig *rig, enum order what)
{
    uint64_t value = what;
    assert_int_equal(write(rig->order_fd, &value, sizeof value), sizeof value);
    assert_int_equal(read(rig->answer_fd, &value, sizeof value), sizeof value);
}

/* Looks at the server between its turns until `*counter` has come to `wanted`. */
static void await(struct rig *rig, const int *counter, int wanted)
{
    for (uint64_t begin = clock_monotonic_ns(); *(volatile const int *)counter < wanted; usleep(1000)) {
        order(rig, ORDER_QUIET);
        assert_true(clock_monotonic_ns() - begin < PATIENCE_MS * UINT64_C(1000000));
    }
}

static int set_up_with(void **state, uint32_t idle_timeout_s, uint32_t connection_limit)
{
    struct error err;
    struct rig *rig = xcalloc(1, sizeof *rig);
    rig->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    assert_int_equal(bind(rig->listen_fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(rig->listen_fd, 64), 0);
    assert_int_equal(getsockname(rig->listen_fd, (struct sockaddr *)&address, &len), 0);
    rig->port = ntohs(address.sin_port);
    rig->order_fd = eventfd(0, EFD_CLOEXEC);
    rig->answer_fd = eventfd(0, EFD_CLOEXEC);
    rig->loop = loop_new(&err);
    struct http_options options = {idle_timeout_s, connection_limit, 4096};
    rig->server = http_server_new(rig->loop, &options, &err);
    assert_non_null(rig->server);
    rig->listener = http_listen(rig->server, rig->listen_fd, &callbacks, rig, &err);
    assert_non_null(rig->listener);
    rig->order_watch = loop_watch_fd(rig->loop, rig->order_fd, EPOLLIN, on_order, rig, &err);
    assert_int_equal(pthread_create(&rig->thread, NULL, run, rig), 0);
    *state = rig;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 0, 100);
}

static int set_up_hasty(void **state)
{
    return set_up_with(state, 1, 100);
}

static int set_up_narrow(void **state)
{
    return set_up_with(state, 0, 2);
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    order(rig, ORDER_STOP);
    pthread_join(rig->thread, NULL);
    http_server_free(rig->server);
    loop_unwatch(&rig->order_watch);
    loop_free(rig->loop);
    close(rig->listen_fd);
    close(rig->order_fd);
    close(rig->answer_fd);
    free(rig);
    return 0;
}

/* ---- the client ---- */

static int dial(const struct rig *rig)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(rig->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void say(int fd, const char *text)
{
    struct error err;
    assert_int_equal(fd_write_all(fd, text, strlen(text), &err), 0);
}

/* Reads until what came ends with `end` (NULL: until end of file). Static storage. */
static const char *hear(int fd, const char *end)
{
    static char text[16384];
    size_t len = 0;
    text[0] = '\0';
    while (end == NULL || len < strlen(end) || strcmp(text + len - strlen(end), end) != 0) {
        ssize_t n = recv(fd, text + len, sizeof text - 1 - len, 0);
        if (n < 0)
            fail_msg("waiting for \"%s\" after \"%s\": %s", end ? end : "the end", text, strerror(errno));
        if (n == 0 && end != NULL)
            fail_msg("the connection ended, not with \"%s\", after \"%s\"", end, text);
        if (n == 0)
            break;
        len += (size_t)n;
        text[len] = '\0';
    }
    return text;
}

static __attribute__((noinline)) void assert_holds(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in \"%s\"", part, text);
}

/* ---- the tests ---- */

static void a_connection_serves_many_requests(void **state)
{
    CLEANUP_FD int fd = dial(*state);
    for (int i = 0; i < 3; i++) {
        say(fd, "GET /echo?q=a%20b HTTP/1.1\r\nHost: h\r\nX-Test: yes\r\n\r\n");
        const char *answer = hear(fd, "GET 0 q=a b h=yes port=1 ");
        assert_holds(answer, "HTTP/1.1 200 OK\r\n");
        assert_holds(answer, "Content-Length: 25\r\n");
        assert_holds(answer, "X-Tricky: a  Injected: b\r\n");
    }
    say(fd, "POST /owned HTTP/1.1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    assert_holds(hear(fd, NULL), "Connection: close\r\n");
}

static void a_request_may_come_byte_by_byte(void **state)
{
    CLEANUP_FD int fd = dial(*state);
    const char request[] = "\r\nPOST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    for (size_t i = 0; i < strlen(request); i++) {
        assert_int_equal(send(fd, request + i, 1, 0), 1);
        usleep(200);
    }
    hear(fd, "POST 5 q=- h=- port=1 hello");
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    say(fd, "POST /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\none"
            "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
            "GET /hold HTTP/1.1\r\n\r\n"
            "POST /echo HTTP/1.1\r\nContent-Length: 4\r\n\r\nfour");
    const char *answers = hear(fd, "two");
    assert_holds(answers, "POST 3 q=- h=- port=1 one");
    order(rig, ORDER_REPLY_HELD);
    answers = hear(fd, "four");
    assert_holds(answers, "held");
}

static void a_pipeline_longer_than_its_buffer_flows(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    CLEANUP_BUFFER struct buffer requests = {0};
    buffer_printf(&requests, "GET /hold HTTP/1.1\r\n\r\n");
    for (int i = 0; i < 300; i++)
        buffer_printf(&requests, "POST /echo HTTP/1.1\r\nContent-Length: 6\r\n\r\nnr%04d", i);
    say(fd, (char *)requests.data);
    await(rig, &rig->done_replied, 0);
    for (int tries = 0; rig->held_count == 0 && tries < 1000; tries++)
        order(rig, ORDER_QUIET);
    order(rig, ORDER_REPLY_HELD);
    for (int i = 0; i < 300; i++) {
        /* Read exactly one answer at a time: the head, then 28 bytes. */
        char text[512] = {0};
        size_t len = 0;
        while (strstr(text, "\r\n\r\n") == NULL)
            assert_int_equal(recv(fd, text + len++, 1, 0), 1);
        size_t body = strtoul(strstr(text, "Content-Length: ") + 16, NULL, 10);
        assert_int_equal(recv(fd, text + len, body, MSG_WAITALL), body);
        char wanted[16];
        snprintf(wanted, sizeof wanted, i == 0 ? "held" : "nr%04d", i - 1);
        assert_holds(text + len, wanted);
    }
}

static void a_large_body_goes_both_ways(void **state)
{
    CLEANUP_FD int fd = dial(*state);
    size_t len = 6u << 20;
    CLEANUP_FREE uint8_t *body = malloc(len), *back = malloc(len);
    for (size_t i = 0; i < len; i++)
        body[i] = (uint8_t)(i * 7 + i / 251);
    say(fd, "POST /big HTTP/1.1\r\nContent-Length: 6291456\r\nExpect: 100-continue\r\n\r\n");
    assert_holds(hear(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue");
    struct error err;
    assert_int_equal(fd_write_all(fd, body, len, &err), 0);
    char head[1024] = {0};
    for (size_t at = 0; strstr(head, "\r\n\r\n") == NULL; at++)
        assert_int_equal(recv(fd, head + at, 1, 0), 1);
    assert_int_equal(fd_read_full(fd, back, len, &err), 0);
    assert_memory_equal(body, back, len);
    say(fd, "GET /echo HTTP/1.1\r\n\r\n");
    hear(fd, "port=1 ");
}

static void a_body_over_the_limit_is_refused_and_the_connection_closed(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int announced = dial(rig);
    say(announced, "POST /echo HTTP/1.1\r\nContent-Length: 1001\r\n\r\n");
    const char *answer = hear(announced, "too large");
    assert_holds(answer, "HTTP/1.1 413 Content Too Large\r\n");
    assert_holds(answer, "Connection: close\r\n");

    CLEANUP_FD int chunked = dial(rig);
    say(chunked, "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n");
    assert_holds(hear(chunked, NULL), "413");

    /* A client that sends all of it before it reads must find the answer, not a reset. */
    CLEANUP_FD int eager = dial(rig);
    say(eager, "POST /echo HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n");
    CLEANUP_FREE char *block = xcalloc(1, 1000000);
    struct error err;
    for (int i = 0; i < 20; i++)
        assert_int_equal(fd_write_all(eager, block, 1000000, &err), 0);
    assert_holds(hear(eager, NULL), "too large");
    close(fd_steal(&announced));
    await(rig, &rig->done_replied, 3);
}

static void malformed_requests_get_an_answer(void **state)
{
    static const struct {
        const char *request, *status;
    } cases[] = {
        {"nonsense\r\n\r\n", "400 Bad Request"},
        {"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", "400"},
        {"GET / HTTP/3.0\r\n\r\n", "505"},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
        {"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
    };
    for (size_t i = 0; i < countof(cases); i++) {
        CLEANUP_FD int fd = dial(*state);
        say(fd, cases[i].request);
        const char *answer = hear(fd, NULL);
        assert_holds(answer, cases[i].status);
        assert_holds(answer, "{\"message\":\"");
    }
    CLEANUP_FD int endless = dial(*state);
    for (int i = 0; i < 4096 / 16; i++)
        say(endless, "GET / HTTP/1.1\r\n" + (i == 0 ? 0 : 16));
    CLEANUP_FREE char *filler = xcalloc(1, 4097);
    memset(filler, 'a', 4096);
    say(endless, filler);
    assert_holds(hear(endless, NULL), "431");
}

static void truncated_requests_are_told_so(void **state)
{
    static const char *const requests[] = {"GET / HT",
        "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /big HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhalf",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf"};
    for (size_t i = 0; i < countof(requests); i++) {
        CLEANUP_FD int fd = dial(*state);
        say(fd, requests[i]);
        shutdown(fd, SHUT_WR);
        assert_holds(hear(fd, NULL), "400 Bad Request");
    }
}

static void head_and_old_clients_are_served(void **state)
{
    CLEANUP_FD int fd = dial(*state);
    say(fd, "HEAD /echo HTTP/1.1\r\n\r\n");
    assert_holds(hear(fd, "\r\n\r\n"), "Content-Length: 22\r\n");
    say(fd, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_holds(hear(fd, "port=1 "), "Connection: keep-alive\r\n");
    say(fd, "GET /echo HTTP/1.0\r\n\r\n");
    assert_holds(hear(fd, NULL), "GET 0");
}

static void slow_clients_are_sent_away(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int silent = dial(rig), half = dial(rig), body = dial(rig), held = dial(rig);
    say(half, "GET / HTTP/1.1\r\nHo");
    say(body, "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf");
    say(held, "GET /hold HTTP/1.1\r\n\r\n");
    assert_holds(hear(half, NULL), "408 Request Timeout");
    assert_holds(hear(body, NULL), "408 Request Timeout");
    assert_string_equal(hear(silent, NULL), "");
    /* Who waits for us is not slow. */
    order(rig, ORDER_REPLY_HELD);
    hear(held, "held");
}

static void a_client_that_leaves_ends_its_exchange(void **state)
{
    struct rig *rig = *state;
    int left = dial(rig), reset = dial(rig);
    say(left, "GET /hold HTTP/1.1\r\n\r\n");
    say(reset, "GET /hold HTTP/1.1\r\n\r\n");
    while (rig->held_count < 2)
        order(rig, ORDER_QUIET);
    struct linger now = {.l_onoff = 1};
    setsockopt(reset, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(reset);
    await(rig, &rig->done_died, 1);
    assert_int_equal(rig->held_count, 1);
    /* A closed sending side alone may be a client that still listens: it is found out when we reply. */
    close(left);
    order(rig, ORDER_QUIET);
    order(rig, ORDER_REPLY_HELD);
    await(rig, &rig->closed, 2);
    assert_int_equal(rig->done_died + rig->done_replied, 2);

    CLEANUP_FD int patient = dial(rig);
    say(patient, "GET /hold HTTP/1.1\r\n\r\n");
    shutdown(patient, SHUT_WR);
    while (rig->held_count < 1)
        order(rig, ORDER_QUIET);
    order(rig, ORDER_REPLY_HELD);
    assert_holds(hear(patient, NULL), "held");
}

static void a_listener_may_see_leaving_in_a_closed_sending_side(void **state)
{
    struct rig *rig = *state;
    const struct http_listener_options options = {.end_on_fin = true};
    http_listener_configure(rig->listener, &options);
    CLEANUP_FD int fd = dial(rig);
    say(fd, "GET /hold HTTP/1.1\r\n\r\n");
    while (rig->held_count < 1)
        order(rig, ORDER_QUIET);
    shutdown(fd, SHUT_WR);
    await(rig, &rig->done_died, 1);
    assert_int_equal(rig->held_count, 0);
}

static void unlistening_closes_connections(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int idle = dial(rig), held = dial(rig);
    say(idle, "GET /echo HTTP/1.1\r\n\r\n");
    hear(idle, "port=1 ");
    say(held, "GET /hold HTTP/1.1\r\n\r\n");
    while (rig->held_count < 1)
        order(rig, ORDER_QUIET);
    order(rig, ORDER_UNLISTEN);
    assert_string_equal(hear(idle, NULL), "");
    assert_string_equal(hear(held, NULL), "");
    assert_int_equal(rig->done_died, 1);
    assert_int_equal(rig->held_count, 0);
    assert_int_equal(rig->closed, 2);
    struct error err;
    rig->listener = http_listen(rig->server, rig->listen_fd, &callbacks, rig, &err);
    assert_non_null(rig->listener);
}

static void streams_flow_and_end(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig), old = dial(rig), gone = dial(rig);
    say(fd, "GET /stream HTTP/1.1\r\n\r\n");
    assert_holds(hear(fd, "5\r\nfirst\r\n"), "Transfer-Encoding: chunked\r\n");
    order(rig, ORDER_STREAM_WRITE);
    hear(fd, "4\r\nmore\r\n");
    order(rig, ORDER_STREAM_END);
    hear(fd, "0\r\n\r\n");
    say(fd, "GET /echo HTTP/1.1\r\n\r\n");
    hear(fd, "port=1 ");

    say(old, "GET /stream HTTP/1.0\r\n\r\n");
    hear(old, "\r\n\r\nfirst");
    order(rig, ORDER_STREAM_WRITE);
    order(rig, ORDER_STREAM_END);
    assert_string_equal(hear(old, NULL), "more");

    say(gone, "GET /stream HTTP/1.1\r\n\r\n");
    hear(gone, "first\r\n");
    close(fd_steal(&gone));
    await(rig, &rig->done_died, 1);
    order(rig, ORDER_STREAM_WRITE);
}

static void a_stream_nobody_reads_is_dropped(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    say(fd, "GET /stream HTTP/1.1\r\n\r\n");
    hear(fd, "first\r\n");
    for (int i = 0; rig->done_died == 0 && i < 5000000; i++)
        order(rig, ORDER_STREAM_WRITE);
    assert_int_equal(rig->done_died, 1);
}

static void quiet_means_nothing_is_under_way(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    say(fd, "GET /hold HTTP/1.1\r\n\r\n");
    while (rig->held_count < 1)
        order(rig, ORDER_QUIET);
    order(rig, ORDER_QUIET);
    assert_true(rig->quiet);
    CLEANUP_FD int half = dial(rig);
    say(half, "GET /ho");
    while (rig->quiet)
        order(rig, ORDER_QUIET);
    say(half, "ld HTTP/1.1\r\n\r\n");
    while (rig->held_count < 2)
        order(rig, ORDER_QUIET);
    order(rig, ORDER_QUIET);
    assert_true(rig->quiet);
    order(rig, ORDER_REPLY_HELD);
    hear(half, "held");
    hear(fd, "held");
}

static void more_connections_than_the_limit_wait_their_turn(void **state)
{
    struct rig *rig = *state;
    int fds[6];
    for (size_t i = 0; i < countof(fds); i++) {
        fds[i] = dial(rig);
        say(fds[i], "GET /echo HTTP/1.1\r\n\r\n");
    }
    for (size_t i = 0; i < countof(fds); i++) {
        hear(fds[i], "port=1 ");
        close(fds[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_connection_serves_many_requests),
        TEST(a_request_may_come_byte_by_byte),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(a_pipeline_longer_than_its_buffer_flows),
        TEST(a_large_body_goes_both_ways),
        TEST(a_body_over_the_limit_is_refused_and_the_connection_closed),
        TEST(malformed_requests_get_an_answer),
        TEST(truncated_requests_are_told_so),
        TEST(head_and_old_clients_are_served),
        TEST(a_client_that_leaves_ends_its_exchange),
        TEST(a_listener_may_see_leaving_in_a_closed_sending_side),
        TEST(unlistening_closes_connections),
        TEST(streams_flow_and_end),
        TEST(a_stream_nobody_reads_is_dropped),
        TEST(quiet_means_nothing_is_under_way),
        cmocka_unit_test_setup_teardown(slow_clients_are_sent_away, set_up_hasty, tear_down),
        cmocka_unit_test_setup_teardown(
            more_connections_than_the_limit_wait_their_turn, set_up_narrow, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
