/* The collection in the origin, beside publishes, deletions and collections of other machines that share it.
 *
 * It (a) asks for the time, by the origin's clock; (b) lists the snapshots there and reads their recipes, and those of the
 * snapshots that are here; (c) lists the chunks there, and removes those that no recipe names and that were stored before
 * `cutoff`, which is the grace (ORIGIN_GRACE_S) before (a).
 *
 * Invariants:
 *   1. No chunk is removed that a snapshot names, there or here. A manifest that was there at (b) is marked. One that comes later
 *      relies, for each chunk, either on one that was stored in the ORIGIN_CONFIRMED_S before it was asked for, and is
 *      younger than the cutoff as long as the publish takes less than the difference of the two (12 hours); or it stores the
 *      chunk, and burst.h says why it is not removed then.
 *   2. Nothing is removed unless the recipe of every manifest that is there could be read and authenticated. A manifest whose
 *      key is not there is being deleted: it comes after its key, so one that is listed had one.
 *   3. It may be killed anywhere: what it removed was needed by nobody.
 * A key and a hot set without a manifest, as old, go too: a publish died before it stored that, or somebody stored them when the
 * snapshot had just been deleted. No id is used twice.
 * Memory: 56 bytes, and the index, for each chunk that a snapshot names; one page of a list. */
#include "base/fd.h"
#include "store/burst.h"
#include "store/collect.h"
#include "store/private.h"
#include "store/remote.h"
#include "store/upkeep.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SNAPSHOTS_PREFIX "snapshots/"
#define MANIFEST_SUFFIX "/manifest"
#define STRAYS_MAX 4096 /* the next collection takes the others */
#define REMOVALS_AT_ONCE 48
#define EVERY_S (24 * 3600)
#define DUE_FILE "origin-collected" /* in DATA/store: its mtime is when one last began by itself */

struct collection {
    struct store *store;
    struct origin *origin;
    struct ledger ledger;
    struct store_origin_collected *collected;
    uint64_t cutoff_s;
    struct origin_entry *strays; /* files of snapshots without a manifest */
    size_t stray_count;
    size_t undecided;               /* of those, at the end: what belongs to the snapshot `id` */
    char last_id[STORE_ID_HEX + 1]; /* whose manifest may still come */
};

struct page {
    struct origin_entry *entries;
    size_t count;
    bool more;
    char last[ORIGIN_NAME_MAX + 1]; /* where the next one begins */
};

/* The names behind `after`. The entries are for the caller to free. */
static int list_page(
    struct origin *o, const char *prefix, const char *after, struct page *page, struct error *err)
{
    struct origin_reply reply;
    const struct origin_request request = {.verb = ORIGIN_LIST, .name = prefix, .after = after, .fd = -1};
    if (origin_begin(o, &request, err) < 0 || origin_wait(o, &reply, err) < 0)
        return -1;
    *page = (struct page){.entries = reply.entries, .count = reply.entry_count, .more = reply.more};
    if (page->entries != NULL && page->count > 0)
        memcpy(page->last, page->entries[page->count - 1].name, sizeof page->last);
    if (reply.error.kind == ERROR_NONE && reply.more && reply.entry_count == 0)
        error_set(&reply.error, ERROR_INVALID, "the list of %s has a page without a name", prefix);
    if (reply.error.kind == ERROR_NONE)
        return 0;
    free(steal_pointer(page->entries));
    *err = reply.error;
    return -1;
}

/* ---- marking ---- */

static bool is_read_here(const struct collection *c, const char *id)
{
    for (size_t i = 0; i < c->ledger.snapshot_count; i++)
        if (c->ledger.snapshots[i].readable && strcmp(c->ledger.snapshots[i].id, id) == 0)
            return true;
    return false;
}

static int fetch(struct origin *o, const char *id, const char *file, int *fd, struct error *err)
{
    char name[ORIGIN_NAME_MAX + 1];
    snprintf(name, sizeof name, SNAPSHOTS_PREFIX "%s/%s", id, file);
    return origin_fetch(o, name, 0, fd, err);
}

static int mark_snapshot(struct collection *c, const char *id, struct error *err)
{
    CLEANUP_FD int key_fd = -1, manifest_fd = -1;
    struct error why = {0};
    if (fetch(c->origin, id, "manifest", &manifest_fd, &why) == 0 &&
        fetch(c->origin, id, "key", &key_fd, &why) == 0) {
        struct store_reader *reader = NULL;
        if (remote_check_key_fd(c->store, key_fd, &why) == 0)
            reader = store_reader_open_files(c->store, id, key_fd, manifest_fd, &why);
        if (reader != NULL) {
            int result = ledger_note_chunks_of(&c->ledger, reader, err);
            store_reader_close(reader);
            return result;
        }
    } else if (why.kind == ERROR_NOT_FOUND)
        return 0; /* deleted */
    *err = why;
    return error_prefix(
        err, "nothing was collected in the origin, as it is not known which chunks snapshot %s needs", id);
}

