/* Invoke. The hot path: for a warm function everything here must cost microseconds. */
#include "lambda/internal.h"

#include "base/clock.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define SYNC_LIMIT_SHOWN 6291456 /* the limit in Lambda's message is without the 100 bytes of grace */

enum invocation_type { INVOKE_REQUEST_RESPONSE, INVOKE_EVENT, INVOKE_DRY_RUN, INVOKE_UNKNOWN };

/* A synchronous invocation while it runs. */
struct invoke {
    struct lambda_invocation invocation; /* first: `finish` gets a pointer to it */
    struct call *call;
    const struct catalog_function *function;
    struct buffer payload;
    char *client_context, *invoked_arn;
    char trace_id[LAMBDA_TRACE_ID_BYTES];
};

static enum invocation_type invocation_type(const struct http_exchange *exchange)
{
    const char *type = http_header(exchange, "X-Amz-Invocation-Type");
    if (type == NULL || strcmp(type, "RequestResponse") == 0)
        return INVOKE_REQUEST_RESPONSE;
    if (strcmp(type, "Event") == 0)
        return INVOKE_EVENT;
    return strcmp(type, "DryRun") == 0 ? INVOKE_DRY_RUN : INVOKE_UNKNOWN;
}

static void invoke_free(struct invoke *invoke)
{
    call_unref(invoke->call);
    catalog_function_unref(&invoke->function);
    buffer_free(&invoke->payload);
    free(invoke->client_context);
    free(invoke->invoked_arn);
    free(invoke);
}

/* --- the answer --------------------------------------------------------------------------------------- */

static void reply_outcome(struct invoke *invoke, const struct lambda_outcome *outcome)
{
    struct call *call = invoke->call;
    struct http_field fields[8];
    size_t count = 0;
    uint8_t log[(LIMIT_LOG_TAIL_BYTES + 2) / 3 * 4 + 1];
    fields[count++] = (struct http_field){"Content-Type", "application/json"};
    fields[count++] = (struct http_field){"x-amzn-RequestId", call->request_id};
    fields[count++] = (struct http_field){"X-Amzn-Trace-Id", invoke->trace_id};
    fields[count++] = (struct http_field){"X-Amz-Executed-Version", invoke->function->version};
    if (outcome->kind == LAMBDA_OUTCOME_FUNCTION_ERROR)
        fields[count++] = (struct http_field){"X-Amz-Function-Error", "Unhandled"};
    if (invoke->invocation.want_log_tail) {
        struct bytes tail = outcome->log_tail;
        if (tail.len > LIMIT_LOG_TAIL_BYTES)
            tail = (struct bytes){tail.data + tail.len - LIMIT_LOG_TAIL_BYTES, LIMIT_LOG_TAIL_BYTES};
        EVP_EncodeBlock(log, tail.len > 0 ? tail.data : (const uint8_t *)"", (int)tail.len);
        fields[count++] = (struct http_field){"X-Amz-Log-Result", (const char *)log};
    }
    if (invoke->invocation.want_trace && outcome->trace_json != NULL)
        fields[count++] = (struct http_field){"X-Thaw-Trace", outcome->trace_json};
    struct http_exchange *exchange = call_take_exchange(call);
    if (exchange != NULL)
        http_reply(exchange, 200, fields, count, outcome->payload.data, outcome->payload.len);
}

static void invoke_finish(struct lambda_invocation *invocation, const struct lambda_outcome *outcome)
{
    struct invoke *invoke = (struct invoke *)invocation;
    const char *message = outcome->message != NULL ? outcome->message : "The function could not be run";
    if (outcome->kind != LAMBDA_OUTCOME_REFUSED)
        reply_outcome(invoke, outcome);
    else if (outcome->http_status == 429)
        reply_throttled(invoke->call, outcome->reason, message);
    else
        reply_error(invoke->call, outcome->http_status != 0 ? outcome->http_status : 500,
            outcome->error_type != NULL ? outcome->error_type : "ServiceException", "%s", message);
    invoke_free(invoke);
}

/* --- the request -------------------------------------------------------------------------------------- */

static bool enum_ok(struct call *call, const char *value, const char *field, const char *set)
{
    if (value == NULL)
        return true;
    size_t len = strlen(value);
    for (const char *at = set; *at != '\0' && len > 0;) {
        size_t word = strcspn(at, ",");
        if (word == len && memcmp(at, value, len) == 0)
            return true;
        at += word;
        at += strspn(at, ", ");
    }
    reply_error(call, 400, "ValidationException",
        "1 validation error detected: Value '%.100s' at '%s' failed to satisfy constraint: Member must "
        "satisfy "
        "enum value set: [%s]",
        value, field, set);
    return false;
}

