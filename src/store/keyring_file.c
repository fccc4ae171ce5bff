/* Files that hold one wrapped key. */
#include "base/fault.h"
#include "base/fd.h"
#include "store/keyring_private.h"
#include "store/private.h"
#include "store/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYRING_FILE_NAME_MAX 80 /* of a key file and of the temporary one beside it */

int keyring_lock(const struct keyring *ring, int operation, struct error *err)
{
    CLEANUP_FD int fd = openat(ring->lock_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot open the store's folder");
    while (flock(fd, operation) < 0)
        if (errno != EINTR)
            return error_system(err, "cannot lock the store's folder");
    return fd_steal(&fd);
}

static int create_and_sync(int dir_fd, const char *file, const uint8_t *data, struct error *err)
{
    CLEANUP_FD int fd = openat(dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return error_set(err, ERROR_CONFLICT, "there is a file %s already", file);
    if (fd < 0)
        return error_system(err, "cannot create %s", file);
    if (fd_write_all(fd, data, KEYRING_FILE_BYTES, err) == 0 && fsync(fd) == 0)
        return 0;
    error_system(err, "cannot write %s", file);
    unlinkat(dir_fd, file, 0);
    return -1;
}

int keyring_create_file(struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, const uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    uint8_t wrapped[KEYRING_FILE_BYTES];
    /* Held from the choice of the master key until the file is there: a rotation sees all that the older wraps. */
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_SH, err);
    if (lock < 0 || keyring_wrap(ring, kind, name, key, wrapped, err) < 0)
        return -1;
    return create_and_sync(dir_fd, file, wrapped, err);
}

int keyring_read_wrapped(
    int dir_fd, const char *file, uint8_t wrapped[KEYRING_FILE_BYTES + 1], size_t *len, struct error *err)
{
    uint64_t size;
    CLEANUP_FD int fd = -1;
    if (stored_open(dir_fd, file, &fd, &size, err) < 0)
        return error_prefix(err, "%s", file);
    ssize_t n = pread(fd, wrapped, KEYRING_FILE_BYTES + 1, 0);
    if (n < 0)
        return stored_failed(err, "cannot read it");
    *len = (size_t)n;
    return 0;
}

static int read_file(const struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, uint8_t key[SEAL_KEY_BYTES], bool *with_older, struct error *err)
{
    uint8_t wrapped[KEYRING_FILE_BYTES + 1];
    size_t len = 0;
    memset(key, 0, SEAL_KEY_BYTES);
    if (keyring_read_wrapped(dir_fd, file, wrapped, &len, err) < 0)
        return -1;
    if (keyring_unwrap(ring, kind, name, wrapped, len, key, with_older, err) < 0)
        return error_prefix(err, "%s", file);
    return 0;
}

int keyring_read_file(const struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    if (read_file(ring, dir_fd, file, kind, name, key, NULL, err) == 0)
        return 0;
    if (err != NULL && err->kind != ERROR_CORRUPT)
        return -1;
    /* A rotation may have put a new file in its place and dropped the key of the one that we read. */
    return read_file(ring, dir_fd, file, kind, name, key, NULL, err);
}

int keyring_replace_file(
    int dir_fd, const char *file, const uint8_t wrapped[KEYRING_FILE_BYTES], struct error *err)
{
    char temporary[KEYRING_FILE_NAME_MAX];
    snprintf(temporary, sizeof temporary, KEYRING_NEW_PREFIX "%s", file);
    unlinkat(dir_fd, temporary, 0); /* what one that was killed left */
    if (create_and_sync(dir_fd, temporary, wrapped, err) < 0)
        return -1;
    fault_point("rotate.file_written");
    if (folder_replace(dir_fd, temporary, dir_fd, file) < 0) {
        error_system(err, "cannot put %s in its place", file);
        unlinkat(dir_fd, temporary, 0);
        return -1;
    }
    if (fsync(dir_fd) < 0)
        return error_system(err, "cannot make %s durable", file);
    return 0;
}

int keyring_rewrap_locked(struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, bool *rewrapped, struct error *err)
{
    uint8_t key[SEAL_KEY_BYTES], wrapped[KEYRING_FILE_BYTES];
    *rewrapped = false;
    int result = read_file(ring, dir_fd, file, kind, name, key, rewrapped, err);
    if (result == 0 && *rewrapped) {
        result = keyring_wrap(ring, kind, name, key, wrapped, err);
        if (result == 0)
            result = keyring_replace_file(dir_fd, file, wrapped, err);
    }
    OPENSSL_cleanse(key, sizeof key);
    return result;
}

int keyring_rewrap_file(struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, bool *rewrapped, struct error *err)
{
    /* Alone, so that one that is being shredded does not come back. */
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_EX, err);
    *rewrapped = false;
    return lock < 0 ? -1 : keyring_rewrap_locked(ring, dir_fd, file, kind, name, rewrapped, err);
}

int keyring_adopt_domain(struct keyring *ring, int domains_fd, const char *name,
    const uint8_t wrapped[KEYRING_FILE_BYTES], struct error *err)
{
    uint8_t salt[SEAL_KEY_BYTES];
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_SH, err);
    if (lock < 0 ||
        keyring_unwrap(ring, KEYRING_DOMAIN, name, wrapped, KEYRING_FILE_BYTES, salt, NULL, err) < 0)
        return -1;
    OPENSSL_cleanse(salt, sizeof salt);
    return keyring_replace_file(domains_fd, name, wrapped, err);
}

