/* fuzz: src/base src/store -lcrypto -lzstd -llz4
 * A chunk's file. The first byte chooses: a file as it is; a good file with the bytes that are not zero changed; or a file that
 * is sealed rightly around codec and compressed bytes as they come, which is all that a decompressor may ever see. */
#include "store/chunk.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLAIN_BYTES 4096
static const uint8_t SALT[SEAL_KEY_BYTES] = "a salt of thirty-two bytes, or so";
static struct chunk_tools *tools;
static struct chunk_id id;
static uint8_t plain[PLAIN_BYTES], good[CHUNK_SEALED_MAX];
static size_t good_len;

static void set_up(void)
{
    struct error err;
    const uint8_t *sealed;
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (uint8_t)(i / 16 * 7);
    tools = chunk_tools_new(true, &err);
    if (tools == NULL || chunk_identify(tools, SALT, plain, sizeof plain, &id, &err) < 0 ||
        chunk_seal(tools, &id, CODEC_ZSTD, plain, sizeof plain, &sealed, &good_len, &err) < 0)
        abort();
    memcpy(good, sealed, good_len);
}

static bool opens(const uint8_t *sealed, size_t len, size_t plain_len, uint8_t *out)
{
    struct error err = {0};
    if (chunk_open(tools, &id, sealed, len, out, plain_len, &err) == 0)
        return true;
    if ((err.kind != ERROR_CORRUPT && err.kind != ERROR_UNSUPPORTED) || err.text[0] == '\0')
        abort();
    return false;
}

/* Around any compressed bytes: the tag fits, and the codec has to cope. */
static void open_sealed_rightly(
    const uint8_t *packed, size_t len, uint8_t codec, size_t plain_len, uint8_t *out)
{
    CLEANUP_FREE uint8_t *file = xcalloc(1, CHUNK_HEADER_BYTES + len + SEAL_TAG_BYTES);
    uint8_t associated[CHUNK_HEADER_BYTES + CHUNK_NAME_BYTES];
    struct error err;
    memcpy(file, good, CHUNK_HEADER_BYTES);
    file[5] = codec;
    file[8] = (uint8_t)plain_len;
    file[9] = (uint8_t)(plain_len >> 8);
    file[10] = file[11] = 0;
    memcpy(associated, file, CHUNK_HEADER_BYTES);
    memcpy(associated + CHUNK_HEADER_BYTES, id.name, CHUNK_NAME_BYTES);
    const struct sealed_piece piece = {.nonce = file + 12,
        .associated = associated,
        .associated_len = sizeof associated,
        .in = packed,
        .len = len,
        .out = file + CHUNK_HEADER_BYTES};
    EVP_CIPHER_CTX *cipher;
    if (seal_cipher_new(&cipher, id.key, &err) < 0 ||
        seal_encrypt(cipher, &piece, file + CHUNK_HEADER_BYTES + len, &err) < 0)
        abort();
    EVP_CIPHER_CTX_free(cipher);
    (void)opens(file, CHUNK_HEADER_BYTES + len + SEAL_TAG_BYTES, plain_len, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE uint8_t *out = NULL;
    if (tools == NULL)
        set_up();
    if (size < 4)
        return 0;
    size_t plain_len = 1 + (size_t)(data[1] | data[2] << 8);
    if (data[0] == 0) {
        out = xcalloc(1, PLAIN_BYTES);
        if (opens(data + 4, size - 4, PLAIN_BYTES, out) && memcmp(out, plain, PLAIN_BYTES) != 0)
            abort();
    } else if (data[0] == 1) {
        CLEANUP_FREE uint8_t *file = xcalloc(1, good_len);
        bool changed = false;
        out = xcalloc(1, PLAIN_BYTES);
        memcpy(file, good, good_len);
        for (size_t i = 0; i < good_len && i + 4 < size; i++) {
            file[i] ^= data[i + 4];
            changed |= data[i + 4] != 0;
        }
        if (opens(file, good_len, PLAIN_BYTES, out) == changed)
            abort();
    } else {
        out = xcalloc(1, plain_len);
        open_sealed_rightly(data + 4, size - 4, data[3], plain_len, out);
    }
    return 0;
}
