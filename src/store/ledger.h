/* All chunks that snapshots refer to, and which of them are here: the mark of mark and sweep. Private to the store. */
#pragma once

#include "store/chunk.h"
#include "store/store.h"

enum ledger_state { LEDGER_UNKNOWN = 0, LEDGER_GOOD, LEDGER_BAD };

struct ledger_chunk {
    uint8_t name[CHUNK_NAME_BYTES];
    uint32_t plain_bytes; /* 0: no snapshot refers to it */
    uint32_t snapshot;    /* the first that does */
    bool shared;          /* others do, too */
    bool here;            /* in the local folder */
    enum ledger_state state;
    uint64_t stored_bytes; /* when it is here */
    int64_t used_ns;       /* newest use: its mtime, or that of a snapshot which refers to it */
};

struct ledger_snapshot {
    char id[STORE_ID_HEX + 1];
    uint64_t logical_bytes, file_bytes;
    uint32_t *chunks; /* indices of the different ones */
    size_t chunk_count;
    bool readable, has_files; /* key and manifest are there, whatever is in them */
    struct error why_not;
};

/* Start from {0}. */
struct ledger {
    struct ledger_chunk *chunks;
    size_t chunk_count, chunk_capacity;
    uint32_t *slots; /* a hash table of indices + 1 */
    size_t slot_count;
    struct ledger_snapshot *snapshots;
    size_t snapshot_count;
};

/* The chunk, added when it is new. Valid until another one is added. */
struct ledger_chunk *ledger_find(struct ledger *ledger, const uint8_t name[CHUNK_NAME_BYTES]);
/* Some snapshot refers to it. */
bool ledger_is_named(const struct ledger *ledger, const uint8_t name[CHUNK_NAME_BYTES]);
/* Notes that a snapshot which is not in the local folder refers to its chunks. */
MUST_CHECK int ledger_note_chunks_of(struct ledger *ledger, struct store_reader *reader, struct error *err);
/* Notes every snapshot and what it refers to, also those that cannot be read. One that is deleted meanwhile is left
 * out. */
MUST_CHECK int ledger_note_snapshots(struct ledger *ledger, struct store *store, struct error *err);
/* Notes every chunk that is in the local folder. */
MUST_CHECK int ledger_note_chunks(struct ledger *ledger, struct store *store, struct error *err);
/* "chunks/ab/REST" <-> the name's bytes. */
bool ledger_parse_name(const char *path, uint8_t name[CHUNK_NAME_BYTES]);
void ledger_print_name(const uint8_t name[CHUNK_NAME_BYTES], char path[STORE_CHUNK_NAME_BYTES]);
/* Its folder is there, whatever is in it. */
bool ledger_snapshot_exists(const struct store *store, const char *id);
/* store_reader_open, beside deletions: ERROR_NOT_FOUND when the snapshot was deleted meanwhile, else why it cannot be
 * read. */
MUST_CHECK struct store_reader *ledger_open(struct store *store, const char *id, struct error *err);
void ledger_free(struct ledger *ledger);
#define CLEANUP_LEDGER __attribute__((cleanup(ledger_free)))
