#include "store/seal.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/random.h>

int random_fill(void *out, size_t len, struct error *err)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0)
            return error_system(err, "the kernel gives no random bytes");
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

void seal_master_init(struct seal_master *master, const uint8_t key[SEAL_KEY_BYTES])
{
    static const char purpose[] = "thaw master key id";
    uint8_t text[sizeof purpose + SEAL_KEY_BYTES], digest[SHA256_DIGEST_LENGTH];
    memcpy(text, purpose, sizeof purpose);
    memcpy(text + sizeof purpose, key, SEAL_KEY_BYTES);
    SHA256(text, sizeof text, digest);
    memcpy(master->key, key, SEAL_KEY_BYTES);
    memcpy(master->key_id, digest, SEAL_ID_BYTES);
    OPENSSL_cleanse(text, sizeof text);
}

int seal_cipher_new(EVP_CIPHER_CTX **out, const uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    *out = EVP_CIPHER_CTX_new();
    /* The direction is chosen anew with every nonce; the key schedule of GCM is the same for both. */
    if (*out != NULL && EVP_CipherInit_ex(*out, EVP_aes_256_gcm(), NULL, key, NULL, 1) == 1)
        return 0;
    EVP_CIPHER_CTX_free(*out);
    *out = NULL;
    return error_set(err, ERROR_INTERNAL, "libcrypto refuses AES-256-GCM");
}

int seal_cipher_rekey(EVP_CIPHER_CTX *cipher, const uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    if (EVP_CipherInit_ex(cipher, NULL, NULL, key, NULL, 1) == 1)
        return 0;
    return error_set(err, ERROR_INTERNAL, "libcrypto refuses a key");
}

int seal_encrypt(
    EVP_CIPHER_CTX *cipher, const struct sealed_piece *p, uint8_t tag[SEAL_TAG_BYTES], struct error *err)
{
    int n;
    if (EVP_CipherInit_ex(cipher, NULL, NULL, NULL, p->nonce, 1) == 1 &&
        EVP_CipherUpdate(cipher, NULL, &n, p->associated, (int)p->associated_len) == 1 &&
        (p->len == 0 || EVP_CipherUpdate(cipher, p->out, &n, p->in, (int)p->len) == 1) &&
        EVP_CipherFinal_ex(cipher, p->out + p->len, &n) == 1 &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_BYTES, tag) == 1)
        return 0;
    return error_set(err, ERROR_INTERNAL, "libcrypto cannot encrypt %zu bytes", p->len);
}

bool seal_decrypt(EVP_CIPHER_CTX *cipher, const struct sealed_piece *p, const uint8_t tag[SEAL_TAG_BYTES])
{
    int n;
    uint8_t expected[SEAL_TAG_BYTES], nothing[1];
    memcpy(expected, tag, sizeof expected);
    return EVP_CipherInit_ex(cipher, NULL, NULL, NULL, p->nonce, 0) == 1 &&
           EVP_CipherUpdate(cipher, NULL, &n, p->associated, (int)p->associated_len) == 1 &&
           (p->len == 0 || EVP_CipherUpdate(cipher, p->out, &n, p->in, (int)p->len) == 1) &&
           EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_BYTES, expected) == 1 &&
           EVP_CipherFinal_ex(cipher, nothing, &n) == 1;
}

int sealer_init(struct sealer *sealer, const uint8_t key[SEAL_KEY_BYTES],
    const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind, struct error *err)
{
    *sealer = (struct sealer){.kind = kind};
    memcpy(sealer->snapshot_id, snapshot_id, SEAL_ID_BYTES);
    return seal_cipher_new(&sealer->cipher, key, err);
}

void sealer_free(struct sealer *sealer)
{
    EVP_CIPHER_CTX_free(sealer->cipher); /* wipes its key schedule */
    *sealer = (struct sealer){0};
}

void seal_put_u32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

static void put_u64(uint8_t *out, uint64_t v)
{
    seal_put_u32(out, (uint32_t)v);
    seal_put_u32(out + 4, (uint32_t)(v >> 32));
}

#define SEGMENT_ASSOCIATED_BYTES (SEAL_ID_BYTES + 4 + 8 + 1 + 4)

/* What binds a segment to its place: see sealed_file.h. */
static void describe_segment(const struct sealer *sealer, size_t len, bool last,
    uint8_t nonce[SEAL_NONCE_BYTES], uint8_t associated[SEGMENT_ASSOCIATED_BYTES])
{
    seal_put_u32(nonce, sealer->kind);
    put_u64(nonce + 4, sealer->index);
    memcpy(associated, sealer->snapshot_id, SEAL_ID_BYTES);
    seal_put_u32(associated + SEAL_ID_BYTES, sealer->kind);
    put_u64(associated + SEAL_ID_BYTES + 4, sealer->index);
    associated[SEAL_ID_BYTES + 12] = last;
    seal_put_u32(associated + SEAL_ID_BYTES + 13, (uint32_t)len);
}

int seal_segment(
    struct sealer *sealer, const uint8_t *plain, size_t len, bool last, uint8_t *out, struct error *err)
{
    uint8_t nonce[SEAL_NONCE_BYTES], associated[SEGMENT_ASSOCIATED_BYTES];
    describe_segment(sealer, len, last, nonce, associated);
    struct sealed_piece piece = {
        .nonce = nonce, .associated = associated, .in = plain, .len = len, .out = out};
    piece.associated_len = sizeof associated;
    sealer->index++;
    return seal_encrypt(sealer->cipher, &piece, out + len, err);
}

int unseal_segment(struct sealer *sealer, const uint8_t *sealed, size_t sealed_len, bool last, uint8_t *out,
    struct error *err)
{
    uint8_t nonce[SEAL_NONCE_BYTES], associated[SEGMENT_ASSOCIATED_BYTES];
    if (sealed_len < SEAL_TAG_BYTES)
        return error_set(err, ERROR_CORRUPT, "segment %lu is cut off", sealer->index);
    size_t len = sealed_len - SEAL_TAG_BYTES;
    describe_segment(sealer, len, last, nonce, associated);
    struct sealed_piece piece = {
        .nonce = nonce, .associated = associated, .in = sealed, .len = len, .out = out};
    piece.associated_len = sizeof associated;
    if (!seal_decrypt(sealer->cipher, &piece, sealed + len))
        return error_set(err, ERROR_CORRUPT, "segment %lu%s is not what was written", sealer->index,
            last ? " (the last)" : "");
    sealer->index++;
    return 0;
}
