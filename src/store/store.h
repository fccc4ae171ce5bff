/* Snapshots on disk: encrypted, cut into chunks that snapshots share, compressed, and checked to the last bit when read.
 * A snapshot is a manifest (opaque bytes), a stream of pages (opaque bytes, in the order they were written) and, once it is
 * known, its hot set: pages of the stream that a first request needs. Whatever comes back is what went in: anything else is
 * ERROR_CORRUPT, with the file's name and the place.
 *
 *   DATA/thaw.key                      the master key
 *   DATA/store/domains/NAME            a trust domain's salt, wrapped by the master key
 *   DATA/store/snapshots/ID/key        the snapshot's data key, wrapped: without it the snapshot cannot be read
 *   DATA/store/snapshots/ID/manifest   sealed: the recipe (which chunks the stream is made of) and the manifest
 *   DATA/store/snapshots/ID/hot        sealed: the hot set
 *   DATA/store/snapshots/ID.tmp/       being written. Its file `key` is written first: its mtime is the begin
 *   DATA/store/chunks/ab/REST          a sealed chunk, named after its contents. Its mtime is its last confirmed use
 *   DATA/store/tmp/                    half-written files; emptied at store_open
 *
 * docs/STORE.md has the formats to the byte. Snapshot ids are STORE_ID_HEX lower-case hex digits, never used twice.
 *
 * Invariants:
 *   1. A chunk in its place is whole and durable: it is written elsewhere, made durable, and only then renamed.
 *   2. A snapshot in its place is whole and durable, and so is every chunk that it names, or the origin has it.
 *   3. A chunk that a publish finds is authenticated before the publish relies on it.
 *
 * The store may be used in forked children of the process that opened it (freezing and reading run there). A writer makes
 * threads of its own; else nothing here is thread-safe. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>

#define STORE_ID_HEX 32
#define STORE_MANIFEST_BYTES_MAX (64u * 1024 * 1024)
#define STORE_CHUNK_BYTES (128u * 1024)     /* of addresses: how the stream is cut */
#define STORE_CHUNK_BYTES_MAX (512u * 1024) /* that a chunk may have, by whomever it was written */
#define STORE_CHUNKS_MAX (1u << 22)         /* of one snapshot */
#define STORE_CHUNK_NAME_BYTES 80           /* "chunks/ab/REST" and its NUL */
#define STORE_BULK_SPACE UINT64_MAX
#define STORE_DEFAULT_DOMAIN "default"

struct store;
struct store_writer;
struct store_reader;
struct store_hot;
struct origin;

/* Opens (and at the first start makes) key and folders below `data_dir_fd` (not kept), and removes what crashed writers
 * left. Only one process may open a store at a time: the caller sees to that. */
MUST_CHECK struct store *store_open(int data_dir_fd, struct error *err);
void store_close(struct store *store); /* NULL is fine; wipes the key */
/* Wipes the master key from this process: readers that are open go on, but no snapshot can be opened or begun any more. */
void store_forget_master(struct store *store);

/* ---- the origin ---- */

/* From now on, snapshots go to the origin too when they are published and deleted, and come from there when they are not here.
 * `control_fd` (not kept open, not closed) is what origin_new takes; `address` names the origin: what is known of one means
 * nothing to another. */
void store_use_origin(struct store *store, int control_fd, const char *address);
/* Tests cannot wait for hours. */
struct store_origin_times {
    uint64_t grace_s;      /* ORIGIN_GRACE_S */
    uint64_t burst_wait_s; /* see store/burst.h */
};
void store_origin_times(const struct store *store, struct store_origin_times *times);
void store_set_origin_times(struct store *store, const struct store_origin_times *times);
int store_origin_control(const struct store *store); /* -1: there is no origin */
struct origin *store_origin(
    struct store *store); /* this process's connection (store/origin.h); NULL: there is none */
bool store_has(const struct store *store, const char *id); /* in the local folder */
/* Bring a snapshot's own files here from the origin, in place of those that are here. Waits for the network: for workers.
 * ERROR_NOT_FOUND: it is not there either. */
MUST_CHECK int store_bring(struct store *store, const char *id, struct error *err);

/* ---- writing ---- */

struct store_written {
    uint64_t stored_bytes; /* new on the disk: chunks that were not there, and the snapshot's own files */
    uint64_t
        shared_bytes; /* of the page stream, in chunks that were there (also from earlier in this snapshot) */
    uint64_t plain_bytes; /* of the page stream */
    uint64_t chunks, chunks_shared;
};

/* Begin to write snapshot `id`, which shares chunks with others of the same trust `domain` only: ERROR_CONFLICT when it
 * exists. Nothing is visible until the commit. */
MUST_CHECK struct store_writer *store_writer_begin(
    struct store *store, const char *id, const char *domain, struct error *err);
