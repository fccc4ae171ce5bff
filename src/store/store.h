/* Snapshots on disk, sealed. A snapshot is a manifest (opaque bytes) and a stream of pages (opaque bytes, in
 * the order they were written); both are encrypted and authenticated, so whatever comes back is what went in:
 * anything else is ERROR_CORRUPT, with the file's name and the place.
 *
 *   DATA/thaw.key                 32 random bytes, 0600: the master key, made at the first start
 *   DATA/snapshots/<id>/manifest  a snapshot exists when this folder does
 *   DATA/snapshots/<id>/pages
 *   DATA/snapshots/<id>.tmp/      being written; removed at the next store_open if its writer died
 *
 * Callers know nothing of segments: a later store may cut the streams into shared chunks, compress them and
 * keep them elsewhere. Snapshot ids are STORE_ID_HEX lower-case hex digits, never used twice.
 *
 * The store may be used in a forked child of the process that opened it (freezing and reading run there). Not
 * thread-safe. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

#define STORE_ID_HEX 32
#define STORE_MANIFEST_BYTES_MAX (64u * 1024 * 1024)

struct store;
struct store_writer;
struct store_reader;

/* Opens (and at the first start makes) key and folder below `data_dir_fd` (not kept), and removes what
 * crashed writers left. The key file must be a regular file of 32 bytes that belongs to us and that nobody
 * else can read (else ERROR_INVALID). Only one process may open a store at a time: the caller sees to that.
 */
MUST_CHECK struct store *store_open(int data_dir_fd, struct error *err);
void store_close(struct store *store); /* NULL is fine; wipes the key */

/* Begin to write snapshot `id`: ERROR_CONFLICT when it exists. Nothing is visible until the commit. */
MUST_CHECK struct store_writer *store_writer_begin(struct store *store, const char *id, struct error *err);
/* Append to the page stream. Any length; large pieces are fastest (they are sealed without a copy). */
MUST_CHECK int store_writer_pages(
    struct store_writer *writer, const void *data, size_t len, struct error *err);
/* Write the manifest, make everything durable, and let it appear. Frees the writer, also when it fails (then
 * nothing is left). `stored_bytes` (may be NULL) gets the size of both files. */
MUST_CHECK int store_writer_commit(struct store_writer *writer, const void *manifest, size_t manifest_len,
    uint64_t *stored_bytes, struct error *err);
void store_writer_abort(struct store_writer *writer); /* NULL is fine; removes what was written */

/* Open a snapshot and read its manifest, verified, appended to `manifest`. ERROR_NOT_FOUND, ERROR_CORRUPT
 * (also when it was sealed with another key: the text says so). */
MUST_CHECK struct store_reader *store_reader_open(
    struct store *store, const char *id, struct buffer *manifest, struct error *err);
/* The next verified piece of the page stream: *data points into the reader and is valid until the next call.
 * *len is 0 at the verified end. After an error the reader gives only errors. */
MUST_CHECK int store_reader_next(
    struct store_reader *reader, const void **data, size_t *len, struct error *err);
/* Write the whole (remaining) page stream to `out_fd`, in order. */
MUST_CHECK int store_reader_stream(struct store_reader *reader, int out_fd, struct error *err);
void store_reader_close(struct store_reader *reader); /* NULL is fine; wipes its key */

/* Remove a snapshot: gone from view at once. ERROR_NOT_FOUND. */
MUST_CHECK int store_delete(struct store *store, const char *id, struct error *err);

/* Remove what the writer of `id` left when its process died (a later store_open would do it, too). */
void store_discard_unfinished(struct store *store, const char *id);

struct store_entry {
    char id[STORE_ID_HEX + 1];
    uint64_t stored_bytes;
};
/* All snapshots, in no order; *entries is for the caller to free. */
MUST_CHECK int store_list(
    struct store *store, struct store_entry **entries, size_t *count, struct error *err);
