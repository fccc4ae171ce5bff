#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

static void cursor_reads_what_buffer_wrote(void **state)
{
    (void)state;
    CLEANUP_BUFFER struct buffer b = {0};
    buffer_append_u8(&b, 1);
    buffer_append_u16(&b, 0x203);
    buffer_append_u32(&b, 0x4050607);
    buffer_append_u64(&b, 0x8090a0b0c0d0e0f0u);
    buffer_append_string(&b, "pets");
    struct cursor c = cursor_over(b.data, b.len);
    assert_int_equal(cursor_u8(&c), 1);
    assert_int_equal(cursor_u16(&c), 0x203);
    assert_int_equal(cursor_u32(&c), 0x4050607);
    assert_true(cursor_u64(&c) == 0x8090a0b0c0d0e0f0u);
    CLEANUP_FREE char *name = cursor_string(&c, 10);
    assert_string_equal(name, "pets");
    assert_true(cursor_done(&c));
}

static void cursor_never_reads_past_the_end(void **state)
{
    (void)state;
    const uint8_t raw[] = {255, 255, 255, 255, 'x'};
    struct cursor c = cursor_over(raw, sizeof raw);
    assert_null(cursor_blob(&c).data);
    assert_false(cursor_ok(&c));
    assert_int_equal(cursor_u8(&c), 0);
}

static void cursor_string_refuses_nul_and_length(void **state)
{
    (void)state;
    const uint8_t with_nul[] = {2, 0, 0, 0, 'a', 0};
    struct cursor c = cursor_over(with_nul, sizeof with_nul);
    assert_null(cursor_string(&c, 10));
    const uint8_t too_long[] = {3, 0, 0, 0, 'a', 'b', 'c'};
    c = cursor_over(too_long, sizeof too_long);
    assert_null(cursor_string(&c, 2));
}

static void hex_round_trip(void **state)
{
    (void)state;
    const uint8_t raw[] = {0, 0x7f, 0xff};
    char text[7];
    uint8_t back[3];
    hex_encode(text, raw, sizeof raw);
    assert_string_equal(text, "007fff");
    assert_true(hex_decode(back, sizeof back, text));
    assert_memory_equal(raw, back, sizeof raw);
    assert_false(hex_decode(back, sizeof back, "007ff"));
    assert_false(hex_decode(back, sizeof back, "007fFF"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursor_reads_what_buffer_wrote),
        cmocka_unit_test(cursor_never_reads_past_the_end),
        cmocka_unit_test(cursor_string_refuses_nul_and_length),
        cmocka_unit_test(hex_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
