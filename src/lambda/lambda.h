/* The Lambda REST API over one listener of src/http. Single-threaded, inside the front's event loop.
 *
 * It owns every path that does not begin with /thaw/v1/, and /thaw/v1/code/ (package downloads). */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "catalog/catalog.h"
#include "http/http.h"
#include "lambda/backend.h"

struct lambda_api;

struct lambda_options {
    struct loop *loop;                    /* outlives the API */
    struct catalog *catalog;              /* outlives the API */
    const struct lambda_backend *backend; /* copied */
    int data_dir_fd;                      /* DATA: packages go to DATA/code (not owned, stays open) */
    const char *base_url;                 /* http://HOST:PORT, for Code.Location; copied */
    /* What this host can run, besides provided, provided.al2 and provided.al2023: "python3.11"... Copied. */
    const char *const *runtimes;
    size_t runtime_count;
    uint32_t concurrency_limit; /* shown by GetAccountSettings */
    uint32_t code_grace_ms;     /* how long a package outlives its last version; 0: long enough */
    /* Optional: told about trouble that no client sees (a package that could not be removed, say). */
    void (*warn)(void *context, const struct error *err);
    void *warn_context;
};

/* Also removes what an earlier run left half done under DATA/code, and packages no version runs. */
MUST_CHECK struct lambda_api *lambda_new(const struct lambda_options *options, struct error *err);
/* Ends its children; exchanges still open are not answered. Every invocation must have finished before. */
void lambda_free(struct lambda_api *api);

/* The callbacks of http_listen; `api` is a struct lambda_api. lambda_done must be called for every exchange
 * that lambda_handle was given (http_set_user is used on those). */
size_t lambda_body_limit(void *api, const struct http_exchange *exchange);
void lambda_too_large(void *api, struct http_exchange *exchange);
void lambda_handle(void *api, struct http_exchange *exchange);
void lambda_done(void *api, struct http_exchange *exchange, bool replied);

/* Names for invocations that the caller makes up itself: a request id, and a trace header that is not sampled. */
#define LAMBDA_REQUEST_ID 37
#define LAMBDA_TRACE_ID_BYTES 256
void lambda_make_request_id(char out[LAMBDA_REQUEST_ID]);
void lambda_make_trace_id(char out[LAMBDA_TRACE_ID_BYTES]);
