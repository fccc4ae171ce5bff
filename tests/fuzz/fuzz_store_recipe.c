/* fuzz: src/base src/store -lcrypto -lzstd -llz4
 * The recipe at the head of a snapshot's manifest. What is taken encodes to the same bytes. */
#include "store/recipe.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct recipe recipe = {0};
    struct error err = {0};
    struct cursor in = cursor_over(data, size);
    if (recipe_decode(&recipe, &in, &err) < 0) {
        if (err.kind != ERROR_CORRUPT && err.kind != ERROR_UNSUPPORTED)
            abort();
        recipe_free(&recipe);
        return 0;
    }
    CLEANUP_BUFFER struct buffer again = {0};
    uint64_t offset = 0;
    for (size_t i = 0; i < recipe.count; i++) {
        if (recipe.chunks[i].offset != offset || recipe.chunks[i].bytes == 0)
            abort();
        offset += recipe.chunks[i].bytes;
    }
    if (offset != recipe.stream_bytes)
        abort();
    recipe_encode(&again, &recipe);
    /* Bytes 8-11 are the largest chunk of whoever wrote it. */
    if (again.len != size - in.left || memcmp(again.data, data, 8) != 0 ||
        memcmp(again.data + 12, data + 12, again.len - 12) != 0)
        abort();
    recipe_free(&recipe);
    return 0;
}
