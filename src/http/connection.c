/* One connection: reading, and its way through the phases that internal.h draws. A warm request costs three
 * system calls: epoll_wait, recv, sendmsg. */
#include "http/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void make_ready(struct http_connection *connection)
{
    if (connection->ready)
        return;
    connection->ready = true;
    LIST_INSERT_HEAD(&connection->server->ready, connection, ready_entry);
    http_wake_soon(connection->server);
}

/* ---- the end of exchanges and connections ---- */

/* Exactly once for every exchange that its owner was given. The owner may do anything from inside `done`. */
static void exchange_end(struct http_connection *connection, bool replied)
{
    struct http_exchange *exchange = &connection->exchange;
    struct http_listener *listener = connection->listener;
    if (exchange->given) {
        exchange->given = false;
        if (listener->callbacks->done != NULL)
            listener->callbacks->done(listener->context, exchange, replied);
    }
    while (exchange->notes != NULL) {
        struct http_note *note = exchange->notes;
        exchange->notes = note->next;
        free(note->text);
        free(note);
    }
    exchange->user = NULL;
    exchange->body = (struct bytes){0};
}

void http_connection_kill(struct http_connection *connection)
{
    if (connection->phase == HTTP_DEAD)
        return;
    struct http_server *server = connection->server;
    struct http_listener *listener = connection->listener;
    connection->phase = HTTP_DEAD;
    loop_unwatch(&connection->watch);
    fd_close(&connection->fd);
    if (connection->ready)
        LIST_REMOVE(connection, ready_entry);
    connection->ready = false;
    LIST_REMOVE(connection, entry);
    LIST_INSERT_HEAD(&server->dead, connection, entry);
    listener->connection_count--;
    server->connection_count--;
    http_wake_soon(server);

    exchange_end(connection, false);
    /* `done` may have stopped the listening, and its context may be gone with it. */
    if (listener->callbacks->closed != NULL && !listener->dead)
        listener->callbacks->closed(listener->context, connection);
    connection->listener = NULL;
    if (server->paused_count == 0)
        return;
    struct http_listener *paused;
    LIST_FOREACH (paused, &server->listeners, entry)
        if (paused->paused)
            http_listener_pause(paused, false);
}

void http_connection_fail(struct http_connection *connection)
{
    connection->broken = true;
    make_ready(connection);
}

/* ---- watching ---- */

bool http_has_output(const struct http_connection *connection)
{
    return connection->out.len > connection->out_at || connection->owned_len > connection->owned_at;
}

void http_connection_update(struct http_connection *connection)
{
    if (connection->phase == HTTP_DEAD)
        return;
    bool room = connection->phase == HTTP_BODY || connection->phase == HTTP_LINGER ||
                connection->in_len < connection->server->options.connection_memory;
    bool reads = !connection->fin && room && connection->phase != HTTP_ANSWERING;
    uint32_t events = (reads ? EPOLLIN : 0u) | (http_has_output(connection) ? EPOLLOUT : 0u);
    if (events == connection->events)
        return;
    connection->events = events;
    if (loop_watch_change(connection->watch, events, NULL) < 0)
        http_connection_fail(connection);
}

/* ---- after an answer ---- */

/* Closing at once would reset the connection when the peer's bytes lie unread, and the reset overtakes our
 * answer: so say that we are done, and throw away what still comes. */
static void close_answered(struct http_connection *connection)
{
    int unread = 0;
    if (connection->whole && ioctl(connection->fd, FIONREAD, &unread) == 0 && unread == 0) {
        http_connection_kill(connection);
        return;
    }
    free(connection->large_body);
    connection->large_body = NULL;
    buffer_free(&connection->chunked_body);
    shutdown(connection->fd, SHUT_WR);
    connection->phase = HTTP_LINGER;
    connection->in_len = 0;
    connection->active_ns = clock_monotonic_ns();
    http_connection_update(connection);
}

static void reset_for_next(struct http_connection *connection)
{
    /* What is left in `in` after this request belongs to the next. */
    size_t used = connection->head_len;
    if (connection->large_body == NULL && !connection->exchange.head.chunked)
        used += connection->body_got;
    memmove(connection->in, connection->in + used, connection->in_len - used);
    connection->in_len -= used;
    connection->head_len = connection->seen = connection->body_got = connection->body_limit = 0;
    free(connection->large_body);
    connection->large_body = NULL;
    buffer_free(&connection->chunked_body);
    connection->chunks = (struct http_chunks){0};
    connection->exchange.started_ns = clock_monotonic_ns();
    connection->active_ns = connection->exchange.started_ns;
    connection->phase = HTTP_HEAD;
    connection->whole = false;
}

void http_connection_answered(struct http_connection *connection)
{
    exchange_end(connection, true);
    if (connection->phase == HTTP_DEAD)
        return;
    if (connection->must_close) {
        close_answered(connection);
        return;
    }
    reset_for_next(connection);
    /* Requests that were pipelined wait in `in`; a connection that ended meanwhile has to be closed. Not
     * here: the owner, who just replied, does not expect another request before it has returned. */
    if ((connection->in_len > 0 || connection->fin) && !connection->advancing)
        make_ready(connection);
    http_connection_update(connection);
}

