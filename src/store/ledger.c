#include "store/ledger.h"

#include "store/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS_AT_FIRST 4096
#define CHUNK_FOLDER "chunks/"
#define DELETION_POLLS 10
#define DELETION_POLL_US 20000

void ledger_free(struct ledger *ledger)
{
    for (size_t i = 0; i < ledger->snapshot_count; i++)
        free(ledger->snapshots[i].chunks);
    free(ledger->snapshots);
    free(ledger->chunks);
    free(ledger->slots);
    *ledger = (struct ledger){0};
}

/* Names are as good as random, so any of their bytes are a hash. */
static size_t first_slot(const struct ledger *ledger, const uint8_t *name)
{
    uint64_t hash;
    memcpy(&hash, name, sizeof hash);
    return (size_t)hash & (ledger->slot_count - 1);
}

static void grow_slots(struct ledger *ledger)
{
    free(ledger->slots);
    ledger->slot_count = ledger->slot_count ? 2 * ledger->slot_count : SLOTS_AT_FIRST;
    ledger->slots = xcalloc(ledger->slot_count, sizeof *ledger->slots);
    for (size_t i = 0; i < ledger->chunk_count; i++) {
        size_t slot = first_slot(ledger, ledger->chunks[i].name);
        while (ledger->slots[slot] != 0)
            slot = (slot + 1) & (ledger->slot_count - 1);
        ledger->slots[slot] = (uint32_t)i + 1;
    }
}

static size_t append_chunk(struct ledger *ledger, const uint8_t *name)
{
    if (ledger->chunk_count == ledger->chunk_capacity) {
        ledger->chunk_capacity = ledger->chunk_capacity ? 2 * ledger->chunk_capacity : SLOTS_AT_FIRST;
        ledger->chunks = xrealloc(ledger->chunks, ledger->chunk_capacity * sizeof *ledger->chunks);
    }
    struct ledger_chunk *chunk = &ledger->chunks[ledger->chunk_count];
    *chunk = (struct ledger_chunk){0};
    memcpy(chunk->name, name, sizeof chunk->name);
    return ledger->chunk_count++;
}

struct ledger_chunk *ledger_find(struct ledger *ledger, const uint8_t name[CHUNK_NAME_BYTES])
{
    if (2 * (ledger->chunk_count + 1) > ledger->slot_count)
        grow_slots(ledger);
    size_t slot = first_slot(ledger, name);
    for (; ledger->slots[slot] != 0; slot = (slot + 1) & (ledger->slot_count - 1))
        if (memcmp(ledger->chunks[ledger->slots[slot] - 1].name, name, CHUNK_NAME_BYTES) == 0)
            return &ledger->chunks[ledger->slots[slot] - 1];
    size_t index = append_chunk(ledger, name);
    ledger->slots[slot] = (uint32_t)index + 1;
    return &ledger->chunks[index];
}

bool ledger_is_named(const struct ledger *ledger, const uint8_t name[CHUNK_NAME_BYTES])
{
    if (ledger->slot_count == 0)
        return false;
    size_t slot = first_slot(ledger, name);
    for (; ledger->slots[slot] != 0; slot = (slot + 1) & (ledger->slot_count - 1)) {
        const struct ledger_chunk *chunk = &ledger->chunks[ledger->slots[slot] - 1];
        if (memcmp(chunk->name, name, CHUNK_NAME_BYTES) == 0)
            return chunk->plain_bytes != 0;
    }
    return false;
}

int ledger_note_chunks_of(struct ledger *ledger, struct store_reader *reader, struct error *err)
{
    for (size_t i = 0; i < store_reader_chunk_count(reader); i++) {
        uint8_t name[CHUNK_NAME_BYTES];
        if (!ledger_parse_name(store_reader_chunk_name(reader, i), name))
            return error_set(err, ERROR_INTERNAL, "a recipe has a chunk with an odd name");
        ledger_find(ledger, name)->plain_bytes = store_reader_chunk(reader, i).bytes;
    }
    return 0;
}

bool ledger_parse_name(const char *path, uint8_t name[CHUNK_NAME_BYTES])
{
    char hex[2 * CHUNK_NAME_BYTES + 1];
    const char *digits = path + strlen(CHUNK_FOLDER);
    if (strlen(path) != strlen(CHUNK_FOLDER) + 2 * CHUNK_NAME_BYTES + 1 ||
        memcmp(path, CHUNK_FOLDER, strlen(CHUNK_FOLDER)) != 0 || digits[2] != '/')
        return false;
    memcpy(hex, digits, 2);
    memcpy(hex + 2, digits + 3, sizeof hex - 2);
    return hex_decode(name, CHUNK_NAME_BYTES, hex);
}

void ledger_print_name(const uint8_t name[CHUNK_NAME_BYTES], char path[STORE_CHUNK_NAME_BYTES])
{
    char hex[2 * CHUNK_NAME_BYTES + 1];
    hex_encode(hex, name, CHUNK_NAME_BYTES);
    snprintf(path, STORE_CHUNK_NAME_BYTES, CHUNK_FOLDER "%.2s/%s", hex, hex + 2);
}

