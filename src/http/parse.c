#include "http/parse.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- heads ---- */

size_t http_find_head_end(const char *text, size_t len, size_t *seen)
{
    /* The end is four bytes long and may straddle what was seen before. */
    size_t from = *seen > 3 ? *seen - 3 : 0;
    const char *end = len > from ? memmem(text + from, len - from, "\r\n\r\n", 4) : NULL;
    *seen = len;
    return end ? (size_t)(end - text) + 4 : 0;
}

/* RFC 9110's token characters. */
static bool is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!alnum && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return len > 0;
}

/* The next line of the head without its CRLF, terminated in place; NULL when it holds a control character (a
 * lone CR or LF is one, too). */
static char *take_line(char **at, char *end, size_t *len)
{
    char *line = *at, *eol = memchr(line, '\n', (size_t)(end - line));
    if (eol == NULL || eol == line || eol[-1] != '\r')
        return NULL;
    *at = eol + 1;
    *len = (size_t)(eol - 1 - line);
    for (size_t i = 0; i < *len; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return NULL;
    }
    eol[-1] = '\0';
    return line;
}

/* "/path?query", or in absolute form "http://host/path?query". */
static bool parse_target(struct http_head *head, char *target)
{
    for (const char *c = target; *c != '\0'; c++)
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
            return false;
    if (strncasecmp(target, "http://", 7) == 0) {
        target = strchr(target + 7, '/');
        if (target == NULL)
            return false;
    }
    if (target[0] != '/')
        return false;
    head->path = target;
    char *mark = strchr(target, '?');
    if (mark != NULL) {
        *mark = '\0';
        head->query = mark + 1;
    }
    return true;
}

static unsigned parse_request_line(struct http_head *head, char *line, const char **why)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;
    *why = "The request line is malformed";
    if (version == NULL)
        return 400;
    *target++ = '\0';
    *version++ = '\0';
    if (!is_token(line, strlen(line)) || strlen(line) > HTTP_METHOD_BYTES)
        return 400;
    head->method = line;
    if (strcmp(version, "HTTP/1.0") != 0 && strcmp(version, "HTTP/1.1") != 0) {
        *why = "Only HTTP/1.0 and HTTP/1.1 are spoken here";
        return strncmp(version, "HTTP/", 5) == 0 ? 505 : 400;
    }
    head->http_1_0 = version[7] == '0';
    head->keep_alive = !head->http_1_0;
    *why = "The request target is malformed";
    return parse_target(head, target) ? 0 : 400;
}

/* Says whether "close" is among the connection options. */
static bool parse_connection(struct http_head *head, const char *value)
{
    bool closing = false;
    while (*value != '\0') {
        size_t len = strcspn(value, ", \t");
        if (len == 5 && strncasecmp(value, "close", 5) == 0)
            closing = true;
        else if (len == 10 && strncasecmp(value, "keep-alive", 10) == 0 && head->http_1_0)
            head->keep_alive = true;
        value += len;
        value += strspn(value, ", \t");
    }
    return closing;
}

static bool parse_length(uint64_t *out, const char *value)
{
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || digits > 18 || value[digits] != '\0')
        return false;
    *out = strtoull(value, NULL, 10);
    return true;
}

/* The fields that decide where a request ends, which is where smuggling begins: anything unclear is refused.
 */
static unsigned parse_framing(struct http_head *head, const char **why)
{
    bool length_seen = false, closing = false;
    for (size_t i = 0; i < head->field_count; i++) {
        const char *name = head->fields[i].name, *value = head->fields[i].value;
        if (strcasecmp(name, "content-length") == 0) {
            uint64_t length;
            *why = "Content-Length is malformed or contradictory";
            if (!parse_length(&length, value) || (length_seen && length != head->content_length))
                return 400;
            head->content_length = length;
            length_seen = true;
        } else if (strcasecmp(name, "transfer-encoding") == 0) {
            *why = "The only transfer encoding known here is chunked";
            if (head->chunked || strcasecmp(value, "chunked") != 0)
                return 501;
            head->chunked = true;
        } else if (strcasecmp(name, "connection") == 0) {
            closing = parse_connection(head, value) || closing;
        } else if (strcasecmp(name, "expect") == 0) {
            *why = "The only expectation known here is 100-continue";
            if (strcasecmp(value, "100-continue") != 0)
                return 417;
            head->expect_continue = !head->http_1_0;
        }
    }
    *why = "A request cannot have both Content-Length and Transfer-Encoding, nor HTTP/1.0 the latter";
    if (head->chunked && (length_seen || head->http_1_0))
        return 400;
    if (head->chunked)
        head->content_length = HTTP_LENGTH_UNKNOWN;
    if (closing)
        head->keep_alive = false;
    return 0;
}

static bool parse_field(struct http_field *field, char *line, size_t len)
{
    char *colon = memchr(line, ':', len);
    if (colon == NULL || !is_token(line, (size_t)(colon - line)))
        return false;
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t"), *end = line + len;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = '\0';
    *field = (struct http_field){.name = line, .value = value};
    return true;
}

