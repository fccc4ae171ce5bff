/* fuzz: src/base src/http/parse.c
 * A chunked body gives the same bytes and the same verdict in one piece and byte by byte. */
#include "http/parse.h"

#include <stdlib.h>
#include <string.h>

#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_BUFFER struct buffer whole = {0}, pieces = {0};
    struct http_chunks chunks = {0}, stepwise = {0};
    size_t used = 0;
    enum http_chunk_result result = http_chunks_feed(&chunks, (const char *)data, size, &used, &whole, LIMIT);
    if (used > size || whole.len > LIMIT)
        abort();
    enum http_chunk_result last = HTTP_CHUNKS_MORE;
    size_t at = 0;
    while (at < size && last == HTTP_CHUNKS_MORE) {
        size_t took = 0;
        last = http_chunks_feed(&stepwise, (const char *)data + at, 1, &took, &pieces, LIMIT);
        at += took;
        if (took == 0 && last == HTTP_CHUNKS_MORE)
            abort();
    }
    if (last != result)
        abort();
    if (result == HTTP_CHUNKS_DONE && (at != used || whole.len != pieces.len ||
                                          (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0)))
        abort();
    return 0;
}
