/* Machines that share an origin share a master key. When one of them has rotated it, the others find keys there that they cannot
 * unwrap: that is no damage, so nothing is made anew or removed for it; they say what to do.
 *
 * A wrapped key names the master key that it was wrapped by, but those bytes may be what is damaged. So a key counts as another's
 * when a trust domain there was wrapped by the same one: a rotation begins with those. */
#include "base/fd.h"
#include "store/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOMAINS "domains/"
#define DOMAINS_MAX 64 /* that are looked at */
#define ID_HEX_SHOWN 8 /* as `thaw key show` does */
#define KEY_ID_AT 16   /* see docs/STORE.md */

struct domains {
    char (*names)[ORIGIN_NAME_MAX + 1];
    size_t count;
};

static int add_domain(void *context, const struct origin_entry *entry, struct error *err)
{
    struct domains *d = context;
    (void)err;
    if (d->count == DOMAINS_MAX)
        return 0;
    d->names = xrealloc(d->names, (d->count + 1) * sizeof *d->names);
    memcpy(d->names[d->count++], entry->name, sizeof *d->names);
    return 0;
}

static void show_id(char out[ID_HEX_SHOWN + 1], const uint8_t id[SEAL_ID_BYTES])
{
    hex_encode(out, id, ID_HEX_SHOWN / 2);
}

int remote_refuse_foreign(const struct store *s, const uint8_t *wrapped, struct error *err)
{
    char theirs[ID_HEX_SHOWN + 1], ours[ID_HEX_SHOWN + 1];
    uint8_t id[SEAL_ID_BYTES];
    keyring_current_id(s->keyring, id);
    show_id(ours, id);
    show_id(theirs, wrapped + KEY_ID_AT);
    return error_set(err, ERROR_INVALID,
        "the origin goes by another master key (%s) than ours (%s). Machines that share it share a key: when "
        "another one has rotated "
        "it, start thawd with the new one as --master-key, and with ours as --old-master-key",
        theirs, ours);
}

/* Whether it was wrapped by a master key that is not ours; into `wrapped`. What is no wrapped key is not. */
static bool is_foreign_object(struct store *s, const char *name, uint8_t wrapped[KEYRING_FILE_BYTES + 1],
    bool *is_ours, struct error *err)
{
    CLEANUP_FD int fd = -1;
    if (origin_fetch(store_origin(s), name, 0, &fd, err) < 0)
        return false;
    ssize_t len = pread(fd, wrapped, KEYRING_FILE_BYTES + 1, 0);
    bool is_foreign = len > 0 && keyring_is_foreign(s->keyring, wrapped, (size_t)len);
    *is_ours = len == KEYRING_FILE_BYTES && !is_foreign;
    return is_foreign;
}

static bool is_by_the_same(const uint8_t *wrapped, const uint8_t *other)
{
    return memcmp(wrapped + KEY_ID_AT, other + KEY_ID_AT, SEAL_ID_BYTES) == 0;
}

int remote_check_key_fd(struct store *s, int fd, struct error *err)
{
    struct domains d = {0};
    struct error ignored;
    uint8_t wrapped[KEYRING_FILE_BYTES + 1], domain[KEYRING_FILE_BYTES + 1];
    bool is_ours = false, was_rotated = false;
    ssize_t len = pread(fd, wrapped, sizeof wrapped, 0);
    if (len <= 0 || s->keyring == NULL || !keyring_is_foreign(s->keyring, wrapped, (size_t)len))
        return 0;
    int listed = origin_list(store_origin(s), DOMAINS, add_domain, &d, &ignored);
    for (size_t i = 0; listed == 0 && i < d.count && !was_rotated; i++)
        was_rotated =
            is_foreign_object(s, d.names[i], domain, &is_ours, &ignored) && is_by_the_same(wrapped, domain);
    free(d.names);
    return was_rotated ? remote_refuse_foreign(s, wrapped, err) : 0;
}

int remote_check_rotation(struct store *s, struct error *err)
{
    struct domains d = {0};
    uint8_t domain[KEYRING_FILE_BYTES + 1], foreign[KEYRING_FILE_BYTES + 1];
    bool any_ours = false, any_foreign = false;
    if (store_origin(s) == NULL)
        return 0;
    int result = origin_list(store_origin(s), DOMAINS, add_domain, &d, err);
    for (size_t i = 0; result == 0 && i < d.count && !any_ours; i++) {
        struct error why = {0};
        if (is_foreign_object(s, d.names[i], domain, &any_ours, &why)) {
            any_foreign = true;
            memcpy(foreign, domain, sizeof foreign);
        }
        if (why.kind != ERROR_NONE && why.kind != ERROR_NOT_FOUND) {
            result = -1;
            *err = why;
        }
    }
    free(d.names);
    if (result < 0)
        return error_prefix(err, "in the origin");
    return any_foreign && !any_ours ? remote_refuse_foreign(s, foreign, err) : 0;
}
