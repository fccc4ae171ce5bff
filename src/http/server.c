/* The server: its listeners, who accept; the sweep that finds the silent; and what happens soon, from the loop. */
#include "http/internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* ---- the server ---- */

struct http_server *http_server_new(struct loop *loop, const struct http_options *options, struct error *err)
{
    if (options->connection_memory < HTTP_CONNECTION_MEMORY_MIN || options->connection_limit == 0) {
        error_set(err, ERROR_INVALID,
            "an HTTP server needs %d bytes a connection, and one connection at least",
            HTTP_CONNECTION_MEMORY_MIN);
        return NULL;
    }
    struct http_server *server = xcalloc(1, sizeof *server);
    server->loop = loop;
    server->options = *options;
    return server;
}

static void free_dead(struct http_server *server)
{
    while (!LIST_EMPTY(&server->dead)) {
        struct http_connection *connection = LIST_FIRST(&server->dead);
        LIST_REMOVE(connection, entry);
        free(connection->in);
        free(connection->large_body);
        buffer_free(&connection->chunked_body);
        buffer_free(&connection->out);
        free(connection->owned);
        free(connection);
    }
    while (!LIST_EMPTY(&server->dead_listeners)) {
        struct http_listener *listener = LIST_FIRST(&server->dead_listeners);
        LIST_REMOVE(listener, entry);
        free(listener);
    }
}

void http_server_free(struct http_server *server)
{
    if (server == NULL)
        return;
    while (!LIST_EMPTY(&server->listeners)) {
        struct http_listener *listener = LIST_FIRST(&server->listeners);
        http_unlisten(&listener);
    }
    loop_timer_cancel(&server->soon);
    loop_timer_cancel(&server->sweep);
    free_dead(server);
    free(server);
}

/* What must not happen under a caller's feet happens here, straight from the loop. */
static void run_soon(void *context)
{
    struct http_server *server = context;
    while (!LIST_EMPTY(&server->ready)) {
        struct http_connection *connection = LIST_FIRST(&server->ready);
        LIST_REMOVE(connection, ready_entry);
        connection->ready = false;
        if (connection->broken)
            http_connection_kill(connection);
        else
            http_connection_advance(connection);
    }
    free_dead(server);
}

void http_wake_soon(struct http_server *server)
{
    if (server->soon == NULL)
        loop_timer_set(server->loop, &server->soon, 0, run_soon, server);
}

/* ---- listening ---- */

void http_listener_pause(struct http_listener *listener, bool pause)
{
    if (listener->paused == pause || listener->watch == NULL)
        return;
    if (loop_watch_change(listener->watch, pause ? 0 : EPOLLIN, NULL) < 0)
        return;
    listener->paused = pause;
    listener->server->paused_count += pause ? 1 : -1;
    /* The sweep tries again when no connection's end would. */
    if (listener->paused)
        http_sweep_later(listener->server);
}

static bool is_full(const struct http_listener *listener)
{
    uint32_t own = listener->options.connection_limit;
    return listener->server->connection_count >= listener->server->options.connection_limit ||
           (own != 0 && listener->connection_count >= own);
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return 0;
}

static void on_listener(void *context, uint32_t events)
{
    (void)events;
    struct http_listener *listener = context;
    for (int i = 0; i < HTTP_ACCEPTS_PER_TURN && !listener->dead; i++) {
        if (is_full(listener)) {
            http_listener_pause(listener, true);
            return;
        }
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        int fd = accept4(listener->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return;
        if (fd < 0) { /* out of descriptors or memory: trying again at once would only spin */
            http_listener_pause(listener, true);
            return;
        }
        http_connection_new(listener, fd, port_of(&peer));
    }
}

struct http_listener *http_listen(struct http_server *server, int listen_fd,
    const struct http_callbacks *callbacks, void *context, struct error *err)
{
    struct http_listener *listener = xcalloc(1, sizeof *listener);
    *listener =
        (struct http_listener){.server = server, .fd = listen_fd, .callbacks = callbacks, .context = context};
    listener->watch = loop_watch_fd(server->loop, listen_fd, EPOLLIN, on_listener, listener, err);
    if (listener->watch == NULL) {
        free(listener);
        return NULL;
    }
    /* Accepted sockets inherit it; a unix socket has none and needs none. */
    setsockopt(listen_fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    LIST_INSERT_HEAD(&server->listeners, listener, entry);
    return listener;
}

void http_listener_configure(struct http_listener *listener, const struct http_listener_options *options)
{
    listener->options = *options;
}

void http_unlisten(struct http_listener **slot)
{
    struct http_listener *listener = *slot;
    if (listener == NULL)
        return;
    *slot = NULL;
    http_listener_pause(listener, false);
    loop_unwatch(&listener->watch);
    while (!LIST_EMPTY(&listener->connections))
        http_connection_kill(LIST_FIRST(&listener->connections));
    listener->dead = true;
    LIST_REMOVE(listener, entry);
    LIST_INSERT_HEAD(&listener->server->dead_listeners, listener, entry);
    http_wake_soon(listener->server);
}

/* ---- the silent and the slow ---- */

static void sweep_connection(struct http_connection *connection, uint64_t now)
{
    uint64_t limit_ns = connection->server->options.idle_timeout_s * UINT64_C(1000000000);
    uint64_t silent_ns = now > connection->active_ns ? now - connection->active_ns : 0;
    if (connection->phase == HTTP_LINGER && silent_ns > HTTP_LINGER_NS) {
        http_connection_kill(connection);
        return;
    }
    if (limit_ns == 0)
        return;
    bool idle = connection->phase == HTTP_HEAD && connection->in_len == 0;
    /* A head has to be whole in time, however it trickles; a body only has to move. */
    bool slow_head = connection->phase == HTTP_HEAD && connection->in_len > 0 &&
                     now - connection->exchange.started_ns > limit_ns;
    bool slow_body = connection->phase == HTTP_BODY && silent_ns > limit_ns;
    if (slow_head || slow_body)
        http_refuse(connection, 408, "The request did not come in time");
    else if (silent_ns > limit_ns &&
             ((idle && !connection->listener->options.keep_silent) || http_has_output(connection)))
        http_connection_kill(connection);
}

static void run_sweep(void *context)
{
    struct http_server *server = context;
    uint64_t now = clock_monotonic_ns();
    struct http_listener *listener, *next_listener;
    for (listener = LIST_FIRST(&server->listeners); listener != NULL; listener = next_listener) {
        next_listener = LIST_NEXT(listener, entry);
        struct http_connection *connection, *next;
        for (connection = LIST_FIRST(&listener->connections); connection != NULL; connection = next) {
            next = LIST_NEXT(connection, entry);
            sweep_connection(connection, now);
        }
        if (listener->paused && !is_full(listener))
            http_listener_pause(listener, false);
    }
    if (server->connection_count > 0)
        http_sweep_later(server);
}

void http_sweep_later(struct http_server *server)
{
    if (server->sweep == NULL)
        loop_timer_set(
            server->loop, &server->sweep, clock_monotonic_ns() + UINT64_C(1000000000), run_sweep, server);
}
