#include "lambda/internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void reply_json(struct call *call, unsigned status, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(body);
    struct http_exchange *exchange = call_take_exchange(call);
    if (exchange == NULL) {
        free(text);
        return;
    }
    struct http_field fields[] = {
        {"Content-Type", "application/json"}, {"x-amzn-RequestId", call->request_id}};
    if (text == NULL)
        http_reply(exchange, 500, fields, countof(fields), NULL, 0);
    else
        http_reply_owned(exchange, status, fields, countof(fields), text, strlen(text));
}

void reply_empty(struct call *call, unsigned status)
{
    struct http_field fields[] = {{"x-amzn-RequestId", call->request_id}};
    struct http_exchange *exchange = call_take_exchange(call);
    if (exchange != NULL)
        http_reply(exchange, status, fields, countof(fields), NULL, 0);
}

/* Lambda's errors were modelled by many hands: these carry their text under "Message", all others under
 * "message"; those that are not modelled have no "Type". */
static const char *message_key(const char *type)
{
    static const char *const capital[] = {"ResourceNotFoundException", "ServiceException",
        "SnapStartException", "SnapStartNotReadyException", "SnapStartTimeoutException",
        "SnapStartRegenerationFailureException", "CodeSigningConfigNotFoundException",
        "InvalidRuntimeException", "InvalidZipFileException"};
    for (size_t i = 0; i < countof(capital); i++)
        if (strcmp(type, capital[i]) == 0)
            return "Message";
    return "message";
}

static bool is_modelled(const char *type)
{
    static const char *const plain[] = {"ValidationException", "SerializationException",
        "AccessDeniedException", "RequestEntityTooLargeException"};
    for (size_t i = 0; i < countof(plain); i++)
        if (strcmp(type, plain[i]) == 0)
            return false;
    return true;
}

/* Texts may quote what a client sent; bytes that are no UTF-8 must not make an answer impossible. */
static json_t *any_string(const char *text)
{
    json_t *string = json_string(text);
    if (string != NULL)
        return string;
    char *ascii = xstrdup(text);
    for (char *c = ascii; *c != '\0'; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    string = json_string(ascii);
    free(ascii);
    return string;
}

static void send_error(
    struct call *call, unsigned status, const char *type, const char *text, const char *reason)
{
    json_t *body = json_object();
    if (reason != NULL)
        json_object_set_new(body, "Reason", any_string(reason));
    if (is_modelled(type))
        json_object_set_new(body, "Type", json_string(status >= 500 ? "Service" : "User"));
    json_object_set_new(body, message_key(type), any_string(text));
    char *json = json_dumps(body, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(body);
    struct http_field fields[] = {{"Content-Type", "application/json"},
        {"x-amzn-RequestId", call->request_id}, {"x-amzn-ErrorType", type}, {"Retry-After", "1"}};
    struct http_exchange *exchange = call_take_exchange(call);
    if (exchange == NULL)
        free(json);
    else
        http_reply_owned(exchange, status, fields, countof(fields) - (status != 429), json,
            json != NULL ? strlen(json) : 0);
}

void reply_error(struct call *call, unsigned status, const char *type, const char *format, ...)
{
    CLEANUP_BUFFER struct buffer text = {0};
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    buffer_append_zeros(&text, (size_t)len + 1);
    vsnprintf((char *)text.data, (size_t)len + 1, format, again);
    va_end(again);
    send_error(call, status, type, (char *)text.data, NULL);
}

void reply_throttled(struct call *call, const char *reason, const char *message)
{
    send_error(call, 429, "TooManyRequestsException", message, reason);
}

void reply_catalog_error(struct call *call, const struct error *err, enum conflict_means conflict)
{
    switch (err->kind) {
    case ERROR_NOT_FOUND:
        reply_error(call, 404, "ResourceNotFoundException", "%s", err->text);
        return;
    case ERROR_CONFLICT:
        if (conflict == CONFLICT_REVISION)
            reply_error(call, 412, "PreconditionFailedException", "%s", err->text);
        else
            reply_error(call, 409, "ResourceConflictException", "%s", err->text);
        return;
    case ERROR_INVALID:
        reply_invalid(call, "%s", err->text);
        return;
    default:
        reply_error(call, 500, "ServiceException", "%s", err->text);
    }
}

void problems_add(struct problems *problems, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    buffer_printf(&problems->text, "%s%s", problems->count++ > 0 ? "; " : "", text);
    free(text);
}

bool problems_reply(struct problems *problems, struct call *call)
{
    bool any = problems->count > 0;
    if (any)
        reply_error(call, 400, "ValidationException", "%zu validation error%s detected: %s", problems->count,
            problems->count > 1 ? "s" : "", (char *)problems->text.data);
    buffer_free(&problems->text);
    problems->count = 0;
    return any;
}
