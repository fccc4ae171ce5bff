/* The Runtime API that a function sees, one endpoint for each environment, on the listening socket inside its
 * sandbox. Everything that comes from the function is hostile input; nothing of it is trusted before it is
 * checked here. The state machine is drawn at the head of runtime.c. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "http/http.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUNTIME_PORT 9001          /* AWS_LAMBDA_RUNTIME_API is 127.0.0.1:9001 in every sandbox */
#define RUNTIME_CONNECTIONS_MAX 32 /* more connections of one function wait in the listener's backlog */
#define RUNTIME_OTHER_BYTES 262144 /* the most body that is read of an error report: more is 413 */
#define RUNTIME_ERROR_TYPE_BYTES 128

struct runtime_endpoint;

/* What the function did. Byte ranges and strings are valid during the call only. Each may be followed by a
 * runtime_* call on the same endpoint, also runtime_endpoint_free, from inside the callback. */
struct runtime_callbacks {
    /* The runtime asked invocation/next, has no event in hand, and is parked: deliver one when there is one.
     * The first time, initialisation is over. */
    void (*waiting)(void *context);
    /* A runtime of ours asked prime/next, before it runs its before-snapshot hooks: call runtime_deliver or
     * runtime_primed at once. Never called unless snap_start. */
    void (*prime_waiting)(void *context);
    /* The runtime asked restore/next and is parked: its before-snapshot hooks have run. Never called unless
     * snap_start. */
    void (*restore_waiting)(void *context);
    /* The answer to the event `request_id`. `content_type` is "" when the runtime named none. */
    void (*response)(void *context, const char *request_id, struct bytes body, const char *content_type);
    /* The handler failed: `body` is the error JSON as it came. `error_type` is checked:
     * (Runtime|Function).Xxx or Runtime.Unknown or Function.Unknown. */
    void (*invocation_error)(
        void *context, const char *request_id, struct bytes body, const char *error_type);
    /* The runtime says that initialisation failed, once. It usually exits then. */
    void (*init_error)(void *context, struct bytes body, const char *error_type);
    /* The after-restore hooks failed. */
    void (*restore_error)(void *context, struct bytes body, const char *error_type);
    /* The answer is longer than LIMIT_PAYLOAD_BYTES: it was refused with 413, the event is over. `len` is
     * what the runtime announced, or the limit plus one when it announced nothing. */
    void (*response_too_large)(void *context, const char *request_id, uint64_t len);
};

/* Serve the Runtime API on `listener_fd`, which stays the caller's (non-blocking; keep it open until
 * runtime_endpoint_free). `callbacks` must outlive the endpoint; every one must be set. */
MUST_CHECK struct runtime_endpoint *runtime_endpoint_new(struct http_server *server, int listener_fd,
    const struct runtime_callbacks *callbacks, void *context, bool snap_start, struct error *err);
/* Ends its connections; parked requests die unanswered. NULL is fine. */
void runtime_endpoint_free(struct runtime_endpoint *endpoint);

struct runtime_event {
    const char *request_id; /* a UUID */
    uint64_t deadline_ms;   /* since the epoch */
    const char *function_arn;
    const char *trace_id;       /* these three: NULL or "" is left out */
    const char *client_context; /* JSON */
    const char *content_type;   /* default application/json */
    struct bytes payload;
};

/* Give the runtime an event: answers the parked invocation/next now, or the next one that comes (when the
 * runtime closed the connection that was parked). Everything is copied. Only one event at a time: call it
 * after `waiting` or `prime_waiting`, and not again before `response`, `invocation_error` or `response_too_large`. */
void runtime_deliver(struct runtime_endpoint *endpoint, const struct runtime_event *event);
/* Answers the parked prime/next with 204: there is no event (more) to prime with. */
void runtime_primed(struct runtime_endpoint *endpoint);
/* Answers the parked restore/next with 200 and an empty body, after `restore_waiting`. */
void runtime_restored(struct runtime_endpoint *endpoint);
bool runtime_parked(const struct runtime_endpoint *endpoint); /* a next or restore/next is parked */

/* The credentials that GET /2021-04-23/credentials serves to who presents `token` (see
 * AWS_CONTAINER_AUTHORIZATION_TOKEN); copied. Without this call the route answers 404. */
struct runtime_credentials {
    const char *token; /* what the function must present */
    const char *access_key_id, *secret_access_key, *session_token;
    uint64_t expiration_ms; /* since the epoch */
};
void runtime_set_credentials(
    struct runtime_endpoint *endpoint, const struct runtime_credentials *credentials);

/* For the freeze. A parked connection of a thawed process connects anew from the same port and sends
 * `request` again, so that the server needs no special case. */
struct runtime_parked {
    uint16_t port;        /* the function's source port on loopback */
    struct bytes request; /* static storage */
};
/* Fills out[] and *count. Fails (ERROR_BUSY) when some connection cannot be frozen now: a half-received
 * request, an answer not yet taken, an event in hand. */
MUST_CHECK int runtime_parked_requests(const struct runtime_endpoint *endpoint, struct runtime_parked *out,
    size_t max, size_t *count, struct error *err);
