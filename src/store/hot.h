/* The hot set: pages of the stream with their contents, in the order in which they are to be installed. A sealed file whose
 * first segment says how much there is:
 *
 *    0  magic "THHS"    4  u16 format version    6  u16 zero    8  u32 pieces    12  u64 bytes of pages
 *
 * and whose other segments are a piece each:
 *
 *    0  u32 runs    4  u32 bytes of pages    8  u32 enum codec    12  runs, 12 bytes each: u64 offset, u32 bytes
 *   ..  the pages, compressed as one. Private to the store. */
#pragma once

#include "store/codec.h"
#include "store/store.h"

/* One thread's. Start from {0}. */
struct hot_decoder {
    struct codecs codecs;
    struct store_hot_run *runs; /* STORE_HOT_PIECE_RUNS */
};
MUST_CHECK int hot_decoder_init(struct hot_decoder *decoder, struct error *err);
void hot_decoder_free(struct hot_decoder *decoder);
/* A piece of a hot set of a stream of `stream_bytes`: *piece points into the decoder, and into `pages` (STORE_HOT_PIECE_BYTES)
 * or, where it is not compressed, into `plain`. ERROR_CORRUPT. */
MUST_CHECK int hot_decode_piece(struct hot_decoder *decoder, const uint8_t *plain, size_t len,
    uint64_t stream_bytes, uint8_t *pages, struct store_hot_piece *piece, struct error *err);
