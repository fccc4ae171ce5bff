/* One environment's Runtime API. The states have Lambda's names, as functions see them in refusals:
 *
 *      .---------------- no (more) event to prime with ---------------.
 *      v                                                              |
 *   Started --prime/next--> PrimeReady --deliver--> Running ... ResponseSent --prime/next--> PrimeReady
 *    |  |                          (snap_start only)
 *    |  |--restore/next--> RestoreReady --runtime_restored--> Restoring --restore/error--> RestoreError
 *    |  |                          (snap_start only)              |  (or init/error)
 *    |  `--init/error--> InitError                                |
 *    |                                                            |
 *    `--next--> Ready <-------------------next--------------------'
 *                |  ^
 *        deliver |  `----------------next--------- ResponseSent
 *                v                                     ^
 *             Running ---response, error, too large----'
 *                | ^
 *                `-'  next: the same event again (its answer was lost, or the runtime started over)
 *
 * All else is answered 403 InvalidStateTransition and changes nothing.
 *
 * 1. `parked` is set only in Ready (a next), RestoreReady (a restore/next) and PrimeReady (a prime/next, which the
 *    owner answers at once); it is NULL there when the connection that was parked ended: then the next request
 *    of the kind parks again.
 * 2. There is an event in hand (`event.id` set) in Running; and, in other states, when it was delivered while
 *    nothing was parked: then the next `next` gets it.
 * 3. A response, an error or a too long response is told to the owner at most once for each event, with the
 *    event's own id, and the state has left Running before the owner hears of it.
 * 4. After a callback the endpoint may be gone: only the exchange (see http.h) is touched after one.
 * 5. Reports of errors that end the environment are answered before the owner hears of them. */
#include "runtime/runtime.h"

#include "base/limits.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API "/2018-06-01/runtime/"

enum state {
    STARTED,
    PRIME_READY,
    RESTORE_READY,
    RESTORING,
    READY,
    RUNNING,
    RESPONSE_SENT,
    INIT_ERROR,
    RESTORE_ERROR,
};

static const char *const state_names[] = {
    [STARTED] = "Started",
    [PRIME_READY] = "PrimeReady",
    [RESTORE_READY] = "RestoreReady",
    [RESTORING] = "Restoring",
    [READY] = "Ready",
    [RUNNING] = "Running",
    [RESPONSE_SENT] = "RuntimeResponseSentState",
    [INIT_ERROR] = "InitError",
    [RESTORE_ERROR] = "RuntimeRestoreErrorState",
};

enum route {
    ROUTE_UNKNOWN,
    ROUTE_WRONG_METHOD,
    ROUTE_NEXT,
    ROUTE_RESPONSE,
    ROUTE_INVOCATION_ERROR,
    ROUTE_INIT_ERROR,
    ROUTE_PRIME_NEXT,
    ROUTE_RESTORE_NEXT,
    ROUTE_RESTORE_ERROR,
    ROUTE_PING,
    ROUTE_CREDENTIALS,
};

/* A copy of the runtime_event in hand. */
struct kept_event {
    char *id, *function_arn, *trace_id, *client_context, *content_type;
    uint64_t deadline_ms;
    struct buffer payload;
};

struct runtime_endpoint {
    struct http_listener *listener;
    const struct runtime_callbacks *callbacks;
    void *context;
    bool snap_start;
    bool primes; /* the event in hand, or the last one, was asked for by prime/next */
    enum state state;
    struct http_exchange *parked;
    struct kept_event event;
    char *credentials_token, *credentials_json;
};

/* ---- routes ---- */

/* "<uuid>/response" below invocation/: *id points to the id inside the path. */
static enum route route_of_invocation(const char *rest, struct bytes *id)
{
    const char *slash = strchr(rest, '/');
    if (strcmp(rest, "next") == 0)
        return ROUTE_NEXT;
    if (slash == NULL)
        return ROUTE_UNKNOWN;
    *id = (struct bytes){(const uint8_t *)rest, (size_t)(slash - rest)};
    if (strcmp(slash, "/response") == 0)
        return ROUTE_RESPONSE;
    return strcmp(slash, "/error") == 0 ? ROUTE_INVOCATION_ERROR : ROUTE_UNKNOWN;
}

