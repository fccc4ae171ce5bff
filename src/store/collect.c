/* The collection: mark what snapshots refer to, sweep the other chunks away, beside publishes, deletions and readers.
 *
 * A publish (1) makes the folder ID.tmp and in it the file `key`; (2) for each chunk of its stream: touches the one
 * that is there (its mtime becomes now), or else writes it (its mtime is now, too); (3) renames ID.tmp to ID.
 * A collection (a) reads the clock; (b) lists the ID.tmp and takes the oldest time of each; (c) lists the snapshots and reads
 * their recipes; (d) lists the chunks, and removes those that no recipe names and whose mtime is before `cutoff`, the oldest
 * of the times of (a) and (b).
 *
 * Invariants:
 *   1. No chunk of a snapshot is removed. One that was committed before (c) is marked. One that was committed after (b)
 *      either was in (b), or began after it: its chunks were touched after the cutoff, which is why (b) comes first.
 *   2. A touch and a removal of one chunk do not cross. A touch holds a shared lock on the folder of the chunk (flock on
 *      chunks/ab), the removal an exclusive one, under which it looks at the mtime again: so either the touch was first,
 *      and the chunk is young; or the removal was, the touch finds nothing, and the publish writes the chunk.
 *   3. A chunk whose snapshot was deleted goes with the next collection at the latest that begins afterwards, unless a publish
 *      runs: chunks younger than that one's begin stay for a later collection.
 *   4. Nothing is removed unless every recipe could be read. A snapshot without its key, or without its manifest, has
 *      none: nothing will ever read it.
 *   5. It may be killed anywhere: what it removed was needed by nobody.
 *
 * Times are the file system's coarse clock, as mtimes are, so that (a) is not ahead of a touch that comes after it. While
 * publishes run, chunks that are up to COLLECT_CLOCK_SLACK_NS older stay as well: somebody may set the clock back. */
#include "store/collect.h"
#include "base/fault.h"
#include "base/fd.h"
#include "store/private.h"
#include "store/upkeep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define COLLECT_CLOCK_SLACK_NS (900 * 1000000000ll)
#define SHARDS 256
#define OTHER_POLLS 200 /* waiting for another collection's end */
#define OTHER_POLL_US 50000
#define NS_PER_S 1000000000ll
#define LONG_AGO_NS 0 /* when a publish began whose begin cannot be read: nothing goes */

static int64_t time_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec;
}

/* ---- the oldest publish that runs ---- */

struct publishes {
    int64_t oldest_ns;
    bool any;
};

static void note_time(struct publishes *p, int64_t at_ns)
{
    if (at_ns < p->oldest_ns)
        p->oldest_ns = at_ns;
}

/* Its files are younger than the begin of the publish at most by as much as the first of them is; where the file system
 * knows when the folder was made, that is it. */
static void note_times_of(struct publishes *p, int folder_fd, const char *name)
{
    struct statx about;
    unsigned wanted = STATX_MTIME | STATX_BTIME;
    if (statx(folder_fd, name, AT_SYMLINK_NOFOLLOW, wanted, &about) < 0) {
        if (errno != ENOENT)
            note_time(p, LONG_AGO_NS);
        return;
    }
    note_time(p, about.stx_mtime.tv_sec * NS_PER_S + about.stx_mtime.tv_nsec);
    if (about.stx_mask & STATX_BTIME)
        note_time(p, about.stx_btime.tv_sec * NS_PER_S + about.stx_btime.tv_nsec);
}

static bool note_file(void *context, int folder_fd, const char *name)
{
    note_times_of(context, folder_fd, name);
    return true;
}

static bool note_publish(void *context, int folder_fd, const char *name)
{
    struct publishes *p = context;
    if (!folder_has_suffix(name, STORE_TMP_SUFFIX))
        return true;
    p->any = true;
    note_times_of(p, folder_fd, name);
    struct error ignored;
    CLEANUP_FD int fd = openat(folder_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    bool is_gone = fd < 0 && (errno == ENOENT || errno == ENOTDIR); /* it has become a snapshot, or nothing */
    if (!is_gone && (fd < 0 || folder_list(fd, note_file, p, &ignored) < 0))
        note_time(p, LONG_AGO_NS);
    return true;
}

int collect_cutoff(struct store *store, int64_t *cutoff_ns, struct error *err)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    struct publishes p = {.oldest_ns = time_ns(now)};
    if (folder_list(store->snapshots_fd, note_publish, &p, err) < 0)
        return -1;
    *cutoff_ns = p.oldest_ns - (p.any ? COLLECT_CLOCK_SLACK_NS : 0);
    return 0;
}

/* ---- marking ---- */

int collect_check_readable(const struct ledger *ledger, struct error *err)
{
    for (size_t i = 0; i < ledger->snapshot_count; i++) {
        const struct ledger_snapshot *snapshot = &ledger->snapshots[i];
        if (snapshot->readable || !snapshot->has_files)
            continue;
        *err = snapshot->why_not;
        return error_prefix(
            err, "nothing was collected, as it is not known which chunks snapshot %s needs", snapshot->id);
    }
    return 0;
}

