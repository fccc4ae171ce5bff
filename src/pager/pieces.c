#include "pager/pieces.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

void pieces_free(struct pieces *p)
{
    free(p->list);
    *p = (struct pieces){0};
}

void pieces_copy(struct pieces *to, const struct pieces *from)
{
    *to = (struct pieces){.count = from->count, .capacity = from->count, .moved = from->moved};
    if (from->count == 0)
        return;
    to->list = xcalloc(from->count, sizeof *to->list);
    memcpy(to->list, from->list, from->count * sizeof *to->list);
}

/* The first piece that ends above `address`; the count when there is none. */
static size_t find(const struct pieces *p, uint64_t address)
{
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->list[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert(struct pieces *p, size_t at, struct piece piece)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity > 0 ? 2 * p->capacity : 64;
        p->list = xrealloc(p->list, p->capacity * sizeof *p->list);
    }
    memmove(&p->list[at + 1], &p->list[at], (p->count - at) * sizeof *p->list);
    p->list[at] = piece;
    p->count++;
}

static void erase(struct pieces *p, size_t at, size_t count)
{
    memmove(&p->list[at], &p->list[at + count], (p->count - at - count) * sizeof *p->list);
    p->count -= count;
}

void pieces_add(struct pieces *p, uint64_t start, uint64_t end)
{
    insert(p, p->count, (struct piece){start, end, start});
}

bool pieces_origin(const struct pieces *p, uint64_t address, uint64_t *origin)
{
    size_t at = find(p, address);
    if (at == p->count || p->list[at].start > address)
        return false;
    *origin = p->list[at].origin + (address - p->list[at].start);
    return true;
}

static bool holds(const struct piece *piece, uint64_t origin)
{
    return origin >= piece->origin && origin - piece->origin < piece->end - piece->start;
}

bool pieces_current(const struct pieces *p, uint64_t origin, uint64_t *address, uint64_t *bytes)
{
    size_t at = 0;
    if (!p->moved)
        at = find(p, origin);
    else
        while (at < p->count && !holds(&p->list[at], origin))
            at++;
    if (at == p->count || !holds(&p->list[at], origin))
        return false;
    const struct piece *piece = &p->list[at];
    *address = piece->start + (origin - piece->origin);
    if (*bytes > piece->end - *address)
        *bytes = piece->end - *address;
    return true;
}

/* A border between pieces at `address`. Returns the index of the first piece at or above it. */
static size_t split(struct pieces *p, uint64_t address)
{
    size_t at = find(p, address);
    if (at == p->count || p->list[at].start >= address)
        return at;
    struct piece above = p->list[at];
    above.origin += address - above.start;
    above.start = address;
    p->list[at].end = address;
    insert(p, at + 1, above);
    return at + 1;
}

/* Takes what lies in [start, end) out, into `taken` (NULL: away with it). */
static void cut(struct pieces *p, uint64_t start, uint64_t end, struct pieces *taken)
{
    size_t first = split(p, start), last = split(p, end);
    for (size_t i = first; taken != NULL && i < last; i++)
        insert(taken, taken->count, p->list[i]);
    erase(p, first, last - first);
}

int pieces_move(struct pieces *p, uint64_t from, uint64_t to, uint64_t bytes, size_t limit, struct error *err)
{
    struct pieces taken = {0};
    p->moved = true;
    cut(p, from, from + bytes, &taken);
    cut(p, to, to + bytes, NULL);
    size_t at = split(p, to);
    for (size_t i = 0; i < taken.count; i++) {
        struct piece piece = taken.list[i];
        insert(p, at + i, (struct piece){piece.start - from + to, piece.end - from + to, piece.origin});
    }
    pieces_free(&taken);
    if (p->count > limit)
        return error_set(err, ERROR_LIMIT, "memory was moved into more than %zu pieces", limit);
    return 0;
}
