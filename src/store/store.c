/* Opening, listing and deleting. */
#include "store/store.h"

#include "base/fault.h"
#include "base/fd.h"
#include "store/keyring_rotate.h"
#include "store/private.h"
#include "store/remote.h"
#include "store/rotate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int store_parse_id(const char *id, uint8_t raw[SEAL_ID_BYTES], struct error *err)
{
    if (hex_decode(raw, SEAL_ID_BYTES, id))
        return 0;
    return error_set(err, ERROR_INVALID, "a snapshot's id is %d hex digits", STORE_ID_HEX);
}

static bool is_id(const char *name)
{
    uint8_t raw[SEAL_ID_BYTES];
    return hex_decode(raw, sizeof raw, name);
}

static bool is_leftover(const char *name)
{
    return folder_has_suffix(name, STORE_TMP_SUFFIX) || folder_has_suffix(name, STORE_GONE_SUFFIX);
}

static bool lacks_key(int snapshots_fd, const char *id)
{
    char path[STORE_NAME_BYTES + 16];
    snprintf(path, sizeof path, "%s/key", id);
    return faccessat(snapshots_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* Removes what crashed writers and deletions left, and counts the snapshots. */
static bool sweep_snapshot(void *context, int snapshots_fd, const char *name)
{
    size_t *snapshots = context;
    if (is_leftover(name) || (is_id(name) && lacks_key(snapshots_fd, name)))
        folder_remove(snapshots_fd, name);
    else if (is_id(name))
        ++*snapshots;
    return true;
}

static int open_folders(struct store *s, int data_dir_fd, struct error *err)
{
    if (folder_open(data_dir_fd, STORE_FOLDER, 0711, &s->store_fd, err) < 0 ||
        folder_open(s->store_fd, "snapshots", 0700, &s->snapshots_fd, err) < 0 ||
        folder_open(s->store_fd, "chunks", 0711, &s->chunks_fd, err) < 0 ||
        folder_open(s->store_fd, "domains", 0700, &s->domains_fd, err) < 0 ||
        folder_open(s->store_fd, "tmp", 0700, &s->tmp_fd, err) < 0)
        return -1;
    folder_empty(s->tmp_fd);
    return 0;
}

static int open_store(struct store *s, const struct keyring_sources *sources, struct error *err)
{
    size_t snapshots = 0;
    if (open_folders(s, s->data_fd, err) < 0 ||
        folder_list(s->snapshots_fd, sweep_snapshot, &snapshots, err) < 0)
        return -1;
    s->keyring = keyring_open(s->data_fd, s->store_fd, sources, snapshots == 0, err);
    return s->keyring == NULL ? -1 : 0;
}

struct store *store_open_with(
    int data_dir_fd, const struct master_source *key, const struct master_source *older, struct error *err)
{
    struct store *s = xcalloc(1, sizeof *s);
    *s = (struct store){.store_fd = -1,
        .snapshots_fd = -1,
        .chunks_fd = -1,
        .domains_fd = -1,
        .tmp_fd = -1,
        .origin_control_fd = -1};
    s->data_fd = fcntl(data_dir_fd, F_DUPFD_CLOEXEC, 3);
    int result = s->data_fd < 0 ? error_system(err, "cannot hold the data folder") : 0;
    if (result == 0 && key == NULL)
        result = master_source_parse(&s->key_source, NULL, err);
    else if (result == 0)
        master_source_copy(&s->key_source, key);
    const struct keyring_sources sources = {.current = key != NULL ? key : &s->key_source, .older = older};
    if (result == 0)
        result = open_store(s, &sources, err);
    if (result == 0)
        return s;
    store_close(s);
    return NULL;
}

struct store *store_open(int data_dir_fd, struct error *err)
{
    return store_open_with(data_dir_fd, NULL, NULL, err);
}

void store_forget_master(struct store *s)
{
    keyring_free(steal_pointer(s->keyring));
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    store_forget_master(s);
    if (s->origin_pid == getpid())
        origin_free(s->origin);
    master_source_free(&s->key_source);
    fd_close(&s->data_fd);
    fd_close(&s->tmp_fd);
    fd_close(&s->domains_fd);
    fd_close(&s->chunks_fd);
    fd_close(&s->snapshots_fd);
    fd_close(&s->store_fd);
    free(s);
}

/* The key goes first, so that nothing that is left of the snapshot can be read; then the rename makes it vanish as a whole. If
 * we die in between, the next store_open removes the rest. */
int store_delete_here(struct store *s, const char *id, struct error *err)
{
    uint8_t raw[SEAL_ID_BYTES];
    if (store_parse_id(id, raw, err) < 0)
        return -1;
    char going[STORE_NAME_BYTES];
    snprintf(going, sizeof going, "%s%s", id, STORE_GONE_SUFFIX);
    CLEANUP_FD int dir = openat(s->snapshots_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (dir < 0 && errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", id);
    bool is_folder = dir >= 0 || (errno != ENOTDIR && errno != ELOOP);
    if (dir < 0 && (is_folder || unlinkat(s->snapshots_fd, id, 0) < 0))
        return error_system(err, "cannot delete snapshot %s", id);
    if (dir < 0)
        return 0;
    fault_point("delete.begun");
    folder_remove(dir, "key"); /* where it is one, which no store makes */
    if (keyring_shred_file(s->keyring, dir, "key", err) < 0)
        return error_prefix(err, "snapshot %s", id);
    fault_point("delete.shredded");
    if (renameat(s->snapshots_fd, id, s->snapshots_fd, going) < 0)
        return error_system(err, "cannot delete snapshot %s", id);
    fault_point("delete.renamed");
    folder_remove(s->snapshots_fd, going);
    fault_point("delete.removed");
    if (fsync(s->snapshots_fd) < 0)
        return error_system(err, "cannot make the deletion of snapshot %s durable", id);
    return 0;
}

int store_delete(struct store *s, const char *id, struct error *err)
{
    struct error here = {0};
    if (s->origin_control_fd < 0)
        return store_delete_here(s, id, err);
    if (remote_note_removal(s, id, err) < 0)
        return -1;
    if (store_delete_here(s, id, &here) < 0 && here.kind != ERROR_NOT_FOUND) {
        *err = here;
        return -1;
    }
    return remote_remove_snapshot(s, id, err);
}

void store_discard_unfinished(struct store *s, const char *id)
{
    char name[STORE_NAME_BYTES];
    if (!is_id(id))
        return;
    snprintf(name, sizeof name, "%s%s", id, STORE_TMP_SUFFIX);
    folder_remove(s->snapshots_fd, name);
}

static bool discard_fetched(void *context, int tmp_fd, const char *name)
{
    (void)context;
    if (strncmp(name, STORE_FETCH_PREFIX, sizeof STORE_FETCH_PREFIX - 1) == 0)
        unlinkat(tmp_fd, name, 0);
    return true;
}

void store_discard_fetched(struct store *s)
{
    (void)!folder_list(s->tmp_fd, discard_fetched, NULL, NULL);
}

static uint64_t stored_bytes(int snapshots_fd, const char *id)
{
    static const char *const files[] = {"key", "manifest", "hot"};
    uint64_t total = 0;
    for (size_t i = 0; i < countof(files); i++) {
        char path[STORE_NAME_BYTES + 16];
        struct stat about;
        snprintf(path, sizeof path, "%s/%s", id, files[i]);
        if (fstatat(snapshots_fd, path, &about, AT_SYMLINK_NOFOLLOW) == 0)
            total += (uint64_t)about.st_size;
    }
    return total;
}

struct entry_list {
    struct store_entry *entries;
    size_t count;
};

static bool add_entry(void *context, int snapshots_fd, const char *name)
{
    struct entry_list *list = context;
    if (!is_id(name))
        return true;
    list->entries = xrealloc(list->entries, (list->count + 1) * sizeof *list->entries);
    struct store_entry *added = &list->entries[list->count++];
    snprintf(added->id, sizeof added->id, "%.*s", STORE_ID_HEX, name);
    added->stored_bytes = stored_bytes(snapshots_fd, name);
    return true;
}

int store_list(struct store *s, struct store_entry **entries, size_t *count, struct error *err)
{
    struct entry_list list = {0};
    int result = folder_list(s->snapshots_fd, add_entry, &list, err);
    *entries = list.entries;
    *count = list.count;
    return result;
}

struct chunk_listing {
    store_each_chunk *each;
    void *context;
    const char *folder; /* "ab" */
    bool stopped;
};

static bool list_chunk(void *context, int folder_fd, const char *name)
{
    struct chunk_listing *l = context;
    struct stat about;
    char path[STORE_CHUNK_NAME_BYTES];
    uint8_t rest[CHUNK_NAME_BYTES - 1];
    if (!hex_decode(rest, sizeof rest, name) || fstatat(folder_fd, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    snprintf(path, sizeof path, FOLDER_CHUNKS_PREFIX "%s/%s", l->folder, name);
    int64_t mtime_ns = about.st_mtim.tv_sec * 1000000000l + about.st_mtim.tv_nsec;
    l->stopped = !l->each(l->context, path, (uint64_t)about.st_size, mtime_ns);
    return !l->stopped;
}

static bool list_folder(void *context, int chunks_fd, const char *name)
{
    struct chunk_listing *l = context;
    uint8_t first;
    CLEANUP_FD int fd = openat(chunks_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || !hex_decode(&first, 1, name))
        return true;
    l->folder = name;
    return folder_list(fd, list_chunk, l, NULL) == 0 ? !l->stopped : true;
}

int store_chunks(struct store *s, store_each_chunk *each, void *context, struct error *err)
{
    struct chunk_listing listing = {.each = each, .context = context};
    return folder_list(s->chunks_fd, list_folder, &listing, err);
}