static enum route route_of_path(const struct runtime_endpoint *endpoint, const char *path, struct bytes *id)
{
    const char *last = strrchr(path, '/');
    if (strncmp(path, API "invocation/", sizeof API "invocation/" - 1) == 0)
        return route_of_invocation(path + sizeof API "invocation/" - 1, id);
    if (strcmp(path, API "init/error") == 0)
        return ROUTE_INIT_ERROR;
    if (endpoint->snap_start && strcmp(path, API "prime/next") == 0)
        return ROUTE_PRIME_NEXT;
    if (endpoint->snap_start && strcmp(path, API "restore/next") == 0)
        return ROUTE_RESTORE_NEXT;
    if (endpoint->snap_start && strcmp(path, API "restore/error") == 0)
        return ROUTE_RESTORE_ERROR;
    if (strcmp(path, "/2021-04-23/credentials") == 0)
        return ROUTE_CREDENTIALS;
    /* "/ping" below any one version, or none. */
    if (last != NULL && strcmp(last, "/ping") == 0 && (last == path || strchr(path + 1, '/') == last))
        return ROUTE_PING;
    return ROUTE_UNKNOWN;
}

static enum route route_of(
    const struct runtime_endpoint *endpoint, const struct http_exchange *exchange, struct bytes *id)
{
    *id = (struct bytes){0};
    enum route route = route_of_path(endpoint, http_path(exchange), id);
    const char *method = http_method(exchange);
    bool wants_post = route == ROUTE_RESPONSE || route == ROUTE_INVOCATION_ERROR ||
                      route == ROUTE_INIT_ERROR || route == ROUTE_RESTORE_ERROR;
    if (route != ROUTE_UNKNOWN && strcmp(method, wants_post ? "POST" : "GET") != 0)
        return ROUTE_WRONG_METHOD;
    return route;
}

/* ---- answers ---- */

static const struct http_field content_is_json = {"Content-Type", "application/json"};

static void reply_error(
    struct http_exchange *exchange, unsigned status, const char *type, const char *message)
{
    char body[512];
    int len = snprintf(body, sizeof body, "{\"errorMessage\":\"%s\",\"errorType\":\"%s\"}", message, type);
    http_reply(exchange, status, &content_is_json, 1, body, (size_t)len);
}

static void reply_accepted(struct http_exchange *exchange)
{
    static const char body[] = "{\"status\":\"OK\"}\n";
    http_reply(exchange, 202, &content_is_json, 1, body, sizeof body - 1);
}

static void reply_wrong_state(struct http_exchange *exchange, enum state from, const char *to)
{
    char message[256];
    snprintf(message, sizeof message,
        "State transition from %s to %s failed for runtime. Error: State transition is not allowed",
        state_names[from], to);
    reply_error(exchange, 403, "InvalidStateTransition", message);
}

static void reply_too_large(struct http_exchange *exchange)
{
    char message[128];
    snprintf(
        message, sizeof message, "Exceeded maximum allowed payload size (%d bytes).", LIMIT_PAYLOAD_BYTES);
    reply_error(exchange, 413, "RequestEntityTooLarge", message);
}

static void add_field(struct http_field *fields, size_t *count, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0')
        fields[(*count)++] = (struct http_field){name, value};
}

static void reply_event(struct http_exchange *exchange, const struct runtime_event *event)
{
    char deadline[24];
    snprintf(deadline, sizeof deadline, "%" PRIu64, event->deadline_ms);
    struct http_field fields[6];
    size_t count = 0;
    add_field(fields, &count, "Lambda-Runtime-Aws-Request-Id", event->request_id);
    add_field(fields, &count, "Lambda-Runtime-Deadline-Ms", deadline);
    add_field(fields, &count, "Lambda-Runtime-Invoked-Function-Arn", event->function_arn);
    add_field(fields, &count, "Lambda-Runtime-Trace-Id", event->trace_id);
    add_field(fields, &count, "Lambda-Runtime-Client-Context", event->client_context);
    bool typed = event->content_type != NULL && event->content_type[0] != '\0';
    add_field(fields, &count, "Content-Type", typed ? event->content_type : "application/json");
    http_reply(exchange, 200, fields, count, event->payload.data, event->payload.len);
}

/* ---- the event in hand ---- */

static void event_forget(struct kept_event *event)
{
    free(event->id);
    free(event->function_arn);
    free(event->trace_id);
    free(event->client_context);
    free(event->content_type);
    buffer_free(&event->payload);
    *event = (struct kept_event){0};
}

