/* What the files of the keyring share. Private to the store. */
#pragma once

#include "store/keyring.h"

#include <sys/file.h>

#define KEYRING_NEW_PREFIX ".new." /* of files before they have their names; no domain's name begins so */

struct keyring {
    struct keyring_page *page;
    int lock_fd; /* DATA/store */
    pid_t owner; /* who made it, and may change it */
};

/* A flock of the store's folder: LOCK_SH to write a new key file, LOCK_EX to change one or the keys. Given back by
 * closing what this returns; -1 with `err`. Opened anew each time, since forked processes share the locks of a
 * description that they inherited. */
MUST_CHECK int keyring_lock(const struct keyring *ring, int operation, struct error *err);

/* What a key file holds: `wrapped` takes one byte more than such a file has, so that a longer one is told. */
MUST_CHECK int keyring_read_wrapped(
    int dir_fd, const char *file, uint8_t wrapped[KEYRING_FILE_BYTES + 1], size_t *len, struct error *err);
/* Put `wrapped` in the place of a file, or make it: atomic and durable. */
MUST_CHECK int keyring_replace_file(
    int dir_fd, const char *file, const uint8_t wrapped[KEYRING_FILE_BYTES], struct error *err);
/* keyring_rewrap_file by one who holds the lock alone. */
MUST_CHECK int keyring_rewrap_locked(struct keyring *ring, int dir_fd, const char *file,
    enum keyring_kind kind, const char *name, bool *rewrapped, struct error *err);
