/* Looking after the store: sizes, a check of every byte, the collection of chunks that no snapshot needs, and, where an
 * origin has everything, keeping the local folder to a budget. All of these run in a child of the process that opened the
 * store, beside publishes, deletions and readers. */
#pragma once

#include "store/origin.h"
#include "store/store.h"

/* ---- sizes ---- */

struct store_snapshot_sizes {
    char id[STORE_ID_HEX + 1];
    uint64_t logical_bytes;           /* of its page stream: what it would take on its own, uncompressed */
    uint64_t chunks;                  /* different ones */
    uint64_t own_bytes, shared_bytes; /* stored here, of chunks that only it, or others too, refer to */
    uint64_t file_bytes;              /* its key, manifest and hot set */
};
struct store_totals {
    uint64_t snapshots, unreadable_snapshots, chunks;
    uint64_t logical_bytes;                  /* of all snapshots */
    uint64_t plain_bytes;                    /* of the different chunks that they refer to */
    uint64_t chunk_bytes, local_plain_bytes; /* of those that are here: as stored, and plain */
    uint64_t file_bytes;
    uint64_t absent_chunks, absent_bytes;             /* referred to, not here; plain bytes */
    uint64_t unreferenced_chunks, unreferenced_bytes; /* here, as stored */
    uint64_t stored_bytes;                            /* everything here */
};
typedef void store_each_sizes(void *context, const struct store_snapshot_sizes *sizes);
/* Snapshots that cannot be read are counted, and nothing more. */
MUST_CHECK int store_measure(struct store *store, store_each_sizes *each, void *context,
    struct store_totals *totals, struct error *err);

/* ---- verification ---- */

struct store_damage {
    const char *snapshot_id; /* that needs it; "" for a domain's salt */
    const char *file;        /* "key", "manifest", "hot", "chunks/ab/REST", "domains/NAME" */
    const struct error *reason;
    bool repaired;
};
struct store_verify_callbacks {
    void (*damage)(
        void *context, const struct store_damage *damage); /* a chunk's: once for each snapshot with it */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
struct store_verified {
    uint64_t snapshots, chunks, bytes;
    uint64_t damaged, repaired; /* calls of `damage` */
};
/* Reads and authenticates every file that a snapshot needs. A chunk that is not here is damage, unless there is an origin
 * that has it. `repair`: what is damaged is fetched from the origin again; a hot set that cannot be had
 * again is removed, as it is only a hint; so is the salt of a domain, of which publishes then make another. */
MUST_CHECK int store_verify(struct store *store, bool repair, const struct store_verify_callbacks *callbacks,
    struct store_verified *verified, struct error *err);

/* ---- collection ---- */

struct store_collected {
    uint64_t removed_chunks, removed_bytes;
    uint64_t kept_chunks;  /* that snapshots need */
    uint64_t young_chunks; /* that publishes may need that run */
};
/* Removes the chunks that no snapshot refers to. ERROR_BUSY when another one runs on and on; ERROR_CORRUPT, and nothing
 * was removed, when a snapshot cannot be read: its chunks are not known. */
MUST_CHECK int store_collect(struct store *store, struct store_collected *collected, struct error *err);

struct store_origin_collected {
    uint64_t snapshots; /* whose manifests are there */
    uint64_t removed_chunks;
    uint64_t removed_files; /* keys and hot sets without a manifest */
    uint64_t removed_bytes; /* of both */
    uint64_t kept_chunks;   /* that snapshots need */
    uint64_t young_chunks;  /* that no snapshot names, stored less than the grace ago */
};
/* Removes from the origin the chunks that no snapshot refers to, there or here, and that were stored there at least
 * ORIGIN_GRACE_S ago. When a snapshot there cannot be read, nothing is removed, and the error has its name. */
MUST_CHECK int store_collect_origin(
    struct store *store, struct store_origin_collected *collected, struct error *err);
/* Whether a day has passed since this last said so; the first time that it is asked, it has not. For collections that nobody
 * asked for. */
bool store_collect_origin_is_due(struct store *store);

/* ---- keeping to a budget ---- */

struct store_evicted {
    uint64_t chunks, bytes;
    uint64_t local_bytes; /* that are left: chunks, and the snapshots' own files */
};
/* When the local folder has more than `budget` bytes: removes chunks that the origin has, those first whose last use is
 * longest ago, until nine tenths of the budget are reached; but none that a publish may need that runs. What is read
 * later is fetched again. */
MUST_CHECK int store_evict(
    struct store *store, uint64_t budget, struct store_evicted *evicted, struct error *err);
/* A snapshot is being used: its chunks are the last to be evicted. Best effort. */
void store_mark_used(struct store *store, const char *id);
