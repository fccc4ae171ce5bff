/* fuzz: src/base src/store -lcrypto -llz4 -lzstd
 * A recipe and a piece of a hot set, by the first byte, as they would come from a writer of ours that was wrong: nobody else can seal
 * them. What is around them has targets of its own. */
#include "store/chunk.h"
#include "store/hot.h"
#include "store/recipe.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_error(const struct error *err)
{
    must(err->kind != ERROR_NONE && err->text[0] != 0);
}

static void try_recipe(const uint8_t *data, size_t size)
{
    struct recipe r = {0};
    struct error err = {0};
    struct cursor c = cursor_over(data, size);
    if (recipe_decode(&r, &c, &err) < 0) {
        check_error(&err);
    } else {
        CLEANUP_BUFFER struct buffer again = {0};
        uint64_t offset = 0;
        for (size_t i = 0; i < r.count; i++) {
            must(r.chunks[i].offset == offset && r.chunks[i].bytes > 0 &&
                 r.chunks[i].bytes <= CHUNK_PLAIN_MAX);
            offset += r.chunks[i].bytes;
        }
        must(offset == r.stream_bytes);
        recipe_encode(&again, &r);
        must(again.len == size - c.left && memcmp(again.data + 12, data + 12, again.len - 12) == 0);
    }
    recipe_free(&r);
}

static void try_hot(const uint8_t *data, size_t size)
{
    static struct hot_decoder decoder;
    static uint8_t pages[STORE_HOT_PIECE_BYTES];
    struct store_hot_piece piece;
    struct error err = {0};
    const uint64_t stream_bytes = 1u << 20;
    if (decoder.runs == NULL)
        must(hot_decoder_init(&decoder, &err) == 0);
    if (hot_decode_piece(&decoder, data, size, stream_bytes, pages, &piece, &err) < 0) {
        check_error(&err);
        return;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < piece.run_count; i++) {
        must(piece.runs[i].offset + piece.runs[i].bytes <= stream_bytes);
        sum += piece.runs[i].bytes;
    }
    must(sum == piece.bytes && piece.bytes <= STORE_HOT_PIECE_BYTES);
    volatile uint8_t last = piece.pages[piece.bytes - 1];
    (void)last;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(const uint8_t *, size_t) = {try_recipe, try_hot};
    if (size > 0)
        targets[data[0] % countof(targets)](data + 1, size - 1);
    return 0;
}
