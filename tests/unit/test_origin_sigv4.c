/* Signature Version 4, with the examples that Amazon publishes. */
#include "origin/sigv4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* The keys of the S3 API reference's examples; those of the general test suite differ in their end. */
static const struct sigv4_credentials S3_KEYS = {
    .access_key = "AKIAIOSFODNN7EXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
static const struct sigv4_credentials SUITE_KEYS = {
    .access_key = "AKIDEXAMPLE", .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

static void expect(
    struct sigv4_request request, const struct sigv4_credentials *keys, const char *authorization)
{
    struct error err = {0};
    CLEANUP_BUFFER struct buffer out = {0};
    assert_int_equal(sigv4_authorize(&out, &request, keys, &err), 0);
    assert_string_equal((char *)out.data, authorization);
}

static struct sigv4_request s3_request(const struct sigv4_header *headers, size_t count)
{
    return (struct sigv4_request){.method = "GET",
        .path = "/",
        .query = "",
        .headers = headers,
        .header_count = count,
        .payload_sha256 = EMPTY,
        .date = "20130524T000000Z",
        .region = "us-east-1",
        .service = "s3"};
}

#define S3_SCOPE "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
static const char HOST[] = "examplebucket.s3.amazonaws.com";

static void test_get_object(void **state)
{
    (void)state;
    const struct sigv4_header headers[] = {{"host", HOST}, {"range", "bytes=0-9"},
        {"x-amz-content-sha256", EMPTY}, {"x-amz-date", "20130524T000000Z"}};
    struct sigv4_request r = s3_request(headers, countof(headers));
    r.path = "/test.txt";
    expect(r, &S3_KEYS,
        S3_SCOPE "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
                 "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_put_object(void **state)
{
    (void)state;
    static const char hash[] = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    const struct sigv4_header headers[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"host", HOST},
        {"x-amz-content-sha256", hash}, {"x-amz-date", "20130524T000000Z"},
        {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    struct sigv4_request r = s3_request(headers, countof(headers));
    CLEANUP_BUFFER struct buffer path = {0};
    sigv4_encode(&path, "/test$file.text", true);
    r.method = "PUT";
    r.path = (char *)path.data;
    r.payload_sha256 = hash;
    expect(r, &S3_KEYS,
        S3_SCOPE "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
                 "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_queries(void **state)
{
    (void)state;
    const struct sigv4_header headers[] = {
        {"host", HOST}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", "20130524T000000Z"}};
    struct sigv4_request r = s3_request(headers, countof(headers));
    r.query = "lifecycle=";
    expect(r, &S3_KEYS,
        S3_SCOPE "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
                 "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    r.query = "max-keys=2&prefix=J";
    expect(r, &S3_KEYS,
        S3_SCOPE "SignedHeaders=host;x-amz-content-sha256;x-amz-date,"
                 "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_suite_vanilla(void **state)
{
    (void)state;
    const struct sigv4_header headers[] = {
        {"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}};
    struct sigv4_request r = s3_request(headers, countof(headers));
    r.date = "20150830T123600Z";
    r.service = "service";
    expect(r, &SUITE_KEYS,
        "AWS4-HMAC-SHA256 "
        "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,SignedHeaders=host;x-amz-date,"
        "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}

static void test_encoding(void **state)
{
    (void)state;
    CLEANUP_BUFFER struct buffer out = {0};
    sigv4_encode(&out, "a/b c~d-e_f.g%\xc3\xa9", true);
    sigv4_encode(&out, "/=", false);
    assert_string_equal((char *)out.data, "a/b%20c~d-e_f.g%25%C3%A9%2F%3D");
    char date[SIGV4_DATE_BYTES];
    sigv4_date(date, 1369353600);
    assert_string_equal(date, "20130524T000000Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_get_object), cmocka_unit_test(test_put_object),
        cmocka_unit_test(test_queries), cmocka_unit_test(test_suite_vanilla),
        cmocka_unit_test(test_encoding)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