/* Append to the page stream. `space` and `address` tell where the bytes belong (a process's index and an address, or
 * STORE_BULK_SPACE and an offset): chunks are cut where addresses are multiples of STORE_CHUNK_BYTES. */
MUST_CHECK int store_writer_pages(struct store_writer *writer, uint64_t space, uint64_t address,
    const void *data, size_t len, struct error *err);
/* Write the manifest, make everything durable, and let it appear. Frees the writer, also when it fails (then nothing of
 * the snapshot is left). `written` may be NULL. */
MUST_CHECK int store_writer_commit(struct store_writer *writer, const void *manifest, size_t manifest_len,
    struct store_written *written, struct error *err);
void store_writer_abort(struct store_writer *writer); /* NULL is fine; removes what was written */

/* ---- reading ---- */

/* Open a snapshot and read its manifest, verified, appended to `manifest` (may be NULL). ERROR_NOT_FOUND, ERROR_CORRUPT
 * (also when it was sealed with another key: the text says so). The reader works on after a fork, in parent and child
 * independently, and without the store's master key. */
MUST_CHECK struct store_reader *store_reader_open(
    struct store *store, const char *id, struct buffer *manifest, struct error *err);
/* The same in two steps. In between it has its key, which is enough for its hot set (store_hot_open_file) and store_reader_tell. */
MUST_CHECK struct store_reader *store_reader_begin(struct store *store, const char *id, struct error *err);
MUST_CHECK int store_reader_load(struct store_reader *reader, struct buffer *manifest, struct error *err);
/* The same; what is not here, or is damaged, is brought from the origin first. For workers, too. */
MUST_CHECK struct store_reader *store_reader_open_or_bring(
    struct store *store, const char *id, struct buffer *manifest, struct error *err);
void store_reader_close(struct store_reader *reader); /* NULL is fine; wipes its keys */
const char *store_reader_id(const struct store_reader *reader);

/* Where a chunk's bytes are in the stream. */
struct store_chunk_place {
    uint64_t offset;
    uint32_t bytes; /* 1..STORE_CHUNK_BYTES_MAX */
};
uint64_t store_reader_stream_bytes(const struct store_reader *reader);
size_t store_reader_chunk_count(const struct store_reader *reader);
struct store_chunk_place store_reader_chunk(const struct store_reader *reader, size_t chunk);
/* The chunk that holds the stream's byte at `offset`, which must be < store_reader_stream_bytes. */
size_t store_reader_find(const struct store_reader *reader, uint64_t offset);
/* The file's name below DATA/store: "chunks/ab/REST". The text is the reader's, until the next call. */
const char *store_reader_chunk_name(struct store_reader *reader, size_t chunk);
/* Makes what reading chunks takes, some hundred KB, which opening does not need. It is made at the first read, unless this was
 * called before; after it reading needs no memory. */
MUST_CHECK int store_reader_prepare(struct store_reader *reader, struct error *err);
/* Another process of ours, which has a store but not its master key, is told of a reader: first of the snapshot, with its key, so
 * whoever has this can read it; then of its chunks. There a reader without a snapshot was made ahead of need, with a descriptor of
 * its own and what store_reader_prepare makes. What fails leaves one that is good for nothing. ERROR_INTERNAL. */
void store_reader_tell(const struct store_reader *reader, struct buffer *out);
void store_reader_tell_chunks(const struct store_reader *reader, struct buffer *out);
MUST_CHECK struct store_reader *store_reader_new_untold(struct store *store, struct error *err);
MUST_CHECK int store_reader_told(struct store_reader *reader, struct cursor *from, struct error *err);
MUST_CHECK int store_reader_told_chunks(struct store_reader *reader, struct cursor *from, struct error *err);
/* Read a chunk from the local folder, verified; `out` takes its place's bytes. ERROR_NOT_FOUND: it is not here.
 * ERROR_CORRUPT: it is not what was written. Needs openat, fstat, read and close (and memory: see store_reader_prepare). */
MUST_CHECK int store_reader_read_chunk(
    struct store_reader *reader, size_t chunk, void *out, struct error *err);
/* The descriptors that it needs, which stay its own; returns how many. For a process that closes all others. */
#define STORE_READER_FDS 2
size_t store_reader_fds(const struct store_reader *reader, int fds[STORE_READER_FDS]);
/* Bring a chunk from the origin, into `out` and the local folder. For workers. ERROR_CORRUPT: what the origin has is damaged. */
MUST_CHECK int store_reader_bring_chunk(
    struct store_reader *reader, size_t chunk, bool damaged, void *out, struct error *err);
/* Write the whole page stream to `out_fd`, in order. Brings what is not here, or is damaged. */
MUST_CHECK int store_reader_stream(struct store_reader *reader, int out_fd, struct error *err);

/* ---- the hot set ---- */

