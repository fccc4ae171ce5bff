/* What the answers mean: done, to be tried again, or of no use; and the documents in them. */
#include "origin/s3_private.h"
#include "origin/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* S3's error document. */
struct complaint {
    bool is_one;
    char code[S3_WORD_MAX], message[S3_WORD_MAX];
};

/* For people and logs: no control characters. */
static void copy_words(char out[S3_WORD_MAX], const char *text)
{
    size_t n = 0;
    for (; text[n] != '\0' && n < S3_WORD_MAX - 1; n++)
        out[n] = (uint8_t)text[n] < ' ' || text[n] == 0x7f ? ' ' : text[n];
    out[n] = '\0';
}

static int take_complaint(void *context, const char *path, const char *text, struct error *err)
{
    (void)err;
    struct complaint *c = context;
    if (strcmp(path, "Error") == 0)
        c->is_one = true;
    if (strcmp(path, "Error/Code") == 0)
        copy_words(c->code, text);
    if (strcmp(path, "Error/Message") == 0)
        copy_words(c->message, text);
    return 0;
}

static struct complaint read_complaint(const struct exchange *e)
{
    struct complaint c = {0};
    struct error ignored;
    /* What is no document of S3's (a proxy's page, say) says nothing beyond the status. */
    if (xml_parse((struct bytes){e->text.data, e->text.len}, take_complaint, &c, &ignored) < 0)
        return (struct complaint){0};
    return c;
}

static bool is_one_of(const char *code, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(code, list[i]) == 0)
            return true;
    return false;
}

/* Codes that come with a status of 4xx and yet say that the next try may do. */
static bool may_pass(int status, const char *code)
{
    static const char *const passing[] = {"RequestTimeout", "IncompleteBody", "BadDigest",
        "XAmzContentSHA256Mismatch", "ConditionalRequestConflict", "OperationAborted", "SlowDown",
        "Throttling", "RequestLimitExceeded", "InternalError"};
    return status >= 500 || status == 408 || status == 425 || status == 429 ||
           is_one_of(code, passing, countof(passing));
}

static enum s3_verdict judge_failure(const struct s3_work *w, int status, struct error *err)
{
    const struct exchange *e = &w->exchange;
    struct complaint c = read_complaint(e);
    const char *colon = c.message[0] != '\0' ? ": " : "";
    if (status == 404 && strcmp(c.code, "NoSuchBucket") == 0) {
        error_set(err, ERROR_INVALID, "there is no bucket %s", w->s3->options.bucket);
        return S3_BAD;
    }
    if (status == 404 && w->operation->verb != ORIGIN_STORE && w->operation->verb != ORIGIN_LIST) {
        error_set(err, ERROR_NOT_FOUND, "the origin has no such object");
        return S3_BAD;
    }
    if (status == 412) {
        error_set(err, ERROR_CONFLICT, "the origin has such an object already");
        return S3_BAD;
    }
    if (status >= 300 && status < 400) {
        error_set(err, ERROR_INVALID, "the bucket is elsewhere (status %d%s%s)", status,
            e->region[0] != '\0' ? ", region " : "", e->region);
        return S3_BAD;
    }
    bool again = may_pass(status, c.code);
    error_set(err, again ? ERROR_BUSY : ERROR_INVALID, "the origin answers %d%s%s%s%s", status,
        c.code[0] != '\0' ? " " : "", c.code, colon, c.message);
    return again ? S3_AGAIN : S3_BAD;
}

/* Did what we sent arrive as it was? The ETag is the MD5 of what was stored, but where the store encrypts under a key of its
 * own. */
static bool was_stored_whole(const struct s3_work *w)
{
    char etag[EXCHANGE_HEADER_MAX];
    const char *given = w->exchange.etag;
    size_t len = strlen(given), quote = given[0] == '"';
    if (len != S3_MD5_HEX + 2 * quote || w->exchange.encryption[0] == 'a') /* "aws:kms"; not "AES256" */
        return true;
    memcpy(etag, given + quote, S3_MD5_HEX);
    etag[S3_MD5_HEX] = '\0';
    return strspn(etag, "0123456789abcdefABCDEF") != S3_MD5_HEX || strcasecmp(etag, w->payload_md5) == 0;
}

