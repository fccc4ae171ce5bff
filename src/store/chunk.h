/* A sealed chunk: bytes of a page stream, compressed and encrypted. Private to the store.
 *
 *    0  magic "THCH"             8  u32 plain bytes         24  ciphertext of the compressed bytes
 *    4  u8 format version       12  random nonce            ..  tag of 16 bytes
 *    5  u8 enum codec
 *    6  u16 zero
 *
 *   digest = SHA-256(plain bytes)
 *   key    = HMAC-SHA256(domain's salt, "thaw chunk key" || digest)
 *   name   = HMAC-SHA256(domain's salt, "thaw chunk name" || digest)
 *
 * Invariants:
 *   1. The same bytes in a trust domain have the same name and key, and only those who know the salt can tell which.
 *   2. The nonce is random, so no pair of key and nonce repeats, also where another codec seals the same bytes anew.
 *   3. The tag authenticates the header (bytes 0-23) and the name: a chunk in another's place does not verify.
 *   4. Plain bytes are decompressed and given out only after the tag was checked. */
#pragma once

#include "store/codec.h"
#include "store/seal.h"
#include "store/store.h"

#define CHUNK_NAME_BYTES 32
#define CHUNK_HEADER_BYTES 24
#define CHUNK_VERSION 1
#define CHUNK_PLAIN_MAX STORE_CHUNK_BYTES_MAX
#define CHUNK_SEALED_MAX (CHUNK_HEADER_BYTES + CHUNK_PLAIN_MAX + SEAL_TAG_BYTES)

struct chunk_id {
    uint8_t name[CHUNK_NAME_BYTES], key[SEAL_KEY_BYTES];
};

/* One thread's tools for chunks: contexts and buffers that are reused. */
struct chunk_tools;
MUST_CHECK struct chunk_tools *chunk_tools_new(bool seals, struct error *err);
void chunk_tools_free(struct chunk_tools *tools); /* NULL is fine; wipes */

MUST_CHECK int chunk_identify(struct chunk_tools *tools, const uint8_t salt[SEAL_KEY_BYTES],
    const void *plain, size_t len, struct chunk_id *id, struct error *err);
/* *sealed points into the tools, until their next use. Only of tools that seal; len is 1..CHUNK_PLAIN_MAX. */
MUST_CHECK int chunk_seal(struct chunk_tools *tools, const struct chunk_id *id, enum codec codec,
    const void *plain, size_t len, const uint8_t **sealed, size_t *sealed_len, struct error *err);
/* `out` takes plain_len bytes; NULL: only authenticate. ERROR_CORRUPT, ERROR_UNSUPPORTED (of a newer version). */
MUST_CHECK int chunk_open(struct chunk_tools *tools, const struct chunk_id *id, const uint8_t *sealed,
    size_t sealed_len, void *out, size_t plain_len, struct error *err);
/* Read the file `path` below `dir_fd` and open it, as above. ERROR_NOT_FOUND when it is missing. */
MUST_CHECK int chunk_read_file(struct chunk_tools *tools, const struct chunk_id *id, int dir_fd,
    const char *path, void *out, size_t plain_len, struct error *err);
/* The same of an open file, from its start on. */
MUST_CHECK int chunk_read_fd(struct chunk_tools *tools, const struct chunk_id *id, int fd, void *out,
    size_t plain_len, struct error *err);
