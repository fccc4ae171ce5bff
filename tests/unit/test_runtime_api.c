/* An endpoint in a loop of its own thread, and a fake function that speaks raw HTTP over loopback. What the
 * endpoint tells its owner is written down as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "runtime/runtime.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_MS 20000
#define ID "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
#define API "/2018-06-01/runtime/"

enum order {
    ORDER_STOP = 1,
    ORDER_LOOK,
    ORDER_DELIVER,
    ORDER_RESTORED,
    ORDER_PRIMED,
    ORDER_CREDENTIALS,
    ORDER_FREE_ON_RESPONSE
};

struct rig {
    struct loop *loop;
    struct http_server *server;
    struct runtime_endpoint *endpoint;
    struct loop_watch *order_watch;
    int listen_fd, order_fd, answer_fd;
    uint16_t port;
    pthread_t thread;
    struct buffer told; /* what the owner was told, a line each */
    bool free_on_response;
    int parked_result; /* of runtime_parked_requests */
    struct error parked_error;
    size_t parked_count;
    struct runtime_parked parked;
};

static void on_waiting(void *context)
{
    buffer_printf(&((struct rig *)context)->told, "waiting\n");
}

static void on_prime_waiting(void *context)
{
    buffer_printf(&((struct rig *)context)->told, "prime_waiting\n");
}

static void on_restore_waiting(void *context)
{
    buffer_printf(&((struct rig *)context)->told, "restore_waiting\n");
}

static void on_response(void *context, const char *id, struct bytes body, const char *content_type)
{
    struct rig *rig = context;
    buffer_printf(&rig->told, "response %s [%s] %zu ", id, content_type, body.len);
    buffer_append(&rig->told, body.data, body.len < 32 ? body.len : 32);
    buffer_printf(&rig->told, "\n");
    if (rig->free_on_response) {
        runtime_endpoint_free(rig->endpoint);
        rig->endpoint = NULL;
    }
}

static void tell_error(struct rig *rig, const char *kind, struct bytes body, const char *type)
{
    buffer_printf(&rig->told, "%s %s %.*s\n", kind, type, (int)body.len, (const char *)body.data);
}

static void on_invocation_error(void *context, const char *id, struct bytes body, const char *type)
{
    buffer_printf(&((struct rig *)context)->told, "%s ", id);
    tell_error(context, "invocation_error", body, type);
}

static void on_init_error(void *context, struct bytes body, const char *type)
{
    tell_error(context, "init_error", body, type);
}

static void on_restore_error(void *context, struct bytes body, const char *type)
{
    tell_error(context, "restore_error", body, type);
}

static void on_too_large(void *context, const char *id, uint64_t len)
{
    buffer_printf(&((struct rig *)context)->told, "too_large %s %llu\n", id, (unsigned long long)len);
}

static const struct runtime_callbacks callbacks = {on_waiting, on_prime_waiting, on_restore_waiting,
    on_response, on_invocation_error, on_init_error, on_restore_error, on_too_large};

static void deliver(struct rig *rig)
{
    const struct runtime_event event = {
        .request_id = ID,
        .deadline_ms = 1542409706888,
        .function_arn = "arn:aws:lambda:us-east-1:000000000000:function:pets",
        .trace_id = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
        .client_context = "{\"custom\":{\"a\":\"b\"}}",
        .payload = {(const uint8_t *)"{\"pet\":1}", 9},
    };
    runtime_deliver(rig->endpoint, &event);
}

static void set_credentials(struct rig *rig)
{
    const struct runtime_credentials credentials = {.token = "to\"ken",
        .access_key_id = "AKIA",
        .secret_access_key = "sec\"ret",
        .session_token = "session",
        .expiration_ms = 1800000000000};
    runtime_set_credentials(rig->endpoint, &credentials);
}

