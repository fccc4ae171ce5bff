#include "pager/space.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ZERO_FIRST_BYTES (8 * LAYOUT_PAGE)
#define ZERO_MOST_BYTES (256 * LAYOUT_PAGE) /* when memory is touched page after page */

struct space *space_new(const struct layout *layout, int fd)
{
    struct space *s = xcalloc(1, sizeof *s);
    *s = (struct space){.fd = fd, .is_template = true, .layout = layout};
    s->missing = xcalloc(bits_words(layout->pages), sizeof *s->missing);
    s->missing_count = layout->lazy_pages;
    for (size_t i = 0; i < layout->lazy_count; i++) {
        const struct stretch *stretch = layout->lazy[i];
        for (uint64_t at = 0; at < stretch->bytes; at += LAYOUT_PAGE)
            bit_set(s->missing, (stretch->offset + at) / LAYOUT_PAGE);
    }
    for (size_t i = 0; i < layout->region_count; i++)
        pieces_add(&s->pieces, layout->regions[i].start, layout->regions[i].end);
    return s;
}

struct space *space_fork(const struct space *parent, int fd)
{
    struct space *s = xcalloc(1, sizeof *s);
    size_t words = bits_words(parent->layout->pages);
    *s = (struct space){
        .fd = fd, .first = parent->first, .layout = parent->layout, .missing_count = parent->missing_count};
    s->missing = xcalloc(words, sizeof *s->missing);
    memcpy(s->missing, parent->missing, words * sizeof *s->missing);
    pieces_copy(&s->pieces, &parent->pieces);
    return s;
}

void space_free(struct space *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->missing);
    pieces_free(&s->pieces);
    free(s);
}

static void clear(struct space *s, uint64_t page)
{
    if (!bit_get(s->missing, page))
        return;
    s->missing[page / 64] &= ~(1ull << page % 64);
    s->missing_count--;
}

/* The first page from `page` on, below `end`, whose bit is `wanted`; `end` when there is none. */
static uint64_t seek(const struct space *s, uint64_t page, uint64_t end, bool wanted)
{
    while (page < end) {
        uint64_t word = wanted ? s->missing[page / 64] : ~s->missing[page / 64];
        word >>= page % 64;
        if (word != 0) {
            page += (uint64_t)__builtin_ctzll(word);
            return page < end ? page : end;
        }
        page = (page / 64 + 1) * 64;
    }
    return end;
}

bool space_missing_at(const struct space *s, uint64_t address, uint64_t *page)
{
    uint64_t origin;
    return pieces_origin(&s->pieces, address, &origin) && layout_page(s->layout, origin, page) &&
           bit_get(s->missing, *page);
}