int keyring_shred_file(struct keyring *ring, int dir_fd, const char *file, struct error *err)
{
    static const uint8_t nothing[KEYRING_FILE_BYTES];
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_SH, err);
    if (lock < 0)
        return -1;
    CLEANUP_FD int fd = openat(dir_fd, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return 0;
    /* The overwriting is for disks that write in place; the unlinking is what counts. */
    if (fd >= 0 && fd_write_all(fd, nothing, sizeof nothing, NULL) == 0)
        (void)!fdatasync(fd);
    if (unlinkat(dir_fd, file, 0) < 0 && errno != ENOENT)
        return error_system(err, "cannot remove %s", file);
    if (fsync(dir_fd) < 0)
        return error_system(err, "cannot make the removal of %s durable", file);
    return 0;
}

int keyring_check_domain(const char *name, struct error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    size_t len = strlen(name);
    if (len > 0 && len <= KEYRING_DOMAIN_NAME_MAX && name[0] != '.' && strspn(name, allowed) == len)
        return 0;
    return error_set(err, ERROR_INVALID,
        "a trust domain's name has 1 to %d lower-case letters, digits, dots, dashes and underscores, and "
        "does "
        "not begin with a dot",
        KEYRING_DOMAIN_NAME_MAX);
}

/* A new salt's file, complete before it has its name: link(2) lets only one have it. The name of the nameless file
 * is made of our pid, so that no two make the same. */
static int create_domain(
    struct keyring *ring, int domains_fd, const char *name, uint8_t salt[SEAL_KEY_BYTES], struct error *err)
{
    char temporary[KEYRING_FILE_NAME_MAX];
    snprintf(temporary, sizeof temporary, KEYRING_NEW_PREFIX "%d", getpid());
    if (random_fill(salt, SEAL_KEY_BYTES, err) < 0)
        return -1;
    uint8_t wrapped[KEYRING_FILE_BYTES];
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_SH, err);
    if (lock < 0 || keyring_wrap(ring, KEYRING_DOMAIN, name, salt, wrapped, err) < 0)
        return -1;
    unlinkat(domains_fd, temporary, 0); /* of a process that was killed and had our pid */
    if (create_and_sync(domains_fd, temporary, wrapped, err) < 0)
        return -1;
    int result = linkat(domains_fd, temporary, domains_fd, name, 0);
    int errno_value = errno;
    unlinkat(domains_fd, temporary, 0);
    errno = errno_value;
    if (result < 0 && errno != EEXIST)
        return error_system(err, "cannot make the trust domain %s", name);
    if (fsync(domains_fd) < 0)
        return error_system(err, "cannot make the trust domain %s durable", name);
    return 0;
}

/* Damage, and not a file of another master key (see keyring_open, which refuses to begin with those). */
static bool domain_is_damaged(const struct keyring *ring, int domains_fd, const char *name)
{
    uint8_t wrapped[KEYRING_FILE_BYTES + 1], salt[SEAL_KEY_BYTES];
    struct error err = {0};
    size_t len = 0;
    if (keyring_read_file(ring, domains_fd, name, KEYRING_DOMAIN, name, salt, &err) == 0)
        err.kind = ERROR_NONE;
    bool foreign = keyring_read_wrapped(domains_fd, name, wrapped, &len, NULL) == 0 &&
                   keyring_is_foreign(ring, wrapped, len);
    OPENSSL_cleanse(salt, sizeof salt);
    return err.kind == ERROR_CORRUPT && !foreign;
}

/* A new salt in the place of one that is damaged. Nothing becomes unreadable, since recipes hold the keys of their
 * chunks: new chunks are not shared with old ones, and that is all. */
static int renew_domain(struct keyring *ring, int domains_fd, const char *name, struct error *err)
{
    uint8_t salt[SEAL_KEY_BYTES], wrapped[KEYRING_FILE_BYTES];
    CLEANUP_FD int lock = keyring_lock(ring, LOCK_EX, err);
    if (lock < 0)
        return -1;
    if (!domain_is_damaged(ring, domains_fd, name))
        return 0;
    int result = -1;
    if (random_fill(salt, sizeof salt, err) == 0 &&
        keyring_wrap(ring, KEYRING_DOMAIN, name, salt, wrapped, err) == 0)
        result = keyring_replace_file(domains_fd, name, wrapped, err);
    OPENSSL_cleanse(salt, sizeof salt);
    return result;
}

int keyring_domain_salt(
    struct keyring *ring, int domains_fd, const char *name, uint8_t salt[SEAL_KEY_BYTES], struct error *err)
{
    struct error here = {0};
    if (keyring_check_domain(name, err) < 0)
        return -1;
    if (keyring_read_file(ring, domains_fd, name, KEYRING_DOMAIN, name, salt, &here) == 0)
        return 0;
    if (here.kind == ERROR_NOT_FOUND || domain_is_damaged(ring, domains_fd, name)) {
        bool missing = here.kind == ERROR_NOT_FOUND;
        here = (struct error){0};
        if ((missing ? create_domain(ring, domains_fd, name, salt, &here)
                     : renew_domain(ring, domains_fd, name, &here)) == 0 &&
            keyring_read_file(ring, domains_fd, name, KEYRING_DOMAIN, name, salt, &here) == 0)
            return 0;
    }
    OPENSSL_cleanse(salt, SEAL_KEY_BYTES);
    if (err != NULL)
        *err = here;
    return error_prefix(err, "trust domain %s", name);
}