static char *copy_or_null(const char *s)
{
    return s != NULL ? xstrdup(s) : NULL;
}

static void event_keep(struct kept_event *kept, const struct runtime_event *event)
{
    event_forget(kept);
    *kept = (struct kept_event){
        .id = xstrdup(event->request_id),
        .function_arn = copy_or_null(event->function_arn),
        .trace_id = copy_or_null(event->trace_id),
        .client_context = copy_or_null(event->client_context),
        .content_type = copy_or_null(event->content_type),
        .deadline_ms = event->deadline_ms,
    };
    buffer_append(&kept->payload, event->payload.data, event->payload.len);
}

static void reply_kept_event(struct http_exchange *exchange, const struct kept_event *kept)
{
    const struct runtime_event event = {
        .request_id = kept->id,
        .deadline_ms = kept->deadline_ms,
        .function_arn = kept->function_arn,
        .trace_id = kept->trace_id,
        .client_context = kept->client_context,
        .content_type = kept->content_type,
        .payload = {kept->payload.data, kept->payload.len},
    };
    reply_event(exchange, &event);
}

static bool is_event(const struct runtime_endpoint *endpoint, struct bytes id)
{
    const char *own = endpoint->event.id;
    return own != NULL && strlen(own) == id.len && memcmp(own, id.data, id.len) == 0;
}

/* The event is answered: hand its id over and leave Running. */
static char *event_finish(struct runtime_endpoint *endpoint)
{
    char *id = steal_pointer(endpoint->event.id);
    event_forget(&endpoint->event);
    endpoint->state = RESPONSE_SENT;
    return id;
}

/* ---- one handler for each route ---- */

static void handle_next(struct runtime_endpoint *endpoint, struct http_exchange *exchange)
{
    switch (endpoint->state) {
    case RUNNING:
        reply_kept_event(exchange, &endpoint->event);
        return;
    case STARTED:
    case RESTORING:
    case RESPONSE_SENT:
    case READY:
        break;
    case PRIME_READY:
    case RESTORE_READY:
    case INIT_ERROR:
    case RESTORE_ERROR:
        reply_wrong_state(exchange, endpoint->state, state_names[READY]);
        return;
    }
    if (endpoint->parked != NULL) {
        reply_wrong_state(exchange, endpoint->state, state_names[READY]);
        return;
    }
    if (endpoint->event.id != NULL) {
        endpoint->state = RUNNING;
        reply_kept_event(exchange, &endpoint->event);
        return;
    }
    endpoint->state = READY;
    endpoint->parked = exchange;
    endpoint->callbacks->waiting(endpoint->context);
}

/* Ours, not Lambda's: a runtime of ours asks for sample events before it runs the hooks that precede a snapshot,
 * and handles them as it will handle all others. */
static void handle_prime_next(struct runtime_endpoint *endpoint, struct http_exchange *exchange)
{
    bool again = endpoint->state == PRIME_READY && endpoint->parked == NULL;
    bool answered = endpoint->state == RESPONSE_SENT && endpoint->primes;
    if (endpoint->state == RUNNING && endpoint->primes) {
        reply_kept_event(exchange, &endpoint->event);
        return;
    }
    if (endpoint->state != STARTED && !again && !answered) {
        reply_wrong_state(exchange, endpoint->state, state_names[PRIME_READY]);
        return;
    }
    endpoint->state = PRIME_READY;
    endpoint->parked = exchange;
    endpoint->callbacks->prime_waiting(endpoint->context);
}

static void handle_restore_next(struct runtime_endpoint *endpoint, struct http_exchange *exchange)
{
    bool again = endpoint->state == RESTORE_READY && endpoint->parked == NULL;
    if (endpoint->state != STARTED && !again) {
        reply_wrong_state(exchange, endpoint->state, state_names[READY]);
        return;
    }
    endpoint->state = RESTORE_READY;
    endpoint->parked = exchange;
    endpoint->callbacks->restore_waiting(endpoint->context);
}

/* Answers the refusal and says so, unless `id` is the running event. */
static bool refuse_answer(struct runtime_endpoint *endpoint, struct http_exchange *exchange, struct bytes id,
    const char *wanted_state)
{
    if (endpoint->state != RUNNING) {
        reply_wrong_state(exchange, endpoint->state, wanted_state);
        return true;
    }
    if (!is_event(endpoint, id)) {
        reply_error(exchange, 400, "InvalidRequestID", "Invalid request ID");
        return true;
    }
    return false;
}

