/* The keyring of a store from its start on, and rotations of the master key. Private to the store.
 *
 * A rotation, crash-safe at any point:
 *
 *   1. prepare (a child): the new key is made (a file) or asked for (a command), and offered to the process that
 *      owns the keyring. A file's key is in PATH.next by then.
 *   2. begin: DATA/store/older-key (the older key, wrapped by the new one) is made durable; then PATH.next is renamed
 *      to PATH; then both keys are in memory, the new one wraps.
 *   3. sweep (a child): every domain's salt and every snapshot's key is wrapped anew, one file at a time. Snapshots
 *      stay readable throughout, since both keys are there. Chunks and manifests are not touched.
 *   4. finish: the older key is wiped, and older-key removed.
 *
 * A daemon that is started after a crash in 1 goes on with the old key, as if nothing had been; after one in 2 to 4,
 * it finds the new key, and with it the older one in older-key, and goes on with 3. */
#pragma once

#include "store/keyring.h"
#include "store/master.h"

/* Where the keys come from. `older` is only for a change of the source: it may be NULL. */
struct keyring_sources {
    const struct master_source *current, *older;
};

/* Loads the keys. `store_fd` is DATA/store, with its folders. ERROR_INVALID when the store's domains were wrapped by
 * another master key: nothing would be readable. May run the command of a source. */
MUST_CHECK struct keyring *keyring_open(
    int data_fd, int store_fd, const struct keyring_sources *sources, bool may_create, struct error *err);

/* Step 1; takes as long as the command. ERROR_UNSUPPORTED for a key from the environment, ERROR_CONFLICT while a
 * rotation is unfinished, ERROR_INVALID when the command prints the current key. */
MUST_CHECK int keyring_prepare(
    struct keyring *ring, int data_fd, const struct master_source *source, struct error *err);
/* Step 2, by the process that owns the keyring, after a child has prepared. */
MUST_CHECK int keyring_begin(
    struct keyring *ring, int data_fd, int store_fd, const struct master_source *source, struct error *err);
/* Called for every file that was wrapped anew; `path` is below DATA/store. May be NULL. */
typedef int keyring_rewrapped(void *context, const char *path, struct error *err);
/* Step 3. Files that are damaged are counted and left as they are. */
MUST_CHECK int keyring_sweep(
    struct keyring *ring, int store_fd, keyring_rewrapped *rewrapped, void *context, struct error *err);
/* Step 4, by the process that owns the keyring. */
MUST_CHECK int keyring_finish(struct keyring *ring, int store_fd, struct error *err);
