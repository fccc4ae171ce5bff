#include "store/chunk.h"
#include "store/scratch.h"

#include "base/fd.h"
#include "store/stored.h"

#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

static const char MAGIC[4] = {'T', 'H', 'C', 'H'};

enum chunk_at {
    AT_VERSION = 4,
    AT_CODEC = 5,
    AT_ZERO = 6,
    AT_PLAIN_BYTES = 8,
    AT_NONCE = 12,
};

struct chunk_tools {
    EVP_CIPHER_CTX *cipher;
    EVP_MD_CTX *digest;
    struct codecs codecs;
    uint8_t *sealed; /* CHUNK_SEALED_MAX: a file, or what becomes one */
    uint8_t *packed; /* CHUNK_PLAIN_MAX: compressed bytes */
};

struct chunk_tools *chunk_tools_new(bool seals, struct error *err)
{
    static const uint8_t no_key[SEAL_KEY_BYTES];
    struct chunk_tools *tools = xcalloc(1, sizeof *tools);
    tools->sealed = scratch_new(CHUNK_SEALED_MAX);
    tools->packed = scratch_new(CHUNK_PLAIN_MAX);
    tools->digest = EVP_MD_CTX_new();
    if (tools->digest == NULL || EVP_DigestInit_ex(tools->digest, EVP_sha256(), NULL) != 1)
        error_set(err, ERROR_INTERNAL, "libcrypto refuses SHA-256");
    else if (codecs_init(&tools->codecs, seals, err) == 0 &&
             seal_cipher_new(&tools->cipher, no_key, err) == 0)
        return tools;
    chunk_tools_free(tools);
    return NULL;
}

void chunk_tools_free(struct chunk_tools *tools)
{
    if (tools == NULL)
        return;
    EVP_CIPHER_CTX_free(tools->cipher);
    EVP_MD_CTX_free(tools->digest);
    codecs_free(&tools->codecs);
    scratch_free(&tools->packed, CHUNK_PLAIN_MAX);
    scratch_free(&tools->sealed, CHUNK_SEALED_MAX);
    free(tools);
}

#define LABEL_BYTES_MAX 16

static bool derive(const uint8_t *salt, const char *label, const uint8_t *digest, uint8_t out[32])
{
    uint8_t text[LABEL_BYTES_MAX + SHA256_DIGEST_LENGTH];
    size_t len = strnlen(label, LABEL_BYTES_MAX);
    unsigned out_len = 0;
    memcpy(text, label, len);
    memcpy(text + len, digest, SHA256_DIGEST_LENGTH);
    return HMAC(EVP_sha256(), salt, SEAL_KEY_BYTES, text, len + SHA256_DIGEST_LENGTH, out, &out_len) !=
               NULL &&
           out_len == 32;
}

int chunk_identify(struct chunk_tools *tools, const uint8_t salt[SEAL_KEY_BYTES], const void *plain,
    size_t len, struct chunk_id *id, struct error *err)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    if (EVP_DigestInit_ex(tools->digest, NULL, NULL) == 1 &&
        EVP_DigestUpdate(tools->digest, plain, len) == 1 &&
        EVP_DigestFinal_ex(tools->digest, digest, NULL) == 1 &&
        derive(salt, "thaw chunk key", digest, id->key) && derive(salt, "thaw chunk name", digest, id->name))
        return 0;
    return error_set(err, ERROR_INTERNAL, "libcrypto cannot hash %zu bytes", len);
}

/* What the tag authenticates beside the ciphertext. */
static void associate(const uint8_t *header, const struct chunk_id *id, uint8_t *associated)
{
    memcpy(associated, header, CHUNK_HEADER_BYTES);
    memcpy(associated + CHUNK_HEADER_BYTES, id->name, CHUNK_NAME_BYTES);
}