/* Base64 of a JSON object. *out is NULL when the header is absent. */
static bool read_client_context(struct call *call, char **out)
{
    const char *header = http_header(call->exchange, "X-Amz-Client-Context");
    *out = NULL;
    if (header == NULL || *header == '\0')
        return true;
    size_t len = strlen(header);
    char why[256];
    uint8_t decoded[LAMBDA_CLIENT_CONTEXT_BYTES + 4];
    int size = len <= LAMBDA_CLIENT_CONTEXT_BYTES && len % 4 == 0
                   ? EVP_DecodeBlock(decoded, (const uint8_t *)header, (int)len)
                   : -1;
    for (size_t i = len; size > 0 && i > 0 && i > len - 2 && header[i - 1] == '='; i--)
        size--;
    struct bytes text = {decoded, size > 0 ? (size_t)size : 0};
    if (size > 0 && memchr(text.data, '\0', text.len) == NULL && json_check(text, why)) {
        *out = xstrndup((const char *)decoded, text.len);
        if ((*out)[strspn(*out, " \t\r\n")] == '{')
            return true;
        free(*out);
        *out = NULL;
    }
    reply_error(call, 400, "InvalidRequestContentException",
        "Client context must be a valid Base64-encoded JSON object.");
    return false;
}

static bool payload_ok(struct call *call)
{
    struct bytes body = http_body(call->exchange);
    char why[256];
    if (body.len == 0 || json_check(body, why))
        return true;
    reply_error(call, 400, "InvalidRequestContentException",
        "Could not parse request body into json: Could not parse payload into json: %s", why);
    return false;
}

/* Versions that cannot run are refused here, before anything is queued for them. One that is Inactive goes on to the
 * backend, which wakes it up; events for it are queued meanwhile. */
static bool state_ok(struct call *call, const struct catalog_function *function, enum invocation_type type)
{
    bool waking = function->state == CATALOG_PENDING &&
                  strcmp(function->state_reason_code, CATALOG_CODE_RESTORING) == 0;
    static const char cannot[] =
        "The operation cannot be performed at this time. The function is currently in the following state: ";
    if (function->state == CATALOG_ACTIVE || function->state == CATALOG_INACTIVE ||
        (waking && type == INVOKE_EVENT))
        return true;
    if (waking) {
        reply_error(call, 409, "SnapStartNotReadyException", "%s", LAMBDA_NOT_READY);
        return false;
    }
    if (function->state == CATALOG_FAILED)
        reply_error(call, 409, "ResourceConflictException", "%sFailed (%s%s%s)", cannot,
            function->state_reason_code, function->state_reason_code[0] != '\0' ? ": " : "",
            function->state_reason);
    else
        reply_error(
            call, 409, "ResourceConflictException", "%s%s", cannot, catalog_state_name(function->state));
    return false;
}

static bool find_function(struct call *call, struct name_parts *target, enum invocation_type type,
    const struct catalog_function **function)
{
    struct error err;
    if (!call_target(call, target))
        return false;
    if (catalog_get(call->api->catalog, target->name, target->qualifier, function, &err) != 0) {
        if (err.kind == ERROR_NOT_FOUND && target->qualifier[0] == '\0')
            reply_error(call, 404, "ResourceNotFoundException", "%s:$LATEST", err.text);
        else
            reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return false;
    }
    return state_ok(call, *function, type);
}

static char *invoked_arn(const struct catalog_function *function, const struct name_parts *target)
{
    return xstrdup(target->qualifier[0] != '\0' ? function->qualified_arn : function->arn);
}

static void read_trace_id(struct call *call, char out[LAMBDA_TRACE_ID_BYTES])
{
    const char *given = http_header(call->exchange, "X-Amzn-Trace-Id");
    if (given != NULL && *given != '\0' && strlen(given) < LAMBDA_TRACE_ID_BYTES)
        snprintf(out, LAMBDA_TRACE_ID_BYTES, "%s", given);
    else
        lambda_make_trace_id(out);
}

