/* The pages that clones of a template write to in their first request: read from clones that have served one, and
 * given to the template (template_prepare), which then hands every clone its own copy of them at the fork. A copy that
 * the fork makes costs half of what it costs as a page fault: no exception, no flush of address translations. */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

#define WORKING_SET_RANGES_MAX 4096 /* of one set; as many as a template takes */
#define WORKING_SET_PAGES_MAX 8192  /* the same: each is copied at every fork */
#define WORKING_SET_LOOKED_AT_MAX \
    65536 /* pages of a clone's own or its template's, so that a look takes milliseconds */

struct working_range { /* as struct iovec */
    uint64_t start, bytes;
};

/* In ascending order; no two ranges touch. */
struct working_set {
    struct working_range *ranges; /* owned */
    uint32_t count, capacity;
    uint32_t pages;
};

void working_set_free(struct working_set *set);
/* Append pages above all that are in it; what is beyond the limits is left out. */
void working_set_add(struct working_set *set, uint64_t start, uint64_t bytes);

/* The pages of a clone that it shares with nobody: those it has written to. ERROR_UNSUPPORTED on a kernel that cannot tell
 * (before Linux 6.7). */
MUST_CHECK int working_set_read(struct working_set *set, pid_t clone, struct error *err);
/* What is in both. */
void working_set_intersect(struct working_set *set, const struct working_set *other);
/* Only what lies in private and writable mappings of the template, in pages of 4 KiB, or in huge ones
 * of which most is in the set, as they are copied whole. */
MUST_CHECK int working_set_keep_ownable(struct working_set *set, pid_t template_pid, struct error *err);
