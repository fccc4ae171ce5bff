#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/parse.h"

#include <stdlib.h>
#include <string.h>

/* Parses a copy on the heap of exactly the text's length, so that the sanitizers see every byte too far. The
 * copy is given back in *text for the head to point into. */
static unsigned parse(struct http_head *head, char **text, const char *source)
{
    size_t len = strlen(source), seen = 0;
    *text = malloc(len);
    memcpy(*text, source, len);
    size_t end = http_find_head_end(*text, len, &seen);
    assert_true(end > 0);
    const char *why = NULL;
    unsigned status = http_parse_head(head, *text, end, &why);
    if (status != 0)
        assert_non_null(why);
    return status;
}

static unsigned status_of(const char *source)
{
    struct http_head head;
    CLEANUP_FREE char *text = NULL;
    return parse(&head, &text, source);
}

static void a_plain_head_is_taken_apart(void **state)
{
    (void)state;
    struct http_head head;
    CLEANUP_FREE char *text = NULL;
    assert_int_equal(parse(&head, &text,
                         "POST /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nX-Empty:\r\n"
                         "X-Spaces: \t a b \t\r\n\r\n"),
        0);
    assert_string_equal(head.method, "POST");
    assert_string_equal(head.path, "/a%20b");
    assert_string_equal(head.query, "x=1&y");
    assert_int_equal(head.content_length, 12);
    assert_int_equal(head.field_count, 4);
    assert_string_equal(head.fields[2].value, "");
    assert_string_equal(head.fields[3].value, "a b");
    assert_true(head.keep_alive);
    assert_false(head.chunked);
}

static void keep_alive_follows_version_and_field(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        bool keep_alive;
    } cases[] = {
        {"GET / HTTP/1.1\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nConnection: x, Close , y\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nConnection: not-close\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", false},
    };
    for (size_t i = 0; i < countof(cases); i++) {
        struct http_head head;
        CLEANUP_FREE char *text = NULL;
        assert_int_equal(parse(&head, &text, cases[i].source), 0);
        assert_int_equal(head.keep_alive, cases[i].keep_alive);
    }
}

