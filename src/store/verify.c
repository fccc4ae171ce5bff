/* Every byte that a snapshot needs is read and authenticated, once; what is damaged is fetched from the origin again, when
 * that is wanted and there is one. */
#include "base/fd.h"
#include "store/collect.h"
#include "store/ledger.h"
#include "store/private.h"
#include "store/upkeep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNAPSHOT_PATH_BYTES (STORE_ID_HEX + 32)

struct verification {
    struct store *store;
    struct origin *origin;
    bool repair;
    const struct store_verify_callbacks *callbacks;
    struct store_verified *verified;
    struct ledger ledger;
    uint64_t done_bytes, total_bytes;
    uint8_t *plain;     /* a chunk */
    struct error stuck; /* what is elsewhere cannot be asked for: nobody can tell what is missing */
};

static void tell(
    struct verification *v, const char *id, const char *file, const struct error *reason, bool repaired)
{
    v->verified->damaged++;
    v->verified->repaired += repaired;
    v->callbacks->damage(v->callbacks->context,
        &(struct store_damage){.snapshot_id = id, .file = file, .reason = reason, .repaired = repaired});
}

static void advance(struct verification *v, uint64_t bytes)
{
    v->done_bytes += bytes;
    v->verified->bytes += bytes;
    v->callbacks->progress(v->callbacks->context, v->done_bytes, v->total_bytes);
}

/* ---- repair ---- */

/* Puts what the origin has in the place of the snapshot's own files. Whether that is any better is for the caller to
 * see. */
static bool bring_files(struct verification *v, const char *id)
{
    struct error ignored; /* what was wrong before is what is told */
    return v->repair && v->origin != NULL && store_bring(v->store, id, &ignored) == 0;
}

static bool bring_chunk(struct verification *v, struct store_reader *reader, size_t chunk)
{
    struct error ignored;
    return v->repair && v->origin != NULL &&
           store_reader_bring_chunk(reader, chunk, true, v->plain, &ignored) == 0;
}

/* ---- chunks ---- */

/* Not here is fine where the origin has it. */
static bool origin_has(struct verification *v, const char *name)
{
    struct origin_reply reply = {0};
    const struct origin_request request = {.verb = ORIGIN_LOOK, .name = name, .fd = -1};
    if (v->origin == NULL)
        return false;
    if (origin_begin(v->origin, &request, &reply.error) == 0 &&
        origin_wait(v->origin, &reply, &v->stuck) == 0 && reply.error.kind == ERROR_NONE)
        return true;
    if (v->stuck.kind == ERROR_NONE && reply.error.kind != ERROR_NOT_FOUND)
        v->stuck = reply.error;
    return false;
}

/* It was damaged when it was read, and may have been replaced by a publish since: it is looked at again while no publish can put one
 * there (the origin's courier can, but that one is in the origin, too). Returns whether a good one is there. */
static bool discard_chunk(struct verification *v, struct store_reader *reader, size_t chunk, unsigned shard)
{
    CLEANUP_FD int lock_fd = -1;
    struct error why = {0};
    if (collect_lock_shard(v->store, shard, &lock_fd, &why) < 0)
        return false;
    if (store_reader_read_chunk(reader, chunk, v->plain, &why) == 0)
        return true;
    if (why.kind == ERROR_CORRUPT)
        folder_discard(v->store->store_fd, store_reader_chunk_name(reader, chunk));
    return false;
}

static void verify_chunk(
    struct verification *v, struct store_reader *reader, size_t chunk, struct ledger_chunk *entry)
{
    struct error reason = {0};
    const char *name = store_reader_chunk_name(reader, chunk);
    if (entry->state == LEDGER_GOOD)
        return;
    if (entry->state == LEDGER_BAD) { /* another snapshot's turn told why, in more words */
        error_set(&reason, ERROR_CORRUPT, "this chunk, which it shares, is damaged or missing");
        tell(v, store_reader_id(reader), name, &reason, false);
        return;
    }
    int read = store_reader_read_chunk(reader, chunk, v->plain, &reason);
    advance(v, entry->stored_bytes);
    v->verified->chunks++;
    entry->state = LEDGER_GOOD;
    if (read == 0 || (reason.kind == ERROR_NOT_FOUND && origin_has(v, name)) || v->stuck.kind != ERROR_NONE)
        return;
    if (!ledger_snapshot_exists(v->store, store_reader_id(reader)))
        return; /* deleted, and then a collection came */
    bool repaired = bring_chunk(v, reader, chunk);
    if (!repaired && v->repair && reason.kind == ERROR_CORRUPT)
        repaired = discard_chunk(v, reader, chunk, entry->name[0]);
    entry->state = repaired ? LEDGER_GOOD : LEDGER_BAD;
    tell(v, store_reader_id(reader), name, &reason, repaired);
}

static void verify_chunks(struct verification *v, struct store_reader *reader)
{
    for (size_t i = 0; i < store_reader_chunk_count(reader) && v->stuck.kind == ERROR_NONE; i++) {
        uint8_t raw[CHUNK_NAME_BYTES];
        if (ledger_parse_name(store_reader_chunk_name(reader, i), raw))
            verify_chunk(v, reader, i, ledger_find(&v->ledger, raw));
    }
}