/* A disk that fails does not say that something is not there. */
static bool exists(const struct store *store, const char *path)
{
    return faccessat(store->snapshots_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           (errno != ENOENT && errno != ENOTDIR);
}

bool ledger_snapshot_exists(const struct store *store, const char *id)
{
    return exists(store, id);
}

static bool has_file(const struct store *store, const char *id, const char *file)
{
    char path[STORE_ID_HEX + 16];
    snprintf(path, sizeof path, "%s/%s", id, file);
    return exists(store, path);
}

struct store_reader *ledger_open(struct store *store, const char *id, struct error *err)
{
    for (unsigned i = 0;; i++) {
        struct store_reader *reader = store_reader_open(store, id, NULL, err);
        if (reader != NULL)
            return reader;
        if (!ledger_snapshot_exists(store, id)) {
            error_set(err, ERROR_NOT_FOUND, "snapshot %s was deleted", id);
            return NULL;
        }
        /* A deletion overwrites the key before it removes the rest. */
        if (i == DELETION_POLLS)
            return NULL;
        usleep(DELETION_POLL_US);
    }
}

static int note_references(
    struct ledger *ledger, struct ledger_snapshot *snapshot, struct store_reader *reader, struct error *err)
{
    uint32_t number = (uint32_t)(snapshot - ledger->snapshots);
    size_t count = store_reader_chunk_count(reader);
    snapshot->logical_bytes = store_reader_stream_bytes(reader);
    snapshot->chunks = xcalloc(count + 1, sizeof *snapshot->chunks);
    for (size_t i = 0; i < count; i++) {
        uint8_t name[CHUNK_NAME_BYTES];
        if (!ledger_parse_name(store_reader_chunk_name(reader, i), name))
            return error_set(err, ERROR_INTERNAL, "a recipe has a chunk with an odd name");
        struct ledger_chunk *chunk = ledger_find(ledger, name);
        if (chunk->plain_bytes == 0) {
            chunk->plain_bytes = store_reader_chunk(reader, i).bytes;
            chunk->snapshot = number;
        }
        chunk->shared = chunk->shared || chunk->snapshot != number;
        snapshot->chunks[snapshot->chunk_count++] = (uint32_t)(chunk - ledger->chunks);
    }
    return 0;
}

static int compare_indices(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void drop_repetitions(struct ledger_snapshot *snapshot)
{
    size_t kept = 0;
    qsort(snapshot->chunks, snapshot->chunk_count, sizeof *snapshot->chunks, compare_indices);
    for (size_t i = 0; i < snapshot->chunk_count; i++)
        if (kept == 0 || snapshot->chunks[kept - 1] != snapshot->chunks[i])
            snapshot->chunks[kept++] = snapshot->chunks[i];
    snapshot->chunk_count = kept;
}

static int note_snapshot(
    struct ledger *ledger, struct store *store, const struct store_entry *entry, struct error *err)
{
    struct ledger_snapshot *snapshot = &ledger->snapshots[ledger->snapshot_count];
    *snapshot = (struct ledger_snapshot){.file_bytes = entry->stored_bytes};
    memcpy(snapshot->id, entry->id, sizeof snapshot->id);
    struct store_reader *reader = ledger_open(store, entry->id, &snapshot->why_not);
    if (reader == NULL && snapshot->why_not.kind == ERROR_NOT_FOUND)
        return 0;
    ledger->snapshot_count++;
    snapshot->has_files = has_file(store, entry->id, "key") && has_file(store, entry->id, "manifest");
    if (reader == NULL)
        return 0;
    snapshot->readable = true;
    int result = note_references(ledger, snapshot, reader, err);
    store_reader_close(reader);
    drop_repetitions(snapshot);
    return result;
}

int ledger_note_snapshots(struct ledger *ledger, struct store *store, struct error *err)
{
    CLEANUP_FREE struct store_entry *entries = NULL;
    size_t count = 0;
    if (store_list(store, &entries, &count, err) < 0)
        return -1;
    ledger->snapshots = xcalloc(count + 1, sizeof *ledger->snapshots);
    for (size_t i = 0; i < count; i++)
        if (note_snapshot(ledger, store, &entries[i], err) < 0)
            return -1;
    return 0;
}

static bool note_chunk(void *context, const char *path, uint64_t stored_bytes, int64_t mtime_ns)
{
    struct ledger *ledger = context;
    uint8_t name[CHUNK_NAME_BYTES];
    if (!ledger_parse_name(path, name))
        return true; /* not a chunk */
    struct ledger_chunk *chunk = ledger_find(ledger, name);
    chunk->here = true;
    chunk->stored_bytes = stored_bytes;
    if (mtime_ns > chunk->used_ns)
        chunk->used_ns = mtime_ns;
    return true;
}

int ledger_note_chunks(struct ledger *ledger, struct store *store, struct error *err)
{
    return store_chunks(store, note_chunk, ledger, err);
}
