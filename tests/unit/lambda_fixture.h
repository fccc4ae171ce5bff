/* What the tests of lambda/ share: an HTTP exchange that is only in memory (in place of src/http), a backend
 * that remembers what it was asked, and zips made byte by byte. */
#pragma once

#include "base/clock.h"
#include "base/loop.h"
#include "lambda/internal.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the exchange ------------------------------------------------------------------------------------- */

struct http_exchange {
    const char *method, *path;
    char *query; /* without '?'; NULL when absent */
    char *queries[16];
    size_t query_count;
    struct http_field headers[8];
    size_t header_count;
    struct bytes body;
    void *user;
    struct loop *loop; /* stopped by the reply */
    unsigned status;   /* 0: not answered */
    struct http_field reply_fields[12];
    size_t reply_count;
    struct buffer reply;
    json_t *json;
};

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->path;
}

const char *http_query_text(const struct http_exchange *exchange)
{
    return exchange->query;
}

char *http_decode_segment(const char *segment, size_t len)
{
    char *out = xcalloc(1, len + 1), *to = out;
    for (size_t i = 0; i < len; i++) {
        uint8_t byte;
        char hex[3] = "";
        if (segment[i] != '%') {
            *to++ = segment[i];
            continue;
        }
        memcpy(hex, segment + i + 1, i + 2 < len ? 2 : 0);
        char *hex_end;
        byte = (uint8_t)strtoul(hex, &hex_end, 16);
        if (hex_end != hex + 2 || byte == 0) {
            free(out);
            return NULL;
        }
        *to++ = (char)byte;
        i += 2;
    }
    return out;
}

const char *http_query(const struct http_exchange *exchange, const char *name)
{
    struct http_exchange *owner = (struct http_exchange *)exchange;
    for (const char *at = exchange->query; at != NULL && *at != '\0';) {
        size_t len = strcspn(at, "&"), name_len = strcspn(at, "=&");
        if (name_len == strlen(name) && memcmp(at, name, name_len) == 0) {
            size_t skip = name_len + (at[name_len] == '=');
            return owner->queries[owner->query_count++] = http_decode_segment(at + skip, len - skip);
        }
        at += len + (at[len] == '&');
    }
    return NULL;
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->header_count; i++)
        if (strcasecmp(exchange->headers[i].name, name) == 0)
            return exchange->headers[i].value;
    return NULL;
}

struct bytes http_body(const struct http_exchange *exchange)
{
    return exchange->body;
}

uint64_t http_content_length(const struct http_exchange *exchange)
{
    return exchange->body.len;
}

uint64_t http_started_ns(const struct http_exchange *exchange)
{
    (void)exchange;
    return 12345;
}

void http_set_user(struct http_exchange *exchange, void *user)
{
    exchange->user = user;
}

void *http_user(const struct http_exchange *exchange)
{
    return exchange->user;
}

void http_reply(struct http_exchange *exchange, unsigned status, const struct http_field *fields,
    size_t count, const void *body, size_t len)
{
    assert_int_equal(exchange->status, 0); /* exactly one answer */
    assert_null(exchange->user);
    exchange->status = status;
    for (size_t i = 0; i < count; i++)
        exchange->reply_fields[i] = (struct http_field){xstrdup(fields[i].name), xstrdup(fields[i].value)};
    exchange->reply_count = count;
    if (len > 0)
        buffer_append(&exchange->reply, body, len);
    loop_stop(exchange->loop);
}

void http_reply_owned(struct http_exchange *exchange, unsigned status, const struct http_field *fields,
    size_t count, void *body, size_t len)
{
    http_reply(exchange, status, fields, count, body, len);
    free(body);
}

static inline void exchange_free(struct http_exchange *exchange)
{
    for (size_t i = 0; i < exchange->query_count; i++)
        free(exchange->queries[i]);
    for (size_t i = 0; i < exchange->reply_count; i++) {
        free((char *)exchange->reply_fields[i].name);
        free((char *)exchange->reply_fields[i].value);
    }
    free(exchange->query);
    free((char *)exchange->path);
    buffer_free(&exchange->reply);
    json_decref(exchange->json);
    free(exchange);
}

/* --- the backend -------------------------------------------------------------------------------------- */

struct fake_backend {
    unsigned invoked, queued, snapshots, retired, deleted;
    struct lambda_invocation *held; /* the last one, when `hold` */
    bool hold;
    struct lambda_outcome outcome;
    char payload[256], arn[256], context[256], trace[256], version[32], frozen[32];
};

static inline void fake_invoke(void *context, struct lambda_invocation *invocation)
{
    struct fake_backend *fake = context;
    fake->invoked++;
    snprintf(fake->payload, sizeof fake->payload, "%.*s",
        (int)(invocation->payload.len < 255 ? invocation->payload.len : 255), invocation->payload.data);
    snprintf(fake->arn, sizeof fake->arn, "%s", invocation->invoked_arn);
    snprintf(fake->context, sizeof fake->context, "%s",
        invocation->client_context != NULL ? invocation->client_context : "");
    snprintf(fake->trace, sizeof fake->trace, "%s", invocation->trace_id);
    snprintf(fake->version, sizeof fake->version, "%s", invocation->function->version);
    if (fake->hold)
        fake->held = invocation;
    else
        invocation->finish(invocation, &fake->outcome);
}