static void invoke_now(struct call *call, const struct name_parts *target,
    const struct catalog_function *function, char *client_context)
{
    const char *log_type = http_header(call->exchange, "X-Amz-Log-Type");
    const char *trace = http_header(call->exchange, "X-Thaw-Trace");
    struct bytes body = http_body(call->exchange);
    struct invoke *invoke = xcalloc(1, sizeof *invoke);
    invoke->call = call_ref(call);
    invoke->function = catalog_function_ref(function);
    invoke->client_context = client_context;
    invoke->invoked_arn = invoked_arn(function, target);
    read_trace_id(call, invoke->trace_id);
    /* A copy: the function may still run when the client, and its body, are gone. */
    buffer_append(
        &invoke->payload, body.len > 0 ? body.data : (const uint8_t *)"{}", body.len > 0 ? body.len : 2);
    struct lambda_invocation *invocation = &invoke->invocation;
    invocation->function = function;
    invocation->payload = (struct bytes){invoke->payload.data, invoke->payload.len};
    memcpy(invocation->request_id, call->request_id, sizeof invocation->request_id);
    invocation->invoked_arn = invoke->invoked_arn;
    invocation->client_context = client_context;
    invocation->trace_id = invoke->trace_id;
    invocation->want_log_tail = log_type != NULL && strcmp(log_type, "Tail") == 0;
    invocation->want_trace = trace != NULL && strcmp(trace, "1") == 0;
    invocation->started_ns = http_started_ns(call->exchange);
    invocation->finish = invoke_finish;
    call->api->backend.invoke(call->api->backend.context, invocation);
}

static void invoke_later(struct call *call, const struct name_parts *target,
    const struct catalog_function *function, char *client_context)
{
    struct bytes body = http_body(call->exchange);
    char trace_id[LAMBDA_TRACE_ID_BYTES];
    struct error err;
    read_trace_id(call, trace_id);
    struct catalog_event event = {.function_name = xstrdup(function->name),
        .qualifier = xstrdup(function->version),
        .client_context = client_context,
        .invoked_arn = invoked_arn(function, target),
        .trace_id = xstrdup(trace_id),
        .enqueued_ms = clock_wall_ms()};
    event.not_before_ms = event.enqueued_ms;
    memcpy(event.request_id, call->request_id, sizeof event.request_id);
    buffer_append(
        &event.payload, body.len > 0 ? body.data : (const uint8_t *)"{}", body.len > 0 ? body.len : 2);
    int status = catalog_event_enqueue(call->api->catalog, &event, &err);
    catalog_event_free(&event);
    if (status == 0) {
        reply_empty(call, 202);
        call->api->backend.event_queued(call->api->backend.context);
    } else if (err.kind == ERROR_LIMIT) {
        reply_throttled(call, "FunctionInvocationRateLimitExceeded", err.text);
    } else {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
    }
}

void op_invoke(struct call *call)
{
    struct name_parts target;
    char *client_context;
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    enum invocation_type type = invocation_type(call->exchange);
    if (!enum_ok(call, http_header(call->exchange, "X-Amz-Invocation-Type"), "invocationType",
            "Event, RequestResponse, DryRun") ||
        !enum_ok(call, http_header(call->exchange, "X-Amz-Log-Type"), "logType", "None, Tail") ||
        !find_function(call, &target, type, &function) || !payload_ok(call) ||
        !read_client_context(call, &client_context))
        return;
    if (type == INVOKE_EVENT) {
        invoke_later(call, &target, function, client_context);
    } else if (type == INVOKE_DRY_RUN) {
        free(client_context);
        reply_empty(call, 204);
    } else {
        invoke_now(call, &target, function, client_context);
    }
}

size_t invoke_body_limit(const struct http_exchange *exchange)
{
    return invocation_type(exchange) == INVOKE_EVENT ? LIMIT_EVENT_PAYLOAD_BYTES : LIMIT_PAYLOAD_BYTES;
}

void invoke_too_large(struct call *call)
{
    bool event = invocation_type(call->exchange) == INVOKE_EVENT;
    uint64_t length = http_content_length(call->exchange);
    char shown[32] = "This";
    if (length != HTTP_LENGTH_UNKNOWN)
        snprintf(shown, sizeof shown, "%llu", (unsigned long long)length);
    reply_error(call, 413, "RequestTooLargeException",
        "%s byte payload is too large for the %s invocation type (limit %d bytes)", shown,
        event ? "Event" : "RequestResponse", event ? LIMIT_EVENT_PAYLOAD_BYTES : SYNC_LIMIT_SHOWN);
}