/* A store that encrypts names parts otherwise than by their MD5. */
void s3_note_part(struct s3_work *w)
{
    const char *etag = w->exchange.etag;
    bool is_usable =
        etag[0] != '\0' && strspn(etag, "\"" S3_ETAG_CHARACTERS) == strlen(etag); /* in XML as it is */
    buffer_printf(&w->parts, "<Part><PartNumber>%u</PartNumber><ETag>", ++w->part_count);
    buffer_printf(&w->parts, is_usable ? "%s" : "\"%s\"", is_usable ? etag : w->payload_md5);
    buffer_printf(&w->parts, "</ETag></Part>");
}

static enum s3_verdict judge_fetch(const struct s3_work *w, struct error *err)
{
    char hex[SIGV4_HEX + 1];
    const struct exchange *e = &w->exchange;
    if (e->content_length < 0 || (uint64_t)e->content_length != e->received) {
        error_set(err, ERROR_BUSY, "the answer does not say how long it is, or is not");
        return S3_AGAIN;
    }
    hex_encode(hex, e->received_sha256, sizeof e->received_sha256);
    if (e->sha256[0] == '\0' || strcasecmp(e->sha256, hex) == 0)
        return S3_GOOD;
    error_set(err, ERROR_CORRUPT, "the bytes that came are not those that were stored");
    return S3_AGAIN;
}

/* The store answers 200 before it knows, and may say otherwise in the document. */
static enum s3_verdict judge_completion(const struct s3_work *w, struct error *err)
{
    struct complaint c = read_complaint(&w->exchange);
    if (!c.is_one)
        return S3_GOOD;
    bool again = may_pass(500, c.code);
    error_set(err, ERROR_BUSY, "the origin answers %s: %s", c.code, c.message);
    return again ? S3_AGAIN : S3_BAD;
}

static enum s3_verdict judge_document(struct error *err)
{
    err->kind = ERROR_BUSY; /* cut off, or not S3's at all */
    return S3_AGAIN;
}

static enum s3_verdict judge_good(struct s3_work *w, struct error *err)
{
    switch (w->operation->verb) {
    case ORIGIN_FETCH:
        return judge_fetch(w, err);
    case ORIGIN_LIST:
        return s3_read_list(w, err) == 0 ? S3_GOOD : judge_document(err);
    case ORIGIN_STORE:
        if (w->step == S3_CREATE)
            return s3_read_upload_id(w, err) == 0 ? S3_GOOD : judge_document(err);
        if (w->step == S3_COMPLETE)
            return judge_completion(w, err);
        if (w->step == S3_ABORT || w->step == S3_CONFIRM || was_stored_whole(w))
            return S3_GOOD;
        error_set(err, ERROR_BUSY, "other bytes than those that were sent have arrived");
        return S3_AGAIN;
    default:
        return S3_GOOD;
    }
}

enum s3_verdict s3_judge(struct s3_work *w, struct error *err)
{
    const struct exchange *e = &w->exchange;
    if (e->error.kind != ERROR_NONE) {
        *err = e->error;
        return e->error.kind == ERROR_BUSY ? S3_AGAIN : S3_BAD;
    }
    bool is_removal = w->operation->verb == ORIGIN_REMOVE || w->step == S3_ABORT;
    if (is_removal && (e->status == 404 || e->status == 204))
        return S3_GOOD;
    if (e->status == 200)
        return judge_good(w, err);
    return judge_failure(w, e->status, err);
}

/* Documents. */

static int take_upload_id(void *context, const char *path, const char *text, struct error *err)
{
    struct s3_work *w = context;
    size_t len = strlen(text);
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0)
        return 0;
    if (len == 0 || len > S3_UPLOAD_ID_MAX)
        return error_set(err, ERROR_CORRUPT, "the id of the upload has %zu bytes", len);
    memcpy(w->upload_id, text, len + 1);
    return 0;
}

int s3_read_upload_id(struct s3_work *w, struct error *err)
{
    w->upload_id[0] = '\0';
    if (xml_parse((struct bytes){w->exchange.text.data, w->exchange.text.len}, take_upload_id, w, err) < 0)
        return -1;
    return w->upload_id[0] != '\0' ? 0 : error_set(err, ERROR_CORRUPT, "the answer has no id of an upload");
}

/* Where a page ends is said by its last name, as it would be on another machine and tomorrow; the store's token is for a page without
 * any, which only some stores give. */
struct list {
    struct s3_work *work;
    bool is_list, truncated;
    size_t seen;
    char key[S3_PREFIX_MAX + ORIGIN_NAME_MAX + 2]; /* "" when it is none of ours, as it is too long */
    uint64_t bytes, modified_s;
    char last[S3_PREFIX_MAX + ORIGIN_NAME_MAX + 2]; /* name so far */
    char token[S3_LIST_TOKEN_MAX + 1];
};