int chunk_seal(struct chunk_tools *tools, const struct chunk_id *id, enum codec codec, const void *plain,
    size_t len, const uint8_t **sealed, size_t *sealed_len, struct error *err)
{
    uint8_t associated[CHUNK_HEADER_BYTES + CHUNK_NAME_BYTES];
    uint8_t *header = tools->sealed;
    if (len == 0 || len > CHUNK_PLAIN_MAX)
        return error_set(err, ERROR_INTERNAL, "a chunk cannot hold %zu bytes", len);
    size_t packed_len = codec_compress(&tools->codecs, codec, plain, len, tools->packed);
    bool packed = packed_len > 0;
    memcpy(header, MAGIC, sizeof MAGIC);
    header[AT_VERSION] = CHUNK_VERSION;
    header[AT_CODEC] = packed ? (uint8_t)codec : CODEC_NONE;
    memset(header + AT_ZERO, 0, 2);
    for (int i = 0; i < 4; i++)
        header[AT_PLAIN_BYTES + i] = (uint8_t)(len >> (8 * i));
    if (random_fill(header + AT_NONCE, SEAL_NONCE_BYTES, err) < 0)
        return -1;
    associate(header, id, associated);
    struct sealed_piece piece = {.nonce = header + AT_NONCE, .associated = associated};
    piece.associated_len = sizeof associated;
    piece.in = packed ? tools->packed : plain;
    piece.len = packed ? packed_len : len;
    piece.out = tools->sealed + CHUNK_HEADER_BYTES;
    if (seal_cipher_rekey(tools->cipher, id->key, err) < 0 ||
        seal_encrypt(tools->cipher, &piece, piece.out + piece.len, err) < 0)
        return -1;
    *sealed = tools->sealed;
    *sealed_len = CHUNK_HEADER_BYTES + piece.len + SEAL_TAG_BYTES;
    return 0;
}

static int check_header(const uint8_t *sealed, size_t sealed_len, size_t plain_len, struct error *err)
{
    struct cursor c = cursor_over(sealed, sealed_len);
    struct bytes magic = cursor_bytes(&c, sizeof MAGIC);
    unsigned version = cursor_u8(&c), codec = cursor_u8(&c), zero = cursor_u16(&c);
    uint32_t plain_bytes = cursor_u32(&c);
    cursor_bytes(&c, SEAL_NONCE_BYTES);
    cursor_bytes(&c, SEAL_TAG_BYTES);
    if (!cursor_ok(&c) || sealed_len > CHUNK_SEALED_MAX)
        return error_set(err, ERROR_CORRUPT, "a chunk is not %zu bytes long", sealed_len);
    if (memcmp(magic.data, MAGIC, sizeof MAGIC) != 0)
        return error_set(err, ERROR_CORRUPT, "it is not a chunk");
    if (version != CHUNK_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "it is of format version %u, and this program knows only %d",
            version, CHUNK_VERSION);
    if (codec >= CODEC_COUNT || zero != 0 || plain_bytes != plain_len || plain_len > CHUNK_PLAIN_MAX)
        return error_set(err, ERROR_CORRUPT, "its header is not what was written");
    return 0;
}

int chunk_open(struct chunk_tools *tools, const struct chunk_id *id, const uint8_t *sealed, size_t sealed_len,
    void *out, size_t plain_len, struct error *err)
{
    uint8_t associated[CHUNK_HEADER_BYTES + CHUNK_NAME_BYTES];
    if (check_header(sealed, sealed_len, plain_len, err) < 0)
        return -1;
    size_t len = sealed_len - CHUNK_HEADER_BYTES - SEAL_TAG_BYTES;
    enum codec codec = sealed[AT_CODEC];
    bool direct = codec == CODEC_NONE && len == plain_len && out != NULL;
    associate(sealed, id, associated);
    struct sealed_piece piece = {.nonce = sealed + AT_NONCE, .associated = associated};
    piece.associated_len = sizeof associated;
    piece.in = sealed + CHUNK_HEADER_BYTES;
    piece.len = len;
    piece.out = direct ? out : tools->packed;
    if (seal_cipher_rekey(tools->cipher, id->key, err) < 0)
        return -1;
    if (!seal_decrypt(tools->cipher, &piece, piece.in + len))
        return error_set(err, ERROR_CORRUPT, "it is not what was written");
    if (direct || out == NULL)
        return 0;
    return codec_decompress(&tools->codecs, codec, tools->packed, len, out, plain_len, err);
}

int chunk_read_fd(struct chunk_tools *tools, const struct chunk_id *id, int fd, void *out, size_t plain_len,
    struct error *err)
{
    uint64_t size;
    if (stored_size(fd, &size, err) < 0)
        return -1;
    if (size > CHUNK_SEALED_MAX)
        return error_set(err, ERROR_CORRUPT, "it is not a chunk");
    if (stored_read(fd, tools->sealed, (size_t)size, err) < 0)
        return -1;
    return chunk_open(tools, id, tools->sealed, (size_t)size, out, plain_len, err);
}

int chunk_read_file(struct chunk_tools *tools, const struct chunk_id *id, int dir_fd, const char *path,
    void *out, size_t plain_len, struct error *err)
{
    uint64_t size;
    CLEANUP_FD int fd = -1;
    if (stored_open(dir_fd, path, &fd, &size, err) < 0)
        return -1;
    return chunk_read_fd(tools, id, fd, out, plain_len, err);
}
