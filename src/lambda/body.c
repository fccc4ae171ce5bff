#include "lambda/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a big string is replaced by; escaped, as a client may write it too: then it means the client's own big
 * string, and nothing is gained. */
#define PLACEHOLDER "\\u0001big string "
#define PLACEHOLDER_DECODED \
    "\x01" \
    "big string "

/* The quote that ends the string which begins at `at`, or NULL. */
static const uint8_t *closing_quote(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *quote = at;
    while ((quote = memchr(quote, '"', (size_t)(end - quote))) != NULL) {
        size_t backslashes = 0;
        while (quote - backslashes > at && quote[-1 - (ptrdiff_t)backslashes] == '\\')
            backslashes++;
        if (backslashes % 2 == 0)
            return quote;
        quote++;
    }
    return NULL;
}

/* Copy the text with big strings cut out. False when what remains is too large to be a request. */
static bool reduce(struct body *body, struct bytes text, struct buffer *out)
{
    const uint8_t *at = text.data, *end = text.data + text.len;
    while (at < end) {
        const uint8_t *quote = memchr(at, '"', (size_t)(end - at));
        const uint8_t *close = quote != NULL ? closing_quote(quote + 1, end) : NULL;
        const uint8_t *until = close != NULL ? close + 1 : end;
        bool big = close != NULL && close - quote > BODY_BIG_BYTES && body->big_count < BODY_BIG_MAX;
        if (big) {
            buffer_append(out, at, (size_t)(quote - at));
            buffer_printf(out, "\"" PLACEHOLDER "%zu\"", body->big_count);
            body->big[body->big_count++] = (struct bytes){quote + 1, (size_t)(close - quote - 1)};
        } else {
            if (out->len + (size_t)(until - at) > LAMBDA_SMALL_BODY_BYTES)
                return false;
            buffer_append(out, at, (size_t)(until - at));
        }
        at = until;
    }
    return true;
}

bool body_parse(struct call *call, struct body *body)
{
    *body = (struct body){.call = call};
    struct bytes text = http_body(call->exchange);
    CLEANUP_BUFFER struct buffer reduced = {0};
    if (text.len == 0) {
        body->json = json_object();
        return true;
    }
    if (!reduce(body, text, &reduced)) {
        reply_error(call, 413, "RequestEntityTooLargeException",
            "Request must be smaller than %d bytes beside its code", LAMBDA_SMALL_BODY_BYTES);
        return false;
    }
    json_error_t fault;
    body->json = json_loadb((const char *)reduced.data, reduced.len, 0, &fault);
    if (body->json == NULL) {
        reply_error(call, 400, "InvalidRequestContentException",
            "Could not parse request body into json: %s (line %d, column %d)", fault.text, fault.line,
            fault.column);
        return false;
    }
    if (!json_is_object(body->json)) {
        reply_error(
            call, 400, "SerializationException", "Unexpected value: the request body must be a structure");
        return false;
    }
    return true;
}

void body_free(struct body *body)
{
    json_decref(body->json);
    buffer_free(&body->problems.text);
    body->json = NULL;
}

static const char *json_kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "Start of structure or map";
    case JSON_ARRAY:
        return "Start of list";
    case JSON_STRING:
        return "STRING_VALUE";
    case JSON_INTEGER:
        return "NUMBER_VALUE";
    case JSON_REAL:
        return "DECIMAL_VALUE";
    default:
        return json_is_true(value) ? "TRUE_VALUE" : "FALSE_VALUE";
    }
}

/* The value if it is there and of this type; a wrong type answers and fails the body. */
static json_t *get(struct body *body, json_t *object, const char *name, bool good_type(const json_t *value),
    const char *wanted)
{
    json_t *value = body->failed ? NULL : json_object_get(object, name);
    if (value == NULL || json_is_null(value))
        return NULL;
    if (good_type(value))
        return value;
    body->failed = true;
    if (json_is_object(value) || json_is_array(value))
        reply_error(body->call, 400, "SerializationException", "%s found where not expected (%s).",
            json_kind(value), name);
    else
        reply_error(body->call, 400, "SerializationException", "%s can not be converted to %s (%s)",
            json_kind(value), wanted, name);
    return NULL;
}

static bool is_string(const json_t *value)
{
    return json_is_string(value);
}

static bool is_integer(const json_t *value)
{
    return json_is_integer(value);
}

static bool is_bool(const json_t *value)
{
    return json_is_boolean(value);
}

static bool is_object(const json_t *value)
{
    return json_is_object(value);
}

static bool is_list(const json_t *value)
{
    return json_is_array(value);
}

const char *body_string(struct body *body, json_t *object, const char *name)
{
    return json_string_value(get(body, object, name, is_string, "a String"));
}

bool body_integer(struct body *body, json_t *object, const char *name, json_int_t *out)
{
    json_t *value = get(body, object, name, is_integer, "an Integer");
    if (value != NULL)
        *out = json_integer_value(value);
    return value != NULL;
}

bool body_bool(struct body *body, json_t *object, const char *name)
{
    return json_is_true(get(body, object, name, is_bool, "a Boolean"));
}

json_t *body_object(struct body *body, json_t *object, const char *name)
{
    return get(body, object, name, is_object, "a structure or map");
}

json_t *body_list(struct body *body, json_t *object, const char *name)
{
    return get(body, object, name, is_list, "a list");
}

struct bytes body_bytes(struct body *body, json_t *object, const char *name)
{
    const char *text = body_string(body, object, name);
    if (text == NULL)
        return (struct bytes){NULL, 0};
    if (strncmp(text, PLACEHOLDER_DECODED, strlen(PLACEHOLDER_DECODED)) == 0) {
        size_t which = (size_t)strtoul(text + strlen(PLACEHOLDER_DECODED), NULL, 10);
        if (which < body->big_count)
            return body->big[which];
    }
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

bool body_good(struct body *body)
{
    if (body->failed)
        return false;
    return !problems_reply(&body->problems, body->call);
}
