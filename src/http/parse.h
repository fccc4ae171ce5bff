/* Reading HTTP/1.x as it comes from strangers: a request's head (in place, in the connection's own buffer),
 * chunked bodies, percent-encoding. No I/O. Sources: RFC 9110, RFC 9112. */
#pragma once

#include "base/bytes.h"
#include "http/http.h"

#define HTTP_FIELDS_MAX 100
#define HTTP_METHOD_BYTES 16
#define HTTP_CHUNK_LINE_BYTES 256 /* a chunk's size line with its extensions */
#define HTTP_TRAILER_BYTES 8192

struct http_head {
    const char *method, *path, *query; /* query: NULL when there is none */
    struct http_field fields[HTTP_FIELDS_MAX];
    size_t field_count;
    uint64_t content_length; /* 0 when there is no body; HTTP_LENGTH_UNKNOWN when it is chunked */
    bool http_1_0, chunked, keep_alive, expect_continue;
};

/* Where the head in text[0..len) ends (the length with its empty line), or 0 when it is not whole yet. *seen
 * (start with 0) remembers what was looked at before. */
size_t http_find_head_end(const char *text, size_t len, size_t *seen);
/* Takes apart text[0..len), a whole head, writing NULs into it: `head` points into it. Returns 0, or the
 * status to refuse the request with and *why, a sentence without quotes. */
unsigned http_parse_head(struct http_head *head, char *text, size_t len, const char **why);

enum http_chunk_state {
    HTTP_CHUNK_SIZE = 0, /* start from {0} */
    HTTP_CHUNK_EXTENSION,
    HTTP_CHUNK_SIZE_LF,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_DATA_CR,
    HTTP_CHUNK_DATA_LF,
    HTTP_CHUNK_TRAILER_START,
    HTTP_CHUNK_TRAILER,
    HTTP_CHUNK_TRAILER_LF,
    HTTP_CHUNK_END_LF,
};

struct http_chunks {
    enum http_chunk_state state;
    uint64_t left; /* of this chunk */
    unsigned digits;
    size_t line; /* bytes of the line or trailer so far */
};

enum http_chunk_result { HTTP_CHUNKS_MORE, HTTP_CHUNKS_DONE, HTTP_CHUNKS_BAD, HTTP_CHUNKS_TOO_LARGE };

/* Feeds in[0..len), appends data to `out` up to `limit` bytes in all, and says in *used how much it took (all
 * of it unless the body ended). */
enum http_chunk_result http_chunks_feed(
    struct http_chunks *chunks, const char *in, size_t len, size_t *used, struct buffer *out, size_t limit);

/* The decoded value of a query parameter, malloc'ed: "" when it has none, NULL when absent or malformed. */
char *http_decode_query(const char *query, const char *name);
