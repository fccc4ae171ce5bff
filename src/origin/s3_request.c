/* Requests: what S3's API reference says of each, signed. */
#include "origin/s3_private.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HASH_BLOCK (128u * 1024)

static int read_block(int fd, uint8_t *out, size_t len, uint64_t offset, struct error *err)
{
    ssize_t n;
    do
        n = pread(fd, out, len, (off_t)offset);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_system(err, "cannot read the file to be stored");
    if ((size_t)n != len)
        return error_set(err, ERROR_SYSTEM, "the file to be stored became shorter");
    return 0;
}

static int hash_file(const struct s3_work *w, EVP_MD_CTX *sha256, EVP_MD_CTX *md5, struct error *err)
{
    static uint8_t block[HASH_BLOCK];
    for (uint64_t at = 0; at < w->length;) {
        size_t len = w->length - at < HASH_BLOCK ? (size_t)(w->length - at) : HASH_BLOCK;
        if (read_block(w->operation->fd, block, len, w->offset + at, err) < 0)
            return -1;
        EVP_DigestUpdate(sha256, block, len);
        EVP_DigestUpdate(md5, block, len);
        at += len;
    }
    return 0;
}

int s3_hash_payload(struct s3_work *w, struct error *err)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *sha256 = EVP_MD_CTX_new(), *md5 = EVP_MD_CTX_new();
    int result = -1;
    if (sha256 == NULL || md5 == NULL || EVP_DigestInit_ex(sha256, EVP_sha256(), NULL) != 1 ||
        EVP_DigestInit_ex(md5, EVP_md5(), NULL) != 1)
        error_set(err, ERROR_INTERNAL, "libcrypto computes no hashes");
    else
        result = hash_file(w, sha256, md5, err);
    if (result == 0) {
        EVP_DigestFinal_ex(sha256, digest, NULL);
        hex_encode(w->payload_sha256, digest, SIGV4_HEX / 2);
        EVP_DigestFinal_ex(md5, digest, NULL);
        hex_encode(w->payload_md5, digest, S3_MD5_HEX / 2);
    }
    EVP_MD_CTX_free(sha256);
    EVP_MD_CTX_free(md5);
    return result;
}

static void append_path(struct buffer *out, const struct s3_work *w)
{
    const struct s3_options *o = &w->s3->options;
    buffer_printf(out, "/%s", o->bucket);
    if (w->operation->verb == ORIGIN_LIST)
        return;
    buffer_printf(out, "/");
    if (o->prefix[0] != '\0') {
        sigv4_encode(out, o->prefix, true);
        buffer_printf(out, "/");
    }
    sigv4_encode(out, w->operation->name, true);
}

static void append_key(struct buffer *out, const struct s3_work *w, const char *name)
{
    const char *prefix = w->s3->options.prefix;
    sigv4_encode(out, prefix, false);
    if (prefix[0] != '\0')
        sigv4_encode(out, "/", false);
    sigv4_encode(out, name, false);
}

static void append_list_query(struct buffer *out, const struct s3_work *w)
{
    const struct s3_operation *op = w->operation;
    bool goes_on = w->list_token[0] != '\0';
    if (goes_on) { /* first, as the signature is of the parameters in the order of their names */
        buffer_printf(out, "continuation-token=");
        sigv4_encode(out, w->list_token, false);
        buffer_printf(out, "&");
    }
    buffer_printf(out, "list-type=2&max-keys=%d&prefix=", ORIGIN_LIST_MAX);
    append_key(out, w, op->name);
    if (goes_on || (w->last_key[0] == '\0' && (op->after == NULL || op->after[0] == '\0')))
        return;
    buffer_printf(out, "&start-after=");
    if (w->last_key[0] != '\0')
        sigv4_encode(out, w->last_key, false);
    else
        append_key(out, w, op->after);
}

static void append_query(struct buffer *out, const struct s3_work *w)
{
    buffer_printf(out, "%s", ""); /* a string, even so */
    if (w->operation->verb == ORIGIN_LIST) {
        append_list_query(out, w);
        return;
    }
    if (w->step == S3_CREATE)
        buffer_printf(out, "uploads=");
    if (w->step == S3_PART)
        buffer_printf(out, "partNumber=%u&", w->part_count + 1);
    if (w->step == S3_PART || w->step == S3_COMPLETE || w->step == S3_ABORT) {
        buffer_printf(out, "uploadId=");
        sigv4_encode(out, w->upload_id, false);
    }
}

static enum exchange_method method_of(const struct s3_work *w)
{
    switch (w->operation->verb) {
    case ORIGIN_STORE:
        if (w->step == S3_ABORT)
            return EXCHANGE_DELETE;
        if (w->step == S3_CONFIRM)
            return EXCHANGE_HEAD;
        return w->step == S3_CREATE || w->step == S3_COMPLETE ? EXCHANGE_POST : EXCHANGE_PUT;
    case ORIGIN_REMOVE:
        return EXCHANGE_DELETE;
    case ORIGIN_LOOK:
        return EXCHANGE_HEAD;
    default:
        return EXCHANGE_GET;
    }
}