/* ---- the phases ---- */

static const struct http_callbacks *callbacks_of(const struct http_connection *connection)
{
    return connection->listener->callbacks;
}

static void give_too_large(struct http_connection *connection)
{
    connection->must_close = true;
    connection->phase = HTTP_HELD;
    connection->exchange.given = true;
    callbacks_of(connection)->too_large(connection->listener->context, &connection->exchange);
}

static void give_request(struct http_connection *connection, const void *body, size_t len)
{
    connection->exchange.body = (struct bytes){body, len};
    connection->whole = true;
    connection->phase = HTTP_HELD;
    connection->exchange.given = true;
    callbacks_of(connection)->request(connection->listener->context, &connection->exchange);
}

/* The head is whole: decide where the body goes. */
static bool begin_body(struct http_connection *connection)
{
    struct http_exchange *exchange = &connection->exchange;
    struct http_head *head = &exchange->head;
    connection->must_close = !head->keep_alive;
    connection->body_limit = callbacks_of(connection)->body_limit(connection->listener->context, exchange);
    if (!head->chunked && head->content_length > connection->body_limit) {
        give_too_large(connection);
        return true;
    }
    size_t arrived = connection->in_len - connection->head_len;
    size_t room = connection->server->options.connection_memory - connection->head_len;
    if (head->chunked && room < HTTP_CHUNK_ROOM) {
        http_refuse(connection, 431, "The request's head is too long");
        return true;
    }
    if (!head->chunked && head->content_length > room) {
        connection->large_body = malloc(head->content_length);
        if (connection->large_body == NULL) {
            http_refuse(connection, 503, "There is no memory for this body now");
            return true;
        }
        memcpy(connection->large_body, connection->in + connection->head_len, arrived);
        connection->body_got = arrived;
        connection->in_len = connection->head_len;
    }
    connection->phase = HTTP_BODY;
    if (head->expect_continue && arrived == 0 && head->content_length > 0)
        http_send_continue(connection);
    return true;
}

static bool advance_head(struct http_connection *connection)
{
    if (connection->in_len == 0)
        return false;
    /* An empty line before a request is left over by careless clients (RFC 9112, 2.2). */
    while (connection->in_len >= 2 && memcmp(connection->in, "\r\n", 2) == 0) {
        memmove(connection->in, connection->in + 2, connection->in_len -= 2);
        connection->seen = 0;
    }
    connection->head_len = http_find_head_end(connection->in, connection->in_len, &connection->seen);
    if (connection->head_len == 0) {
        if (connection->in_len == connection->server->options.connection_memory) {
            http_refuse(connection, 431, "The request's head is too long");
            return true;
        }
        return false;
    }
    const char *why;
    unsigned status = http_parse_head(&connection->exchange.head, connection->in, connection->head_len, &why);
    if (status != 0) {
        http_refuse(connection, status, why);
        return true;
    }
    return begin_body(connection);
}

static bool advance_chunked(struct http_connection *connection)
{
    size_t used;
    enum http_chunk_result result = http_chunks_feed(&connection->chunks,
        connection->in + connection->head_len, connection->in_len - connection->head_len, &used,
        &connection->chunked_body, connection->body_limit);
    /* The bytes that were used give their room back at once. */
    memmove(connection->in + connection->head_len, connection->in + connection->head_len + used,
        connection->in_len - connection->head_len - used);
    connection->in_len -= used;
    switch (result) {
    case HTTP_CHUNKS_MORE:
        return false;
    case HTTP_CHUNKS_BAD:
        http_refuse(connection, 400, "The chunked body is malformed");
        return true;
    case HTTP_CHUNKS_TOO_LARGE:
        give_too_large(connection);
        return true;
    case HTTP_CHUNKS_DONE:
        break;
    }
    give_request(connection, connection->chunked_body.data, connection->chunked_body.len);
    return true;
}

static bool advance_body(struct http_connection *connection)
{
    const struct http_head *head = &connection->exchange.head;
    if (head->chunked)
        return advance_chunked(connection);
    if (connection->large_body != NULL) {
        if (connection->body_got < head->content_length)
            return false;
        give_request(connection, connection->large_body, connection->body_got);
        return true;
    }
    if (connection->in_len - connection->head_len < head->content_length)
        return false;
    connection->body_got = (size_t)head->content_length;
    give_request(connection, connection->in + connection->head_len, connection->body_got);
    return true;
}

/* The peer will send nothing more, and what it sent is used up as far as it goes. */
static void advance_fin(struct http_connection *connection)
{
    switch (connection->phase) {
    case HTTP_HEAD:
        if (connection->in_len == 0) {
            http_connection_kill(connection);
            return;
        }
        http_refuse(connection, 400, "The request ends too early");
        return;
    case HTTP_BODY:
        http_refuse(connection, 400, "The request ends too early");
        return;
    case HTTP_HELD:
        if (connection->listener->options.end_on_fin)
            http_connection_kill(connection);
        return;
    case HTTP_STREAM:
    case HTTP_LINGER:
        http_connection_kill(connection);
        return;
    case HTTP_ANSWERING:
    case HTTP_DEAD:
        return;
    }
}

