/* The small parsers: names and ARNs, the JSON check. */
#include "lambda_fixture.h"

static void expect_name(
    const char *text, const char *region, const char *account, const char *name, const char *qualifier)
{
    struct name_parts parts;
    if (!name_parse(text, &parts))
        fail_msg("%s was refused", text);
    assert_string_equal(parts.region, region);
    assert_string_equal(parts.account, account);
    assert_string_equal(parts.name, name);
    assert_string_equal(parts.qualifier, qualifier);
}

static void reads_every_way_to_name_a_function(void **state)
{
    (void)state;
    expect_name("pets", "", "", "pets", "");
    expect_name("pets:1", "", "", "pets", "1");
    expect_name("pets:$LATEST", "", "", "pets", "$LATEST");
    expect_name("pets:prod-1_x", "", "", "pets", "prod-1_x");
    expect_name("function:pets", "", "", "pets", "");
    expect_name("function", "", "", "function", "");
    expect_name("function:$LATEST", "", "", "function", "$LATEST");
    expect_name("000000000000:function:pets", "", "000000000000", "pets", "");
    expect_name("000000000000:function:pets:7", "", "000000000000", "pets", "7");
    expect_name("us-east-1:000000000000:function:pets", "us-east-1", "000000000000", "pets", "");
    const char *regions[] = {
        "us-east-1", "eu-central-2", "us-gov-west-1", "us-isob-east-1", "eusc-de-east-1"};
    for (size_t i = 0; i < countof(regions); i++) {
        CLEANUP_FREE char *arn = xasprintf("arn:aws:lambda:%s:123456789012:function:my_Fn-2:12", regions[i]);
        expect_name(arn, regions[i], "123456789012", "my_Fn-2", "12");
    }
}

static void refuses_what_is_no_name(void **state)
{
    (void)state;
    struct name_parts parts;
    const char *bad[] = {"", ":", "*", "my fn", "pets:", ":1", "pets:1:2", "pets:$latest", "pets:$LATES",
        "a:b:c", "arn:aws:s3:::bucket", "arn:aws:lambda:nowhere:123456789012:function:x",
        "arn:aws:lambda::123456789012:function:x", "arn:aws:lambda:us-east-1::function:x",
        "arn:aws:lambda:us-east-1:12345678901:function:x", "arn:aws:lambda:us-east-1:123456789012:layer:x:1",
        "arn:aws:lambda:us-east-1:123456789012:function:x:1:2", "p\xc3\xa4ts", "pets/1",
        "a:b:c:d:e:f:g:h:i:j:k:l:m:n"};
    for (size_t i = 0; i < countof(bad); i++)
        if (name_parse(bad[i], &parts))
            fail_msg("%s was taken", bad[i]);
    char long_name[NAME_TEXT_MAX + 2];
    memset(long_name, 'a', sizeof long_name);
    long_name[NAME_TEXT_MAX + 1] = '\0';
    assert_false(name_parse(long_name, &parts));
    long_name[NAME_TEXT_MAX] = '\0';
    assert_true(name_parse(long_name, &parts));
}

static bool json_ok(const char *text, char why[256])
{
    return json_check((struct bytes){(const uint8_t *)text, strlen(text)}, why);
}

static void takes_json(void **state)
{
    (void)state;
    char why[256];
    const char *good[] = {"null", "true", "false", "0", "-0", "1.5e+9", "-10E-2", "\"\"",
        "\"\\u00e9\\n\\\\\\\"\"", "[]", "{}", "[[],{}]", " { \"a\" : [ 1 , 2 , { \"b\" : null } ] } \r\n\t",
        "\"p\xc3\xa4ts \xf0\x9f\x90\xb6\"", "[1,2,3,\"x\",[true,false]]", "{\"a\":{\"a\":{\"a\":{}}}}"};
    for (size_t i = 0; i < countof(good); i++)
        if (!json_ok(good[i], why))
            fail_msg("%s: %s", good[i], why);
}

static void refuses_what_is_no_json(void **state)
{
    (void)state;
    char why[256];
    const char *bad[] = {"", " ", "{", "[", "]", "}", "[1,]", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
        "{a:1}", "'x'", "\"x", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "01", "-", "1.", ".5", "1e", "+1", "nul",
        "nulls", "NaN", "1 2", "{} {}", "[1}", "{\"a\":1]", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"", "\"\xe2\x82", "tru\x65z", "[1 2]", "{\"a\" 1}"};
    for (size_t i = 0; i < countof(bad); i++)
        if (json_ok(bad[i], why))
            fail_msg("%s was taken", bad[i]);
    assert_false(json_ok("{\n \"a\": nope}", why));
    assert_string_equal(why,
        "Unrecognized token 'nope': was expecting (JSON String, Number, Array, Object or token 'null', "
        "'true' or "
        "'false')\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 2, "
        "column: 7]");
    assert_false(json_ok("\x99", why));
    assert_non_null(strstr(why, "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value"));
}

static void bounds_the_depth(void **state)
{
    (void)state;
    char why[256], text[2 * LAMBDA_JSON_DEPTH + 3];
    memset(text, '[', LAMBDA_JSON_DEPTH);
    memset(text + LAMBDA_JSON_DEPTH, ']', LAMBDA_JSON_DEPTH);
    text[2 * LAMBDA_JSON_DEPTH] = '\0';
    assert_true(json_ok(text, why));
    memset(text, '[', LAMBDA_JSON_DEPTH + 1);
    memset(text + LAMBDA_JSON_DEPTH + 1, ']', LAMBDA_JSON_DEPTH + 1);
    text[2 * LAMBDA_JSON_DEPTH + 2] = '\0';
    assert_false(json_ok(text, why));
    assert_non_null(strstr(why, "nesting depth"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_way_to_name_a_function),
        cmocka_unit_test(refuses_what_is_no_name),
        cmocka_unit_test(takes_json),
        cmocka_unit_test(refuses_what_is_no_json),
        cmocka_unit_test(bounds_the_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
