/* Opening, listing and deleting. */
#include "store/store.h"

#include "base/fd.h"
#include "store/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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
    size_t len = strlen(name), suffix = strlen(STORE_TMP_SUFFIX);
    return len > suffix && strcmp(name + len - suffix, STORE_TMP_SUFFIX) == 0;
}

static DIR *open_folder(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    DIR *folder = fdopendir(fd);
    if (folder == NULL)
        close(fd);
    return folder;
}

void store_remove_folder(int folder_fd, const char *name)
{
    DIR *folder = open_folder(folder_fd, name);
    if (folder != NULL) {
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
            unlinkat(dirfd(folder), entry->d_name, 0);
        closedir(folder);
    }
    unlinkat(folder_fd, name, AT_REMOVEDIR);
}

/* Removes crashed writers' folders and counts the snapshots. */
static int scan_folder(struct store *store, size_t *snapshots, struct error *err)
{
    DIR *folder = open_folder(store->folder_fd, ".");
    if (folder == NULL)
        return error_system(err, "cannot read %s", STORE_FOLDER);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (is_leftover(entry->d_name))
            store_remove_folder(store->folder_fd, entry->d_name);
        else if (is_id(entry->d_name))
            ++*snapshots;
    }
    closedir(folder);
    return 0;
}

static struct seal_master *allocate_master(struct error *err)
{
    struct seal_master *master =
        mmap(NULL, sizeof *master, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (master == MAP_FAILED) {
        error_system(err, "cannot allocate memory for the key");
        return NULL;
    }
    /* Best effort: a machine without RLIMIT_MEMLOCK for us still works. */
    (void)!mlock(master, sizeof *master);
    madvise(master, sizeof *master, MADV_DONTDUMP);
    return master;
}

static int open_store(struct store *store, int data_dir_fd, struct error *err)
{
    if (mkdirat(data_dir_fd, STORE_FOLDER, 0700) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the folder %s", STORE_FOLDER);
    store->folder_fd = openat(data_dir_fd, STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (store->folder_fd < 0 || fchmod(store->folder_fd, 0700) < 0)
        return error_system(err, "cannot open the folder %s", STORE_FOLDER);
    size_t snapshots = 0;
    if (scan_folder(store, &snapshots, err) < 0)
        return -1;
    store->master = allocate_master(err);
    if (store->master == NULL)
        return -1;
    uint8_t key[SEAL_KEY_BYTES];
    int result = store_load_key(data_dir_fd, snapshots == 0, key, err);
    if (result == 0)
        seal_master_init(store->master, key);
    OPENSSL_cleanse(key, sizeof key);
    return result;
}

struct store *store_open(int data_dir_fd, struct error *err)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->folder_fd = -1;
    if (open_store(store, data_dir_fd, err) == 0)
        return store;
    store_close(store);
    return NULL;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    if (store->master != NULL) {
        OPENSSL_cleanse(store->master, sizeof *store->master);
        munmap(store->master, sizeof *store->master);
    }
    fd_close(&store->folder_fd);
    free(store);
}

int store_delete(struct store *store, const char *id, struct error *err)
{
    uint8_t raw[SEAL_ID_BYTES];
    if (store_parse_id(id, raw, err) < 0)
        return -1;
    char going[STORE_NAME_BYTES];
    snprintf(going, sizeof going, "%s%s", id, STORE_TMP_SUFFIX);
    /* The rename makes it vanish as a whole; if we die now, the next store_open removes the rest. */
    if (renameat(store->folder_fd, id, store->folder_fd, going) < 0) {
        if (errno == ENOENT)
            return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", id);
        return error_system(err, "cannot delete snapshot %s", id);
    }
    store_remove_folder(store->folder_fd, going);
    if (fsync(store->folder_fd) < 0)
        return error_system(err, "cannot make the deletion of snapshot %s durable", id);
    return 0;
}

void store_discard_unfinished(struct store *store, const char *id)
{
    char name[STORE_NAME_BYTES];
    if (!is_id(id))
        return;
    snprintf(name, sizeof name, "%s%s", id, STORE_TMP_SUFFIX);
    store_remove_folder(store->folder_fd, name);
}

static uint64_t stored_bytes(int folder_fd, const char *id)
{
    static const char *const files[] = {"manifest", "pages"};
    uint64_t total = 0;
    for (size_t i = 0; i < countof(files); i++) {
        char path[STORE_NAME_BYTES + 16];
        struct stat about;
        snprintf(path, sizeof path, "%s/%s", id, files[i]);
        if (fstatat(folder_fd, path, &about, AT_SYMLINK_NOFOLLOW) == 0)
            total += (uint64_t)about.st_size;
    }
    return total;
}

int store_list(struct store *store, struct store_entry **entries, size_t *count, struct error *err)
{
    DIR *folder = open_folder(store->folder_fd, ".");
    if (folder == NULL)
        return error_system(err, "cannot read %s", STORE_FOLDER);
    *entries = NULL;
    *count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (!is_id(entry->d_name))
            continue;
        *entries = xrealloc(*entries, (*count + 1) * sizeof **entries);
        struct store_entry *added = &(*entries)[(*count)++];
        snprintf(added->id, sizeof added->id, "%.*s", STORE_ID_HEX, entry->d_name);
        added->stored_bytes = stored_bytes(store->folder_fd, added->id);
    }
    closedir(folder);
    return 0;
}
