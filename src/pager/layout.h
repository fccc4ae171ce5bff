/* Which addresses of a template the page stream fills, and how: worked out once, never changed. */
#pragma once

#include "image/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_PAGE 4096ull

/* Bytes of the stream that go to one stretch of addresses. In whole pages; only the bulk area's last one may be short. */
struct stretch {
    uint64_t address, offset, bytes;
    bool lazy;
};
struct region {
    uint64_t start, end;
};

struct layout {
    struct stretch *stretches; /* in stream order, without gaps */
    size_t count;
    const struct stretch **lazy; /* by address */
    size_t lazy_count;
    struct region *regions; /* the mappings with lazy pages, whole, and the bulk area: ascending */
    size_t region_count;
    uint64_t bytes;      /* of the stream */
    uint64_t pages;      /* of the stream; page i begins at offset i * LAYOUT_PAGE */
    uint64_t lazy_pages; /* of them */
};

void layout_make(struct layout *l, const struct image *image, uint64_t bulk_address);
void layout_free(struct layout *l);
/* The first stretch that ends above `offset`; the count when there is none. */
size_t layout_find(const struct layout *l, uint64_t offset);
/* The stream page that belongs at this address of the template; false: none, or an eager one. */
bool layout_page(const struct layout *l, uint64_t address, uint64_t *page);
/* The next lazy pages at or above the template's address *address and below `end`: moves *address there; the first one's
 * stream page, and how many follow it. False: none. */
bool layout_next(const struct layout *l, uint64_t *address, uint64_t end, uint64_t *page, uint64_t *count);
