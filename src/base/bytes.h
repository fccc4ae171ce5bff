/* Bytes: (pointer, length) pairs, a growable buffer, and the one bounded cursor through which every foreign
 * byte (messages, snapshots, archives' headers) is read. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *data;
    size_t len;
};

/* A buffer that owns its memory. Start from {0}; release with buffer_free. Aborts the process when memory is
 * out, as every other allocation in the project does (see xmalloc below). */
struct buffer {
    uint8_t *data;
    size_t len, capacity;
};

void buffer_free(struct buffer *b);
void buffer_append(struct buffer *b, const void *data, size_t len);
void buffer_append_zeros(struct buffer *b, size_t len);
void buffer_append_u8(struct buffer *b, uint8_t v);
void buffer_append_u16(struct buffer *b, uint16_t v); /* all integers little-endian */
void buffer_append_u32(struct buffer *b, uint32_t v);
void buffer_append_u64(struct buffer *b, uint64_t v);
void buffer_append_blob(struct buffer *b, const void *data, uint32_t len); /* u32 length, then the bytes */
void buffer_append_string(struct buffer *b, const char *s);                /* as a blob, without its NUL */
void buffer_printf(struct buffer *b, const char *format, ...)
    PRINTF_LIKE(2, 3);                                 /* keeps data NUL-terminated */
void buffer_align(struct buffer *b, size_t alignment); /* zero-pad len up to a multiple */
#define CLEANUP_BUFFER __attribute__((cleanup(buffer_free)))

/* A cursor reads forward and remembers failure: after the first short read every read gives zeros and
 * cursor_ok is false, so a parser checks once at its end (and before it trusts a count). */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool failed;
};

struct cursor cursor_over(const void *data, size_t len);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
struct bytes cursor_bytes(struct cursor *c, size_t len); /* points into the source */
struct bytes cursor_blob(struct cursor *c);              /* u32 length, then the bytes */
char *cursor_string(struct cursor *c,
    size_t max_len); /* malloc'ed copy of a blob; NULL when it fails, is longer, or holds a NUL */
bool cursor_ok(const struct cursor *c);   /* no read has failed */
bool cursor_done(const struct cursor *c); /* ok, and nothing is left */

/* Allocation that cannot fail: a server that is out of memory for its own small structures stops. */
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *format, ...) PRINTF_LIKE(1, 2);

void free_pointer(void *pointer_to_pointer);
#define CLEANUP_FREE __attribute__((cleanup(free_pointer)))
/* Hand a pointer over: returns it and leaves NULL behind, so that cleanup does not free it. */
#define steal_pointer(p) \
    ({ \
        __typeof__(p) stolen_ = (p); \
        (p) = NULL; \
        stolen_; \
    })
#define countof(array) (sizeof(array) / sizeof((array)[0]))

void hex_encode(char *out, const uint8_t *data, size_t len); /* writes 2*len digits and a NUL */
bool hex_decode(uint8_t *out, size_t len, const char *hex);  /* exactly 2*len digits, then the end */