bool space_misses(const struct space *s, uint64_t offset, uint64_t bytes)
{
    uint64_t end = (offset + bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE;
    return seek(s, offset / LAYOUT_PAGE, end, true) < end;
}

/* Pages that lie together in the stream, in the template, and here. */
static enum uffd_result install_together(
    struct space *s, uint64_t page, uint64_t address, const uint8_t *data, uint64_t bytes, uint64_t *pages)
{
    bool looked_again = false;
    uint64_t most = bytes; /* in one call: less when it reaches over a mapping's end */
    while (bytes > 0) {
        uint64_t done, want = bytes < most ? bytes : most;
        enum uffd_result result = uffd_copy(s->fd, address, data, want, &done);
        *pages += done / LAYOUT_PAGE;
        if (result == UFFD_EXISTS) {
            uffd_wake(s->fd, address + done, LAYOUT_PAGE);
            done += LAYOUT_PAGE;
        } else if (result == UFFD_NOT_HERE && done == 0 && want > LAYOUT_PAGE) {
            most = want / LAYOUT_PAGE / 2 * LAYOUT_PAGE;
            continue;
        } else if (result == UFFD_NOT_HERE && done == 0 && !looked_again) {
            /* It may have been moved away this moment, before it was told. Then the kernel says so now. */
            looked_again = true;
            continue;
        } else if (result == UFFD_NOT_HERE && done == 0) {
            done = LAYOUT_PAGE; /* not there any more, and nobody will tell */
        } else if (result != UFFD_DONE && result != UFFD_NOT_HERE) {
            bytes = 0;
        }
        for (uint64_t i = 0; i < done / LAYOUT_PAGE; i++)
            clear(s, page++);
        if (result != UFFD_DONE && bytes == 0)
            return result;
        looked_again = false;
        address += done;
        data += done;
        bytes -= done;
    }
    return UFFD_DONE;
}

/* Stream pages [page, end) of one stretch. */
static enum uffd_result install_stretch(struct space *s, const struct stretch *stretch, uint64_t page,
    uint64_t end, const uint8_t *data, uint64_t *pages)
{
    uint64_t first = page;
    for (page = seek(s, page, end, true); page < end; page = seek(s, page, end, true)) {
        uint64_t address = 0, stop = seek(s, page, end, false);
        uint64_t bytes = (stop - page) * LAYOUT_PAGE;
        uint64_t origin = stretch->address + (page * LAYOUT_PAGE - stretch->offset);
        if (!pieces_current(&s->pieces, origin, &address, &bytes)) {
            clear(s, page); /* something else was moved to its place */
            continue;
        }
        enum uffd_result result =
            install_together(s, page, address, data + (page - first) * LAYOUT_PAGE, bytes, pages);
        if (result != UFFD_DONE)
            return result;
    }
    return UFFD_DONE;
}

enum uffd_result space_install(
    struct space *s, uint64_t offset, const uint8_t *data, uint64_t bytes, uint64_t *pages)
{
    const struct layout *l = s->layout;
    uint64_t end = offset + bytes;
    for (size_t i = layout_find(l, offset); i < l->count && l->stretches[i].offset < end; i++) {
        const struct stretch *stretch = &l->stretches[i];
        uint64_t from = stretch->offset > offset ? stretch->offset : offset;
        uint64_t to = stretch->offset + stretch->bytes < end ? stretch->offset + stretch->bytes : end;
        if (!stretch->lazy)
            continue;
        enum uffd_result result = install_stretch(s, stretch, from / LAYOUT_PAGE,
            (to + LAYOUT_PAGE - 1) / LAYOUT_PAGE, data + (from - offset), pages);
        if (result != UFFD_DONE)
            return result;
    }
    return UFFD_DONE;
}

/* How far from `address` on nothing is missing, at most `most` bytes. */
static uint64_t empty_bytes(const struct space *s, uint64_t address, uint64_t most)
{
    uint64_t page, bytes = LAYOUT_PAGE;
    while (bytes < most && !space_missing_at(s, address + bytes, &page))
        bytes += LAYOUT_PAGE;
    return bytes;
}

enum uffd_result space_zero(struct space *s, uint64_t address)
{
    uint64_t most = ZERO_FIRST_BYTES;
    if (address == s->zero_end && s->zero_bytes > 0)
        most = 2 * s->zero_bytes < ZERO_MOST_BYTES ? 2 * s->zero_bytes : ZERO_MOST_BYTES;
    uint64_t done, bytes = empty_bytes(s, address, most);
    enum uffd_result result = uffd_zero(s->fd, address, bytes, &done);
    while (result == UFFD_NOT_HERE && done == 0 && bytes > LAYOUT_PAGE) {
        bytes = bytes / LAYOUT_PAGE / 2 * LAYOUT_PAGE;
        result = uffd_zero(s->fd, address, bytes, &done);
    }
    if (done > 0) {
        s->zero_end = address + done;
        s->zero_bytes = most;
        return result == UFFD_GONE ? result : UFFD_DONE;
    }
    if (result == UFFD_EXISTS || result == UFFD_NOT_HERE) {
        uffd_wake(s->fd, address, LAYOUT_PAGE);
        return UFFD_DONE;
    }
    return result;
}

/* Nothing is missing in [start, end) any more. */
static void forget(struct space *s, uint64_t start, uint64_t end)
{
    for (size_t i = 0; i < s->pieces.count && s->missing_count > 0; i++) {
        const struct piece *piece = &s->pieces.list[i];
        uint64_t from = piece->start > start ? piece->start : start;
        uint64_t to = piece->end < end ? piece->end : end;
        if (from >= to)
            continue;
        uint64_t at = piece->origin + (from - piece->start), stop = piece->origin + (to - piece->start);
        uint64_t page, count;
        for (; layout_next(s->layout, &at, stop, &page, &count); at += count * LAYOUT_PAGE)
            for (uint64_t k = 0; k < count; k++)
                clear(s, page + k);
    }
}

int space_change(struct space *s, const struct uffd_msg *message, size_t pieces_max, struct error *err)
{
    switch (message->event) {
    case UFFD_EVENT_REMAP:
        return pieces_move(&s->pieces, message->arg.remap.from, message->arg.remap.to, message->arg.remap.len,
            pieces_max, err);
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
        forget(s, message->arg.remove.start, message->arg.remove.end);
        return 0;
    default:
        return error_set(err, ERROR_INTERNAL, "the kernel tells of an event %u", message->event);
    }
}
