#include "store/recipe.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static const char MAGIC[4] = {'T', 'H', 'R', 'C'};

/* Not by realloc, which would leave keys behind. */
static void grow(struct recipe *r, size_t capacity)
{
    struct recipe_chunk *larger = xcalloc(capacity, sizeof *larger);
    if (r->count > 0)
        memcpy(larger, r->chunks, r->count * sizeof *larger);
    if (r->chunks != NULL)
        OPENSSL_cleanse(r->chunks, r->count * sizeof *larger);
    free(r->chunks);
    r->chunks = larger;
    r->capacity = capacity;
}

int recipe_add(struct recipe *r, uint32_t bytes, size_t *index, struct error *err)
{
    if (r->count == STORE_CHUNKS_MAX)
        return error_set(err, ERROR_LIMIT, "a snapshot cannot have more than %u chunks", STORE_CHUNKS_MAX);
    if (r->count == r->capacity)
        grow(r, r->capacity > 0 ? 2 * r->capacity : 64);
    *index = r->count++;
    r->chunks[*index] = (struct recipe_chunk){.offset = r->stream_bytes, .bytes = bytes};
    r->stream_bytes += bytes;
    return 0;
}

void recipe_encode(struct buffer *out, const struct recipe *r)
{
    buffer_append(out, MAGIC, sizeof MAGIC);
    buffer_append_u16(out, RECIPE_VERSION);
    buffer_append_u16(out, 0);
    buffer_append_u32(out, STORE_CHUNK_BYTES);
    buffer_append_u64(out, r->stream_bytes);
    buffer_append_u32(out, (uint32_t)r->count);
    for (size_t i = 0; i < r->count; i++) {
        buffer_append_u32(out, r->chunks[i].bytes);
        buffer_append(out, r->chunks[i].id.name, CHUNK_NAME_BYTES);
        buffer_append(out, r->chunks[i].id.key, SEAL_KEY_BYTES);
    }
}

static int decode_header(
    struct cursor *c, uint64_t *stream_bytes, uint32_t *chunk_max, uint32_t *count, struct error *err)
{
    struct bytes magic = cursor_bytes(c, sizeof MAGIC);
    unsigned version = cursor_u16(c), zero = cursor_u16(c);
    *chunk_max = cursor_u32(c);
    *stream_bytes = cursor_u64(c);
    *count = cursor_u32(c);
    if (!cursor_ok(c) || memcmp(magic.data, MAGIC, sizeof MAGIC) != 0)
        return error_set(err, ERROR_CORRUPT, "there is no recipe");
    if (version != RECIPE_VERSION)
        return error_set(err, ERROR_UNSUPPORTED,
            "the recipe is of format version %u, and this program knows only %d", version, RECIPE_VERSION);
    if (zero != 0 || *chunk_max > CHUNK_PLAIN_MAX || *count > STORE_CHUNKS_MAX ||
        *count > c->left / RECIPE_CHUNK_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "the recipe names %u chunks of up to %u bytes", *count, *chunk_max);
    return 0;
}

int recipe_decode(struct recipe *r, struct cursor *c, struct error *err)
{
    uint64_t stream_bytes;
    uint32_t chunk_max, count;
    if (decode_header(c, &stream_bytes, &chunk_max, &count, err) < 0)
        return -1;
    grow(r, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        size_t index;
        uint32_t bytes = cursor_u32(c);
        if (bytes == 0 || bytes > chunk_max)
            return error_set(err, ERROR_CORRUPT, "chunk %u of the recipe has %u bytes", i, bytes);
        if (recipe_add(r, bytes, &index, err) < 0)
            return -1;
        memcpy(r->chunks[index].id.name, cursor_bytes(c, CHUNK_NAME_BYTES).data, CHUNK_NAME_BYTES);
        memcpy(r->chunks[index].id.key, cursor_bytes(c, SEAL_KEY_BYTES).data, SEAL_KEY_BYTES);
    }
    if (r->stream_bytes != stream_bytes)
        return error_set(err, ERROR_CORRUPT, "the recipe's chunks have %lu bytes instead of %lu",
            r->stream_bytes, stream_bytes);
    return 0;
}

void recipe_free(struct recipe *r)
{
    if (r->chunks != NULL)
        OPENSSL_cleanse(r->chunks, r->count * sizeof *r->chunks);
    free(r->chunks);
    *r = (struct recipe){0};
}