/* "snapshots/ID/FILE": returns "/FILE"; NULL when it is something else. */
static const char *parse_file(const char *name, char id[STORE_ID_HEX + 1])
{
    uint8_t raw[SEAL_ID_BYTES];
    snprintf(id, STORE_ID_HEX + 1, "%s", name + strlen(SNAPSHOTS_PREFIX));
    return hex_decode(raw, sizeof raw, id) ? name + strlen(SNAPSHOTS_PREFIX) + STORE_ID_HEX : NULL;
}

/* A snapshot's files come one after the other, the manifest last. */
static void note_file(
    struct collection *c, const struct origin_entry *entry, const char *id, bool is_manifest)
{
    if (strcmp(id, c->last_id) != 0)
        c->undecided = 0;
    memcpy(c->last_id, id, sizeof c->last_id);
    if (is_manifest) {
        c->stray_count -= c->undecided;
        c->undecided = 0;
    } else if (entry->modified_s <= c->cutoff_s && c->stray_count < STRAYS_MAX) {
        c->strays = xrealloc(c->strays, (c->stray_count + 1) * sizeof *c->strays);
        c->strays[c->stray_count++] = *entry;
        c->undecided++;
    }
}

static int mark_entry(struct collection *c, const struct origin_entry *entry, struct error *err)
{
    char id[STORE_ID_HEX + 1];
    const char *file = parse_file(entry->name, id);
    bool is_manifest = file != NULL && strcmp(file, MANIFEST_SUFFIX) == 0;
    if (!is_manifest && (file == NULL || (strcmp(file, "/key") != 0 && strcmp(file, "/hot") != 0)))
        return 0;
    note_file(c, entry, id, is_manifest);
    c->collected->snapshots += is_manifest;
    return !is_manifest || is_read_here(c, id) ? 0 : mark_snapshot(c, id, err);
}

static int mark(struct collection *c, struct error *err)
{
    char after[ORIGIN_NAME_MAX + 1] = "";
    for (bool more = true; more;) {
        struct page page;
        if (list_page(c->origin, SNAPSHOTS_PREFIX, after, &page, err) < 0)
            return -1;
        CLEANUP_FREE struct origin_entry *entries = page.entries;
        for (size_t i = 0; i < page.count; i++)
            if (mark_entry(c, &entries[i], err) < 0)
                return -1;
        more = page.more;
        memcpy(after, page.last, sizeof after);
    }
    return 0;
}

/* ---- sweeping ---- */

enum verdict { KEEP_NAMED, KEEP_YOUNG, REMOVE, NOT_A_CHUNK };

/* What is no chunk is nothing that we have put there. */
static enum verdict judge(const struct collection *c, const struct origin_entry *entry)
{
    uint8_t name[CHUNK_NAME_BYTES];
    if (!ledger_parse_name(entry->name, name))
        return NOT_A_CHUNK;
    if (ledger_is_named(&c->ledger, name))
        return KEEP_NAMED;
    return entry->modified_s <= c->cutoff_s ? REMOVE : KEEP_YOUNG;
}

static bool has_any_to_remove(const struct collection *c, const struct page *page)
{
    for (size_t i = 0; i < page->count; i++)
        if (judge(c, &page->entries[i]) == REMOVE)
            return true;
    return false;
}

static int take_removals(struct collection *c, size_t most, struct error *failure, struct error *err)
{
    while (origin_in_flight(c->origin) > most) {
        struct origin_reply reply;
        const struct origin_entry *entry;
        if (origin_wait(c->origin, &reply, err) < 0)
            return -1;
        entry = reply.context;
        if (reply.error.kind != ERROR_NONE) {
            *failure = reply.error;
            continue;
        }
        c->collected->removed_chunks++;
        c->collected->removed_bytes += entry->bytes;
    }
    return 0;
}

