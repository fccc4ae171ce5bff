#include "base/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (p == NULL)
        abort();
    return p;
}

void *xrealloc(void *p, size_t size)
{
    void *q = realloc(p, size ? size : 1);
    if (q == NULL)
        abort();
    return q;
}

char *xstrdup(const char *s)
{
    return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t n)
{
    char *copy = xcalloc(1, n + 1);
    memcpy(copy, s, n);
    return copy;
}

char *xasprintf(const char *format, ...)
{
    char *out = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&out, format, args) < 0)
        abort();
    va_end(args);
    return out;
}

void free_pointer(void *pointer_to_pointer)
{
    void **p = pointer_to_pointer;
    free(*p);
    *p = NULL;
}

void buffer_free(struct buffer *b)
{
    free(b->data);
    *b = (struct buffer){0};
}

static void buffer_reserve(struct buffer *b, size_t more)
{
    if (more > SIZE_MAX / 2 - b->len)
        abort();
    size_t need = b->len + more;
    if (need <= b->capacity)
        return;
    size_t capacity = b->capacity ? b->capacity : 256;
    while (capacity < need)
        capacity *= 2;
    b->data = xrealloc(b->data, capacity);
    b->capacity = capacity;
}

void buffer_append(struct buffer *b, const void *data, size_t len)
{
    if (len == 0)
        return;
    buffer_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void buffer_append_zeros(struct buffer *b, size_t len)
{
    if (len == 0)
        return;
    buffer_reserve(b, len);
    memset(b->data + b->len, 0, len);
    b->len += len;
}

void buffer_append_u8(struct buffer *b, uint8_t v)
{
    buffer_append(b, &v, 1);
}

static void append_le(struct buffer *b, uint64_t v, size_t width)
{
    uint8_t out[8];
    for (size_t i = 0; i < width; i++)
        out[i] = (uint8_t)(v >> (8 * i));
    buffer_append(b, out, width);
}

void buffer_append_u16(struct buffer *b, uint16_t v)
{
    append_le(b, v, 2);
}

void buffer_append_u32(struct buffer *b, uint32_t v)
{
    append_le(b, v, 4);
}

void buffer_append_u64(struct buffer *b, uint64_t v)
{
    append_le(b, v, 8);
}

void buffer_append_blob(struct buffer *b, const void *data, uint32_t len)
{
    buffer_append_u32(b, len);
    buffer_append(b, data, len);
}

void buffer_append_string(struct buffer *b, const char *s)
{
    buffer_append_blob(b, s, (uint32_t)strlen(s));
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0)
        abort();
    buffer_reserve(b, (size_t)len + 1);
    vsnprintf((char *)b->data + b->len, (size_t)len + 1, format, again);
    va_end(again);
    b->len += (size_t)len;
}

void buffer_align(struct buffer *b, size_t alignment)
{
    size_t over = b->len % alignment;
    if (over != 0)
        buffer_append_zeros(b, alignment - over);
}

struct cursor cursor_over(const void *data, size_t len)
{
    return (struct cursor){.at = data, .left = len};
}

struct bytes cursor_bytes(struct cursor *c, size_t len)
{
    if (c->failed || len > c->left) {
        c->failed = true;
        return (struct bytes){0};
    }
    struct bytes out = {.data = c->at, .len = len};
    c->at += len;
    c->left -= len;
    return out;
}

static uint64_t read_le(struct cursor *c, size_t width)
{
    struct bytes raw = cursor_bytes(c, width);
    uint64_t v = 0;
    for (size_t i = 0; i < raw.len; i++)
        v |= (uint64_t)raw.data[i] << (8 * i);
    return v;
}

uint8_t cursor_u8(struct cursor *c)
{
    return (uint8_t)read_le(c, 1);
}

uint16_t cursor_u16(struct cursor *c)
{
    return (uint16_t)read_le(c, 2);
}

uint32_t cursor_u32(struct cursor *c)
{
    return (uint32_t)read_le(c, 4);
}

uint64_t cursor_u64(struct cursor *c)
{
    return read_le(c, 8);
}

struct bytes cursor_blob(struct cursor *c)
{
    return cursor_bytes(c, cursor_u32(c));
}

char *cursor_string(struct cursor *c, size_t max_len)
{
    struct bytes raw = cursor_blob(c);
    if (c->failed)
        return NULL;
    if (raw.len > max_len || (raw.len != 0 && memchr(raw.data, 0, raw.len) != NULL)) {
        c->failed = true;
        return NULL;
    }
    return raw.len ? xstrndup((const char *)raw.data, raw.len) : xstrdup("");
}

bool cursor_ok(const struct cursor *c)
{
    return !c->failed;
}

bool cursor_done(const struct cursor *c)
{
    return !c->failed && c->left == 0;
}

void hex_encode(char *out, const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[data[i] >> 4];
        out[2 * i + 1] = digits[data[i] & 15];
    }
    out[2 * len] = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool hex_decode(uint8_t *out, size_t len, const char *hex)
{
    if (strlen(hex) != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
