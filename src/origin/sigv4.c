#include "origin/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#define DIGEST_BYTES 32
#define DAY_BYTES 8 /* "20130524" */

struct digest {
    uint8_t bytes[DIGEST_BYTES];
};

void sigv4_date(char out[SIGV4_DATE_BYTES], time_t at)
{
    struct tm utc;
    gmtime_r(&at, &utc);
    strftime(out, SIGV4_DATE_BYTES, "%Y%m%dT%H%M%SZ", &utc);
}

void sigv4_encode(struct buffer *out, const char *text, bool keep_slash)
{
    for (const char *at = text; *at != '\0'; at++) {
        char c = *at;
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
        if (plain)
            buffer_append_u8(out, (uint8_t)c);
        else
            buffer_printf(out, "%%%02X", (uint8_t)c);
    }
    buffer_printf(out, "%s", ""); /* a string, even so */
}

static int hmac(
    struct digest *out, const void *key, size_t key_len, const void *data, size_t len, struct error *err)
{
    unsigned size = 0;
    if (HMAC(EVP_sha256(), key, (int)key_len, data, len, out->bytes, &size) == NULL || size != DIGEST_BYTES)
        return error_set(err, ERROR_INTERNAL, "libcrypto computes no HMAC");
    return 0;
}

static int hmac_text(struct digest *out, const struct digest *key, const char *text, struct error *err)
{
    return hmac(out, key->bytes, sizeof key->bytes, text, strlen(text), err);
}

static void append_signed_names(struct buffer *out, const struct sigv4_request *r)
{
    for (size_t i = 0; i < r->header_count; i++)
        buffer_printf(out, "%s%s", i > 0 ? ";" : "", r->headers[i].name);
}

/* The hash, in hex, of the request in its canonical form. */
static int hash_canonical(char hex[SIGV4_HEX + 1], const struct sigv4_request *r, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    struct digest digest;
    unsigned size = 0;
    buffer_printf(&text, "%s\n%s\n%s\n", r->method, r->path, r->query);
    for (size_t i = 0; i < r->header_count; i++)
        buffer_printf(&text, "%s:%s\n", r->headers[i].name, r->headers[i].value);
    buffer_printf(&text, "\n");
    append_signed_names(&text, r);
    buffer_printf(&text, "\n%s", r->payload_sha256);
    if (EVP_Digest(text.data, text.len, digest.bytes, &size, EVP_sha256(), NULL) != 1)
        return error_set(err, ERROR_INTERNAL, "libcrypto computes no SHA-256");
    hex_encode(hex, digest.bytes, sizeof digest.bytes);
    return 0;
}

static int derive_key(
    struct digest *key, const struct sigv4_request *r, const char *day, const char *secret, struct error *err)
{
    char first[sizeof "AWS4" + SIGV4_SECRET_MAX];
    snprintf(first, sizeof first, "AWS4%s", secret);
    struct digest step;
    int result = -1;
    if (hmac(key, first, strlen(first), day, strlen(day), err) == 0 &&
        hmac_text(&step, key, r->region, err) == 0 && hmac_text(key, &step, r->service, err) == 0 &&
        hmac_text(&step, key, "aws4_request", err) == 0) {
        *key = step;
        result = 0;
    }
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(&step, sizeof step);
    return result;
}

int sigv4_authorize(struct buffer *out, const struct sigv4_request *r,
    const struct sigv4_credentials *credentials, struct error *err)
{
    char day[DAY_BYTES + 1], canonical[SIGV4_HEX + 1], signature[SIGV4_HEX + 1];
    struct digest key, digest;
    CLEANUP_BUFFER struct buffer scope = {0};
    CLEANUP_BUFFER struct buffer text = {0};
    snprintf(day, sizeof day, "%s", r->date);
    if (hash_canonical(canonical, r, err) < 0)
        return -1;
    buffer_printf(&scope, "%s/%s/%s/aws4_request", day, r->region, r->service);
    buffer_printf(&text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", r->date, (char *)scope.data, canonical);
    if (derive_key(&key, r, day, credentials->secret_key, err) < 0)
        return -1;
    int result = hmac(&digest, key.bytes, sizeof key.bytes, text.data, text.len, err);
    OPENSSL_cleanse(&key, sizeof key);
    if (result < 0)
        return -1;
    hex_encode(signature, digest.bytes, sizeof digest.bytes);
    buffer_printf(
        out, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", credentials->access_key, (char *)scope.data);
    append_signed_names(out, r);
    buffer_printf(out, ",Signature=%s", signature);
    return 0;
}
