/* One address space that is served: the template's, a clone's, or one that a clone forked.
 *
 * Invariants:
 *   1. A bit of `missing` is set when that page of the stream is still to be put into this space: it is lazy, was not put in,
 *      and its memory was neither unmapped nor given back (MADV_DONTNEED). What is written to a page comes after it was put in.
 *   2. Whatever is touched in served memory and has no such bit reads as zeros.
 *   3. Pages are put in only while the kernel tells of no change that we have not read: it refuses with UFFD_CHANGING.
 *      So what `missing` and `pieces` say is true for whatever is put in. Messages are read one at a time for that.
 *   4. The descriptor stays open as long as the space lives. */
#pragma once

#include "pager/layout.h"
#include "pager/pieces.h"
#include "pager/uffd.h"

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdint.h>

struct space {
    struct space *next;
    int fd;
    bool is_template;
    bool first; /* the first clone, or of its descent */
    bool gone;  /* it has ended: to be freed */
    const struct layout *layout;
    uint64_t *missing; /* a bit for each page of the stream */
    uint64_t missing_count;
    struct pieces pieces;
    uint64_t zero_end, zero_bytes; /* where the last zeros ended, and how many they were */
};

static inline bool bit_get(const uint64_t *bits, uint64_t i)
{
    return bits[i / 64] >> i % 64 & 1;
}
static inline void bit_set(uint64_t *bits, uint64_t i)
{
    bits[i / 64] |= 1ull << i % 64;
}
static inline size_t bits_words(uint64_t count)
{
    return (size_t)(count / 64 + 1);
}

/* The template's: everything lazy is missing. Owns the descriptor. */
struct space *space_new(const struct layout *layout, int fd);
/* A fork of it. */
struct space *space_fork(const struct space *parent, int fd);
void space_free(struct space *s); /* NULL is fine; closes the descriptor */

/* The stream page that is missing at this address; false: none. */
bool space_missing_at(const struct space *s, uint64_t address, uint64_t *page);
/* Whether any page of the stream bytes [offset, offset + bytes) is missing. */
bool space_misses(const struct space *s, uint64_t offset, uint64_t bytes);
/* Puts in what is missing of these bytes of the stream. A last page that is short is filled up from `data`, too, which must
 * have room for it. *pages is raised by what was put in. UFFD_DONE also when a page has no place any more; else UFFD_CHANGING,
 * UFFD_FULL, UFFD_FAILED, or UFFD_GONE. */
enum uffd_result space_install(
    struct space *s, uint64_t offset, const uint8_t *data, uint64_t bytes, uint64_t *pages);
/* Zeros at `address` (whole page), and behind it as far as it seems useful. */
enum uffd_result space_zero(struct space *s, uint64_t address);
/* Takes a REMAP, REMOVE or UNMAP to heart. */
MUST_CHECK int space_change(
    struct space *s, const struct uffd_msg *message, size_t pieces_max, struct error *err);
