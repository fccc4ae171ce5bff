/* A JSON validator that keeps no tree: every invocation's payload passes here, up to 6 MB of it. The grammar
 * is RFC 8259, strings must be UTF-8, nesting is bounded by one byte of stack for each level. */
#include "lambda/internal.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define VALID_VALUE \
    "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')"

struct scan {
    const uint8_t *start, *at, *end;
    char *why;
};

static bool fault(struct scan *s, const char *what)
{
    size_t line = 1, column = 1;
    for (const uint8_t *c = s->start; c < s->at; c++) {
        column = *c == '\n' ? 1 : column + 1;
        line += *c == '\n';
    }
    snprintf(s->why, 256,
        "%s\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: %zu, "
        "column: %zu]",
        what, line, column);
    return false;
}

static bool unexpected(struct scan *s, const char *wanted)
{
    char what[160];
    if (s->at >= s->end)
        return fault(s, "Unexpected end-of-input");
    if (*s->at >= 0x20 && *s->at < 0x7f)
        snprintf(what, sizeof what, "Unexpected character ('%c' (code %d)): %s", *s->at, *s->at, wanted);
    else
        snprintf(what, sizeof what, "Unexpected character ((CTRL-CHAR, code %d)): %s", *s->at, wanted);
    return fault(s, what);
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

/* A multi-byte character at s->at; no surrogates, nothing beyond U+10FFFF, no longer form than needed. */
static bool scan_utf8(struct scan *s)
{
    char what[64];
    uint8_t c = *s->at;
    size_t more = c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 0;
    if (more == 0) {
        snprintf(what, sizeof what, "Invalid UTF-8 start byte 0x%02x", c);
        return fault(s, what);
    }
    if ((size_t)(s->end - s->at) <= more)
        return fault(s, "Unexpected end-of-input in a multi-byte character");
    uint8_t second = s->at[1];
    bool good = (second & 0xc0) == 0x80;
    good = good && !(c == 0xe0 && second < 0xa0) && !(c == 0xed && second > 0x9f);
    good = good && !(c == 0xf0 && second < 0x90) && !(c == 0xf4 && second > 0x8f);
    for (size_t i = 2; i <= more; i++)
        good = good && (s->at[i] & 0xc0) == 0x80;
    if (!good) {
        snprintf(what, sizeof what, "Invalid UTF-8 middle byte 0x%02x", second);
        return fault(s, what);
    }
    s->at += more + 1;
    return true;
}

static bool scan_escape(struct scan *s)
{
    s->at++;
    if (s->at >= s->end)
        return unexpected(s, "");
    if (*s->at == 'u') {
        for (int i = 0; i < 4; i++)
            if (++s->at >= s->end || !isxdigit(*s->at))
                return unexpected(s, "expected a hex-digit for character escape sequence");
    } else if (strchr("\"\\/bfnrt", *s->at) == NULL || *s->at == '\0') {
        return unexpected(s, "unrecognized character escape");
    }
    s->at++;
    return true;
}

/* Eight bytes at a time while none of them is a quote, a backslash, a control or a multi-byte character. */
static void skip_plain(struct scan *s)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    for (uint64_t word; s->end - s->at >= 8; s->at += 8) {
        memcpy(&word, s->at, 8);
        uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\';
        uint64_t stop = (word - ones * 0x20) | (quote - ones) | (backslash - ones) | word;
        if ((stop & tops) != 0)
            return;
    }
}

static bool scan_string(struct scan *s)
{
    s->at++;
    for (;;) {
        skip_plain(s);
        while (s->at < s->end && *s->at >= 0x20 && *s->at < 0x80 && *s->at != '"' && *s->at != '\\')
            s->at++;
        if (s->at >= s->end)
            return fault(s, "Unexpected end-of-input: was expecting closing quote for a string value");
        if (*s->at == '"') {
            s->at++;
            return true;
        }
        if (*s->at < 0x20)
            return unexpected(s, "has to be escaped using backslash to be included in string value");
        if (*s->at == '\\' ? !scan_escape(s) : !scan_utf8(s))
            return false;
    }
}

