/* Operations: one request after the other, each tried again while that may help. */
#include "origin/s3.h"

#include "base/clock.h"
#include "origin/s3_private.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#define NS_PER_MS 1000000ull

static void end_operation(struct s3_work *w, const struct error *why);
static void begin_request(struct s3_work *w);

/* Options. */

static bool is_made_of(const char *text, size_t len, const char *allowed)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] == '\0' || strchr(allowed, text[i]) == NULL)
            return false;
    return true;
}

#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

int s3_parse_origin(struct s3_options *o, const char *url, struct error *err)
{
    static const char scheme[] = "s3://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return error_set(err, ERROR_INVALID, "an origin is s3://BUCKET/PREFIX, not \"%s\"", url);
    const char *bucket = url + sizeof scheme - 1, *slash = strchr(bucket, '/');
    size_t bucket_len = slash != NULL ? (size_t)(slash - bucket) : strlen(bucket);
    const char *prefix = slash != NULL ? slash + 1 : "";
    size_t prefix_len = strlen(prefix);
    while (prefix_len > 0 && prefix[prefix_len - 1] == '/')
        prefix_len--;
    if (bucket_len < 3 || bucket_len > S3_BUCKET_MAX || !is_made_of(bucket, bucket_len, LOWER ".-"))
        return error_set(err, ERROR_INVALID, "not the name of a bucket: \"%.*s\"", (int)bucket_len, bucket);
    if (prefix_len > S3_PREFIX_MAX || !is_made_of(prefix, prefix_len, LOWER UPPER "._-/") ||
        prefix[0] == '/' || strstr(prefix, "//") != NULL)
        return error_set(
            err, ERROR_INVALID, "a prefix is made of letters, digits and . _ - / only: \"%s\"", prefix);
    snprintf(o->bucket, sizeof o->bucket, "%.*s", (int)bucket_len, bucket);
    snprintf(o->prefix, sizeof o->prefix, "%.*s", (int)prefix_len, prefix);
    return 0;
}

int s3_parse_endpoint(struct s3_options *o, const char *url, struct error *err)
{
    const char *authority = strstr(url, "://");
    bool is_http = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    authority = authority != NULL ? authority + 3 : "";
    if (!is_http || authority >= url + len || len > S3_ENDPOINT_MAX ||
        !is_made_of(authority, (size_t)(url + len - authority), LOWER UPPER ".-:[]"))
        return error_set(
            err, ERROR_INVALID, "an endpoint is http://HOST:PORT or https://HOST, not \"%s\"", url);
    snprintf(o->endpoint, sizeof o->endpoint, "%.*s", (int)len, url);
    return 0;
}

/* What libcurl sends as `Host`: without the port that the scheme means anyway. */
static void set_authority(struct s3 *s3)
{
    const char *authority = strstr(s3->options.endpoint, "://") + 3;
    const char *usual = strncmp(s3->options.endpoint, "https", 5) == 0 ? ":443" : ":80";
    size_t len = strlen(authority), port = strlen(usual);
    if (len > port && strcmp(authority + len - port, usual) == 0)
        len -= port;
    snprintf(s3->authority, sizeof s3->authority, "%.*s", (int)len, authority);
}

