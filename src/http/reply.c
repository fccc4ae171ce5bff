/* Answers: a head and a body leave in one system call; what the kernel does not take at once is kept. */
#include "http/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static const char *reason_phrase(unsigned status)
{
    static const struct {
        unsigned status;
        const char *phrase;
    } known[] = {{200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"}, {302, "Found"},
        {304, "Not Modified"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
        {404, "Not Found"}, {405, "Method Not Allowed"}, {408, "Request Timeout"}, {409, "Conflict"},
        {410, "Gone"}, {413, "Content Too Large"}, {415, "Unsupported Media Type"},
        {417, "Expectation Failed"}, {424, "Failed Dependency"}, {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"}, {501, "Not Implemented"},
        {502, "Bad Gateway"}, {503, "Service Unavailable"}, {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"}, {507, "Insufficient Storage"}};
    for (size_t i = 0; i < countof(known); i++)
        if (known[i].status == status)
            return known[i].phrase;
    return "Status";
}

static void append_text(struct buffer *out, const char *text)
{
    buffer_append(out, text, strlen(text));
}

static void append_number(struct buffer *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buffer_append(out, digits + at, sizeof digits - at);
}

/* A value with a line break in it would let its author write headers of his own. */
static void append_value(struct buffer *out, const char *value)
{
    size_t from = out->len;
    append_text(out, value);
    for (size_t i = from; i < out->len; i++)
        if (out->data[i] < 0x20 && out->data[i] != '\t')
            out->data[i] = ' ';
}

/* The head without its last, empty line. */
static void append_head(
    struct http_connection *connection, unsigned status, const struct http_field *fields, size_t field_count)
{
    struct buffer *out = &connection->out;
    append_text(out, "HTTP/1.1 ");
    append_number(out, status);
    append_text(out, " ");
    append_text(out, reason_phrase(status));
    append_text(out, "\r\n");
    for (size_t i = 0; i < field_count; i++) {
        append_text(out, fields[i].name);
        append_text(out, ": ");
        append_value(out, fields[i].value);
        append_text(out, "\r\n");
    }
    if (connection->must_close)
        append_text(out, "Connection: close\r\n");
    else if (connection->exchange.head.http_1_0)
        append_text(out, "Connection: keep-alive\r\n");
}

static ssize_t send_some(int fd, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t n;
    do
        n = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

static void forget_output(struct http_connection *connection)
{
    connection->out.len = connection->out_at = 0;
    free(connection->owned);
    connection->owned = NULL;
    connection->owned_len = connection->owned_at = 0;
}

/* A peer that takes nothing is found out by errno; one that takes some has room again when epoll says so. */
enum http_flush http_flush(struct http_connection *connection)
{
    for (;;) {
        size_t out_left = connection->out.len - connection->out_at;
        size_t owned_left = connection->owned_len - connection->owned_at;
        if (out_left + owned_left == 0) {
            forget_output(connection);
            return HTTP_FLUSHED;
        }
        struct iovec parts[2];
        size_t count = 0;
        if (out_left > 0)
            parts[count++] = (struct iovec){connection->out.data + connection->out_at, out_left};
        if (owned_left > 0)
            parts[count++] = (struct iovec){connection->owned + connection->owned_at, owned_left};
        ssize_t n = send_some(connection->fd, parts, count);
        if (n < 0)
            return errno == EAGAIN ? HTTP_BLOCKED : HTTP_BROKEN;
        connection->active_ns = clock_monotonic_ns();
        size_t of_out = (size_t)n < out_left ? (size_t)n : out_left;
        connection->out_at += of_out;
        connection->owned_at += (size_t)n - of_out;
    }
}

static bool has_no_body(const struct http_connection *connection, unsigned status)
{
    const char *method = connection->exchange.head.method;
    return status < 200 || status == 204 || status == 304 || (method != NULL && strcmp(method, "HEAD") == 0);
}

/* Sends the head that is in `out` together with the body, where the body is: the usual answer is one call and
 * no copy. `owned` says that the body is on the heap and now ours. */
static void send_answer(struct http_connection *connection, void *body, size_t len, bool owned)
{
    size_t head_left = connection->out.len - connection->out_at;
    struct iovec parts[] = {{connection->out.data + connection->out_at, head_left}, {body, len}};
    ssize_t n = send_some(connection->fd, parts, len > 0 ? 2 : 1);
    bool broken = n < 0 && errno != EAGAIN;
    size_t sent = n < 0 ? 0 : (size_t)n, of_head = sent < head_left ? sent : head_left;
    connection->phase = HTTP_ANSWERING;
    if (broken || sent == head_left + len) {
        forget_output(connection);
        if (owned)
            free(body);
        if (broken)
            http_connection_kill(connection);
        else
            http_connection_answered(connection);
        return;
    }
    connection->out_at += of_head;
    size_t of_body = sent - of_head;
    if (owned) {
        connection->owned = body;
        connection->owned_len = len;
        connection->owned_at = of_body;
    } else {
        buffer_append(&connection->out, (const char *)body + of_body, len - of_body);
    }
    connection->active_ns = clock_monotonic_ns();
    http_connection_update(connection);
}

static void answer(struct http_connection *connection, unsigned status, const struct http_field *fields,
    size_t field_count, void *body, size_t len, bool owned)
{
    append_head(connection, status, fields, field_count);
    if (status >= 200 && status != 204 && status != 304) {
        append_text(&connection->out, "Content-Length: ");
        append_number(&connection->out, len);
        append_text(&connection->out, "\r\n");
    }
    append_text(&connection->out, "\r\n");
    send_answer(connection, body, has_no_body(connection, status) ? 0 : len, owned);
}

void http_reply(struct http_exchange *exchange, unsigned status, const struct http_field *fields,
    size_t field_count, const void *body, size_t len)
{
    if (exchange->connection->phase == HTTP_HELD)
        answer(exchange->connection, status, fields, field_count, (void *)body, len, false);
}

void http_reply_owned(struct http_exchange *exchange, unsigned status, const struct http_field *fields,
    size_t field_count, void *body, size_t len)
{
    if (exchange->connection->phase == HTTP_HELD)
        answer(exchange->connection, status, fields, field_count, body, len, true);
    else
        free(body);
}

void http_refuse(struct http_connection *connection, unsigned status, const char *why)
{
    static const struct http_field type = {"Content-Type", "application/json"};
    CLEANUP_BUFFER struct buffer body = {0};
    buffer_printf(&body, "{\"message\":\"%s\"}", why);
    connection->must_close = true;
    answer(connection, status, &type, 1, body.data, body.len, false);
}

void http_send_continue(struct http_connection *connection)
{
    append_text(&connection->out, "HTTP/1.1 100 Continue\r\n\r\n");
    if (http_flush(connection) == HTTP_BROKEN)
        http_connection_fail(connection);
}

/* ---- streamed answers ---- */

static void flush_stream(struct http_connection *connection)
{
    if (connection->out.len - connection->out_at > HTTP_STREAM_BACKLOG_BYTES ||
        http_flush(connection) == HTTP_BROKEN)
        http_connection_fail(connection);
    else
        http_connection_update(connection);
}

void http_stream_begin(
    struct http_exchange *exchange, unsigned status, const struct http_field *fields, size_t field_count)
{
    struct http_connection *connection = exchange->connection;
    if (connection->phase != HTTP_HELD)
        return;
    /* HTTP/1.0 knows no chunks: there the end of the connection is the end of the answer. */
    if (exchange->head.http_1_0)
        connection->must_close = true;
    append_head(connection, status, fields, field_count);
    append_text(&connection->out, exchange->head.http_1_0 ? "\r\n" : "Transfer-Encoding: chunked\r\n\r\n");
    connection->phase = HTTP_STREAM;
    /* A client that closes its sending side ends a stream: there is no other way to say so. */
    if (connection->fin)
        http_connection_fail(connection);
    else
        flush_stream(connection);
}

void http_stream_write(struct http_exchange *exchange, const void *data, size_t len)
{
    struct http_connection *connection = exchange->connection;
    if (connection->phase != HTTP_STREAM || connection->broken || len == 0 || has_no_body(connection, 200))
        return;
    if (connection->out_at > 0) { /* keep the backlog at the front of its buffer */
        connection->out.len -= connection->out_at;
        memmove(connection->out.data, connection->out.data + connection->out_at, connection->out.len);
        connection->out_at = 0;
    }
    if (!exchange->head.http_1_0)
        buffer_printf(&connection->out, "%zx\r\n", len);
    buffer_append(&connection->out, data, len);
    if (!exchange->head.http_1_0)
        append_text(&connection->out, "\r\n");
    flush_stream(connection);
}

void http_stream_end(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    if (connection->phase != HTTP_STREAM || connection->broken)
        return;
    if (!exchange->head.http_1_0 && !has_no_body(connection, 200))
        append_text(&connection->out, "0\r\n\r\n");
    connection->phase = HTTP_ANSWERING;
    enum http_flush flushed = http_flush(connection);
    if (flushed == HTTP_FLUSHED)
        http_connection_answered(connection);
    else if (flushed == HTTP_BROKEN)
        http_connection_kill(connection);
    else
        http_connection_update(connection);
}
