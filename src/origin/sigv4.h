/* AWS Signature Version 4, for requests to S3: the `Authorization` header of one request.
 * Source: "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <time.h>

#define SIGV4_HEX 64        /* digits of a SHA-256 */
#define SIGV4_DATE_BYTES 17 /* "20130524T000000Z" and its NUL */
#define SIGV4_HEADERS_MAX 16
#define SIGV4_ACCESS_KEY_MAX 128
#define SIGV4_SECRET_MAX 256
#define SIGV4_TOKEN_MAX 4096

struct sigv4_credentials {
    char access_key[SIGV4_ACCESS_KEY_MAX + 1];
    char secret_key[SIGV4_SECRET_MAX + 1];
    char session_token[SIGV4_TOKEN_MAX + 1]; /* "" where there is none */
};

struct sigv4_header {
    const char *name; /* lower case */
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path;                   /* percent-encoded, begins with '/' */
    const char *query;                  /* percent-encoded, sorted by name, without '?'; "" for none */
    const struct sigv4_header *headers; /* all that are signed, sorted by name; `host` is among them */
    size_t header_count;
    const char *payload_sha256; /* hex, or "UNSIGNED-PAYLOAD" */
    const char *date;           /* as the header x-amz-date has it */
    const char *region, *service;
};

void sigv4_date(char out[SIGV4_DATE_BYTES], time_t at);
/* Append the value of the header `Authorization`. */
MUST_CHECK int sigv4_authorize(struct buffer *out, const struct sigv4_request *request,
    const struct sigv4_credentials *credentials, struct error *err);
/* Append `text` percent-encoded as SigV4 wants it: all but A-Z a-z 0-9 - . _ ~, and '/' if `keep_slash`. Keeps `out` a string. */
void sigv4_encode(struct buffer *out, const char *text, bool keep_slash);