static void on_order(void *context, uint32_t events)
{
    (void)events;
    struct rig *rig = context;
    uint64_t order, one = 1;
    assert_int_equal(read(rig->order_fd, &order, sizeof order), sizeof order);
    if (order == ORDER_STOP)
        loop_stop(rig->loop);
    if (order == ORDER_DELIVER)
        deliver(rig);
    if (order == ORDER_RESTORED)
        runtime_restored(rig->endpoint);
    if (order == ORDER_PRIMED)
        runtime_primed(rig->endpoint);
    if (order == ORDER_CREDENTIALS)
        set_credentials(rig);
    if (order == ORDER_FREE_ON_RESPONSE)
        rig->free_on_response = true;
    if (rig->endpoint != NULL)
        rig->parked_result =
            runtime_parked_requests(rig->endpoint, &rig->parked, 1, &rig->parked_count, &rig->parked_error);
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

/* Until the owner was told exactly `text` since the last time. */
static void await_told(struct rig *rig, const char *text)
{
    for (uint64_t begin = clock_monotonic_ns();; usleep(500)) {
        order(rig, ORDER_LOOK);
        if (rig->told.len == strlen(text) && memcmp(rig->told.data, text, rig->told.len) == 0)
            break;
        if (clock_monotonic_ns() - begin > PATIENCE_MS * UINT64_C(1000000))
            fail_msg("told \"%.*s\", not \"%s\"", (int)rig->told.len, (char *)rig->told.data, text);
    }
    rig->told.len = 0;
}

static int set_up_with(void **state, bool snap_start)
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
    struct http_options options = {0, 100, 16384};
    rig->server = http_server_new(rig->loop, &options, &err);
    rig->endpoint = runtime_endpoint_new(rig->server, rig->listen_fd, &callbacks, rig, snap_start, &err);
    assert_non_null(rig->endpoint);
    rig->order_watch = loop_watch_fd(rig->loop, rig->order_fd, EPOLLIN, on_order, rig, &err);
    assert_int_equal(pthread_create(&rig->thread, NULL, run, rig), 0);
    *state = rig;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, false);
}

static int set_up_snap_start(void **state)
{
    return set_up_with(state, true);
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    order(rig, ORDER_STOP);
    pthread_join(rig->thread, NULL);
    runtime_endpoint_free(rig->endpoint);
    http_server_free(rig->server);
    loop_unwatch(&rig->order_watch);
    loop_free(rig->loop);
    buffer_free(&rig->told);
    close(rig->listen_fd);
    close(rig->order_fd);
    close(rig->answer_fd);
    free(rig);
    return 0;
}

/* ---- the function ---- */

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

/* One whole answer, head and body, as text in static storage. */
static const char *hear(int fd)
{
    static char text[16384];
    size_t len = 0;
    text[0] = '\0';
    while (strstr(text, "\r\n\r\n") == NULL) {
        if (recv(fd, text + len, 1, 0) != 1)
            fail_msg("no whole answer after \"%s\": %s", text, strerror(errno));
        text[++len] = '\0';
    }
    const char *length = strstr(text, "Content-Length: ");
    size_t body = length != NULL ? strtoul(length + 16, NULL, 10) : 0;
    assert_true(len + body < sizeof text);
    if (body > 0)
        assert_int_equal(recv(fd, text + len, body, MSG_WAITALL), body);
    text[len + body] = '\0';
    return text;
}

static void get(int fd, const char *path)
{
    CLEANUP_FREE char *request = xasprintf("GET %s HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n", path);
    say(fd, request);
}

static void post(int fd, const char *path, const char *headers, const char *body)
{
    CLEANUP_FREE char *request =
        xasprintf("POST %s HTTP/1.1\r\n%sContent-Length: %zu\r\n\r\n%s", path, headers, strlen(body), body);
    say(fd, request);
}

static __attribute__((noinline)) void assert_holds(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("no \"%s\" in \"%s\"", part, text);
}

static __attribute__((noinline)) void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("\"%s\" is in \"%s\"", part, text);
}

/* next, and an event for it */
static void take_event(struct rig *rig, int fd)
{
    get(fd, API "invocation/next");
    await_told(rig, "waiting\n");
    order(rig, ORDER_DELIVER);
    hear(fd);
}

/* ---- the tests ---- */

