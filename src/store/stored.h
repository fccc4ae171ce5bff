/* Opening and reading files of the store, whose contents, and whose very kind, are not trusted. Private to the store. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Opens a regular file and tells its size. ERROR_NOT_FOUND: there is none. ERROR_CORRUPT: it is a folder, a link, a pipe, not readable...,
 * or the disk fails: something else than what was put there. Needs openat, fstat and close only. */
MUST_CHECK int stored_open(int dir_fd, const char *name, int *fd, uint64_t *size, struct error *err);
/* The same of a descriptor that somebody else opened. */
MUST_CHECK int stored_size(int fd, uint64_t *size, struct error *err);
/* Exactly len bytes from where the descriptor is. ERROR_CORRUPT also when the disk fails. */
MUST_CHECK int stored_read(int fd, void *data, size_t len, struct error *err);
/* A call on a file of the store failed with errno: what is not as it was left is ERROR_CORRUPT. Returns -1. */
int stored_failed(struct error *err, const char *what);