unsigned http_parse_head(struct http_head *head, char *text, size_t len, const char **why)
{
    head->method = head->path = head->query = NULL;
    head->field_count = 0;
    head->content_length = 0;
    head->http_1_0 = head->chunked = head->keep_alive = head->expect_continue = false;

    char *at = text, *end = text + len;
    size_t line_len;
    char *line = take_line(&at, end, &line_len);
    *why = "The request line is malformed";
    if (line == NULL)
        return 400;
    unsigned status = parse_request_line(head, line, why);
    if (status != 0)
        return status;
    for (;;) {
        line = take_line(&at, end, &line_len);
        *why = "A header field is malformed";
        if (line == NULL)
            return 400;
        if (line_len == 0)
            return parse_framing(head, why);
        if (head->field_count == HTTP_FIELDS_MAX) {
            *why = "There are too many header fields";
            return 431;
        }
        if (!parse_field(&head->fields[head->field_count++], line, line_len))
            return 400;
    }
}

/* ---- chunked bodies ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* One byte of the framing between chunk data. False when it does not belong there. */
static bool chunk_step(struct http_chunks *chunks, char c)
{
    switch (chunks->state) {
    case HTTP_CHUNK_SIZE: {
        int digit = hex_value(c);
        if (digit >= 0) {
            chunks->left = chunks->left << 4 | (unsigned)digit;
            return ++chunks->digits <= 15;
        }
        chunks->state = c == '\r' ? HTTP_CHUNK_SIZE_LF : HTTP_CHUNK_EXTENSION;
        return chunks->digits > 0 && (c == '\r' || c == ';' || c == ' ' || c == '\t');
    }
    case HTTP_CHUNK_EXTENSION:
        if (c == '\r')
            chunks->state = HTTP_CHUNK_SIZE_LF;
        return c != '\n' && ++chunks->line <= HTTP_CHUNK_LINE_BYTES;
    case HTTP_CHUNK_SIZE_LF:
        chunks->line = 0;
        chunks->digits = 0;
        chunks->state = chunks->left > 0 ? HTTP_CHUNK_DATA : HTTP_CHUNK_TRAILER_START;
        return c == '\n';
    case HTTP_CHUNK_DATA_CR:
        chunks->state = HTTP_CHUNK_DATA_LF;
        return c == '\r';
    case HTTP_CHUNK_DATA_LF:
        chunks->state = HTTP_CHUNK_SIZE;
        return c == '\n';
    case HTTP_CHUNK_TRAILER_START:
        chunks->state = c == '\r' ? HTTP_CHUNK_END_LF : HTTP_CHUNK_TRAILER;
        return c != '\n' && ++chunks->line <= HTTP_TRAILER_BYTES;
    case HTTP_CHUNK_TRAILER:
        if (c == '\r')
            chunks->state = HTTP_CHUNK_TRAILER_LF;
        return c != '\n' && ++chunks->line <= HTTP_TRAILER_BYTES;
    case HTTP_CHUNK_TRAILER_LF:
        chunks->state = HTTP_CHUNK_TRAILER_START;
        return c == '\n';
    case HTTP_CHUNK_END_LF:
        return c == '\n';
    case HTTP_CHUNK_DATA:
        break;
    }
    return false;
}

enum http_chunk_result http_chunks_feed(
    struct http_chunks *chunks, const char *in, size_t len, size_t *used, struct buffer *out, size_t limit)
{
    *used = 0;
    while (*used < len) {
        if (chunks->state == HTTP_CHUNK_DATA) {
            size_t take = len - *used < chunks->left ? len - *used : (size_t)chunks->left;
            buffer_append(out, in + *used, take);
            *used += take;
            chunks->left -= take;
            if (chunks->left == 0)
                chunks->state = HTTP_CHUNK_DATA_CR;
            continue;
        }
        bool at_end = chunks->state == HTTP_CHUNK_END_LF;
        if (!chunk_step(chunks, in[(*used)++]))
            return HTTP_CHUNKS_BAD;
        if (at_end)
            return HTTP_CHUNKS_DONE;
        if (chunks->state == HTTP_CHUNK_DATA && chunks->left > limit - out->len)
            return HTTP_CHUNKS_TOO_LARGE;
    }
    return HTTP_CHUNKS_MORE;
}

/* ---- percent-encoding ---- */

static char *percent_decode(const char *text, size_t len, bool plus_is_space)
{
    CLEANUP_FREE char *out = xcalloc(1, len + 1);
    size_t at = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == '%') {
            int high = -1, low = -1;
            if (len - i > 2) {
                high = hex_value(text[i + 1]);
                low = hex_value(text[i + 2]);
            }
            if (high < 0 || low < 0)
                return NULL;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0')
            return NULL;
        out[at++] = c;
    }
    return steal_pointer(out);
}

char *http_decode_segment(const char *segment, size_t len)
{
    return percent_decode(segment, len, false);
}

char *http_decode_query(const char *query, const char *name)
{
    while (query != NULL && *query != '\0') {
        size_t len = strcspn(query, "&"), name_len = strcspn(query, "=&");
        CLEANUP_FREE char *found = percent_decode(query, name_len, true);
        if (found != NULL && strcmp(found, name) == 0) {
            size_t skip = name_len < len ? name_len + 1 : len;
            return percent_decode(query + skip, len - skip, true);
        }
        query += len;
        query += *query == '&';
    }
    return NULL;
}