static void an_event_goes_round(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    for (int i = 0; i < 3; i++) {
        get(fd, API "invocation/next");
        await_told(rig, "waiting\n");
        order(rig, ORDER_DELIVER);
        const char *event = hear(fd);
        assert_holds(event, "HTTP/1.1 200 OK\r\n");
        assert_holds(event, "Lambda-Runtime-Aws-Request-Id: " ID "\r\n");
        assert_holds(event, "Lambda-Runtime-Deadline-Ms: 1542409706888\r\n");
        assert_holds(event, "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:");
        assert_holds(event, "Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700\r\n");
        assert_holds(event, "Lambda-Runtime-Client-Context: {\"custom\":{\"a\":\"b\"}}\r\n");
        assert_holds(event, "Content-Type: application/json\r\n");
        assert_holds(event, "\r\n\r\n{\"pet\":1}");
        post(fd, API "invocation/" ID "/response", "Content-Type: a/b\r\n", "[1]");
        await_told(rig, "response " ID " [a/b] 3 [1]\n");
        const char *answer = hear(fd);
        assert_holds(answer, "HTTP/1.1 202 Accepted\r\n");
        assert_holds(answer, "{\"status\":\"OK\"}");
    }
}

static void a_response_may_be_chunked_and_streaming(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    take_event(rig, fd);
    say(fd, "POST " API "invocation/" ID "/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: "
            "Lambda-Runtime-Function-Error-Type\r\n\r\n"
            "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    await_told(rig, "response " ID " [] 5 abcde\n");
    assert_holds(hear(fd), "202");

    take_event(rig, fd);
    post(fd, API "invocation/" ID "/response", "Lambda-Runtime-Function-Response-Mode: odd\r\n", "x");
    assert_holds(hear(fd), "InvalidFunctionResponseMode");
    post(fd, API "invocation/" ID "/response", "", "");
    await_told(rig, "response " ID " [] 0 \n");
    assert_holds(hear(fd), "202");
}

static void error_types_are_checked(void **state)
{
    static const struct {
        const char *header, *told;
    } cases[] = {
        {"Lambda-Runtime-Function-Error-Type: Function.MyError\r\n", "Function.MyError"},
        {"lambda-runtime-function-error-type: Runtime.ImportModuleError\r\n", "Runtime.ImportModuleError"},
        {"Lambda-Runtime-Function-Error-Type: Function.\r\n", "Function.Unknown"},
        {"Lambda-Runtime-Function-Error-Type: Function.lower\r\n", "Function.Unknown"},
        {"Lambda-Runtime-Function-Error-Type: Runtime.A-B\r\n", "Runtime.Unknown"},
        {"Lambda-Runtime-Function-Error-Type: ValueError\r\n", "Runtime.Unknown"},
        {"", "Runtime.Unknown"},
    };
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    for (size_t i = 0; i < countof(cases); i++) {
        take_event(rig, fd);
        post(fd, API "invocation/" ID "/error", cases[i].header, "{}");
        CLEANUP_FREE char *told = xasprintf(ID " invocation_error %s {}\n", cases[i].told);
        await_told(rig, told);
        assert_holds(hear(fd), "202");
    }
}

static void wrong_ids_and_states_are_refused(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig), other = dial(rig);
    post(fd, API "invocation/" ID "/response", "", "{}");
    const char *answer = hear(fd);
    assert_holds(answer, "HTTP/1.1 403 Forbidden\r\n");
    assert_holds(answer,
        "{\"errorMessage\":\"State transition from Started to InvocationResponse failed for runtime. "
        "Error: State transition is not allowed\",\"errorType\":\"InvalidStateTransition\"}");
    get(fd, API "invocation/next");
    await_told(rig, "waiting\n");
    get(other, API "invocation/next");
    assert_holds(hear(other), "403");
    post(other, API "init/error", "", "{}");
    assert_holds(hear(other), "403");
    order(rig, ORDER_DELIVER);
    hear(fd);
    post(fd, API "invocation/" ID "x/response", "", "{}");
    answer = hear(fd);
    assert_holds(answer, "HTTP/1.1 400 Bad Request\r\n");
    assert_holds(answer, "{\"errorMessage\":\"Invalid request ID\",\"errorType\":\"InvalidRequestID\"}");
    post(fd, API "invocation//error", "", "{}");
    assert_holds(hear(fd), "InvalidRequestID");
    post(fd, API "invocation/" ID "/response", "", "{}");
    hear(fd);
    post(fd, API "invocation/" ID "/response", "", "{}");
    assert_holds(hear(fd), "403");
    await_told(rig, "response " ID " [] 2 {}\n");
}

