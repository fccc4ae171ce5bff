#include "store/codec.h"

#include <limits.h>
#include <lz4.h>
#include <lz4hc.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define ZSTD_LEVEL 1
/* Of its better compressor: a fifth less than its fast one makes, in five times the time, and what somebody waits for, unpacking it, takes a
 * fifth less, too. */
#define LZ4_LEVEL 3

int codecs_init(struct codecs *codecs, bool compress, struct error *err)
{
    codecs->zstd_decompressor = ZSTD_createDCtx();
    codecs->zstd_compressor = compress ? ZSTD_createCCtx() : NULL;
    codecs->lz4_state = compress ? malloc((size_t)LZ4_sizeofStateHC()) : NULL;
    if (codecs->zstd_decompressor != NULL &&
        (!compress || (codecs->zstd_compressor != NULL && codecs->lz4_state != NULL)))
        return 0;
    codecs_free(codecs);
    return error_set(err, ERROR_INTERNAL, "there is no memory to compress with");
}

void codecs_free(struct codecs *codecs)
{
    ZSTD_freeCCtx(codecs->zstd_compressor);
    ZSTD_freeDCtx(codecs->zstd_decompressor);
    free(codecs->lz4_state);
    *codecs = (struct codecs){0};
}

size_t codec_compress(struct codecs *codecs, enum codec codec, const void *data, size_t len, void *out)
{
    size_t worth = len - len / 16;
    if (len == 0 || len > INT_MAX)
        return 0;
    if (codec == CODEC_LZ4) {
        int n = LZ4_compress_HC_extStateHC(codecs->lz4_state, data, out, (int)len, (int)worth, LZ4_LEVEL);
        return n > 0 ? (size_t)n : 0;
    }
    if (codec == CODEC_ZSTD) {
        size_t n = ZSTD_compressCCtx(codecs->zstd_compressor, out, worth, data, len, ZSTD_LEVEL);
        return ZSTD_isError(n) ? 0 : n;
    }
    return 0;
}

int codec_decompress(struct codecs *codecs, enum codec codec, const void *data, size_t len, void *out,
    size_t plain_len, struct error *err)
{
    size_t got = SIZE_MAX;
    if (len > INT_MAX || plain_len > INT_MAX)
        return error_set(err, ERROR_CORRUPT, "it is too long");
    if (codec == CODEC_NONE && len == plain_len) {
        memcpy(out, data, len);
        got = len;
    } else if (codec == CODEC_LZ4) {
        got = (size_t)LZ4_decompress_safe(data, out, (int)len, (int)plain_len);
    } else if (codec == CODEC_ZSTD) {
        got = ZSTD_decompressDCtx(codecs->zstd_decompressor, out, plain_len, data, len);
    }
    if (got == plain_len)
        return 0;
    return error_set(
        err, ERROR_CORRUPT, "it does not decompress (%s) to %zu bytes", codec_name(codec), plain_len);
}

const char *codec_name(enum codec codec)
{
    static const char *const names[CODEC_COUNT] = {"none", "lz4", "zstd"};
    return (unsigned)codec < CODEC_COUNT ? names[codec] : "unknown";
}
