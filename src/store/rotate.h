/* A store's master key: where it comes from, and its rotation (keyring_rotate.h tells why it is crash-safe). For whoever
 * owns the store: a rotation is done in four steps, of which the first and the third may take long and run in a child
 * that was forked from the store's owner. */
#pragma once

#include "store/master.h"
#include "store/store.h"

/* The sources stay the caller's; NULL is the default file; `older` is for a change of the source, else NULL. */
MUST_CHECK struct store *store_open_with(
    int data_dir_fd, const struct master_source *key, const struct master_source *older, struct error *err);

struct store_key_state {
    char source[256];              /* "file:thaw.key" */
    char key_id[33];               /* of the current key: a hash, no secret */
    bool unfinished;               /* a rotation is */
    uint64_t total, done, damaged; /* key files, in the last rotation since the start */
};
void store_key_state(const struct store *store, struct store_key_state *state);

/* 1, in a child: get the new key. ERROR_UNSUPPORTED (says what to do instead), ERROR_CONFLICT. */
MUST_CHECK int store_rotate_prepare(struct store *store, struct error *err);
/* 2, by the owner: from now on all is wrapped with it. */
MUST_CHECK int store_rotate_begin(struct store *store, struct error *err);
/* 3, in a child: wrap anew. `progress` (may be NULL) is called after each file. */
typedef void store_rotate_progress(void *context, uint64_t done, uint64_t total);
MUST_CHECK int store_rotate_sweep(
    struct store *store, store_rotate_progress *progress, void *context, struct error *err);
/* 4, by the owner: forget the older key. */
MUST_CHECK int store_rotate_finish(struct store *store, struct error *err);
