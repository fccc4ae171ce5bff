/* The arena: one range of addresses that no mapping of the snapshot wants, which holds the blob, the plans,
 * their data, stacks, and for a moment the vDSO, while a template is built around it. */
#pragma once

#include "base/error.h"
#include "image/image.h"
#include "thaw/blob/blob.h"

struct arena {
    uint64_t start, bytes;
    struct blob_control *control;
    blob_entry_function *entry;
    uint64_t stack_top; /* for the blob */
};

#define ARENA_LOWEST_ADDRESS 0x10000ull
#define ARENA_USER_END 0x7ffffffff000ull

/* Look for the vDSO in the calling process: its children inherit what was found, and need not look themselves. */
MUST_CHECK int arena_prepare(struct error *err);

/* Map and fill the arena in the calling process. The control's descriptors and filter are still to be set. */
MUST_CHECK int arena_build(struct arena *arena, const struct image *image, struct error *err);