static void unknown_paths_are_not_found(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    static const char *const unknown[] = {"/", "/x", API, API "invocation/", API "invocation/a/b",
        API "restore/next", API "prime/next", "/2020-01-01/extension/register", "/a/b/ping",
        "/2018-06-01/pings"};
    for (size_t i = 0; i < countof(unknown); i++) {
        get(fd, unknown[i]);
        if (strstr(hear(fd), "404") == NULL)
            fail_msg("%s is found", unknown[i]);
    }
    get(fd, "/2018-06-01/ping");
    assert_holds(hear(fd), "\r\n\r\npong");
    post(fd, API "invocation/next", "", "");
    assert_holds(hear(fd), "405");
    post(fd, API "restore/error", "", "");
    assert_holds(hear(fd), "404");
}

static void init_errors_are_told_once(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    post(
        fd, API "init/error", "Lambda-Runtime-Function-Error-Type: Runtime.HandlerNotFound\r\n", "{\"a\":1}");
    assert_holds(hear(fd), "202");
    post(fd, API "init/error", "", "{}");
    assert_holds(hear(fd), "403");
    get(fd, API "invocation/next");
    assert_holds(hear(fd), "State transition from InitError to Ready failed");
    await_told(rig, "init_error Runtime.HandlerNotFound {\"a\":1}\n");
}

static void too_large_answers_are_refused(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    take_event(rig, fd);
    CLEANUP_FREE char *head =
        xasprintf("POST " API "invocation/" ID "/response HTTP/1.1\r\nContent-Length: %d\r\n\r\n",
            LIMIT_PAYLOAD_BYTES + 1);
    say(fd, head);
    const char *answer = hear(fd);
    assert_holds(answer, "HTTP/1.1 413 ");
    assert_holds(answer, "{\"errorMessage\":\"Exceeded maximum allowed payload size (6291556 bytes).\","
                         "\"errorType\":\"RequestEntityTooLarge\"}");
    await_told(rig, "too_large " ID " 6291557\n");

    CLEANUP_FD int again = dial(rig);
    take_event(rig, again);
    say(again,
        "POST " API "invocation/" ID "/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n700000\r\n");
    assert_holds(hear(again), "413");
    await_told(rig, "too_large " ID " 6291557\n");

    CLEANUP_FD int whole = dial(rig);
    take_event(rig, whole);
    CLEANUP_FREE char *body = xcalloc(1, LIMIT_PAYLOAD_BYTES + 1);
    memset(body, 'x', LIMIT_PAYLOAD_BYTES);
    post(whole, API "invocation/" ID "/response", "", body);
    assert_holds(hear(whole), "202");
    await_told(rig, "response " ID " [] 6291556 xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n");

    /* Without an event in hand nothing large is read at all. */
    CLEANUP_FD int early = dial(rig);
    say(early, head);
    assert_holds(hear(early), "403");
}

static void a_runtime_that_asks_again_gets_the_same_event(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig), again = dial(rig);
    take_event(rig, fd);
    get(again, API "invocation/next");
    assert_holds(hear(again), "Lambda-Runtime-Aws-Request-Id: " ID "\r\n");
    post(again, API "invocation/" ID "/response", "", "{}");
    assert_holds(hear(again), "202");
    await_told(rig, "response " ID " [] 2 {}\n");
}

static void an_event_waits_for_a_runtime_that_reconnects(void **state)
{
    struct rig *rig = *state;
    int fd = dial(rig);
    get(fd, API "invocation/next");
    await_told(rig, "waiting\n");
    close(fd);
    for (size_t parked = 1; parked == 1; parked = rig->parked_count)
        order(rig, ORDER_LOOK);
    order(rig, ORDER_DELIVER);
    CLEANUP_FD int again = dial(rig);
    get(again, API "invocation/next");
    assert_holds(hear(again), ID);
}