static bool scan_digits(struct scan *s)
{
    if (s->at >= s->end || !isdigit(*s->at))
        return unexpected(s, "expected a digit in a number");
    while (s->at < s->end && isdigit(*s->at))
        s->at++;
    return true;
}

static bool scan_number(struct scan *s)
{
    s->at += *s->at == '-';
    const uint8_t *digits = s->at;
    if (!scan_digits(s))
        return false;
    if (*digits == '0' && s->at - digits > 1)
        return fault(s, "Invalid numeric value: Leading zeroes not allowed");
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (!scan_digits(s))
            return false;
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        s->at += s->at < s->end && (*s->at == '+' || *s->at == '-');
        if (!scan_digits(s))
            return false;
    }
    return true;
}

static bool scan_token(struct scan *s)
{
    static const char *const tokens[] = {"null", "true", "false"};
    size_t len = 0;
    while (s->at + len < s->end && (isalnum(s->at[len]) || s->at[len] == '_'))
        len++;
    for (size_t i = 0; i < countof(tokens); i++)
        if (strlen(tokens[i]) == len && memcmp(s->at, tokens[i], len) == 0) {
            s->at += len;
            return true;
        }
    char what[200];
    snprintf(what, sizeof what,
        "Unrecognized token '%.*s': was expecting (JSON String, Number, Array, Object or token 'null', "
        "'true' or "
        "'false')",
        (int)(len < 60 ? len : 60), s->at);
    return fault(s, what);
}

static bool scan_scalar(struct scan *s)
{
    if (*s->at == '"')
        return scan_string(s);
    if (*s->at == '-' || isdigit(*s->at))
        return scan_number(s);
    if (isalpha(*s->at))
        return scan_token(s);
    return unexpected(s, VALID_VALUE);
}

/* "name" : */
static bool scan_key(struct scan *s)
{
    skip_space(s);
    if (s->at >= s->end || *s->at != '"')
        return unexpected(s, "was expecting double-quote to start field name");
    if (!scan_string(s))
        return false;
    skip_space(s);
    if (s->at >= s->end || *s->at != ':')
        return unexpected(s, "was expecting a colon to separate field name and value");
    s->at++;
    return true;
}

/* After a value: close what ends here, or go on to the next one. *done when nothing is open. */
static bool scan_after_value(struct scan *s, const uint8_t *open, size_t *depth, bool *done)
{
    for (;;) {
        skip_space(s);
        *done = *depth == 0;
        if (*done)
            return s->at == s->end ? true : unexpected(s, VALID_VALUE);
        uint8_t closing = open[*depth - 1];
        if (s->at < s->end && *s->at == ',') {
            s->at++;
            return closing == '}' ? scan_key(s) : true;
        }
        if (s->at >= s->end || *s->at != closing)
            return unexpected(s, "was expecting comma to separate entries");
        s->at++;
        --*depth;
    }
}

bool json_check(struct bytes text, char why[256])
{
    uint8_t open[LAMBDA_JSON_DEPTH];
    size_t depth = 0;
    bool done = false;
    struct scan s = {text.data, text.data, text.data + text.len, why};
    while (!done) {
        skip_space(&s);
        if (s.at >= s.end)
            return unexpected(&s, "");
        if (*s.at == '{' || *s.at == '[') {
            if (depth == LAMBDA_JSON_DEPTH)
                return fault(&s, "Document nesting depth exceeds the maximum allowed (1000)");
            open[depth++] = *s.at++ == '{' ? '}' : ']';
            skip_space(&s);
            if (s.at < s.end && *s.at == open[depth - 1]) {
                s.at++;
                depth--;
            } else if (open[depth - 1] == '}') {
                if (!scan_key(&s))
                    return false;
                continue;
            } else {
                continue;
            }
        } else if (!scan_scalar(&s)) {
            return false;
        }
        if (!scan_after_value(&s, open, &depth, &done))
            return false;
    }
    return true;
}