/* ---- a snapshot's own files ---- */

static int read_hot(struct store_reader *reader, struct error *err)
{
    struct store_hot_piece piece = {0};
    struct store_hot *hot = store_hot_open(reader, err);
    if (hot == NULL)
        return err->kind == ERROR_NOT_FOUND ? 0 : -1;
    int result;
    do
        result = store_hot_next(hot, &piece, err);
    while (result == 0 && piece.run_count > 0);
    store_hot_close(hot);
    return result;
}

static void verify_hot(struct verification *v, struct store_reader *reader)
{
    struct error reason = {0}, again = {0};
    char path[SNAPSHOT_PATH_BYTES];
    const char *id = store_reader_id(reader);
    if (read_hot(reader, &reason) == 0)
        return;
    bool repaired = bring_files(v, id) && read_hot(reader, &again) == 0;
    if (!repaired && v->repair) { /* it is a hint, and will be recorded anew; perhaps it just was */
        snprintf(path, sizeof path, "%s/hot", id);
        folder_discard(v->store->snapshots_fd, path);
        repaired = read_hot(reader, &again) == 0;
    }
    tell(v, id, "hot", &reason, repaired);
}

static const char *damaged_file(struct verification *v, const char *id)
{
    uint8_t key[SEAL_KEY_BYTES];
    char path[SNAPSHOT_PATH_BYTES];
    struct error ignored;
    snprintf(path, sizeof path, "%s/key", id);
    int read = keyring_read_file(
        v->store->keyring, v->store->snapshots_fd, path, KEYRING_SNAPSHOT, id, key, &ignored);
    explicit_bzero(key, sizeof key);
    return read == 0 ? "manifest" : "key";
}

/* Opens it, after a repair if need be; NULL when it cannot be read, which was told. */
static struct store_reader *open_snapshot(struct verification *v, const char *id)
{
    struct error reason = {0}, again = {0};
    struct store_reader *reader = ledger_open(v->store, id, &reason);
    if (reader != NULL || reason.kind == ERROR_NOT_FOUND)
        return reader;
    const char *file = damaged_file(v, id);
    if (bring_files(v, id))
        reader = store_reader_open(v->store, id, NULL, &again);
    tell(v, id, file, &reason, reader != NULL);
    return reader;
}

static void verify_snapshot(struct verification *v, const struct store_entry *entry)
{
    struct store_reader *reader = open_snapshot(v, entry->id);
    advance(v, entry->stored_bytes);
    v->verified->snapshots++;
    if (reader == NULL)
        return;
    verify_hot(v, reader);
    verify_chunks(v, reader);
    store_reader_close(reader);
}

/* ---- domains ---- */

static bool verify_domain(void *context, int folder_fd, const char *name)
{
    struct verification *v = context;
    uint8_t salt[SEAL_KEY_BYTES];
    char file[KEYRING_DOMAIN_NAME_MAX + 16];
    struct error reason = {0};
    if (keyring_check_domain(name, &reason) < 0)
        return true;
    int read = keyring_read_file(v->store->keyring, folder_fd, name, KEYRING_DOMAIN, name, salt, &reason);
    explicit_bzero(salt, sizeof salt);
    if (read == 0)
        return true;
    snprintf(file, sizeof file, "domains/%s", name);
    /* Snapshots have the keys of their chunks, so nobody who reads needs it. */
    tell(v, "", file, &reason, v->repair && folder_discard(folder_fd, name));
    return true;
}

/* ---- all of it ---- */

static int verify(struct verification *v, struct error *err)
{
    CLEANUP_FREE struct store_entry *entries = NULL;
    size_t count = 0;
    if (ledger_note_chunks(&v->ledger, v->store, err) < 0 ||
        store_list(v->store, &entries, &count, err) < 0 ||
        folder_list(v->store->domains_fd, verify_domain, v, err) < 0)
        return -1;
    for (size_t i = 0; i < v->ledger.chunk_count; i++)
        v->total_bytes += v->ledger.chunks[i].stored_bytes;
    for (size_t i = 0; i < count; i++)
        v->total_bytes += entries[i].stored_bytes;
    for (size_t i = 0; i < count && v->stuck.kind == ERROR_NONE; i++)
        verify_snapshot(v, &entries[i]);
    if (v->stuck.kind == ERROR_NONE)
        return 0;
    *err = v->stuck;
    return error_prefix(err, "cannot ask the origin for what is not here");
}

int store_verify(struct store *store, bool repair, const struct store_verify_callbacks *callbacks,
    struct store_verified *verified, struct error *err)
{
    *verified = (struct store_verified){0};
    struct verification v = {.store = store,
        .origin = store_origin(store),
        .repair = repair,
        .callbacks = callbacks,
        .verified = verified,
        .plain = xrealloc(NULL, CHUNK_PLAIN_MAX)};
    int result = verify(&v, err);
    ledger_free(&v.ledger);
    explicit_bzero(v.plain, CHUNK_PLAIN_MAX);
    free(v.plain);
    return result;
}
