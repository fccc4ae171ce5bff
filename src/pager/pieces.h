/* Where the memory of an address space lies now that lay elsewhere in the template: mremap moves it. Sorted by address;
 * pieces do not overlap, nor do their origins. Memory that was unmapped may still have a piece: nothing is missing there. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct piece {
    uint64_t start, end;
    uint64_t origin; /* the template's address of `start` */
};
struct pieces {
    struct piece *list; /* owned */
    size_t count, capacity;
    bool moved; /* else every piece is at its origin */
};

void pieces_free(struct pieces *p);
void pieces_copy(struct pieces *to, const struct pieces *from); /* `to` is {0} */
/* Only before anything has moved; ascending. */
void pieces_add(struct pieces *p, uint64_t start, uint64_t end);
/* The template's address of what is at `address`; false: nothing of the template's. */
bool pieces_origin(const struct pieces *p, uint64_t address, uint64_t *origin);
/* Where the template's `origin` is now, and that so many bytes from there lie together (at most *bytes, which is
 * lowered); false: it is nowhere. */
bool pieces_current(const struct pieces *p, uint64_t origin, uint64_t *address, uint64_t *bytes);
/* What was at [from, from + bytes) is at `to` now, in place of what was there. ERROR_LIMIT beyond `limit` pieces. */
MUST_CHECK int pieces_move(
    struct pieces *p, uint64_t from, uint64_t to, uint64_t bytes, size_t limit, struct error *err);
