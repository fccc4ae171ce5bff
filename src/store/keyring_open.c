/* The keyring at the start. */
#include "base/fd.h"
#include "store/keyring_private.h"
#include "store/keyring_rotate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

struct keys {
    uint8_t current[SEAL_KEY_BYTES], older[SEAL_KEY_BYTES];
    bool has_older;
};

static int load(
    struct keys *keys, int data_fd, const struct keyring_sources *sources, bool may_create, struct error *err)
{
    char text[256];
    if (master_source_load(sources->current, data_fd, may_create, keys->current, err) < 0)
        return -1;
    if (sources->older == NULL)
        return 0;
    if (master_source_load(sources->older, data_fd, false, keys->older, err) < 0)
        return error_prefix(err, "the old master key from %s", master_source_text(sources->older, text));
    keys->has_older = CRYPTO_memcmp(keys->older, keys->current, SEAL_KEY_BYTES) != 0;
    return 0;
}

static bool next_exists(const struct master_source *source, int data_fd)
{
    CLEANUP_FREE char *next = xasprintf("%s.next", source->value);
    return source->kind == MASTER_FILE && faccessat(data_fd, next, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The older key of an unfinished rotation. */
static int load_unfinished(
    struct keys *keys, int data_fd, int store_fd, const struct keyring_sources *sources, struct error *err)
{
    uint8_t older[SEAL_KEY_BYTES];
    struct error why = {0};
    struct keyring *ring = keyring_new(store_fd, keys->current, NULL, err);
    if (ring == NULL)
        return -1;
    int result =
        keyring_read_file(ring, store_fd, KEYRING_OLDER_FILE, KEYRING_OLDER, KEYRING_OLDER_FILE, older, &why);
    keyring_free(ring);
    if (result == 0) {
        bool same = !keys->has_older || CRYPTO_memcmp(keys->older, older, SEAL_KEY_BYTES) == 0;
        memcpy(keys->older, older, SEAL_KEY_BYTES);
        keys->has_older = true;
        OPENSSL_cleanse(older, sizeof older);
        return same ? 0
                    : error_set(err, ERROR_CONFLICT,
                          "a rotation from another old master key is unfinished: start once without naming "
                          "an old "
                          "one");
    }
    if (why.kind == ERROR_NOT_FOUND)
        return 0;
    if (next_exists(sources->current, data_fd)) {
        /* The rotation had not begun: the key in PATH.next has wrapped nothing else. */
        if (unlinkat(store_fd, KEYRING_OLDER_FILE, 0) < 0)
            return error_system(err, "cannot remove %s", KEYRING_OLDER_FILE);
        return 0;
    }
    char text[256];
    return error_set(err, ERROR_INVALID,
        "a rotation of the master key is unfinished, and %s is not the key that it was going to: %s",
        master_source_text(sources->current, text), why.text);
}

/* Domains exist since the first snapshot, so they tell a wrong master key before it does harm: with it, every
 * snapshot would look damaged, and be made anew. */
static int check_domains(
    const struct keyring *ring, int store_fd, const struct keyring_sources *sources, struct error *err)
{
    int fd = openat(store_fd, KEYRING_DOMAINS, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        fd_close(&fd);
        return errno == ENOENT ? 0 : error_system(err, "cannot read %s", KEYRING_DOMAINS);
    }
    bool foreign = false;
    char name[KEYRING_DOMAIN_NAME_MAX + 1] = "";
    struct dirent *entry = NULL;
    while (!foreign && (errno = 0, entry = readdir(folder)) != NULL) {
        uint8_t wrapped[KEYRING_FILE_BYTES + 1];
        size_t len = 0;
        if (strncmp(entry->d_name, KEYRING_NEW_PREFIX, strlen(KEYRING_NEW_PREFIX)) == 0)
            unlinkat(fd, entry->d_name, 0); /* half made by one that was killed */
        if (keyring_check_domain(entry->d_name, NULL) < 0 ||
            keyring_read_wrapped(fd, entry->d_name, wrapped, &len, NULL) < 0)
            continue;
        foreign = keyring_is_foreign(ring, wrapped, len);
        memcpy(name, entry->d_name, strlen(entry->d_name) + 1);
    }
    int failed = foreign ? 0 : errno;
    closedir(folder);
    char text[256];
    errno = failed;
    if (failed != 0)
        return error_system(err, "cannot read all of %s", KEYRING_DOMAINS);
    return foreign ? error_set(err, ERROR_INVALID,
                         "the store's keys were wrapped by another master key than the one from %s (%s/%s "
                         "tells): give "
                         "that one, or name it as the old one",
                         master_source_text(sources->current, text), KEYRING_DOMAINS, name)
                   : 0;
}

static int keep_older(struct keyring *ring, int store_fd, struct error *err)
{
    uint8_t wrapped[KEYRING_FILE_BYTES];
    if (!keyring_has_older(ring))
        return 0;
    if (keyring_wrap_older(ring, wrapped, err) < 0)
        return -1;
    return keyring_replace_file(store_fd, KEYRING_OLDER_FILE, wrapped, err);
}

struct keyring *keyring_open(
    int data_fd, int store_fd, const struct keyring_sources *sources, bool may_create, struct error *err)
{
    struct keys keys = {0};
    struct keyring *ring = NULL;
    if (load(&keys, data_fd, sources, may_create, err) == 0 &&
        load_unfinished(&keys, data_fd, store_fd, sources, err) == 0)
        ring = keyring_new(store_fd, keys.current, keys.has_older ? keys.older : NULL, err);
    OPENSSL_cleanse(&keys, sizeof keys);
    if (ring == NULL)
        return NULL;
    master_next_remove(sources->current, data_fd);
    unlinkat(store_fd, KEYRING_NEW_PREFIX KEYRING_OLDER_FILE, 0); /* of one that was killed */
    if (check_domains(ring, store_fd, sources, err) == 0 && keep_older(ring, store_fd, err) == 0)
        return ring;
    keyring_free(ring);
    return NULL;
}