static struct sigv4_credentials *keep_credentials(const struct sigv4_credentials *given)
{
    struct sigv4_credentials *kept =
        mmap(NULL, sizeof *kept, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (kept == MAP_FAILED)
        return NULL;
    (void)!mlock(kept, sizeof *kept);
    madvise(kept, sizeof *kept, MADV_DONTDUMP);
    *kept = *given;
    return kept;
}

struct s3 *s3_new(struct loop *loop, const struct s3_options *options,
    const struct sigv4_credentials *credentials, struct error *err)
{
    struct s3 *s3 = xcalloc(1, sizeof *s3);
    s3->loop = loop;
    s3->options = *options;
    set_authority(s3);
    s3->credentials = keep_credentials(credentials);
    if (s3->credentials == NULL)
        error_system(err, "cannot allocate memory for the credentials");
    else
        s3->host = exchange_host_new(loop, options->bundle, err);
    if (s3->host != NULL)
        return s3;
    s3_free(s3);
    return NULL;
}

void s3_free(struct s3 *s3)
{
    if (s3 == NULL)
        return;
    exchange_host_free(s3->host);
    if (s3->credentials != NULL) {
        OPENSSL_cleanse(s3->credentials, sizeof *s3->credentials);
        munmap(s3->credentials, sizeof *s3->credentials);
    }
    free(s3);
}

/* Trying. */

static uint64_t pause_ns(unsigned attempts)
{
    uint64_t most = S3_BACKOFF_FIRST_MS * NS_PER_MS << (attempts - 1), limit = S3_BACKOFF_MAX_MS * NS_PER_MS;
    uint32_t random = 0;
    if (most > limit)
        most = limit;
    (void)!getrandom(&random, sizeof random, 0);
    return most / 2 + most / 2 * random / UINT32_MAX;
}

static bool is_too_late(const struct s3_operation *op, struct error *err)
{
    if (op->before_ns == 0 || clock_boot_ns() < op->before_ns)
        return false;
    error_set(err, ERROR_BUSY, "%s: the time for it is over", op->name);
    return true;
}

static void start(struct s3_work *w)
{
    struct error err = {0};
    if (is_too_late(w->operation, &err) || s3_prepare(w, &err) < 0) {
        end_operation(w, &err);
        return;
    }
    w->exchange.alone = w->attempts > 0;
    exchange_start(w->s3->host, &w->exchange);
}

static void try_again(void *context)
{
    start(context);
}

static void try_later(struct s3_work *w, uint64_t pause)
{
    loop_timer_set(w->s3->loop, &w->retry_timer, clock_monotonic_ns() + pause, try_again, w);
}

static void begin_step(struct s3_work *w, enum s3_step step)
{
    w->step = step;
    w->attempts = 0;
    w->patience_ns = clock_monotonic_ns() + S3_PATIENCE_MS * NS_PER_MS;
    begin_request(w);
}

static void begin_request(struct s3_work *w)
{
    struct error err = {0};
    bool sends_file = w->operation->verb == ORIGIN_STORE && (w->step == S3_SINGLE || w->step == S3_PART);
    if (w->step == S3_PART) {
        w->offset = (uint64_t)w->part_count * S3_PART_BYTES;
        w->length = w->bytes - w->offset < S3_PART_BYTES ? w->bytes - w->offset : S3_PART_BYTES;
    }
    if (sends_file && s3_hash_payload(w, &err) < 0)
        end_operation(w, &err);
    else
        start(w);
}

/* What comes after a request that did what it should. */
static void go_on(struct s3_work *w)
{
    struct s3_operation *op = w->operation;
    switch (w->step) {
    case S3_CREATE:
        begin_step(w, S3_PART);
        return;
    case S3_PART:
        s3_note_part(w);
        begin_step(w, (uint64_t)w->part_count * S3_PART_BYTES >= w->bytes ? S3_COMPLETE : S3_PART);
        return;
    case S3_SINGLE:
        /* A page of a list that holds only foreign names is not worth an answer. */
        if (op->verb == ORIGIN_LIST && op->more && op->entry_count == 0) {
            begin_step(w, S3_SINGLE);
            return;
        }
        break;
    case S3_CONFIRM:
        if (w->exchange.content_length < 0 || (uint64_t)w->exchange.content_length != w->bytes) {
            begin_step(w, S3_ABORT);
            return;
        }
        op->error = (struct error){0};
        break;
    case S3_COMPLETE:
    case S3_ABORT:
        break;
    }
    end_operation(w, &op->error);
}

static void give_up(struct s3_work *w, struct error *why)
{
    bool again = w->attempts > 1;
    if (w->step == S3_CONFIRM) {
        begin_step(w, S3_ABORT);
        return;
    }
    if (again)
        error_prefix(why, "after %u tries", w->attempts);
    error_prefix(why, "%s", w->operation->name);
    if (w->step == S3_PART || w->step == S3_COMPLETE) {
        w->operation->error = *why; /* and the store is told to forget the parts */
        begin_step(w, w->step == S3_COMPLETE && again ? S3_CONFIRM : S3_ABORT);
        return;
    }
    end_operation(w, w->step == S3_ABORT ? &w->operation->error : why);
}

static void answered(struct exchange *exchange)
{
    struct s3_work *w = exchange->context;
    struct error why = {0};
    w->attempts++;
    enum s3_verdict verdict = s3_judge(w, &why);
    if (verdict == S3_GOOD) {
        go_on(w);
        return;
    }
    uint64_t pause = pause_ns(w->attempts);
    if (verdict == S3_AGAIN && w->attempts < S3_ATTEMPTS_MAX && clock_monotonic_ns() + pause < w->patience_ns)
        try_later(w, pause);
    else
        give_up(w, &why);
}

static void end_operation(struct s3_work *w, const struct error *why)
{
    struct s3_operation *op = w->operation;
    op->error = *why;
    if (w->operation->verb == ORIGIN_FETCH)
        op->bytes = w->exchange.received;
    if (w->operation->verb == ORIGIN_LOOK && w->exchange.content_length >= 0)
        op->bytes = (uint64_t)w->exchange.content_length;
    if (w->exchange.modified_s >= 0)
        op->modified_s = (uint64_t)w->exchange.modified_s;
    loop_timer_cancel(&w->retry_timer);
    buffer_free(&w->exchange.headers);
    buffer_free(&w->exchange.text);
    buffer_free(&w->url);
    buffer_free(&w->document);
    buffer_free(&w->parts);
    free(w);
    op->work = NULL;
    op->done(op);
}

/* In the loop's next turn, so that no failure is told from inside s3_start. */
static void start_now(void *context)
{
    struct s3_work *w = context;
    struct stat about;
    if (w->operation->verb != ORIGIN_STORE) {
        begin_step(w, S3_SINGLE);
        return;
    }
    if (fstat(w->operation->fd, &about) < 0 || !S_ISREG(about.st_mode) ||
        (uint64_t)about.st_size > ORIGIN_OBJECT_BYTES_MAX) {
        struct error err;
        error_set(&err, ERROR_INVALID, "%s: not a file that can be stored", w->operation->name);
        end_operation(w, &err);
        return;
    }
    w->bytes = w->length = (uint64_t)about.st_size;
    if (w->bytes <= S3_SINGLE_PUT_MAX) {
        begin_step(w, S3_SINGLE);
        return;
    }
    begin_step(w, S3_CREATE);
}

void s3_start(struct s3 *s3, struct s3_operation *op)
{
    struct s3_work *w = xcalloc(1, sizeof *w);
    *w = (struct s3_work){.s3 = s3, .operation = op};
    w->exchange.done = answered;
    w->exchange.context = w;
    w->exchange.modified_s = w->exchange.content_length = -1;
    op->work = w;
    op->error = (struct error){0};
    op->bytes = op->modified_s = 0;
    op->entries = NULL;
    op->entry_count = 0;
    op->more = false;
    loop_timer_set(s3->loop, &w->retry_timer, clock_monotonic_ns(), start_now, w);
}