/* Goes as far as the bytes that are there lead. Answers given on the way, from inside the callbacks, come
 * back here through the phase. */
void http_connection_advance(struct http_connection *connection)
{
    if (connection->advancing || connection->phase == HTTP_DEAD)
        return;
    connection->advancing = true;
    bool progress = true;
    while (progress) {
        if (connection->phase == HTTP_HEAD)
            progress = advance_head(connection);
        else if (connection->phase == HTTP_BODY)
            progress = advance_body(connection);
        else
            progress = false;
    }
    if (connection->fin)
        advance_fin(connection);
    connection->advancing = false;
    http_connection_update(connection);
}

/* ---- reading ---- */

/* Where the next bytes go, and how many at most; 0: nowhere. */
static size_t read_room(struct http_connection *connection, void **into)
{
    static char waste[65536];
    if (connection->phase == HTTP_LINGER) {
        *into = waste;
        return sizeof waste;
    }
    if (connection->phase == HTTP_BODY && connection->large_body != NULL) {
        *into = connection->large_body + connection->body_got;
        return (size_t)connection->exchange.head.content_length - connection->body_got;
    }
    *into = connection->in + connection->in_len;
    return connection->server->options.connection_memory - connection->in_len;
}

/* Whether that goes on: what lingers may send only so much. */
static bool account_read(struct http_connection *connection, size_t n)
{
    connection->active_ns = clock_monotonic_ns();
    if (connection->phase == HTTP_HEAD && connection->in_len == 0)
        connection->exchange.started_ns = connection->active_ns;
    if (connection->phase == HTTP_LINGER) {
        connection->lingered += n;
        return connection->lingered <= HTTP_LINGER_BYTES;
    }
    if (connection->phase == HTTP_BODY && connection->large_body != NULL)
        connection->body_got += n;
    else
        connection->in_len += n;
    return true;
}

static void connection_read(struct http_connection *connection)
{
    void *into;
    size_t room = read_room(connection, &into);
    if (room == 0 || connection->fin)
        return;
    ssize_t n;
    do
        n = recv(connection->fd, into, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN)
            http_connection_kill(connection);
        return;
    }
    if (n == 0)
        connection->fin = true;
    else if (!account_read(connection, (size_t)n)) {
        http_connection_kill(connection);
        return;
    }
    http_connection_advance(connection);
}

static void connection_write(struct http_connection *connection)
{
    enum http_flush flushed = http_flush(connection);
    if (flushed == HTTP_BROKEN)
        http_connection_kill(connection);
    else if (flushed == HTTP_FLUSHED && connection->phase == HTTP_ANSWERING)
        http_connection_answered(connection);
    else
        http_connection_update(connection);
}

static void on_connection(void *context, uint32_t events)
{
    struct http_connection *connection = context;
    /* Both directions are shut or it was reset: nobody is there to answer to. */
    if (events & (EPOLLERR | EPOLLHUP)) {
        http_connection_kill(connection);
        return;
    }
    if (events & EPOLLOUT)
        connection_write(connection);
    if ((events & EPOLLIN) && connection->phase != HTTP_DEAD)
        connection_read(connection);
}

/* ---- its begin ---- */

void http_connection_new(struct http_listener *listener, int fd, uint16_t peer_port)
{
    struct http_server *server = listener->server;
    struct http_connection *connection = xcalloc(1, sizeof *connection);
    *connection = (struct http_connection){.server = server,
        .listener = listener,
        .fd = fd,
        .peer_port = peer_port,
        .events = EPOLLIN,
        .active_ns = clock_monotonic_ns()};
    connection->exchange.connection = connection;
    connection->watch = loop_watch_fd(server->loop, fd, EPOLLIN, on_connection, connection, NULL);
    if (connection->watch == NULL) {
        close(fd);
        free(connection);
        return;
    }
    connection->in = xrealloc(NULL, server->options.connection_memory);
    LIST_INSERT_HEAD(&listener->connections, connection, entry);
    listener->connection_count++;
    server->connection_count++;
    http_sweep_later(server);
    /* The request often came together with the connection. */
    connection_read(connection);
}

bool http_listener_quiet(const struct http_listener *listener)
{
    const struct http_connection *connection;
    LIST_FOREACH (connection, &listener->connections, entry) {
        bool between = connection->phase == HTTP_HEAD && connection->in_len == 0;
        bool parked =
            connection->phase == HTTP_HELD &&
            connection->in_len ==
                connection->head_len +
                    (connection->large_body || connection->exchange.head.chunked ? 0 : connection->body_got);
        int unread = 0;
        if ((!between && !parked) || connection->fin || http_has_output(connection) ||
            ioctl(connection->fd, FIONREAD, &unread) < 0 || unread > 0)
            return false;
    }
    return true;
}