static void a_restore_runs_its_course(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    get(fd, API "restore/next");
    await_told(rig, "restore_waiting\n");
    CLEANUP_FD int other = dial(rig);
    get(other, API "invocation/next");
    assert_holds(hear(other), "State transition from RestoreReady to Ready failed");
    order(rig, ORDER_RESTORED);
    const char *answer = hear(fd);
    assert_holds(answer, "HTTP/1.1 200 OK\r\n");
    assert_holds(answer, "Content-Length: 0\r\n");
    take_event(rig, fd);
    post(fd, API "invocation/" ID "/response", "", "{}");
    assert_holds(hear(fd), "202");
    await_told(rig, "response " ID " [] 2 {}\n");
    get(fd, API "restore/next");
    assert_holds(hear(fd), "403");
}

static void a_runtime_is_primed_before_its_hooks(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig), other = dial(rig);
    for (int i = 0; i < 2; i++) {
        get(fd, API "prime/next");
        await_told(rig, "prime_waiting\n");
        get(other, API "invocation/next");
        assert_holds(hear(other), "State transition from PrimeReady to Ready failed");
        get(other, API "prime/next");
        assert_holds(hear(other), "403");
        order(rig, ORDER_DELIVER);
        assert_holds(hear(fd), "Lambda-Runtime-Aws-Request-Id: " ID "\r\n");
        get(other, API "prime/next"); /* the same again: its answer might have been lost */
        assert_holds(hear(other), "Lambda-Runtime-Aws-Request-Id: " ID "\r\n");
        post(fd, API "invocation/" ID "/response", "", "{}");
        await_told(rig, "response " ID " [] 2 {}\n");
        assert_holds(hear(fd), "202");
    }
    get(fd, API "prime/next");
    await_told(rig, "prime_waiting\n");
    order(rig, ORDER_PRIMED);
    assert_holds(hear(fd), "HTTP/1.1 204 ");
    get(fd, API "restore/next");
    await_told(rig, "restore_waiting\n");
    get(other, API "prime/next");
    assert_holds(hear(other), "State transition from RestoreReady to PrimeReady failed");
}

static void init_may_fail_after_priming(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    get(fd, API "prime/next");
    await_told(rig, "prime_waiting\n");
    order(rig, ORDER_DELIVER);
    hear(fd);
    post(fd, API "invocation/" ID "/error", "", "{}");
    await_told(rig, ID " invocation_error Runtime.Unknown {}\n");
    hear(fd);
    post(fd, API "init/error", "", "{}");
    assert_holds(hear(fd), "202");
    await_told(rig, "init_error Runtime.Unknown {}\n");
}

static void priming_is_over_with_the_first_event(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    take_event(rig, fd);
    get(fd, API "prime/next");
    assert_holds(hear(fd), "State transition from Running to PrimeReady failed");
    post(fd, API "invocation/" ID "/response", "", "{}");
    await_told(rig, "response " ID " [] 2 {}\n");
    hear(fd);
    get(fd, API "prime/next");
    assert_holds(hear(fd), "403");
}

static void failed_restore_hooks_are_told(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    post(fd, API "restore/error", "", "{}");
    assert_holds(hear(fd), "403");
    get(fd, API "restore/next");
    await_told(rig, "restore_waiting\n");
    order(rig, ORDER_RESTORED);
    hear(fd);
    post(fd, API "restore/error", "Lambda-Runtime-Function-Error-Type: Runtime.AfterRestoreError\r\n",
        "{\"x\":1}");
    assert_holds(hear(fd), "202");
    await_told(rig, "restore_error Runtime.AfterRestoreError {\"x\":1}\n");
}

static void init_error_while_restoring_is_a_restore_error(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    get(fd, API "restore/next");
    await_told(rig, "restore_waiting\n");
    order(rig, ORDER_RESTORED);
    hear(fd);
    post(fd, API "init/error", "", "{}");
    assert_holds(hear(fd), "202");
    await_told(rig, "restore_error Runtime.Unknown {}\n");
}

