/* Which chunks a page stream is made of. Private to the store.
 *
 *    0  magic "THRC"          12  u64 bytes of the stream      24  chunks, 68 bytes each: u32 bytes, name, key
 *    4  u16 format version    20  u32 number of chunks
 *    6  u16 zero
 *    8  u32 most bytes that a chunk has */
#pragma once

#include "store/chunk.h"
#include "store/store.h"

#define RECIPE_VERSION 1
#define RECIPE_CHUNK_BYTES (4 + CHUNK_NAME_BYTES + SEAL_KEY_BYTES)
#define RECIPE_HEADER_BYTES 24

struct recipe_chunk {
    uint64_t offset; /* in the stream */
    uint32_t bytes;
    bool is_new; /* while it is written: nothing had the chunk before */
    struct chunk_id id;
};

/* Start from {0}. */
struct recipe {
    struct recipe_chunk *chunks;
    size_t count, capacity;
    uint64_t stream_bytes;
};

/* Appends a chunk whose id is not known yet, and gives its index. ERROR_LIMIT. */
MUST_CHECK int recipe_add(struct recipe *recipe, uint32_t bytes, size_t *index, struct error *err);
void recipe_encode(struct buffer *out, const struct recipe *recipe);
/* Reads a recipe from the front of `from`. ERROR_CORRUPT, ERROR_UNSUPPORTED. */
MUST_CHECK int recipe_decode(struct recipe *recipe, struct cursor *from, struct error *err);
void recipe_free(struct recipe *recipe); /* wipes the keys */
