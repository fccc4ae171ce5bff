/* What the files of the S3 client share. */
#pragma once

#include "origin/exchange.h"
#include "origin/s3.h"

#define S3_UPLOAD_ID_MAX 1024
#define S3_LIST_TOKEN_MAX 2048
#define S3_MD5_HEX 32
#define S3_ETAG_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/=:"
#define S3_PARTS_MAX 1024 /* ORIGIN_OBJECT_BYTES_MAX / S3_PART_BYTES */
#define S3_WORD_MAX 512   /* of an error's code and message */

_Static_assert(
    (uint64_t)S3_PARTS_MAX *S3_PART_BYTES >= ORIGIN_OBJECT_BYTES_MAX, "all parts of the largest object");

struct s3 {
    struct loop *loop;
    struct exchange_host *host;
    struct s3_options options;
    char authority[S3_ENDPOINT_MAX + 1];   /* the header `host` */
    struct sigv4_credentials *credentials; /* on a locked page that no core dump has */
};

/* A file goes up in one request, or in parts:
 *
 *   SINGLE --> end          CREATE --> PART (each in turn) --> COMPLETE --> end
 *                                           |                |
 *                                           |                '- a failure, not at once: CONFIRM --> end
 *                                           '--- a failure --'-------------------------'--> ABORT --> end, with the failure
 *
 * CONFIRM: the answer to the first try may have been lost, and the later ones find nothing to complete; so, is it there? */
enum s3_step { S3_SINGLE, S3_CREATE, S3_PART, S3_COMPLETE, S3_CONFIRM, S3_ABORT };

struct s3_work {
    struct s3 *s3;
    struct s3_operation *operation;
    struct exchange exchange;
    enum s3_step step;
    struct loop_timer *retry_timer;
    unsigned attempts;
    uint64_t patience_ns;
    uint64_t bytes, offset, length; /* STORE: of the file; and what of it this request sends */
    char payload_sha256[SIGV4_HEX + 1], payload_md5[S3_MD5_HEX + 1];
    char upload_id[S3_UPLOAD_ID_MAX + 1];
    unsigned part_count;         /* that are there */
    struct buffer parts;         /* what COMPLETE says of them */
    struct buffer url, document; /* of this request */
    /* LIST: where this page ended, when it held no name of ours; and what the store calls that place. */
    char last_key[S3_PREFIX_MAX + ORIGIN_NAME_MAX + 2];
    char list_token[S3_LIST_TOKEN_MAX + 1];
};

/* s3_request.c: write the next request of a work into its exchange, and sign it. */
MUST_CHECK int s3_prepare(struct s3_work *work, struct error *err);
/* The hashes of what it sends. */
MUST_CHECK int s3_hash_payload(struct s3_work *work, struct error *err);

/* s3_answer.c: what an answer means. */
enum s3_verdict { S3_GOOD, S3_AGAIN, S3_BAD };
enum s3_verdict s3_judge(struct s3_work *work, struct error *err);
/* A part has arrived: note it for COMPLETE, by the name that the answer gives it. */
void s3_note_part(struct s3_work *work);
/* The answers' documents. */
MUST_CHECK int s3_read_list(struct s3_work *work, struct error *err);
MUST_CHECK int s3_read_upload_id(struct s3_work *work, struct error *err);
