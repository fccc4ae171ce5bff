/* A sealed file: a header, then segments of ciphertext. Private to the store.
 *
 *    0  magic "THAWSEAL"        12  u32 most bytes of a segment    64  segments: u32 bytes of ciphertext, the
 *    8  u16 format version      16  the snapshot's id                  ciphertext, a tag of 16 bytes
 *   10  u16 enum seal_kind      32  random salt of the file
 *
 *   key of the file = HMAC-SHA256(snapshot's data key, "thaw sealed file" || bytes 8-63)
 *
 * Invariants:
 *   1. The salt is random, so each file has a key of its own, and (kind, segment index) is a nonce that never repeats, also
 *      when the file is written anew.
 *   2. The tag of a segment also authenticates the snapshot's id, the kind of file, the index, the length, and whether it
 *      is the last: no segment verifies in another place, and a file that was cut at a segment's border, or made longer,
 *      does not verify at its end.
 *   3. Plain bytes are given out only after their segment's tag was checked. */
#pragma once

#include "store/seal.h"

#define SEALED_HEADER_BYTES 64
#define SEALED_VERSION 2

/* Start from {.fd = -1}. */
struct sealed_writer {
    int fd;
    struct sealer sealer;
    uint8_t *sealed;
    uint64_t written;
};
MUST_CHECK int sealed_writer_open(struct sealed_writer *w, int dir_fd, const char *name,
    const uint8_t data_key[SEAL_KEY_BYTES], const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind,
    struct error *err);
/* One segment of up to SEAL_SEGMENT_BYTES; after the last one the file is complete, but not yet durable. */
MUST_CHECK int sealed_writer_segment(
    struct sealed_writer *w, const void *plain, size_t len, bool last, struct error *err);
/* As many full segments as it takes, and a last one. */
MUST_CHECK int sealed_writer_rest(struct sealed_writer *w, const void *plain, size_t len, struct error *err);
void sealed_writer_close(struct sealed_writer *w);

/* Start from {.fd = -1}. `left` counts the sealed bytes still to come, by the length that the file had when it was opened;
 * `ended` once the last segment has verified. */
struct sealed_reader {
    int fd;
    uint64_t left, size;
    bool ended, failed;
    struct sealer sealer;
    uint8_t *sealed, *plain;
};
/* ERROR_NOT_FOUND, ERROR_CORRUPT, ERROR_UNSUPPORTED. */
MUST_CHECK int sealed_reader_open(struct sealed_reader *r, int dir_fd, const char *name,
    const uint8_t data_key[SEAL_KEY_BYTES], const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind,
    struct error *err);
/* Of an open file, which stays the caller's; read from its start. */
MUST_CHECK int sealed_reader_open_fd(struct sealed_reader *r, int fd, const uint8_t data_key[SEAL_KEY_BYTES],
    const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind, struct error *err);
/* The next segment, verified: *plain points into the reader, until the next call. NULL at the verified end. After an error
 * there are only errors. */
MUST_CHECK int sealed_reader_next(
    struct sealed_reader *r, const uint8_t **plain, size_t *len, struct error *err);
/* The same, into the caller's SEAL_SEGMENT_BYTES, for one that has several segments at hand: 1, or 0 at the verified end. */
MUST_CHECK int sealed_reader_take(struct sealed_reader *r, uint8_t *plain, size_t *len, struct error *err);
void sealed_reader_close(struct sealed_reader *r); /* wipes */
