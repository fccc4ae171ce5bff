/* AES-256-GCM, and the segments that sealed files are made of. Private to the store. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <openssl/evp.h>

#define SEAL_KEY_BYTES 32
#define SEAL_ID_BYTES 16
#define SEAL_NONCE_BYTES 12
#define SEAL_TAG_BYTES 16
#define SEAL_SEGMENT_BYTES (256u * 1024)

enum seal_kind { SEAL_MANIFEST = 1, SEAL_HOT = 2 };

struct seal_master {
    uint8_t key[SEAL_KEY_BYTES];
    uint8_t key_id[SEAL_ID_BYTES]; /* a hash of the key, to tell a wrong key from damage */
};
void seal_master_init(struct seal_master *master, const uint8_t key[SEAL_KEY_BYTES]);

/* AES-256-GCM with a nonce of the caller's: what everything that is sealed is made of. */
struct sealed_piece {
    const uint8_t *nonce, *associated, *in;
    size_t associated_len, len;
    uint8_t *out; /* takes len bytes */
};
/* *out is for EVP_CIPHER_CTX_free, which wipes the key. One cipher serves both directions and any number of nonces. */
MUST_CHECK int seal_cipher_new(EVP_CIPHER_CTX **out, const uint8_t key[SEAL_KEY_BYTES], struct error *err);
/* Another key for the same cipher: for those with a key for each piece. */
MUST_CHECK int seal_cipher_rekey(
    EVP_CIPHER_CTX *cipher, const uint8_t key[SEAL_KEY_BYTES], struct error *err);
MUST_CHECK int seal_encrypt(
    EVP_CIPHER_CTX *cipher, const struct sealed_piece *piece, uint8_t tag[SEAL_TAG_BYTES], struct error *err);
/* False when the tag does not fit: what is in `out` then must not be used. */
MUST_CHECK bool seal_decrypt(
    EVP_CIPHER_CTX *cipher, const struct sealed_piece *piece, const uint8_t tag[SEAL_TAG_BYTES]);

/* One file's cipher, for writing or for reading; segments go in order. Start from {0}. */
struct sealer {
    EVP_CIPHER_CTX *cipher;
    uint8_t snapshot_id[SEAL_ID_BYTES];
    enum seal_kind kind;
    uint64_t index; /* of the next segment */
};
MUST_CHECK int sealer_init(struct sealer *sealer, const uint8_t key[SEAL_KEY_BYTES],
    const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind, struct error *err);
void sealer_free(struct sealer *sealer); /* wipes the key */

/* `out` takes len + SEAL_TAG_BYTES. */
MUST_CHECK int seal_segment(
    struct sealer *sealer, const uint8_t *plain, size_t len, bool last, uint8_t *out, struct error *err);
/* `sealed_len` includes the tag; `out` takes sealed_len - SEAL_TAG_BYTES. ERROR_CORRUPT names the segment. */
MUST_CHECK int unseal_segment(struct sealer *sealer, const uint8_t *sealed, size_t sealed_len, bool last,
    uint8_t *out, struct error *err);

void seal_put_u32(uint8_t *out, uint32_t v); /* little-endian */
MUST_CHECK int random_fill(void *out, size_t len, struct error *err);
