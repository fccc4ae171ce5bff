/* Compression of one piece at a time, with contexts that are reused. Private to the store. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum codec { CODEC_NONE = 0, CODEC_LZ4 = 1, CODEC_ZSTD = 2 };
#define CODEC_COUNT 3

/* One thread's. Start from {0}. */
struct codecs {
    void *zstd_compressor, *zstd_decompressor, *lz4_state;
};
/* Everything that is needed later, so that nothing allocates then. `compress` false: for decompression only. */
MUST_CHECK int codecs_init(struct codecs *codecs, bool compress, struct error *err);
void codecs_free(struct codecs *codecs);

/* Compresses into `out` (room for `len`) and gives the length, or 0 when that would not save at least 1/16: it is to be
 * stored as it is then. */
size_t codec_compress(struct codecs *codecs, enum codec codec, const void *data, size_t len, void *out);
/* Decompresses to exactly `plain_len` bytes: ERROR_CORRUPT when it is anything else. */
MUST_CHECK int codec_decompress(struct codecs *codecs, enum codec codec, const void *data, size_t len,
    void *out, size_t plain_len, struct error *err);
const char *codec_name(enum codec codec);