static const char *header_or_empty(const struct http_exchange *exchange, const char *name)
{
    const char *value = http_header(exchange, name);
    return value != NULL ? value : "";
}

/* Whoever waits for this answer gets it before the runtime hears that it was accepted. */
static void handle_response(
    struct runtime_endpoint *endpoint, struct http_exchange *exchange, struct bytes id)
{
    if (refuse_answer(endpoint, exchange, id, "InvocationResponse"))
        return;
    const char *mode = header_or_empty(exchange, "Lambda-Runtime-Function-Response-Mode");
    if (mode[0] != '\0' && strcmp(mode, "streaming") != 0) {
        reply_error(exchange, 400, "InvalidFunctionResponseMode", "Invalid function response mode");
        return;
    }
    CLEANUP_FREE char *request_id = event_finish(endpoint);
    endpoint->callbacks->response(
        endpoint->context, request_id, http_body(exchange), header_or_empty(exchange, "Content-Type"));
    reply_accepted(exchange);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *error_type_of(const struct http_exchange *exchange)
{
    const char *type = header_or_empty(exchange, "Lambda-Runtime-Function-Error-Type");
    bool of_function = strncmp(type, "Function.", 9) == 0, of_runtime = strncmp(type, "Runtime.", 8) == 0;
    if (!of_function && !of_runtime)
        return "Runtime.Unknown";
    const char *name = strchr(type, '.') + 1;
    bool valid =
        name[0] >= 'A' && name[0] <= 'Z' && name[1] != '\0' && strlen(type) < RUNTIME_ERROR_TYPE_BYTES;
    for (const char *c = name; valid && *c != '\0'; c++)
        valid = is_letter(*c);
    if (valid)
        return type;
    return of_function ? "Function.Unknown" : "Runtime.Unknown";
}

static void handle_invocation_error(
    struct runtime_endpoint *endpoint, struct http_exchange *exchange, struct bytes id)
{
    if (refuse_answer(endpoint, exchange, id, "InvocationErrorResponse"))
        return;
    CLEANUP_FREE char *request_id = event_finish(endpoint);
    endpoint->callbacks->invocation_error(
        endpoint->context, request_id, http_body(exchange), error_type_of(exchange));
    reply_accepted(exchange);
}

/* Accepted before the owner hears of it: the owner ends the environment, and a client that finds its connection
 * closed in place of the answer would write of a second failure into the log. */
static void accept_final_error(struct runtime_endpoint *endpoint, struct http_exchange *exchange,
    void (*tell)(void *context, struct bytes body, const char *error_type))
{
    CLEANUP_BUFFER struct buffer body = {0};
    struct bytes sent = http_body(exchange);
    buffer_append(&body, sent.data, sent.len);
    char type[RUNTIME_ERROR_TYPE_BYTES];
    snprintf(type, sizeof type, "%s", error_type_of(exchange));
    reply_accepted(exchange);
    tell(endpoint->context, (struct bytes){body.data, body.len}, type);
}

static void handle_restore_error(struct runtime_endpoint *endpoint, struct http_exchange *exchange)
{
    if (endpoint->state != RESTORING) {
        reply_wrong_state(exchange, endpoint->state, state_names[RESTORE_ERROR]);
        return;
    }
    endpoint->state = RESTORE_ERROR;
    accept_final_error(endpoint, exchange, endpoint->callbacks->restore_error);
}

static void handle_init_error(struct runtime_endpoint *endpoint, struct http_exchange *exchange)
{
    /* Java's runtime reports failed restore hooks here. */
    if (endpoint->state == RESTORING) {
        handle_restore_error(endpoint, exchange);
        return;
    }
    bool primed = endpoint->state == RESPONSE_SENT && endpoint->primes;
    if (endpoint->state != STARTED && !primed) {
        reply_wrong_state(exchange, endpoint->state, state_names[INIT_ERROR]);
        return;
    }
    endpoint->state = INIT_ERROR;
    accept_final_error(endpoint, exchange, endpoint->callbacks->init_error);
}

/* Compares in a time that depends on the lengths only. */
static bool equals_secret(const char *secret, const char *given)
{
    size_t len = strlen(secret);
    if (strlen(given) != len)
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < len; i++)
        difference |= (unsigned char)secret[i] ^ (unsigned char)given[i];
    return difference == 0;
}