struct store_hot_run {
    uint64_t offset; /* in the page stream */
    uint32_t bytes;
};
#define STORE_HOT_PIECE_BYTES (224u * 1024) /* of pages, at most */
#define STORE_HOT_PIECE_RUNS 2048

/* Gives the bytes of the stream [offset, offset + len) into `out`; what a writer of a hot set asks of its caller. */
typedef int store_read_stream(void *context, uint64_t offset, void *out, size_t len, struct error *err);
/* Write the hot set of the reader's snapshot anew: `runs` in the order in which they are to be installed. Replaces the old
 * one at once; when it fails, the old one stays. ERROR_NOT_FOUND when the snapshot is gone. `read` NULL: from the chunks. */
MUST_CHECK int store_hot_write(struct store *store, struct store_reader *reader,
    const struct store_hot_run *runs, size_t count, store_read_stream *read, void *context,
    struct error *err);
/* ERROR_NOT_FOUND: there is none. The reader must outlive it. */
MUST_CHECK struct store_hot *store_hot_open(struct store_reader *reader, struct error *err);
/* The same in two processes: its file, of a reader that has its key, -1 (with the error) when there is none; and, of a reader that was told,
 * the hot set in that file. That may be before it was told of the chunks: then it is for the caller to see that what pieces say
 * is in the stream. */
MUST_CHECK int store_hot_open_file(const struct store_reader *reader, struct error *err);
MUST_CHECK struct store_hot *store_hot_open_told(struct store_reader *reader, int fd, struct error *err);
/* A piece: verified; valid until the next call. pages holds the runs' bytes one after the other. */
struct store_hot_piece {
    const struct store_hot_run *runs;
    size_t run_count;
    const uint8_t *pages;
    size_t bytes;
};
/* The next piece; piece->run_count is 0 at the verified end. Runs lie inside the stream. */
MUST_CHECK int store_hot_next(struct store_hot *hot, struct store_hot_piece *piece, struct error *err);
/* For several threads, a worker each. Pieces are taken by one at a time (the caller's lock), which reads and verifies, and decoded
 * beside each other. The hot set must outlive its workers. */
struct store_hot_worker;
MUST_CHECK struct store_hot_worker *store_hot_worker_new(struct store_hot *hot, struct error *err);
void store_hot_worker_free(struct store_hot_worker *worker); /* NULL is fine */
/* 1: the worker has the next piece; 0: that was the verified end; -1, and then there are only errors. */
MUST_CHECK int store_hot_take(struct store_hot_worker *worker, struct error *err);
/* What it took: `piece` points into the worker and into `pages` (STORE_HOT_PIECE_BYTES), or, of what is not compressed, into the
 * worker only; until it takes the next. */
MUST_CHECK int store_hot_decode(
    struct store_hot_worker *worker, void *pages, struct store_hot_piece *piece, struct error *err);
int store_hot_fd(const struct store_hot *hot); /* the only descriptor that it needs, which stays its own */
uint64_t store_hot_bytes(const struct store_hot *hot); /* of the file */
void store_hot_close(struct store_hot *hot);           /* NULL is fine */

/* ---- housekeeping ---- */

/* Remove a snapshot: unreadable at once, as its key goes first. Its chunks stay for the collection. ERROR_NOT_FOUND. With an origin
 * it is removed there, too (for workers): what does not succeed is noted, and done by store_finish_removals. */
MUST_CHECK int store_delete(struct store *store, const char *id, struct error *err);
/* In the local folder only: what the origin has may be another machine's. */
MUST_CHECK int store_delete_here(struct store *store, const char *id, struct error *err);
MUST_CHECK int store_finish_removals(struct store *store, struct error *err);
/* At the start, before store_finish_removals: what publishes put into the origin that never became a version is to go. */
typedef bool store_is_kept(void *context, const char *id);
MUST_CHECK int store_settle_publishes(
    struct store *store, store_is_kept *is_kept, void *context, struct error *err);
/* Remove what a courier left in DATA/store/tmp when it died. */
void store_discard_fetched(struct store *store);
/* Remove what the writer of `id` left when its process died (a later store_open would do it, too). */
void store_discard_unfinished(struct store *store, const char *id);

struct store_entry {
    char id[STORE_ID_HEX + 1];
    uint64_t stored_bytes; /* of the snapshot's own files */
};
/* All snapshots, in no order; *entries is for the caller to free. */
MUST_CHECK int store_list(
    struct store *store, struct store_entry **entries, size_t *count, struct error *err);
/* Calls `each` for every chunk in the local folder, with its name ("chunks/ab/REST"), size and mtime; stops when it returns
 * false. */
typedef bool store_each_chunk(void *context, const char *name, uint64_t stored_bytes, int64_t mtime_ns);
MUST_CHECK int store_chunks(struct store *store, store_each_chunk *each, void *context, struct error *err);
