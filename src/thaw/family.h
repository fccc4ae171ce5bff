/* What the builder of a template plans for process trees: the address spaces of all processes lie in one
 * template, and each clone's processes must sort out whose memory is whose.
 *
 *   template:  every process's memory is built at its own places, then moved aside (stash); the root's stays
 *   clone:     the root forks its children, they fork theirs. A child is given only the stash of its own family
 *              (hide before the fork, show after); then it moves its own stash to its places (become)
 */
#pragma once

#include "image/image.h"

#include <stddef.h>

/* The special mappings of the calling process: [vvar*] and [vdso], in address order. */
#define ARENA_SPECIAL_MAX 8
struct arena_special {
    uint64_t start, bytes;
    bool is_vdso;
};
struct arena_special_list {
    struct arena_special list[ARENA_SPECIAL_MAX];
    size_t count;
};

struct family_place {
    uint64_t arena_start, arena_end;
    uint64_t parking; /* room in the arena for the vDSO and its data */
    const struct arena_special_list *special;
};

/* The caller frees the ops of each. All are empty where there is only one process. */
struct family_plans {
    struct plan stash, hide, show, become;
};
void family_plan(
    struct family_plans *out, const struct image *image, uint32_t index, const struct family_place *place);
/* No process has more ops in all its family plans. */
uint64_t family_ops_max(const struct image_process *process);

void family_plan_move(struct plan *plan, uint64_t from, uint64_t bytes, uint64_t to);
/* Move the vDSO and its data pages from where they are parked, one after the other, to where a process had
 * them. */
void family_plan_vdso(struct plan *plan, const struct arena_special_list *special, uint64_t parking,
    const struct image_process *process);