static void handle_credentials(struct runtime_endpoint *endpoint, struct http_exchange *exchange)
{
    const char *token = header_or_empty(exchange, "Authorization");
    if (endpoint->credentials_json != NULL && equals_secret(endpoint->credentials_token, token))
        http_reply(exchange, 200, &content_is_json, 1, endpoint->credentials_json,
            strlen(endpoint->credentials_json));
    else
        reply_error(exchange, 404, "CredentialsNotFound", "cannot get credentials for the provided token");
}

static void handle_ping(struct http_exchange *exchange)
{
    static const struct http_field type = {"Content-Type", "text/plain; charset=utf-8"};
    http_reply(exchange, 200, &type, 1, "pong", 4);
}

static void on_request(void *context, struct http_exchange *exchange)
{
    struct runtime_endpoint *endpoint = context;
    struct bytes id;
    switch (route_of(endpoint, exchange, &id)) {
    case ROUTE_NEXT:
        handle_next(endpoint, exchange);
        return;
    case ROUTE_RESPONSE:
        handle_response(endpoint, exchange, id);
        return;
    case ROUTE_INVOCATION_ERROR:
        handle_invocation_error(endpoint, exchange, id);
        return;
    case ROUTE_INIT_ERROR:
        handle_init_error(endpoint, exchange);
        return;
    case ROUTE_PRIME_NEXT:
        handle_prime_next(endpoint, exchange);
        return;
    case ROUTE_RESTORE_NEXT:
        handle_restore_next(endpoint, exchange);
        return;
    case ROUTE_RESTORE_ERROR:
        handle_restore_error(endpoint, exchange);
        return;
    case ROUTE_PING:
        handle_ping(exchange);
        return;
    case ROUTE_CREDENTIALS:
        handle_credentials(endpoint, exchange);
        return;
    case ROUTE_WRONG_METHOD:
        reply_error(exchange, 405, "MethodNotAllowed", "This path is there for another method");
        return;
    case ROUTE_UNKNOWN:
        break;
    }
    reply_error(exchange, 404, "NotFound", "There is no such path in the Runtime API");
}

/* ---- sizes ---- */

/* Only the answer to the event in hand may be large. */
static size_t body_limit(void *context, const struct http_exchange *exchange)
{
    const struct runtime_endpoint *endpoint = context;
    struct bytes id;
    enum route route = route_of(endpoint, exchange, &id);
    bool answers = route == ROUTE_RESPONSE || route == ROUTE_INVOCATION_ERROR;
    if (answers && endpoint->state == RUNNING && is_event(endpoint, id))
        return LIMIT_PAYLOAD_BYTES;
    return RUNTIME_OTHER_BYTES;
}

static void on_too_large(void *context, struct http_exchange *exchange)
{
    struct runtime_endpoint *endpoint = context;
    struct bytes id;
    enum route route = route_of(endpoint, exchange, &id);
    bool answers = route == ROUTE_RESPONSE || route == ROUTE_INVOCATION_ERROR;
    if (answers && refuse_answer(endpoint, exchange, id, "InvocationResponse"))
        return;
    if (!answers) {
        reply_too_large(exchange);
        return;
    }
    uint64_t announced = http_content_length(exchange);
    uint64_t len = announced != HTTP_LENGTH_UNKNOWN ? announced : LIMIT_PAYLOAD_BYTES + 1;
    CLEANUP_FREE char *request_id = event_finish(endpoint);
    endpoint->callbacks->response_too_large(endpoint->context, request_id, len);
    reply_too_large(exchange);
}

static void on_done(void *context, struct http_exchange *exchange, bool replied)
{
    (void)replied;
    struct runtime_endpoint *endpoint = context;
    if (endpoint->parked == exchange)
        endpoint->parked = NULL;
}

/* ---- the owner's side ---- */

