/* The arena: one range of addresses that no mapping of the snapshot wants, which holds the blob, the plans,
 * their data, stacks, and for a moment the vDSO, while a template is built around it. */
#pragma once

#include "base/error.h"
#include "image/image.h"
#include "thaw/blob/blob.h"

struct arena {
    uint64_t start, bytes;
    uint64_t filled, code_bytes; /* what comes first in it */
    struct blob_control *control;
    blob_entry_function *entry;
    uint64_t stack_top; /* for the blob */
};

#define ARENA_LOWEST_ADDRESS 0x10000ull
#define ARENA_USER_END 0x7ffffffff000ull

/* Look for the vDSO in the calling process: its children inherit what was found, and need not look themselves. */
MUST_CHECK int arena_prepare(struct error *err);

/* Map and fill the arena of a builder in the calling process, at an address where no template's arena is. When its blob runs all other
 * memory of the process is unmapped, and it waits for what it is to build. The control's descriptors are still to be set. After
 * arena_prepare. */
MUST_CHECK int arena_build_waiting(struct arena *arena, struct error *err);

/* Map and fill the arena of a template in the calling process; a builder is to have it at the same address. `code_path`: where the
 * function's code is mounted, if there is some. The control's filter is still to be set. After arena_prepare. */
MUST_CHECK int arena_build(
    struct arena *arena, const struct image *image, const char *code_path, struct error *err);
void arena_unmap(const struct arena *arena); /* from the calling process */