static inline void fake_event_queued(void *context)
{
    ((struct fake_backend *)context)->queued++;
}

static inline void fake_snapshot(void *context, const struct catalog_function *version)
{
    struct fake_backend *fake = context;
    fake->snapshots++;
    snprintf(fake->frozen, sizeof fake->frozen, "%s", version->version);
}

static inline void fake_retire(void *context, const struct catalog_function *version, bool deleted)
{
    struct fake_backend *fake = context;
    (void)version;
    fake->retired++;
    fake->deleted += deleted;
}

/* --- the API ------------------------------------------------------------------------------------------ */

struct fixture {
    char folder[64];
    int folder_fd;
    struct loop *loop;
    struct catalog *catalog;
    struct lambda_api *api;
    struct fake_backend backend;
};

static inline void fixture_warn(void *context, const struct error *err)
{
    (void)context;
    print_message("warning: %s\n", err->text);
}

static inline void fixture_open(struct fixture *f)
{
    struct error err;
    static const char *const runtimes[] = {"python3.11"};
    struct catalog_options catalog = {f->folder, "us-east-1", "000000000000"};
    f->folder_fd = open(f->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    f->loop = loop_new(&err);
    f->catalog = catalog_open(&catalog, &err);
    assert_non_null(f->catalog);
    struct lambda_backend backend = {fake_invoke, fake_event_queued, fake_snapshot, fake_retire, &f->backend};
    struct lambda_options options = {.loop = f->loop,
        .catalog = f->catalog,
        .backend = &backend,
        .data_dir_fd = f->folder_fd,
        .base_url = "http://127.0.0.1:8429",
        .runtimes = runtimes,
        .runtime_count = 1,
        .concurrency_limit = 10,
        .code_grace_ms = 1,
        .warn = fixture_warn};
    f->api = lambda_new(&options, &err);
    assert_non_null(f->api);
}

static inline void fixture_close(struct fixture *f)
{
    lambda_free(f->api);
    catalog_close(f->catalog);
    loop_free(f->loop);
    close(f->folder_fd);
}

static inline int fixture_remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/test-lambda-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    f->backend.outcome =
        (struct lambda_outcome){.kind = LAMBDA_OUTCOME_RESULT, .payload = {(const uint8_t *)"{\"ok\":1}", 8}};
    fixture_open(f);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    fixture_close(f);
    int status = nftw(f->folder, fixture_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return status;
}

/* "POST /path?query" with up to four headers as "Name: value"; answered when it returns, unless the backend
 * holds it. */
static inline struct http_exchange *begin(
    struct fixture *f, const char *request, struct bytes body, const char *const *headers)
{
    static char names[8][64];
    struct http_exchange *exchange = xcalloc(1, sizeof *exchange);
    static char method[16];
    size_t method_len = strcspn(request, " ");
    snprintf(method, sizeof method, "%.*s", (int)method_len, request);
    exchange->method = strcmp(method, "GET") == 0      ? "GET"
                       : strcmp(method, "PUT") == 0    ? "PUT"
                       : strcmp(method, "POST") == 0   ? "POST"
                       : strcmp(method, "DELETE") == 0 ? "DELETE"
                                                       : "PATCH";
    const char *path = request + method_len + 1, *mark = strchr(path, '?');
    exchange->path = xstrndup(path, mark != NULL ? (size_t)(mark - path) : strlen(path));
    exchange->query = mark != NULL ? xstrdup(mark + 1) : NULL;
    exchange->body = body;
    exchange->loop = f->loop;
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i++) {
        const char *colon = strchr(headers[i], ':');
        snprintf(names[i], sizeof names[i], "%.*s", (int)(colon - headers[i]), headers[i]);
        exchange->headers[exchange->header_count++] = (struct http_field){names[i], colon + 2};
    }
    if (body.len > lambda_body_limit(f->api, exchange))
        lambda_too_large(f->api, exchange);
    else
        lambda_handle(f->api, exchange);
    return exchange;
}

static inline void finish(struct fixture *f, struct http_exchange *exchange)
{
    struct error err;
    while (exchange->status == 0)
        assert_int_equal(loop_run(f->loop, &err), 0);
    lambda_done(f->api, exchange, true);
    if (exchange->reply.len > 0)
        exchange->json =
            json_loadb((const char *)exchange->reply.data, exchange->reply.len, JSON_DECODE_ANY, NULL);
}

static inline struct http_exchange *ask_with(
    struct fixture *f, const char *request, const char *body, const char *const *headers)
{
    struct bytes bytes = {(const uint8_t *)body, body != NULL ? strlen(body) : 0};
    struct http_exchange *exchange = begin(f, request, bytes, headers);
    finish(f, exchange);
    return exchange;
}

static inline struct http_exchange *ask(struct fixture *f, const char *request, const char *body)
{
    return ask_with(f, request, body, NULL);
}

