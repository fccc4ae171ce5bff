/* What the files of the keyring share. Private to the store. */
#pragma once

#include "store/keyring.h"

#include <sys/file.h>

struct keyring {
    struct keyring_page *page;
    int lock_fd; /* DATA/store */
    pid_t owner; /* who made it, and may change it */
};

/* A flock of the store's folder: LOCK_SH to write a new key file, LOCK_EX to change one or the keys. Given back by
 * closing what this returns; -1 with `err`. Opened anew each time, since forked processes share the locks of a
 * description that they inherited. */
MUST_CHECK int keyring_lock(const struct keyring *ring, int operation, struct error *err);
