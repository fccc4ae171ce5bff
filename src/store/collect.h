/* What the collection and the eviction have in common. Private to the store; collect.c has the invariants. */
#pragma once

#include "store/ledger.h"
#include "store/store.h"

/* A publish that runs, or begins from now on, needs no chunk whose mtime is older. */
MUST_CHECK int collect_cutoff(struct store *store, int64_t *cutoff_ns, struct error *err);
/* ERROR_CORRUPT and such, with its name, when a snapshot has files but cannot be read: its chunks are not known. */
MUST_CHECK int collect_check_readable(const struct ledger *ledger, struct error *err);
/* Open the folder of a chunk and keep publishes from touching what is in it, until the descriptor is closed.
 * ERROR_NOT_FOUND: there is no such folder. `shard` is the first byte of the chunk's name. */
MUST_CHECK int collect_lock_shard(struct store *store, unsigned shard, int *fd, struct error *err);
