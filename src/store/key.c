/* The master key's file. */
#include "base/fd.h"
#include "store/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int create_key(int data_dir_fd, uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    if (random_fill(key, SEAL_KEY_BYTES, err) < 0)
        return -1;
    if (file_write_atomic(data_dir_fd, STORE_KEY_FILE, key, SEAL_KEY_BYTES, 0600, err) < 0)
        return error_prefix(err, "cannot make the key file");
    return 0;
}

static int check_key_file(const struct stat *about, struct error *err)
{
    if (!S_ISREG(about->st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a regular file", STORE_KEY_FILE);
    if (about->st_uid != geteuid())
        return error_set(err, ERROR_INVALID,
            "%s belongs to user %u, but must belong to user %u, who runs this", STORE_KEY_FILE, about->st_uid,
            geteuid());
    if ((about->st_mode & 07177) != 0)
        return error_set(err, ERROR_INVALID, "%s has mode %04o, but nobody else may read it: chmod 0600 it",
            STORE_KEY_FILE, about->st_mode & 07777);
    if (about->st_size != SEAL_KEY_BYTES)
        return error_set(err, ERROR_INVALID, "%s is %ld bytes long, but a key has %d", STORE_KEY_FILE,
            (long)about->st_size, SEAL_KEY_BYTES);
    return 0;
}

int store_load_key(int data_dir_fd, bool may_create, uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    CLEANUP_FD int fd = openat(data_dir_fd, STORE_KEY_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && may_create)
        return create_key(data_dir_fd, key, err);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND,
            "%s is missing, but there are snapshots that were sealed with it: put it back, or remove the "
            "folder %s",
            STORE_KEY_FILE, STORE_FOLDER);
    if (fd < 0)
        return error_system(err, "cannot open %s", STORE_KEY_FILE);
    struct stat about;
    if (fstat(fd, &about) < 0)
        return error_system(err, "cannot look at %s", STORE_KEY_FILE);
    if (check_key_file(&about, err) < 0)
        return -1;
    return fd_read_full(fd, key, SEAL_KEY_BYTES, err);
}
