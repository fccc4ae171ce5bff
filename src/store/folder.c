/* The local folder: names, listing, removing. */
#include "base/fault.h"
#include "base/fd.h"
#include "store/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_DEPTH_MAX 8
#define REMOVE_TRIES 4
#define CHUNK_MODE 0444
#define CHUNK_FOLDER_LEN (sizeof FOLDER_CHUNKS_PREFIX - 1 + 2) /* of "chunks/ab" */

int folder_open(int parent_fd, const char *name, mode_t mode, int *fd, struct error *err)
{
    if (mkdirat(parent_fd, name, mode) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the folder %s", name);
    *fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*fd < 0 || fchmod(*fd, mode) < 0)
        return error_system(err, "cannot open the folder %s", name);
    return 0;
}

int folder_list(int folder_fd, folder_each *each, void *context, struct error *err)
{
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        error_system(err, "cannot read a folder of the store");
        fd_close(&fd);
        return -1;
    }
    bool goes_on = true;
    struct dirent *entry = NULL;
    int result = 0;
    while (goes_on && (errno = 0, entry = readdir(folder)) != NULL)
        goes_on = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                  each(context, folder_fd, entry->d_name);
    if (goes_on && errno != 0) /* what is not listed would count as not there */
        result = error_system(err, "cannot read all of a folder of the store");
    closedir(folder);
    return result;
}

bool folder_has_suffix(const char *name, const char *suffix)
{
    size_t len = strlen(name), suffix_len = strlen(suffix);
    return len > suffix_len && strcmp(name + len - suffix_len, suffix) == 0;
}

static void remove_folder(int parent_fd, const char *name, unsigned depth);

static bool discard(int parent_fd, const char *name, unsigned depth)
{
    if (unlinkat(parent_fd, name, 0) < 0 && errno == EISDIR && depth <= FOLDER_DEPTH_MAX)
        remove_folder(parent_fd, name, depth);
    return faccessat(parent_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
}

static bool remove_entry(void *context, int folder_fd, const char *name)
{
    const unsigned *depth = context;
    discard(folder_fd, name, *depth + 1);
    return true;
}

static void remove_folder(int parent_fd, const char *name, unsigned depth)
{
    CLEANUP_FD int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    /* Who still has it open (a child that stores a hot set) may put one more file into it meanwhile. */
    for (int i = 0; i < REMOVE_TRIES; i++) {
        (void)!folder_list(fd, remove_entry, &depth, NULL);
        if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || (errno != ENOTEMPTY && errno != EEXIST))
            return;
    }
}

void folder_empty(int folder_fd)
{
    unsigned depth = 0;
    (void)!folder_list(folder_fd, remove_entry, &depth, NULL);
}

void folder_remove(int parent_fd, const char *name)
{
    remove_folder(parent_fd, name, 0);
}

bool folder_discard(int parent_fd, const char *name)
{
    return discard(parent_fd, name, 0);
}

int folder_replace(int from_fd, const char *from, int to_fd, const char *to)
{
    if (renameat(from_fd, from, to_fd, to) == 0)
        return 0;
    if (errno != EISDIR)
        return -1;
    folder_remove(to_fd, to);
    return renameat(from_fd, from, to_fd, to);
}

void folder_chunk_name(char out[STORE_CHUNK_NAME_BYTES], const uint8_t name[CHUNK_NAME_BYTES])
{
    char hex[2 * CHUNK_NAME_BYTES + 1];
    hex_encode(hex, name, CHUNK_NAME_BYTES);
    snprintf(out, STORE_CHUNK_NAME_BYTES, FOLDER_CHUNKS_PREFIX "%.2s/%s", hex, hex + 2);
}

/* A description of its own each time: locks are the description's, and threads would share one. -1, and errno says why. */
static int lock_chunk_folder(int store_fd, const char *name)
{
    char folder[CHUNK_FOLDER_LEN + 1];
    snprintf(folder, sizeof folder, "%s", name);
    int fd = openat(store_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && flock(fd, LOCK_SH) < 0)
        fd_close(&fd);
    return fd;
}

int folder_touch_chunk(int store_fd, const char *name, struct error *err)
{
    static const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};
    CLEANUP_FD int lock_fd = lock_chunk_folder(store_fd, name);
    if (lock_fd < 0)
        return errno == ENOENT ? error_set(err, ERROR_NOT_FOUND, "%s is missing", name)
                               : error_system(err, "cannot lock the folder of %s", name);
    struct stat about;
    if (utimensat(store_fd, name, now, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(store_fd, name, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? error_set(err, ERROR_NOT_FOUND, "%s is missing", name)
                               : error_system(err, "cannot touch %s", name);
    if (!S_ISREG(about.st_mode) || (about.st_mode & CHUNK_MODE) != CHUNK_MODE)
        return error_set(err, ERROR_CORRUPT, "%s is not a file that a pager can read", name);
    return 0;
}

int folder_place_chunk(int from_fd, const char *file, int store_fd, const char *name, struct error *err)
{
    char folder[CHUNK_FOLDER_LEN + 1];
    if (fault_fails("publish.chunk_place"))
        return error_system(err, "cannot put %s in its place", name);
    if (renameat2(from_fd, file, store_fd, name, RENAME_NOREPLACE) == 0)
        return 0;
    snprintf(folder, sizeof folder, "%s", name);
    if (errno == ENOENT && mkdirat(store_fd, folder, 0711) < 0 && errno != EEXIST)
        return error_system(err, "cannot make %s", folder);
    /* In the place of what is damaged, most often. Somebody may be about to discard that by its name: not while this lock is held. */
    CLEANUP_FD int lock_fd = lock_chunk_folder(store_fd, name);
    if (lock_fd >= 0 && folder_replace(from_fd, file, store_fd, name) == 0)
        return 0;
    return error_system(err, "cannot put %s in its place", name);
}