static void what_is_parked_can_be_sent_again(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    get(fd, API "restore/next");
    await_told(rig, "restore_waiting\n");
    assert_int_equal(rig->parked_result, 0);
    assert_int_equal(rig->parked_count, 1);
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    getsockname(fd, (struct sockaddr *)&own, &len);
    assert_int_equal(rig->parked.port, ntohs(own.sin_port));
    assert_string_equal((const char *)rig->parked.request.data,
        "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n");
    assert_int_equal(rig->parked.request.len, strlen((const char *)rig->parked.request.data));

    /* Half a request elsewhere, and the freeze has to wait. */
    CLEANUP_FD int half = dial(rig);
    say(half, "GET /2018");
    while (rig->parked_result == 0)
        order(rig, ORDER_LOOK);
    assert_int_equal(rig->parked_error.kind, ERROR_BUSY);
    say(half, "-06-01/ping HTTP/1.1\r\n\r\n");
    hear(half);
    order(rig, ORDER_LOOK);
    assert_int_equal(rig->parked_result, 0);

    order(rig, ORDER_RESTORED);
    hear(fd);
    say(fd, "GET " API "invocation/next HTTP/1.1\r\nConnection: close\r\n\r\n");
    await_told(rig, "waiting\n");
    assert_holds(
        (const char *)rig->parked.request.data, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n");
    assert_holds((const char *)rig->parked.request.data, "Connection: close\r\n\r\n");
    order(rig, ORDER_DELIVER);
    order(rig, ORDER_LOOK);
    assert_int_equal(rig->parked_result, -1);
}

static void credentials_need_their_token(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    get(fd, "/2021-04-23/credentials");
    assert_holds(hear(fd), "404");
    order(rig, ORDER_CREDENTIALS);
    get(fd, "/2021-04-23/credentials");
    assert_holds(hear(fd), "404");
    say(fd, "GET /2021-04-23/credentials HTTP/1.1\r\nAuthorization: to\"kem\r\n\r\n");
    assert_holds(hear(fd), "404");
    say(fd, "GET /2021-04-23/credentials HTTP/1.1\r\nAuthorization: to\"ken\r\n\r\n");
    const char *answer = hear(fd);
    assert_holds(answer, "HTTP/1.1 200 OK\r\n");
    assert_holds(answer, "\"SecretAccessKey\":\"sec\\\"ret\"");
    assert_holds(answer, "\"Expiration\":\"2027-01-15T08:00:00Z\"");
    assert_lacks(answer, "to\"ken");
}

static void an_endpoint_may_be_freed_from_its_callback(void **state)
{
    struct rig *rig = *state;
    CLEANUP_FD int fd = dial(rig);
    take_event(rig, fd);
    order(rig, ORDER_FREE_ON_RESPONSE);
    post(fd, API "invocation/" ID "/response", "", "{}");
    await_told(rig, "response " ID " [] 2 {}\n");
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define SNAP_START(name) cmocka_unit_test_setup_teardown(name, set_up_snap_start, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_event_goes_round),
        TEST(a_response_may_be_chunked_and_streaming),
        TEST(error_types_are_checked),
        TEST(wrong_ids_and_states_are_refused),
        TEST(unknown_paths_are_not_found),
        TEST(init_errors_are_told_once),
        TEST(too_large_answers_are_refused),
        TEST(a_runtime_that_asks_again_gets_the_same_event),
        TEST(an_event_waits_for_a_runtime_that_reconnects),
        TEST(credentials_need_their_token),
        TEST(an_endpoint_may_be_freed_from_its_callback),
        SNAP_START(a_restore_runs_its_course),
        SNAP_START(a_runtime_is_primed_before_its_hooks),
        SNAP_START(init_may_fail_after_priming),
        SNAP_START(priming_is_over_with_the_first_event),
        SNAP_START(failed_restore_hooks_are_told),
        SNAP_START(init_error_while_restoring_is_a_restore_error),
        SNAP_START(what_is_parked_can_be_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
