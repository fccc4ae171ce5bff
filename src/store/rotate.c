#include "store/rotate.h"

#include "base/fd.h"
#include "store/keyring_rotate.h"
#include "store/origin.h"
#include "store/private.h"
#include "store/remote.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void store_key_state(const struct store *s, struct store_key_state *state)
{
    const struct keyring_progress *progress = keyring_progress(s->keyring);
    uint8_t id[SEAL_ID_BYTES];
    *state = (struct store_key_state){.unfinished = keyring_has_older(s->keyring),
        .total = progress->total,
        .done = progress->done,
        .damaged = progress->damaged};
    keyring_current_id(s->keyring, id);
    hex_encode(state->key_id, id, sizeof id);
    master_source_text(&s->key_source, state->source);
}

int store_rotate_prepare(struct store *s, struct error *err)
{
    if (remote_check_rotation(s, err) < 0)
        return -1;
    return keyring_prepare(s->keyring, s->data_fd, &s->key_source, err);
}

int store_rotate_begin(struct store *s, struct error *err)
{
    return keyring_begin(s->keyring, s->data_fd, s->store_fd, &s->key_source, err);
}

struct sweep_call {
    struct keyring *ring;
    store_rotate_progress *progress;
    void *context;
};

static int file_rewrapped(void *context, const char *path, struct error *err)
{
    const struct sweep_call *call = context;
    const struct keyring_progress *progress = keyring_progress(call->ring);
    (void)path;
    (void)err;
    if (call->progress != NULL)
        call->progress(call->context, progress->done, progress->total);
    return 0;
}

/* ---- in the origin ---- */

#define PASSES_MAX 100

struct names {
    char (*list)[ORIGIN_NAME_MAX + 1];
    size_t count, capacity;
};

static int add_name(void *context, const struct origin_entry *entry, struct error *err)
{
    struct names *names = context;
    (void)err;
    if (names->count == names->capacity) {
        names->capacity = names->capacity ? 2 * names->capacity : 64;
        names->list = xrealloc(names->list, names->capacity * sizeof *names->list);
    }
    memcpy(names->list[names->count++], entry->name, sizeof *names->list);
    return 0;
}

/* "domains/NAME" or "snapshots/ID/key": which key it is; false for anything else. */
static bool parse_name(const char *name, enum keyring_kind *kind, char out[KEYRING_DOMAIN_NAME_MAX + 1])
{
    static const char domains[] = KEYRING_DOMAINS "/", snapshots[] = KEYRING_SNAPSHOTS "/";
    uint8_t raw[SEAL_ID_BYTES];
    if (strncmp(name, domains, strlen(domains)) == 0) {
        *kind = KEYRING_DOMAIN;
        snprintf(out, KEYRING_DOMAIN_NAME_MAX + 1, "%s", name + strlen(domains));
        return keyring_check_domain(name + strlen(domains), NULL) == 0;
    }
    if (strncmp(name, snapshots, strlen(snapshots)) != 0)
        return false;
    *kind = KEYRING_SNAPSHOT;
    snprintf(out, STORE_ID_HEX + 1, "%s", name + strlen(snapshots));
    return hex_decode(raw, sizeof raw, out) && strcmp(name + strlen(snapshots) + STORE_ID_HEX, "/key") == 0;
}

static int put_back(
    struct store *s, const char *name, const uint8_t wrapped[KEYRING_FILE_BYTES], struct error *err)
{
    CLEANUP_FD int fd = memfd_create("key", MFD_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot make a memfd");
    if (fd_write_all(fd, wrapped, KEYRING_FILE_BYTES, err) < 0)
        return -1;
    return origin_store(store_origin(s), name, 0, fd, err);
}

/* One object of the origin; *changed when it had to be wrapped anew. What is damaged or another's stays as it is. */
static int rotate_object(struct store *s, const char *name, bool *changed, struct error *err)
{
    char of[KEYRING_DOMAIN_NAME_MAX + 1];
    uint8_t wrapped[KEYRING_FILE_BYTES + 1], key[SEAL_KEY_BYTES];
    enum keyring_kind kind;
    bool with_older = false;
    CLEANUP_FD int fd = -1;
    if (!parse_name(name, &kind, of))
        return 0;
    if (origin_fetch(store_origin(s), name, 0, &fd, err) < 0)
        return err->kind == ERROR_NOT_FOUND ? 0 : -1;
    ssize_t len = pread(fd, wrapped, sizeof wrapped, 0);
    int result = 0;
    if (len > 0 && keyring_unwrap(s->keyring, kind, of, wrapped, (size_t)len, key, &with_older, NULL) == 0 &&
        with_older) {
        result = keyring_wrap(s->keyring, kind, of, key, wrapped, err);
        if (result == 0)
            result = put_back(s, name, wrapped, err);
        *changed = true;
    }
    OPENSSL_cleanse(key, sizeof key);
    return result;
}

static int list_names(struct store *s, struct names *names, struct error *err)
{
    static const char *const prefixes[] = {KEYRING_DOMAINS "/", KEYRING_SNAPSHOTS "/"};
    for (size_t i = 0; i < countof(prefixes); i++)
        if (origin_list(store_origin(s), prefixes[i], add_name, names, err) < 0)
            return -1;
    return 0;
}

/* Until a pass finds nothing: a publish may just be sending what it wrapped before. */
static int rotate_in_origin(struct store *s, struct error *err)
{
    bool changed = store_origin(s) != NULL;
    for (int pass = 0; changed; pass++) {
        struct names names = {0};
        changed = false;
        int result = list_names(s, &names, err);
        for (size_t i = 0; i < names.count && result == 0; i++)
            result = rotate_object(s, names.list[i], &changed, err);
        free(names.list);
        if (result < 0)
            return error_prefix(err, "in the origin");
        if (pass == PASSES_MAX)
            return error_set(
                err, ERROR_BUSY, "snapshots come to the origin faster than their keys can be wrapped anew");
    }
    return 0;
}

int store_rotate_sweep(struct store *s, store_rotate_progress *progress, void *context, struct error *err)
{
    struct sweep_call call = {s->keyring, progress, context};
    /* The origin first: a publish takes a domain's file from there. */
    if (rotate_in_origin(s, err) < 0)
        return -1;
    return keyring_sweep(s->keyring, s->store_fd, file_rewrapped, &call, err);
}

int store_rotate_finish(struct store *s, struct error *err)
{
    return keyring_finish(s->keyring, s->store_fd, err);
}