struct runtime_endpoint *runtime_endpoint_new(struct http_server *server, int listener_fd,
    const struct runtime_callbacks *callbacks, void *context, bool snap_start, struct error *err)
{
    static const struct http_callbacks http = {
        .body_limit = body_limit, .too_large = on_too_large, .request = on_request, .done = on_done};
    /* A function may be silent on its connection for as long as it works; one that closes it is gone. */
    static const struct http_listener_options options = {
        .connection_limit = RUNTIME_CONNECTIONS_MAX, .keep_silent = true, .end_on_fin = true};
    struct runtime_endpoint *endpoint = xcalloc(1, sizeof *endpoint);
    *endpoint = (struct runtime_endpoint){
        .callbacks = callbacks, .context = context, .snap_start = snap_start, .state = STARTED};
    endpoint->listener = http_listen(server, listener_fd, &http, endpoint, err);
    if (endpoint->listener == NULL) {
        error_prefix(err, "cannot serve the Runtime API");
        free(endpoint);
        return NULL;
    }
    http_listener_configure(endpoint->listener, &options);
    return endpoint;
}

void runtime_endpoint_free(struct runtime_endpoint *endpoint)
{
    if (endpoint == NULL)
        return;
    http_unlisten(&endpoint->listener);
    event_forget(&endpoint->event);
    free(endpoint->credentials_token);
    free(endpoint->credentials_json);
    free(endpoint);
}

void runtime_deliver(struct runtime_endpoint *endpoint, const struct runtime_event *event)
{
    event_keep(&endpoint->event, event);
    if ((endpoint->state != READY && endpoint->state != PRIME_READY) || endpoint->parked == NULL)
        return;
    endpoint->primes = endpoint->state == PRIME_READY;
    endpoint->state = RUNNING;
    reply_event(steal_pointer(endpoint->parked), event);
}

void runtime_primed(struct runtime_endpoint *endpoint)
{
    if (endpoint->state != PRIME_READY || endpoint->parked == NULL)
        return;
    endpoint->state = STARTED;
    http_reply(steal_pointer(endpoint->parked), 204, NULL, 0, NULL, 0);
}

void runtime_restored(struct runtime_endpoint *endpoint)
{
    if (endpoint->state != RESTORE_READY || endpoint->parked == NULL)
        return;
    endpoint->state = RESTORING;
    http_reply(steal_pointer(endpoint->parked), 200, NULL, 0, NULL, 0);
}

bool runtime_parked(const struct runtime_endpoint *endpoint)
{
    return endpoint->parked != NULL;
}

void runtime_set_credentials(struct runtime_endpoint *endpoint, const struct runtime_credentials *credentials)
{
    time_t expiration = (time_t)(credentials->expiration_ms / 1000);
    struct tm parts;
    char text[32];
    gmtime_r(&expiration, &parts);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s}", "AccessKeyId", credentials->access_key_id, "SecretAccessKey",
            credentials->secret_access_key, "Token", credentials->session_token, "Expiration", text);
    free(endpoint->credentials_token);
    free(endpoint->credentials_json);
    endpoint->credentials_token = xstrdup(credentials->token);
    endpoint->credentials_json = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
}

/* ---- the freeze ---- */

/* What a thawed runtime sends again for what is parked: as the original, but for header fields that mean
 * nothing here. A connection that was to be closed after the answer still is. */
static struct bytes replay_of(const struct runtime_endpoint *endpoint)
{
#define REPLAY(path, more) "GET " API path " HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n" more "\r\n"
#define CLOSE "Connection: close\r\n"
    static const char *const requests[2][2] = {
        {REPLAY("invocation/next", ""), REPLAY("invocation/next", CLOSE)},
        {REPLAY("restore/next", ""), REPLAY("restore/next", CLOSE)}};
    bool closes = strcasestr(header_or_empty(endpoint->parked, "Connection"), "close") != NULL;
    const char *request = requests[endpoint->state == RESTORE_READY][closes];
    return (struct bytes){(const uint8_t *)request, strlen(request)};
}

int runtime_parked_requests(const struct runtime_endpoint *endpoint, struct runtime_parked *out, size_t max,
    size_t *count, struct error *err)
{
    *count = 0;
    if (endpoint->event.id != NULL)
        return error_set(err, ERROR_BUSY, "the function has an event in hand");
    if (!http_listener_quiet(endpoint->listener))
        return error_set(
            err, ERROR_BUSY, "a connection to the Runtime API is in the middle of a request or an answer");
    if (endpoint->parked == NULL)
        return 0;
    if (max == 0)
        return error_set(err, ERROR_LIMIT, "there is no room for the parked request");
    out[(*count)++] = (struct runtime_parked){
        .port = http_peer_port(http_exchange_connection(endpoint->parked)), .request = replay_of(endpoint)};
    return 0;
}