/* As much as one burst may take. *rest: there is more on this page. */
static int remove_from(
    struct collection *c, const struct burst *burst, const struct page *page, bool *rest, struct error *err)
{
    struct error failure = {0};
    for (size_t i = 0; i < page->count && failure.kind == ERROR_NONE; i++) {
        struct origin_entry *entry = &page->entries[i];
        if (judge(c, entry) != REMOVE)
            continue;
        if (take_removals(c, REMOVALS_AT_ONCE - 1, &failure, err) < 0)
            return -1;
        *rest = !burst_may_remove(burst);
        if (*rest)
            break;
        const struct origin_request request = {.verb = ORIGIN_REMOVE,
            .name = entry->name,
            .fd = -1,
            .before_ns = burst_last_try_ns(burst),
            .context = entry};
        if (origin_begin(c->origin, &request, &failure) < 0)
            break;
    }
    if (take_removals(c, 0, &failure, err) < 0)
        return -1;
    if (failure.kind == ERROR_NONE)
        return 0;
    *err = failure;
    return -1;
}

/* The page is listed again: a publish may have stored some of it anew before the burst was announced. */
static int run_burst(struct collection *c, const char *after, bool *rest, struct error *err)
{
    struct burst burst;
    struct page page;
    struct error ignored;
    if (burst_begin(&burst, c->origin, err) < 0)
        return -1;
    int result = list_page(c->origin, FOLDER_CHUNKS_PREFIX, after, &page, err);
    if (result == 0) {
        result = remove_from(c, &burst, &page, rest, err);
        free(page.entries);
    }
    /* One that cannot be ended is declared over by the next publish. */
    int ended = burst_end(&burst, c->origin, result == 0 ? err : &ignored);
    return result < 0 ? -1 : ended;
}

static int sweep_page(struct collection *c, const char *after, struct error *err)
{
    for (bool rest = true; rest;) {
        uint64_t removed_before = c->collected->removed_chunks;
        rest = false;
        if (run_burst(c, after, &rest, err) < 0)
            return -1;
        if (rest && c->collected->removed_chunks == removed_before)
            return error_set(err, ERROR_BUSY, "the origin is too slow for a collection");
    }
    return 0;
}

static void count_page(struct collection *c, const struct page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        enum verdict verdict = judge(c, &page->entries[i]);
        c->collected->kept_chunks += verdict == KEEP_NAMED;
        c->collected->young_chunks += verdict == KEEP_YOUNG;
    }
}

static int sweep(struct collection *c, struct error *err)
{
    char after[ORIGIN_NAME_MAX + 1] = "";
    for (bool more = true; more;) {
        struct page page;
        if (list_page(c->origin, FOLDER_CHUNKS_PREFIX, after, &page, err) < 0)
            return -1;
        CLEANUP_FREE struct origin_entry *entries = page.entries;
        count_page(c, &page);
        if (has_any_to_remove(c, &page) && sweep_page(c, after, err) < 0)
            return -1;
        more = page.more;
        memcpy(after, page.last, sizeof after);
    }
    return 0;
}

/* Nobody relies on them: no burst is needed. */
static int remove_strays(struct collection *c, struct error *err)
{
    for (size_t i = 0; i < c->stray_count; i++) {
        if (origin_remove(c->origin, c->strays[i].name, err) < 0)
            return -1;
        c->collected->removed_files++;
        c->collected->removed_bytes += c->strays[i].bytes;
    }
    return 0;
}

/* ---- all of it ---- */

static int collect(struct collection *c, struct error *err)
{
    uint64_t now_s = 0, grace_s = c->store->origin_times.grace_s;
    if (burst_ask_time(c->origin, &now_s, err) < 0 || burst_sweep_stale(c->origin, now_s, err) < 0)
        return -1;
    if (now_s < grace_s)
        return error_set(err, ERROR_INVALID, "the origin's clock is wrong");
    c->cutoff_s = now_s - grace_s;
    if (ledger_note_snapshots(&c->ledger, c->store, err) < 0 || collect_check_readable(&c->ledger, err) < 0 ||
        mark(c, err) < 0)
        return -1;
    return sweep(c, err) < 0 ? -1 : remove_strays(c, err);
}

int store_collect_origin(struct store *store, struct store_origin_collected *collected, struct error *err)
{
    *collected = (struct store_origin_collected){0};
    struct collection c = {.store = store, .origin = store_origin(store), .collected = collected};
    if (c.origin == NULL)
        return error_set(err, ERROR_INVALID, "there is no origin");
    int result = collect(&c, err);
    ledger_free(&c.ledger);
    free(c.strays);
    return result;
}

bool store_collect_origin_is_due(struct store *store)
{
    struct stat about;
    bool is_known = fstatat(store->store_fd, DUE_FILE, &about, AT_SYMLINK_NOFOLLOW) == 0;
    bool is_due = is_known && time(NULL) >= about.st_mtim.tv_sec + EVERY_S;
    if (is_known && !is_due)
        return false;
    CLEANUP_FD int fd =
        openat(store->store_fd, DUE_FILE, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    return fd >= 0 && futimens(fd, NULL) == 0 && is_due;
}
