/* What we ask of an S3-compatible object store: whole objects in and out, lists, deletions. Path style, Signature Version 4.
 * Inside the event loop, any number of operations at once. Every operation ends, with a result or an error: each request has
 * limits of time, is tried again (with growing, random pauses) when that may help, and has a limit for all tries together. */
#pragma once

#include "base/loop.h"
#include "origin/sigv4.h"
#include "store/origin.h"

#define S3_BUCKET_MAX 63
#define S3_PREFIX_MAX 512
#define S3_ENDPOINT_MAX 512
#define S3_REGION_MAX 64
#define S3_ATTEMPTS_MAX 7
#define S3_BACKOFF_FIRST_MS \
    50 /* then twice as long each time; the pause is a random part of it, at least half */
#define S3_BACKOFF_MAX_MS 2000
#define S3_PATIENCE_MS 45000          /* no further try after that */
#define S3_SINGLE_PUT_MAX (16u << 20) /* larger files go in parts */
#define S3_PART_BYTES (8u << 20)

struct s3_options {
    char endpoint[S3_ENDPOINT_MAX + 1]; /* "https://host:port" */
    char bucket[S3_BUCKET_MAX + 1];
    char prefix[S3_PREFIX_MAX + 1]; /* "" or "a/b": before every name, with a '/' */
    char region[S3_REGION_MAX + 1];
    const char *bundle; /* see exchange_host_new */
};

/* Take "s3://bucket/prefix" and "http[s]://host[:port]" apart, strictly. ERROR_INVALID. */
MUST_CHECK int s3_parse_origin(struct s3_options *options, const char *url, struct error *err);
MUST_CHECK int s3_parse_endpoint(struct s3_options *options, const char *url, struct error *err);

struct s3;
struct s3_operation;
typedef void s3_done(struct s3_operation *operation);

/* Filled in by the caller, who keeps it where it is until `done`; see store/origin.h for what the fields mean. */
struct s3_operation {
    enum origin_verb verb;
    const char *name, *after;
    bool if_absent;
    int fd; /* STORE: what is to be stored. FETCH: an empty file, for the contents */
    uint64_t bytes_max, before_ns;
    s3_done *done;
    void *context;

    struct error error;
    uint64_t bytes, modified_s;
    struct origin_entry *entries; /* LIST: for the caller to free */
    size_t entry_count;
    bool more;

    struct s3_work *work; /* our side of it, while it runs */
};

/* The credentials are copied to memory that is wiped at the end. */
MUST_CHECK struct s3 *s3_new(struct loop *loop, const struct s3_options *options,
    const struct sigv4_credentials *credentials, struct error *err);
void s3_free(struct s3 *s3); /* after all operations are over */
/* `done` is called by the loop, never from inside of this. */
void s3_start(struct s3 *s3, struct s3_operation *operation);