static const char *const METHOD_NAMES[] = {[EXCHANGE_GET] = "GET",
    [EXCHANGE_HEAD] = "HEAD",
    [EXCHANGE_PUT] = "PUT",
    [EXCHANGE_POST] = "POST",
    [EXCHANGE_DELETE] = "DELETE"};

/* What the request carries: a file, a piece of it, the list of the parts, or nothing. */
static void set_body(struct s3_work *w)
{
    struct exchange *e = &w->exchange;
    e->body_fd = -1;
    e->body = (struct bytes){0};
    e->body_offset = e->body_bytes = 0;
    w->document.len = 0;
    if (w->operation->verb == ORIGIN_STORE && (w->step == S3_SINGLE || w->step == S3_PART)) {
        e->body_fd = w->operation->fd;
        e->body_offset = w->offset;
        e->body_bytes = w->length;
        return;
    }
    memcpy(w->payload_sha256, EMPTY_SHA256, sizeof EMPTY_SHA256);
    if (w->step != S3_COMPLETE)
        return;
    buffer_printf(&w->document, "<CompleteMultipartUpload>");
    buffer_append(&w->document, w->parts.data, w->parts.len);
    buffer_printf(&w->document, "</CompleteMultipartUpload>");
    uint8_t digest[EVP_MAX_MD_SIZE];
    EVP_Digest(w->document.data, w->document.len, digest, NULL, EVP_sha256(), NULL);
    hex_encode(w->payload_sha256, digest, SIGV4_HEX / 2);
    e->body = (struct bytes){w->document.data, w->document.len};
    e->body_bytes = w->document.len;
}

/* In the order of their names. */
static size_t list_headers(const struct s3_work *w, const char *date, struct sigv4_header *out)
{
    size_t n = 0;
    const char *token = w->s3->credentials->session_token;
    bool is_whole = w->operation->verb == ORIGIN_STORE && w->step == S3_SINGLE;
    bool creates = is_whole || w->step == S3_COMPLETE;
    out[n++] = (struct sigv4_header){"host", w->s3->authority};
    if (creates && w->operation->if_absent)
        out[n++] = (struct sigv4_header){"if-none-match", "*"};
    out[n++] = (struct sigv4_header){"x-amz-content-sha256", w->payload_sha256};
    out[n++] = (struct sigv4_header){"x-amz-date", date};
    if (is_whole)
        out[n++] = (struct sigv4_header){"x-amz-meta-thaw-sha256", w->payload_sha256};
    if (token[0] != '\0')
        out[n++] = (struct sigv4_header){"x-amz-security-token", token};
    return n;
}

static void append_header(struct buffer *out, const char *name, const char *value)
{
    buffer_append(out, name, strlen(name));
    buffer_append(out, ": ", 2);
    buffer_append(out, value, strlen(value) + 1);
}

static int sign(struct s3_work *w, const char *path, const char *query, struct error *err)
{
    char date[SIGV4_DATE_BYTES];
    struct sigv4_header headers[SIGV4_HEADERS_MAX];
    CLEANUP_BUFFER struct buffer authorization = {0};
    sigv4_date(date, time(NULL));
    const struct sigv4_request request = {
        .method = METHOD_NAMES[w->exchange.method],
        .path = path,
        .query = query,
        .headers = headers,
        .header_count = list_headers(w, date, headers),
        .payload_sha256 = w->payload_sha256,
        .date = date,
        .region = w->s3->options.region,
        .service = "s3",
    };
    if (sigv4_authorize(&authorization, &request, w->s3->credentials, err) < 0)
        return -1;
    struct buffer *out = &w->exchange.headers;
    out->len = 0;
    for (size_t i = 0; i < request.header_count; i++)
        append_header(out, headers[i].name, headers[i].value);
    append_header(out, "authorization", (char *)authorization.data);
    /* What libcurl would add: S3 would not understand the one, and wait with the other. */
    static const char without[] = "Content-Type:\0Expect:";
    buffer_append(out, without, sizeof without);
    return 0;
}

int s3_prepare(struct s3_work *w, struct error *err)
{
    CLEANUP_BUFFER struct buffer path = {0};
    CLEANUP_BUFFER struct buffer query = {0};
    bool is_fetch = w->operation->verb == ORIGIN_FETCH;
    struct exchange *e = &w->exchange;
    append_path(&path, w);
    append_query(&query, w);
    e->method = method_of(w);
    e->sink_fd = is_fetch ? w->operation->fd : -1;
    e->sink_max = w->operation->bytes_max != 0 ? w->operation->bytes_max : ORIGIN_OBJECT_BYTES_MAX;
    set_body(w);
    w->url.len = 0;
    buffer_printf(&w->url, "%s%s%s%s", w->s3->options.endpoint, (char *)path.data, query.len > 0 ? "?" : "",
        (char *)query.data);
    e->url = (char *)w->url.data;
    if (is_fetch && ftruncate(w->operation->fd, 0) < 0)
        return error_system(err, "cannot empty the file for what comes");
    return sign(w, (char *)path.data, (char *)query.data, err);
}