/* The text at "A.B" of the reply, "" when it is not there. */
static inline const char *answer(const struct http_exchange *exchange, const char *path)
{
    json_t *value = exchange->json;
    char name[64];
    while (value != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)len, path);
        value =
            json_is_array(value) ? json_array_get(value, (size_t)atoi(name)) : json_object_get(value, name);
        path += len + (path[len] == '.');
    }
    return json_is_string(value) ? json_string_value(value) : "";
}

static inline const char *answer_header(const struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->reply_count; i++)
        if (strcasecmp(exchange->reply_fields[i].name, name) == 0)
            return exchange->reply_fields[i].value;
    return "";
}

static inline void expect_error(
    struct http_exchange *exchange, unsigned status, const char *type, const char *text)
{
    const char *message = answer(exchange, "message");
    if (*message == '\0')
        message = answer(exchange, "Message");
    if (exchange->status != status || strcmp(answer_header(exchange, "x-amzn-ErrorType"), type) != 0 ||
        strstr(message, text) == NULL)
        fail_msg("%u %s: %s", exchange->status, answer_header(exchange, "x-amzn-ErrorType"), message);
    exchange_free(exchange);
}

static inline void expect_status(struct http_exchange *exchange, unsigned status)
{
    if (exchange->status != status)
        fail_msg("%u: %.*s", exchange->status, (int)exchange->reply.len, (char *)exchange->reply.data);
    exchange_free(exchange);
}

/* --- zips --------------------------------------------------------------------------------------------- */

struct zip_maker {
    struct buffer data, directory;
    unsigned count;
    uint32_t last_offset;
};

static inline uint32_t zip_crc(const void *data, size_t len)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= ((const uint8_t *)data)[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static inline void zip_directory_entry(struct zip_maker *zip, const char *name, size_t name_len,
    uint32_t mode, uint32_t crc, uint32_t len, uint32_t offset)
{
    struct buffer *d = &zip->directory;
    buffer_append_u32(d, 0x02014b50);
    buffer_append_u16(d, 3 << 8 | 20); /* made on Unix */
    buffer_append_u16(d, 20);
    buffer_append_u16(d, 0x800); /* UTF-8 */
    buffer_append_u16(d, 0);     /* stored */
    buffer_append_u32(d, 0x00210000);
    buffer_append_u32(d, crc);
    buffer_append_u32(d, len);
    buffer_append_u32(d, len);
    buffer_append_u16(d, (uint16_t)name_len);
    buffer_append_zeros(d, 2 + 2 + 2 + 2);
    buffer_append_u32(d, mode << 16);
    buffer_append_u32(d, offset);
    buffer_append(d, name, name_len);
    zip->count++;
}

static inline void zip_add_bytes(
    struct zip_maker *zip, const char *name, size_t name_len, uint32_t mode, const void *content, size_t len)
{
    uint32_t crc = zip_crc(content, len), offset = (uint32_t)zip->data.len;
    struct buffer *b = &zip->data;
    buffer_append_u32(b, 0x04034b50);
    buffer_append_u16(b, 20);
    buffer_append_u16(b, 0x800);
    buffer_append_u16(b, 0);
    buffer_append_u32(b, 0x00210000);
    buffer_append_u32(b, crc);
    buffer_append_u32(b, (uint32_t)len);
    buffer_append_u32(b, (uint32_t)len);
    buffer_append_u16(b, (uint16_t)name_len);
    buffer_append_u16(b, 0);
    buffer_append(b, name, name_len);
    buffer_append(b, content, len);
    zip->last_offset = offset;
    zip_directory_entry(zip, name, name_len, mode, crc, (uint32_t)len, offset);
}

static inline void zip_add(struct zip_maker *zip, const char *name, uint32_t mode, const char *content)
{
    zip_add_bytes(zip, name, strlen(name), mode, content, strlen(content));
}

static inline void zip_end(struct zip_maker *zip)
{
    uint32_t start = (uint32_t)zip->data.len, size = (uint32_t)zip->directory.len;
    struct buffer *b = &zip->data;
    buffer_append(b, zip->directory.data, zip->directory.len);
    buffer_append_u32(b, 0x06054b50);
    buffer_append_u32(b, 0);
    buffer_append_u16(b, (uint16_t)zip->count);
    buffer_append_u16(b, (uint16_t)zip->count);
    buffer_append_u32(b, size);
    buffer_append_u32(b, start);
    buffer_append_u16(b, 0);
    buffer_free(&zip->directory);
}

static inline char *base64_of(const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = data;
    char *out = xcalloc(1, len / 3 * 4 + 8), *to = out;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16 | (i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0) |
                        (i + 2 < len ? in[i + 2] : 0);
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = i + 1 < len ? digits[bits >> 6 & 63] : '=';
        *to++ = i + 2 < len ? digits[bits & 63] : '=';
    }
    return out;
}

/* A good package in base64; `seed` makes another one. */
static inline char *small_package(const char *seed)
{
    struct zip_maker zip = {0};
    zip_add(&zip, "app.py", 0100644, seed);
    zip_end(&zip);
    char *text = base64_of(zip.data.data, zip.data.len);
    buffer_free(&zip.data);
    return text;
}
