/* What the REST API asks of the rest of the server. daemon/front implements it; tests implement a fake. */
#pragma once

#include "base/bytes.h"
#include "catalog/catalog.h"

#include <stdbool.h>
#include <stdint.h>

/* What SnapStartNotReadyException says, in Lambda's words. */
#define LAMBDA_NOT_READY \
    "Lambda is initializing your function. It will be ready to invoke once your function state becomes " \
    "ACTIVE."

enum lambda_outcome_kind {
    LAMBDA_OUTCOME_RESULT = 1,     /* the function answered: payload */
    LAMBDA_OUTCOME_FUNCTION_ERROR, /* payload is the error JSON; X-Amz-Function-Error: Unhandled */
    LAMBDA_OUTCOME_REFUSED,        /* it was not run: http_status, error_type, message say why */
};

struct lambda_outcome {
    enum lambda_outcome_kind kind;
    struct bytes payload;
    unsigned http_status;   /* REFUSED only: 429, 409, 500... */
    const char *error_type; /* REFUSED only: TooManyRequestsException... */
    const char *message;    /* REFUSED only */
    const char *reason;     /* REFUSED only, may be NULL: ConcurrentInvocationLimitExceeded... */
    struct bytes log_tail;  /* the last 4 KB of this call's log, or empty */
    const char *request_id; /* UUID */
    const char
        *trace_json; /* phases of this call when it asked for them, or NULL: X-Thaw-Trace reply header */
};

struct lambda_invocation {
    const struct catalog_function *function; /* the resolved version; valid until `finish` is called */
    struct bytes payload;                    /* valid until `finish` */
    char request_id[37];
    const char *invoked_arn;    /* as the caller named it: with the qualifier it gave, if any */
    const char *client_context; /* decoded JSON or NULL */
    const char *trace_id;       /* X-Amzn-Trace-Id or NULL */
    bool want_log_tail, want_trace;
    uint64_t started_ns; /* when the request's first byte was seen */
    /* Called exactly once by the backend, from the loop's thread, now or later. */
    void (*finish)(struct lambda_invocation *invocation, const struct lambda_outcome *outcome);
};

struct lambda_backend {
    /* Run it; `finish` gets the outcome. */
    void (*invoke)(void *context, struct lambda_invocation *invocation);
    /* An Event invocation was put into the durable queue (see catalog): look at it. */
    void (*event_queued)(void *context);
    /* A version was published with SnapStart and is Pending: initialise and freeze it, then record the
     * outcome with catalog_set_snapshot, catalog_set_state or catalog_set_inactive. Called once for each new version; at start-up
     * the front itself goes through catalog_each_pending. Take a reference to keep `version`. */
    void (*snapshot)(void *context, const struct catalog_function *version);
    /* $LATEST changed, or a version or function was deleted: its environments are to end (those that serve an
     * invocation after it), its template and snapshot to go when `deleted`. */
    void (*retire)(void *context, const struct catalog_function *version, bool deleted);
    void *context;
};
