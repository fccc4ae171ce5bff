/* Rotations of the master key. */
#include "store/keyring_rotate.h"

#include "base/fault.h"
#include "base/fd.h"
#include "store/keyring_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 160
#define CLEAN_PASSES \
    2 /* one may miss a snapshot whose folder is renamed meanwhile, which happens once to each */
#define PASSES_MAX 1000

int keyring_prepare(struct keyring *ring, int data_fd, const struct master_source *source, struct error *err)
{
    uint8_t key[SEAL_KEY_BYTES];
    int result = -1;
    if (keyring_has_older(ring))
        return error_set(err, ERROR_CONFLICT, "an earlier rotation of the master key is not finished");
    switch (source->kind) {
    case MASTER_ENV:
        return error_set(err, ERROR_UNSUPPORTED,
            "the master key comes from the environment, which a running server cannot read anew: start it "
            "with the "
            "new key in --master-key and the current one in --old-master-key");
    case MASTER_COMMAND:
        result = master_source_load(source, data_fd, false, key, err);
        break;
    case MASTER_FILE:
        if (random_fill(key, sizeof key, err) == 0)
            result = master_next_write(source, data_fd, key, err);
        break;
    }
    if (result == 0)
        keyring_offer(ring, key);
    OPENSSL_cleanse(key, sizeof key);
    fault_point("rotate.prepared");
    return result;
}

static int begin(struct keyring *ring, int data_fd, int store_fd, const struct master_source *source,
    const uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    uint8_t wrapped[KEYRING_FILE_BYTES];
    if (keyring_wrap_for(ring, key, wrapped, err) < 0 ||
        keyring_replace_file(store_fd, KEYRING_OLDER_FILE, wrapped, err) < 0)
        return -1;
    fault_point("rotate.older_kept");
    bool renamed = true;
    int durable = source->kind == MASTER_FILE ? master_next_commit(source, data_fd, &renamed, err) : 0;
    /* From the rename on, the next start takes the new key: so must we, whatever else goes wrong. */
    if (!renamed || keyring_advance(ring, key, err) < 0)
        return -1;
    fault_point("rotate.begun");
    return durable;
}

int keyring_begin(
    struct keyring *ring, int data_fd, int store_fd, const struct master_source *source, struct error *err)
{
    uint8_t key[SEAL_KEY_BYTES];
    if (!keyring_take_offer(ring, key))
        return error_set(err, ERROR_INTERNAL, "no new master key was offered");
    int result = begin(ring, data_fd, store_fd, source, key, err);
    OPENSSL_cleanse(key, sizeof key);
    return result;
}

struct sweep {
    struct keyring *ring;
    int store_fd;
    keyring_rewrapped *rewrapped;
    void *context;
    bool count_only;
    uint64_t seen, changed, damaged; /* in this pass */
};

/* One key file of a folder; `path` is what the folder is called, below DATA/store. */
static int sweep_file(struct sweep *s, int dir_fd, const char *file, enum keyring_kind kind, const char *name,
    const char *path, struct error *err)
{
    struct error here = {0};
    bool rewrapped = false;
    s->seen++;
    if (s->count_only)
        return 0;
    if (keyring_rewrap_file(s->ring, dir_fd, file, kind, name, &rewrapped, &here) == 0) {
        if (!rewrapped)
            return 0;
        s->changed++;
        atomic_fetch_add(&keyring_progress(s->ring)->done, 1);
        fault_point("rotate.rewrapped");
        char whole[PATH_BYTES];
        snprintf(whole, sizeof whole, "%s/%s", path, file);
        return s->rewrapped != NULL ? s->rewrapped(s->context, whole, err) : 0;
    }
    if (here.kind == ERROR_NOT_FOUND)
        s->seen--; /* deleted meanwhile, or not yet written */
    else if (here.kind == ERROR_CORRUPT || here.kind == ERROR_UNSUPPORTED)
        s->damaged++; /* with the older key, too, it is unreadable */
    else {
        if (err != NULL)
            *err = here;
        return error_prefix(err, "%s", path);
    }
    return 0;
}

static int sweep_domain(struct sweep *s, int folder_fd, const char *name, struct error *err)
{
    if (keyring_check_domain(name, NULL) < 0)
        return 0;
    return sweep_file(s, folder_fd, name, KEYRING_DOMAIN, name, KEYRING_DOMAINS, err);
}