/* ---- sweeping ---- */

struct sweep {
    struct ledger *ledger;
    struct store_collected *collected;
    int64_t cutoff_ns;
    unsigned shard;
    bool removes; /* else it only looks whether there is anything to remove */
    size_t found;
};

static bool is_needed(const struct sweep *sweep, const char *name, bool *is_chunk)
{
    char path[STORE_CHUNK_NAME_BYTES];
    uint8_t raw[CHUNK_NAME_BYTES];
    int len = snprintf(path, sizeof path, FOLDER_CHUNKS_PREFIX "%02x/%s", sweep->shard, name);
    *is_chunk = len > 0 && (size_t)len < sizeof path && ledger_parse_name(path, raw);
    if (!*is_chunk)
        return false;
    return ledger_find(sweep->ledger, raw)->plain_bytes != 0;
}

/* What is no chunk at all has no business here either, and goes when it is old. */
static bool sweep_file(void *context, int folder_fd, const char *name)
{
    struct sweep *sweep = context;
    struct stat about;
    bool is_chunk;
    if (is_needed(sweep, name, &is_chunk)) {
        sweep->collected->kept_chunks += !sweep->removes;
        return true;
    }
    if (fstatat(folder_fd, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    if (time_ns(about.st_mtim) >= sweep->cutoff_ns) {
        sweep->collected->young_chunks += is_chunk && !sweep->removes;
        return true;
    }
    sweep->found++;
    if (!sweep->removes)
        return true;
    fault_point("gc.remove");
    if (folder_discard(folder_fd, name) && is_chunk && S_ISREG(about.st_mode)) {
        sweep->collected->removed_chunks++;
        sweep->collected->removed_bytes += (uint64_t)about.st_size;
    }
    return true;
}

static int open_shard(struct store *store, unsigned shard, int *fd, struct error *err)
{
    char name[3];
    snprintf(name, sizeof name, "%02x", shard);
    *fd = openat(store->chunks_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd >= 0)
        return 0;
    if (errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "there is no folder chunks/%s", name);
    return error_system(err, "cannot open the folder chunks/%s", name);
}

int collect_lock_shard(struct store *store, unsigned shard, int *fd, struct error *err)
{
    if (open_shard(store, shard, fd, err) < 0)
        return -1;
    if (flock(*fd, LOCK_EX) == 0)
        return 0;
    error_system(err, "cannot lock the folder chunks/%02x", shard);
    fd_close(fd);
    return -1;
}

/* Looks first, so that publishes wait only where something goes. */
static int sweep_shard(struct store *store, struct sweep *sweep, struct error *err)
{
    CLEANUP_FD int fd = -1, locked_fd = -1;
    struct error why;
    if (open_shard(store, sweep->shard, &fd, &why) < 0) {
        if (why.kind == ERROR_NOT_FOUND)
            return 0;
        *err = why;
        return -1;
    }
    sweep->removes = false;
    sweep->found = 0;
    if (folder_list(fd, sweep_file, sweep, err) < 0)
        return -1;
    if (sweep->found == 0)
        return 0;
    if (collect_lock_shard(store, sweep->shard, &locked_fd, err) < 0)
        return -1;
    sweep->removes = true;
    return folder_list(locked_fd, sweep_file, sweep, err);
}

static int collect(struct store *store, struct store_collected *collected, struct error *err)
{
    CLEANUP_LEDGER struct ledger ledger = {0};
    struct sweep sweep = {.ledger = &ledger, .collected = collected};
    if (collect_cutoff(store, &sweep.cutoff_ns, err) < 0)
        return -1;
    fault_point("gc.begun");
    if (ledger_note_snapshots(&ledger, store, err) < 0 || collect_check_readable(&ledger, err) < 0)
        return -1;
    fault_point("gc.marked");
    for (sweep.shard = 0; sweep.shard < SHARDS; sweep.shard++)
        if (sweep_shard(store, &sweep, err) < 0)
            return -1;
    fault_point("gc.swept");
    return 0;
}

int store_collect(struct store *store, struct store_collected *collected, struct error *err)
{
    *collected = (struct store_collected){0};
    /* A description of our own for the lock: those of parent and child would share it. */
    CLEANUP_FD int lock_fd = openat(store->chunks_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_fd < 0)
        return error_system(err, "cannot open the folder chunks");
    for (unsigned i = 0; i < OTHER_POLLS; i++) {
        if (flock(lock_fd, LOCK_EX | LOCK_NB) == 0)
            return collect(store, collected, err);
        if (errno != EWOULDBLOCK)
            return error_system(err, "cannot lock the folder chunks");
        usleep(OTHER_POLL_US);
    }
    return error_set(err, ERROR_BUSY, "another collection is running");
}
