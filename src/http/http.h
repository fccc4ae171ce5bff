/* An HTTP/1.1 server, single-threaded inside our event loop. One server serves listening sockets of ours and
 * of the sandboxes. A request is handed over when its body is complete, as an exchange that is answered now
 * or later, from the same thread. Its strings and body live until it is answered or `done`.
 *
 * Why not libmicrohttpd: a suspended connection of its does not notice that its client left, cannot be closed
 * from outside, and does not tell whether a request is half received, which freezing must know; and a request
 * and its answer cost more system calls there (figures in README.md). */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/loop.h"

#include <stdint.h>

struct http_server;
struct http_connection; /* one accepted connection */
struct http_exchange;   /* one request that must be answered exactly once (or dies with its connection) */

struct http_callbacks {
    /* Headers are there, the body is not: the most body bytes to accept for this request. More is answered by
     * `too_large` (which must reply) without the body being kept. */
    size_t (*body_limit)(void *context, const struct http_exchange *exchange);
    void (*too_large)(void *context, struct http_exchange *exchange);
    /* The request is complete. Reply now or keep the pointer and reply later. */
    void (*request)(void *context, struct http_exchange *exchange);
    /* The exchange ended: its answer is with the kernel, or the connection died first (then `replied` is
     * false). The pointer must be forgotten in both cases. May come from inside http_reply. Never comes for
     * requests that were given neither to `request` nor to `too_large`. NULL only when every exchange is
     * answered from inside these two. */
    void (*done)(void *context, struct http_exchange *exchange, bool replied);
    /* A connection was closed. May be NULL. */
    void (*closed)(void *context, struct http_connection *connection);
};

struct http_options {
    uint32_t idle_timeout_s; /* slow or silent connections are closed; 0: never */
    uint32_t connection_limit;
    uint32_t connection_memory; /* bytes of header space for each connection */
};

MUST_CHECK struct http_server *http_server_new(
    struct loop *loop, const struct http_options *options, struct error *err);
void http_server_free(struct http_server *server);
/* Accept from `listen_fd` (not owned, non-blocking). `context` goes to the callbacks of its exchanges. The
 * returned handle stops listening when given to http_unlisten; open connections end then too. */
struct http_listener;
MUST_CHECK struct http_listener *http_listen(struct http_server *server, int listen_fd,
    const struct http_callbacks *callbacks, void *context, struct error *err);
void http_unlisten(struct http_listener **listener);
/* How the connections of one listener differ from the server's defaults (all zero). */
struct http_listener_options {
    uint32_t connection_limit; /* more wait in the backlog; 0: only the server's limit counts */
    bool keep_silent;          /* a connection that is silent between requests is not closed */
    bool end_on_fin; /* a client that closes its sending side while we hold its exchange is gone; else it may
                        be waiting for the answer still, and is found dead when we reply */
};
void http_listener_configure(struct http_listener *listener, const struct http_listener_options *options);
/* No connection of this listener is in the middle of anything: each is silent between requests, or waits for
 * the answer to a complete request with nothing sent after it. */
bool http_listener_quiet(const struct http_listener *listener);

const char *http_method(const struct http_exchange *exchange);
const char *http_path(const struct http_exchange *exchange); /* still percent-encoded, without the query */
const char *http_query(const struct http_exchange *exchange,
    const char *name); /* decoded; "" when it has no value; NULL when absent */
const char *http_query_text(const struct http_exchange *exchange); /* all of it, encoded; NULL when absent */
const char *http_header(const struct http_exchange *exchange, const char *name); /* NULL when absent */
struct bytes http_body(const struct http_exchange *exchange);
#define HTTP_LENGTH_UNKNOWN UINT64_MAX
/* What Content-Length said, HTTP_LENGTH_UNKNOWN for a chunked body. */
uint64_t http_content_length(const struct http_exchange *exchange);
struct http_connection *http_exchange_connection(const struct http_exchange *exchange);
uint16_t http_peer_port(const struct http_connection *connection); /* the client's source port, host order */
/* When the first byte of the request was seen, CLOCK_MONOTONIC. */
uint64_t http_started_ns(const struct http_exchange *exchange);
void http_set_user(struct http_exchange *exchange, void *user); /* a pointer of the caller's, for `done` */
void *http_user(const struct http_exchange *exchange);

struct http_field {
    const char *name, *value;
};
/* Answers and ends the exchange. Body and fields are copied before it returns. */
void http_reply(struct http_exchange *exchange, unsigned status, const struct http_field *fields,
    size_t field_count, const void *body, size_t len);
/* The same, taking over a body on the heap (freed with free) instead of copying it. */
void http_reply_owned(struct http_exchange *exchange, unsigned status, const struct http_field *fields,
    size_t field_count, void *body, size_t len);
/* A streamed answer (thaw logs -f): begin, write any number of times, end. Chunked. A client that leaves or
 * reads too slowly ends it: `done` says so later, from the loop, and what is written until then is dropped.
 */
void http_stream_begin(
    struct http_exchange *exchange, unsigned status, const struct http_field *fields, size_t field_count);
void http_stream_write(struct http_exchange *exchange, const void *data, size_t len);
void http_stream_end(struct http_exchange *exchange);
/* Percent-decode one path segment into a malloc'ed string; NULL when it is malformed or holds a NUL. */
char *http_decode_segment(const char *segment, size_t len);
