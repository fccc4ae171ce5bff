/* What server.c (listeners, time), connection.c (reading, phases), reply.c (answers, writing) and exchange.c share. */
#pragma once

#include "base/clock.h"
#include "http/http.h"
#include "http/parse.h"

#include <sys/queue.h>

#define HTTP_ACCEPTS_PER_TURN 32
#define HTTP_CONNECTION_MEMORY_MIN 2048
#define HTTP_CHUNK_ROOM 512 /* the least room behind a head to read chunks into */
#define HTTP_STREAM_BACKLOG_BYTES \
    4194304                          /* a streamed answer's reader that is this far behind is dropped \
                                      */
#define HTTP_LINGER_NS 2000000000u   /* without a byte, after an answer that closes the connection */
#define HTTP_LINGER_BYTES 268435456u /* of an unwanted body that are read and thrown away */

/* One connection:
 *
 *              a whole head            the whole body
 *   HEAD ---------------------> BODY ----------------> HELD --http_reply--> ANSWERING --all sent--> HEAD
 *    |                            |                     |  `-stream_begin-> STREAM --stream_end-^     |
 *    | malformed, slow: 4xx       | too long            | (too_large)                               |
 *    `----------------------------+---> ANSWERING ------+--------- must close: LINGER ---> DEAD <-----'
 *
 * 1. `request` or `too_large` was called for the exchange, and `done` was not yet, exactly when `given` is
 * set.
 * 2. In HELD and STREAM only: the owner may use the exchange.
 * 3. A DEAD connection has no descriptor and no watch, is on no list but its server's `dead` one, and is
 * freed from the loop only, never under a caller's feet. All http_* calls on its exchange do nothing.
 * 4. Bytes are read only into free room: `in` in HEAD (and, pipelined, in HELD and later), the body in BODY.
 */
enum http_phase { HTTP_HEAD, HTTP_BODY, HTTP_HELD, HTTP_STREAM, HTTP_ANSWERING, HTTP_LINGER, HTTP_DEAD };

struct http_note { /* something decoded for the owner, living as long as the exchange */
    struct http_note *next;
    char *text;
};

struct http_exchange {
    struct http_connection *connection;
    struct http_head head;
    struct bytes body;
    uint64_t started_ns;
    void *user;
    struct http_note *notes;
    bool given;
};

struct http_connection {
    struct http_server *server;
    struct http_listener *listener; /* NULL when dead */
    struct loop_watch *watch;
    int fd;
    uint16_t peer_port;
    uint32_t events; /* what `watch` looks for */
    enum http_phase phase;
    bool fin;           /* the peer will send nothing more */
    bool must_close;    /* after this answer */
    bool whole;         /* the request was read to its end */
    bool advancing;     /* connection_advance is below us on the stack */
    bool ready;         /* on the server's list of connections to advance soon */
    bool broken;        /* writing failed: to be killed from the loop */
    uint64_t active_ns; /* when a byte last went either way */

    char *in; /* `connection_memory` bytes: a head, perhaps its body, perhaps more requests */
    size_t in_len, head_len, seen;
    size_t body_limit, body_got;
    uint8_t *large_body; /* a body with a known length that does not fit into `in` */
    struct buffer chunked_body;
    struct http_chunks chunks;
    uint64_t lingered;

    struct buffer out; /* not yet taken by the kernel: out.data[out_at..), then owned[owned_at..) */
    size_t out_at;
    uint8_t *owned;
    size_t owned_len, owned_at;

    struct http_exchange exchange;
    LIST_ENTRY(http_connection) entry; /* of its listener, or of the dead */
    LIST_ENTRY(http_connection) ready_entry;
};

struct http_listener {
    struct http_server *server;
    struct loop_watch *watch;
    int fd;
    bool paused, dead;
    const struct http_callbacks *callbacks;
    void *context;
    struct http_listener_options options;
    uint32_t connection_count;
    LIST_HEAD(, http_connection) connections;
    LIST_ENTRY(http_listener) entry;
};

struct http_server {
    struct loop *loop;
    struct http_options options;
    uint32_t connection_count;
    int paused_count; /* listeners that do not accept now */
    LIST_HEAD(, http_listener) listeners, dead_listeners;
    LIST_HEAD(, http_connection) ready, dead;
    struct loop_timer *soon;  /* to advance the ready and free the dead */
    struct loop_timer *sweep; /* to find the silent */
};

/* server.c */
void http_wake_soon(struct http_server *server);   /* run what is ready, and free the dead, from the loop */
void http_sweep_later(struct http_server *server); /* look for the silent in a second */
void http_listener_pause(struct http_listener *listener, bool pause);

/* connection.c */
void http_connection_new(struct http_listener *listener, int fd, uint16_t peer_port); /* takes `fd` */
void http_connection_advance(struct http_connection *connection);
void http_connection_kill(struct http_connection *connection);     /* at once; tells `done` and `closed` */
void http_connection_fail(struct http_connection *connection);     /* from the loop, soon */
void http_connection_answered(struct http_connection *connection); /* the whole answer is with the kernel */
void http_connection_update(struct http_connection *connection);   /* watch for what its phase needs */
bool http_has_output(const struct http_connection *connection);

/* reply.c */
/* Refuse a request that never reached the owner: {"message": why}, then close. */
void http_refuse(struct http_connection *connection, unsigned status, const char *why);
void http_send_continue(struct http_connection *connection);
enum http_flush { HTTP_FLUSHED, HTTP_BLOCKED, HTTP_BROKEN };
enum http_flush http_flush(struct http_connection *connection);