/* Also of a snapshot that is being written (ID.tmp): its name is the id. */
static int sweep_snapshot(struct sweep *s, int folder_fd, const char *folder, struct error *err)
{
    char id[2 * SEAL_ID_BYTES + 1], path[PATH_BYTES];
    uint8_t raw[SEAL_ID_BYTES];
    snprintf(id, sizeof id, "%.*s", (int)sizeof id - 1, folder);
    if (!hex_decode(raw, sizeof raw, id))
        return 0;
    CLEANUP_FD int fd = openat(folder_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP
                   ? 0
                   : error_system(err, "cannot open %s", folder);
    snprintf(path, sizeof path, "%s/%s", KEYRING_SNAPSHOTS, id);
    return sweep_file(s, fd, "key", KEYRING_SNAPSHOT, id, path, err);
}

static int sweep_folder(struct sweep *s, const char *name,
    int (*each)(struct sweep *s, int folder_fd, const char *name, struct error *err), struct error *err)
{
    int fd = openat(s->store_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        fd_close(&fd);
        return errno == ENOENT ? 0 : error_system(err, "cannot read %s", name);
    }
    int result = 0;
    struct dirent *entry = NULL;
    while (result == 0 && (errno = 0, entry = readdir(folder)) != NULL)
        result = each(s, fd, entry->d_name, err);
    if (result == 0 && errno != 0) /* what is not listed would lose the key that it is wrapped with */
        result = error_system(err, "cannot read all of %s", name);
    closedir(folder);
    return result;
}

static int sweep_all(struct sweep *s, struct error *err)
{
    return sweep_folder(s, KEYRING_DOMAINS, sweep_domain, err) < 0
               ? -1
               : sweep_folder(s, KEYRING_SNAPSHOTS, sweep_snapshot, err);
}

int keyring_sweep(
    struct keyring *ring, int store_fd, keyring_rewrapped *rewrapped, void *context, struct error *err)
{
    struct keyring_progress *progress = keyring_progress(ring);
    struct sweep count = {.store_fd = store_fd, .count_only = true};
    int clean = 0;
    if (sweep_all(&count, err) < 0)
        return -1;
    atomic_store(&progress->total, count.seen);
    atomic_store(&progress->done, 0);
    for (int pass = 0; clean < CLEAN_PASSES; pass++) {
        struct sweep s = {.ring = ring, .store_fd = store_fd, .rewrapped = rewrapped, .context = context};
        if (pass == PASSES_MAX)
            return error_set(err, ERROR_BUSY, "snapshots come faster than their keys can be wrapped anew");
        if (sweep_all(&s, err) < 0)
            return -1;
        atomic_store(&progress->total, s.seen);
        atomic_store(&progress->damaged, s.damaged);
        clean = s.changed == 0 ? clean + 1 : 0;
    }
    atomic_store(&progress->done, atomic_load(&progress->total) - atomic_load(&progress->damaged));
    fault_point("rotate.swept");
    return 0;
}

static int finish_domain(struct sweep *s, int folder_fd, const char *name, struct error *err)
{
    struct error here = {0};
    bool rewrapped;
    if (keyring_check_domain(name, NULL) < 0 ||
        keyring_rewrap_locked(s->ring, folder_fd, name, KEYRING_DOMAIN, name, &rewrapped, &here) == 0 ||
        here.kind != ERROR_SYSTEM)
        return 0;
    *err = here;
    return -1;
}

int keyring_finish(struct keyring *ring, int store_fd, struct error *err)
{
    /* A publish may have taken a domain's file from the origin since the sweep saw it. From here on it is either seen, or
     * meets a keyring without the older key, and is not taken. */
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_EX, err);
    struct sweep domains = {.ring = ring, .store_fd = store_fd};
    if (lock < 0 || sweep_folder(&domains, KEYRING_DOMAINS, finish_domain, err) < 0)
        return -1;
    if (unlinkat(store_fd, KEYRING_OLDER_FILE, 0) < 0 && errno != ENOENT)
        return error_system(err, "cannot remove %s", KEYRING_OLDER_FILE);
    if (fsync(store_fd) < 0)
        return error_system(err, "cannot make the end of the rotation durable");
    keyring_drop_older(ring);
    fault_point("rotate.finished");
    return 0;
}