static bool parse_u64(const char *text, uint64_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 19)
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

/* "2009-10-12T17:50:30.000Z" */
static bool parse_time(const char *text, uint64_t *out)
{
    struct tm utc = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    time_t at = rest != NULL ? timegm(&utc) : -1;
    *out = (uint64_t)at;
    return at >= 0;
}

static int take_entry(struct list *l, struct error *err)
{
    struct s3_work *w = l->work;
    struct s3_operation *op = w->operation;
    const char *prefix = w->s3->options.prefix, *name = l->key;
    size_t len = strlen(prefix);
    if (++l->seen > ORIGIN_LIST_MAX)
        return error_set(err, ERROR_CORRUPT, "the list is longer than was asked for");
    /* A store that goes by another order, or knows no start-after, would have us miss names. */
    if (strcmp(l->key, l->last) <= 0)
        return error_set(err, ERROR_CORRUPT, "the list is not in the order of its names");
    memcpy(l->last, l->key, sizeof l->last);
    if (len > 0) {
        if (strncmp(l->key, prefix, len) != 0 || l->key[len] != '/')
            return error_set(err, ERROR_CORRUPT, "the list has what was not asked for");
        name += len + 1;
    }
    if (!origin_name_is_valid(name))
        return 0; /* somebody else's */
    struct origin_entry *e = &op->entries[op->entry_count++];
    memcpy(e->name, name, strlen(name) + 1);
    e->bytes = l->bytes;
    e->modified_s = l->modified_s;
    return 0;
}

static int take_list_element(void *context, const char *path, const char *text, struct error *err)
{
    struct list *l = context;
    if (strcmp(path, "ListBucketResult") == 0)
        l->is_list = true;
    if (strcmp(path, "ListBucketResult/IsTruncated") == 0)
        l->truncated = strcmp(text, "true") == 0;
    if (strcmp(path, "ListBucketResult/NextContinuationToken") == 0)
        snprintf(l->token, sizeof l->token, "%s", text);
    if (strncmp(path, "ListBucketResult/Contents", sizeof "ListBucketResult/Contents" - 1) != 0)
        return 0;
    const char *part = path + sizeof "ListBucketResult/Contents" - 1;
    if (strcmp(part, "/Key") == 0) {
        size_t len = strlen(text);
        if (len == 0 || len >= sizeof l->key)
            return error_set(err, ERROR_CORRUPT, "the list has a key that is not ours");
        memcpy(l->key, text, len + 1);
    }
    if (strcmp(part, "/Size") == 0 && !parse_u64(text, &l->bytes))
        return error_set(err, ERROR_CORRUPT, "the list has a bad size");
    if (strcmp(part, "/LastModified") == 0 && !parse_time(text, &l->modified_s))
        return error_set(err, ERROR_CORRUPT, "the list has a bad time");
    return *part == '\0' ? take_entry(l, err) : 0;
}

/* Behind what the names of this page have to be. */
static void set_begin(struct list *l)
{
    const struct s3_work *w = l->work;
    const char *prefix = w->s3->options.prefix, *after = w->operation->after;
    if (w->last_key[0] != '\0')
        memcpy(l->last, w->last_key, sizeof l->last);
    else if (after != NULL && after[0] != '\0')
        snprintf(l->last, sizeof l->last, "%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", after);
}

int s3_read_list(struct s3_work *w, struct error *err)
{
    struct s3_operation *op = w->operation;
    struct list l = {.work = w};
    set_begin(&l);
    free(op->entries);
    op->entries = xcalloc(ORIGIN_LIST_MAX, sizeof *op->entries);
    op->entry_count = 0;
    if (xml_parse((struct bytes){w->exchange.text.data, w->exchange.text.len}, take_list_element, &l, err) <
        0)
        return -1;
    if (!l.is_list)
        return error_set(err, ERROR_CORRUPT, "the answer is no list");
    if (l.truncated && l.seen == 0 && (l.token[0] == '\0' || strcmp(l.token, w->list_token) == 0))
        return error_set(err, ERROR_CORRUPT, "the list has no end");
    /* Only now: a try that found nonsense is made again from where it began. */
    snprintf(w->list_token, sizeof w->list_token, "%s", l.seen == 0 ? l.token : "");
    memcpy(w->last_key, l.last, sizeof w->last_key);
    op->more = l.truncated;
    return 0;
}