static void what_is_unclear_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        unsigned status;
    } cases[] = {
        {"GET\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"GET / FTP/1.1\r\n\r\n", 400},
        {"G(T / HTTP/1.1\r\n\r\n", 400},
        {"AVERYLONGMETHODNAME / HTTP/1.1\r\n\r\n", 400},
        {"GET x HTTP/1.1\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
        {"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nName : space\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: nameless\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\nB: lone line feed\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
        {"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417},
        {"GET http://host/x HTTP/1.1\r\n\r\n", 0},
        {"GET http://host HTTP/1.1\r\n\r\n", 400},
    };
    for (size_t i = 0; i < countof(cases); i++)
        if (status_of(cases[i].source) != cases[i].status)
            fail_msg(
                "case %zu: %u, not %u: %s", i, status_of(cases[i].source), cases[i].status, cases[i].source);
}

static void fields_are_counted(void **state)
{
    (void)state;
    CLEANUP_BUFFER struct buffer source = {0};
    buffer_printf(&source, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < HTTP_FIELDS_MAX; i++)
        buffer_printf(&source, "A: b\r\n");
    struct buffer one_more = {0};
    buffer_printf(&one_more, "%sA: b\r\n\r\n", (char *)source.data);
    buffer_printf(&source, "\r\n");
    assert_int_equal(status_of((char *)source.data), 0);
    assert_int_equal(status_of((char *)one_more.data), 431);
    buffer_free(&one_more);
}

static void the_end_is_found_in_any_slicing(void **state)
{
    (void)state;
    const char text[] = "GET / HTTP/1.1\r\n\r\nrest";
    for (size_t slice = 1; slice < sizeof text; slice++) {
        size_t seen = 0, end = 0, len = 0;
        while (end == 0 && len < strlen(text)) {
            len = len + slice < strlen(text) ? len + slice : strlen(text);
            end = http_find_head_end(text, len, &seen);
        }
        assert_int_equal(end, strlen(text) - 4);
    }
}

/* Feeds in slices; gives what was taken. */
static enum http_chunk_result feed(
    const char *source, size_t slice, size_t limit, struct buffer *out, size_t *taken)
{
    struct http_chunks chunks = {0};
    enum http_chunk_result result = HTTP_CHUNKS_MORE;
    size_t len = strlen(source);
    *taken = 0;
    while (result == HTTP_CHUNKS_MORE && *taken < len) {
        size_t used, n = len - *taken < slice ? len - *taken : slice;
        result = http_chunks_feed(&chunks, source + *taken, n, &used, out, limit);
        *taken += used;
    }
    return result;
}

static void chunks_come_in_any_slicing(void **state)
{
    (void)state;
    const char source[] = "4\r\nWiki\r\n6;ext=\"v\"\r\npedia \r\nE \r\nin \r\n\r\nchunks.\r\n0\r\nTrailer: "
                          "x\r\nT2: y\r\n\r\nnext";
    for (size_t slice = 1; slice <= sizeof source; slice++) {
        CLEANUP_BUFFER struct buffer out = {0};
        size_t taken;
        assert_int_equal(feed(source, slice, 100, &out, &taken), HTTP_CHUNKS_DONE);
        assert_int_equal(taken, strlen(source) - 4);
        assert_int_equal(out.len, 24);
        assert_memory_equal(out.data, "Wikipedia in \r\n\r\nchunks.", 24);
    }
}

static void bad_chunks_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        enum http_chunk_result result;
    } cases[] = {
        {"\r\n", HTTP_CHUNKS_BAD},
        {"x\r\n", HTTP_CHUNKS_BAD},
        {"-1\r\n", HTTP_CHUNKS_BAD},
        {"1\nx", HTTP_CHUNKS_BAD},
        {"1\r\nxy", HTTP_CHUNKS_BAD},
        {"1\r\nx\r\r", HTTP_CHUNKS_BAD},
        {"0000000000000001\r\n", HTTP_CHUNKS_BAD},
        {"fffffffffffffff\r\nx", HTTP_CHUNKS_TOO_LARGE},
        {"b\r\nhello world\r\n", HTTP_CHUNKS_TOO_LARGE},
        {"5\r\nhello\r\n6\r\n world\r\n", HTTP_CHUNKS_TOO_LARGE},
        {"a\r\nhello worl\r\n", HTTP_CHUNKS_MORE},
    };
    for (size_t i = 0; i < countof(cases); i++)
        for (size_t slice = 1; slice < 30; slice++) {
            CLEANUP_BUFFER struct buffer out = {0};
            size_t taken;
            assert_int_equal(feed(cases[i].source, slice, 10, &out, &taken), cases[i].result);
        }
    CLEANUP_BUFFER struct buffer endless = {0}, out = {0};
    buffer_printf(&endless, "1;");
    for (int i = 0; i < HTTP_TRAILER_BYTES + 10; i++)
        buffer_printf(&endless, "e");
    size_t taken;
    assert_int_equal(feed((char *)endless.data, 100, 10, &out, &taken), HTTP_CHUNKS_BAD);
    memcpy(endless.data, "0\r\n", 3);
    assert_int_equal(feed((char *)endless.data, 100, 10, &out, &taken), HTTP_CHUNKS_BAD);
}

static void percent_encoding_is_decoded_within_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *encoded, *decoded;
    } cases[] = {
        {"", ""},
        {"a", "a"},
        {"a%20b", "a b"},
        {"%2F%2f", "//"},
        {"a+b", "a+b"},
        {"%C3%A9", "\xc3\xa9"},
        {"%", NULL},
        {"%2", NULL},
        {"%2x", NULL},
        {"%00", NULL},
        {"abc%4", NULL},
        {"%41", "A"},
    };
    for (size_t i = 0; i < countof(cases); i++) {
        size_t len = strlen(cases[i].encoded);
        CLEANUP_FREE char *exact = malloc(len + 1);
        memcpy(exact, cases[i].encoded, len);
        CLEANUP_FREE char *decoded = http_decode_segment(exact, len);
        if (cases[i].decoded == NULL)
            assert_null(decoded);
        else
            assert_string_equal(decoded, cases[i].decoded);
    }
}

static void query_parameters_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *query, *name, *value;
    } cases[] = {
        {"a=1&b=2", "b", "2"},
        {"a=1&b", "b", ""},
        {"a=1&b=", "b", ""},
        {"a=1", "b", NULL},
        {"", "b", NULL},
        {NULL, "b", NULL},
        {"&&a=x+y%26z&", "a", "x y&z"},
        {"%61=1", "a", "1"},
        {"a=%", "a", NULL},
        {"a=1=2", "a", "1=2"},
    };
    for (size_t i = 0; i < countof(cases); i++) {
        CLEANUP_FREE char *value = http_decode_query(cases[i].query, cases[i].name);
        if (cases[i].value == NULL)
            assert_null(value);
        else
            assert_string_equal(value, cases[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_head_is_taken_apart),
        cmocka_unit_test(keep_alive_follows_version_and_field),
        cmocka_unit_test(what_is_unclear_is_refused),
        cmocka_unit_test(fields_are_counted),
        cmocka_unit_test(the_end_is_found_in_any_slicing),
        cmocka_unit_test(chunks_come_in_any_slicing),
        cmocka_unit_test(bad_chunks_are_refused),
        cmocka_unit_test(percent_encoding_is_decoded_within_bounds),
        cmocka_unit_test(query_parameters_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
