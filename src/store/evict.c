/* Keeping the local folder to its budget, where an origin has everything.
 *
 * Invariants:
 *   1. A chunk is removed only after the origin said, in this run, that it has it.
 *   2. None goes that a publish may need that runs: the rule of the times, and the lock, are those of collect.c.
 *   3. It may be killed anywhere: what it removed can be fetched. */
#include "base/fault.h"
#include "base/fd.h"
#include "store/collect.h"
#include "store/private.h"
#include "store/upkeep.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ll
#define USED_PATH_BYTES (STORE_ID_HEX + 16)
#define LOOKS_AT_ONCE 64

/* The time of a snapshot's last use is the mtime of its manifest. */
static void used_path(char path[USED_PATH_BYTES], const char *id)
{
    snprintf(path, USED_PATH_BYTES, "%s/manifest", id);
}

void store_mark_used(struct store *store, const char *id)
{
    static const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    char path[USED_PATH_BYTES];
    used_path(path, id);
    (void)!utimensat(store->snapshots_fd, path, now, AT_SYMLINK_NOFOLLOW);
}

struct eviction {
    struct store *store;
    struct origin *origin;
    struct ledger ledger;
    struct store_evicted *evicted;
    uint64_t target_bytes;
    int64_t cutoff_ns;
    struct ledger_chunk **oldest; /* of those that are here, the one used longest ago first */
    size_t count;
};

static void note_uses(struct eviction *e)
{
    for (size_t i = 0; i < e->ledger.snapshot_count; i++) {
        const struct ledger_snapshot *snapshot = &e->ledger.snapshots[i];
        char path[USED_PATH_BYTES];
        struct stat about;
        used_path(path, snapshot->id);
        if (fstatat(e->store->snapshots_fd, path, &about, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        int64_t used_ns = about.st_mtim.tv_sec * NS_PER_S + about.st_mtim.tv_nsec;
        for (size_t k = 0; k < snapshot->chunk_count; k++) {
            struct ledger_chunk *chunk = &e->ledger.chunks[snapshot->chunks[k]];
            if (chunk->used_ns < used_ns)
                chunk->used_ns = used_ns;
        }
    }
}

static int compare_uses(const void *a, const void *b)
{
    const struct ledger_chunk *left = *(struct ledger_chunk *const *)a,
                              *right = *(struct ledger_chunk *const *)b;
    return left->used_ns < right->used_ns ? -1 : left->used_ns > right->used_ns;
}

static void sort_chunks(struct eviction *e)
{
    e->oldest = xcalloc(e->ledger.chunk_count + 1, sizeof(struct ledger_chunk *));
    for (size_t i = 0; i < e->ledger.chunk_count; i++)
        if (e->ledger.chunks[i].here)
            e->oldest[e->count++] = &e->ledger.chunks[i];
    qsort(e->oldest, e->count, sizeof(struct ledger_chunk *), compare_uses);
}

/* The mtime is looked at again under the lock: a publish may have touched the chunk since the listing. */
static int remove_chunk(struct eviction *e, const struct ledger_chunk *chunk, struct error *err)
{
    char path[STORE_CHUNK_NAME_BYTES];
    struct stat about;
    CLEANUP_FD int fd = -1;
    ledger_print_name(chunk->name, path);
    if (collect_lock_shard(e->store, chunk->name[0], &fd, err) < 0)
        return err->kind == ERROR_NOT_FOUND ? 0 : -1;
    if (fstatat(e->store->store_fd, path, &about, AT_SYMLINK_NOFOLLOW) < 0 ||
        about.st_mtim.tv_sec * NS_PER_S + about.st_mtim.tv_nsec >= e->cutoff_ns)
        return 0;
    fault_point("evict.remove");
    if (unlinkat(e->store->store_fd, path, 0) < 0)
        return 0;
    e->evicted->chunks++;
    e->evicted->bytes += chunk->stored_bytes;
    e->evicted->local_bytes -= chunk->stored_bytes;
    return 0;
}

/* Asks the origin about some chunks at once, and removes those that it has. */
static int evict_some(struct eviction *e, size_t from, size_t count, struct error *err)
{
    struct error first = {0};
    for (size_t i = from; i < from + count; i++) {
        char path[STORE_CHUNK_NAME_BYTES];
        ledger_print_name(e->oldest[i]->name, path);
        const struct origin_request request = {
            .verb = ORIGIN_LOOK, .name = path, .fd = -1, .context = e->oldest[i]};
        if (origin_begin(e->origin, &request, err) < 0)
            return -1;
    }
    while (origin_in_flight(e->origin) > 0) {
        struct origin_reply reply;
        if (origin_wait(e->origin, &reply, err) < 0)
            return -1;
        if (reply.error.kind != ERROR_NONE && reply.error.kind != ERROR_NOT_FOUND)
            first = reply.error;
        if (reply.error.kind == ERROR_NONE && e->evicted->local_bytes > e->target_bytes &&
            remove_chunk(e, reply.context, &first) < 0)
            continue;
    }
    if (first.kind == ERROR_NONE)
        return 0;
    *err = first;
    return -1;
}

static int evict(struct eviction *e, uint64_t budget, struct error *err)
{
    if (collect_cutoff(e->store, &e->cutoff_ns, err) < 0 ||
        ledger_note_snapshots(&e->ledger, e->store, err) < 0 ||
        ledger_note_chunks(&e->ledger, e->store, err) < 0)
        return -1;
    for (size_t i = 0; i < e->ledger.chunk_count; i++)
        e->evicted->local_bytes += e->ledger.chunks[i].stored_bytes;
    for (size_t i = 0; i < e->ledger.snapshot_count; i++)
        e->evicted->local_bytes += e->ledger.snapshots[i].file_bytes;
    if (e->evicted->local_bytes <= budget)
        return 0;
    e->target_bytes = budget - budget / 10;
    note_uses(e);
    sort_chunks(e);
    fault_point("evict.begun");
    for (size_t i = 0; i < e->count && e->evicted->local_bytes > e->target_bytes; i += LOOKS_AT_ONCE) {
        size_t left = e->count - i;
        if (evict_some(e, i, left < LOOKS_AT_ONCE ? left : LOOKS_AT_ONCE, err) < 0)
            return -1;
    }
    fault_point("evict.done");
    return 0;
}

int store_evict(struct store *store, uint64_t budget, struct store_evicted *evicted, struct error *err)
{
    *evicted = (struct store_evicted){0};
    struct eviction e = {.store = store, .origin = store_origin(store), .evicted = evicted};
    if (e.origin == NULL)
        return error_set(err, ERROR_INVALID, "chunks are evicted only where an origin has them");
    int result = evict(&e, budget, err);
    free(e.oldest);
    ledger_free(&e.ledger);
    return result;
}
