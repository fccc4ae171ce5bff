/* One HTTP request and its answer, inside the event loop: what of libcurl we use. No retries here. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>

#define EXCHANGE_TEXT_MAX (1u << 20) /* an answer that is kept in memory: lists, errors */
#define EXCHANGE_CONNECT_MS 3000
#define EXCHANGE_STALL_S 5 /* with fewer bytes a second than this it has stalled: */
#define EXCHANGE_STALL_BYTES 16384
#define EXCHANGE_CONNECTIONS_MAX 64
#define EXCHANGE_HEADER_MAX 256

enum exchange_method { EXCHANGE_GET, EXCHANGE_HEAD, EXCHANGE_PUT, EXCHANGE_POST, EXCHANGE_DELETE };

struct exchange;
struct exchange_host;
typedef void exchange_done(struct exchange *exchange);

/* Fill in the request; it must stay where it is until `done`. */
struct exchange {
    enum exchange_method method;
    const char *url;
    struct buffer headers; /* "Name: value" strings, each with its NUL; the owner's to free */
    int body_fd;           /* PUT: its bytes from body_offset on; or -1: `body` */
    uint64_t body_offset, body_bytes;
    struct bytes body;
    int sink_fd;       /* a body with status 200 goes here, from offset 0 on; or -1: to `text` */
    uint64_t sink_max; /* more is ERROR_LIMIT */
    bool alone; /* on a connection of its own: one on which a try went wrong may have more to say of that */
    exchange_done *done;
    void *context;

    /* The answer. */
    struct error
        error; /* no whole answer came: ERROR_BUSY (try again), ERROR_INVALID (no use), ERROR_LIMIT, ERROR_SYSTEM */
    int status;             /* the HTTP status, when there is no error */
    uint64_t received;      /* bytes of the body */
    int64_t content_length; /* -1: not told */
    int64_t modified_s;     /* Last-Modified; or -1 */
    char etag[EXCHANGE_HEADER_MAX],
        sha256[EXCHANGE_HEADER_MAX]; /* "": not told. The latter is x-amz-meta-thaw-sha256 */
    char encryption[EXCHANGE_HEADER_MAX], region[EXCHANGE_HEADER_MAX];
    uint8_t received_sha256[32]; /* of what went to sink_fd */
    struct buffer text;          /* the owner's to free */

    /* libcurl's side of it. */
    struct exchange_host *host;
    void *easy, *header_list, *hash;
    uint64_t sent;
    bool overflow;
    int sink_errno;
};

/* `bundle` (may be NULL): a file of certificates of authorities to trust, in place of the system's. */
MUST_CHECK struct exchange_host *exchange_host_new(struct loop *loop, const char *bundle, struct error *err);
void exchange_host_free(struct exchange_host *host); /* after all exchanges are over */
/* `done` is called from the loop, or at the latest by it; never from inside of this. */
void exchange_start(struct exchange_host *host, struct exchange *exchange);
