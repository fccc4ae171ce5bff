#include "pager/private.h"

#include "base/bytes.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define FETCHES_MAX 3 /* of one chunk that does not verify */

size_t chunk_of_page(const struct pager *p, uint64_t page)
{
    uint64_t offset = page * LAYOUT_PAGE;
    size_t low = 0, high = p->source->chunk_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (p->source->chunk(p->source->context, middle).offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

int chunk_check_all(const struct pager *p, struct error *err)
{
    uint64_t offset = 0;
    for (size_t i = 0; i < p->layout.count; i++) {
        const struct stretch *s = &p->layout.stretches[i];
        bool whole = s->bytes % LAYOUT_PAGE == 0 || i + 1 == p->layout.count;
        if (s->address % LAYOUT_PAGE != 0 || s->offset % LAYOUT_PAGE != 0 || !whole)
            return error_set(err, ERROR_CORRUPT, "the pages at %#lx are not whole pages", s->address);
    }
    for (size_t i = 0; i < p->source->chunk_count; i++) {
        struct pager_chunk chunk = p->source->chunk(p->source->context, i);
        if (chunk.offset != offset || chunk.bytes == 0 || chunk.bytes > PAGER_CHUNK_BYTES_MAX ||
            offset % LAYOUT_PAGE != 0)
            return error_set(err, ERROR_CORRUPT, "chunk %zu of the page stream is not where it should be", i);
        offset += chunk.bytes;
    }
    if (offset != p->layout.bytes)
        return error_set(
            err, ERROR_CORRUPT, "the page stream has %lu bytes and not %lu", offset, p->layout.bytes);
    return 0;
}

static struct cached_chunk *find_cached(struct pager *p, size_t i)
{
    struct cached_chunk *oldest = &p->cache[0];
    for (size_t k = 0; k < countof(p->cache); k++) {
        struct cached_chunk *cached = &p->cache[k];
        if (cached->used > 0 && cached->index == i)
            return cached;
        if (cached->used < oldest->used)
            oldest = cached;
    }
    oldest->used = 0;
    return oldest;
}

/* What has come from afar and is damaged all the same, or is never found here, is lost. */
static int fetch(struct pager *p, size_t i, bool urgent, const struct error *why, struct error *err)
{
    bool damaged = why->kind != ERROR_NOT_FOUND;
    uint8_t tries = p->chunk_states[i];
    if (p->source->fetch == NULL || tries == PAGER_FETCH_TRIES || (tries > 0 && damaged)) {
        *err = *why;
        return -1;
    }
    if (p->fetching >= PAGER_FETCHES_MAX)
        return 0;
    if (p->source->fetch(p->source->context, i, damaged, urgent, err) < 0)
        return -1;
    p->chunk_states[i] = (uint8_t)((tries + 1) | CHUNK_FETCHING);
    p->fetching++;
    p->figures.chunks_fetched++;
    return 0;
}

int chunk_get(struct pager *p, size_t i, bool urgent, const uint8_t **data, struct error *err)
{
    struct cached_chunk *cached = find_cached(p, i);
    struct error why = {0};
    if (cached->used == 0) {
        if (p->chunk_states[i] & CHUNK_FETCHING)
            return 0;
        struct pager_chunk chunk = p->source->chunk(p->source->context, i);
        if (cached->data == NULL)
            cached->data = xcalloc(1, PAGER_CHUNK_BYTES_MAX + LAYOUT_PAGE);
        if (p->source->read(p->source->context, i, cached->data, &why) < 0)
            return fetch(p, i, urgent, &why, err);
        memset(cached->data + chunk.bytes, 0, LAYOUT_PAGE);
        cached->index = i;
        p->chunk_states[i] = 0;
        p->figures.chunks_read++;
        p->figures.chunk_bytes_read += chunk.bytes;
    }
    cached->used = ++p->uses;
    *data = cached->data;
    return 1;
}

int chunk_fetched(struct pager *p, size_t *i, struct error *err)
{
    struct error why = {0};
    *i = SIZE_MAX;
    int result = p->source->fetched(p->source->context, i, &why);
    if (result <= 0) {
        *err = why;
        return result;
    }
    if (*i >= p->source->chunk_count || !(p->chunk_states[*i] & CHUNK_FETCHING))
        return error_set(err, ERROR_INTERNAL, "a chunk has come that was not asked for");
    p->chunk_states[*i] &= (uint8_t)~CHUNK_FETCHING;
    p->fetching--;
    if (why.kind != ERROR_NONE) {
        *err = why;
        return -1;
    }
    return 1;
}

int chunk_get_now(struct pager *p, size_t i, const uint8_t **data, struct error *err)
{
    for (;;) {
        int result = chunk_get(p, i, true, data, err);
        if (result != 0)
            return result < 0 ? -1 : 0;
        struct pollfd wait = {p->source->fetch_fd, POLLIN, 0};
        if (poll(&wait, 1, -1) < 0 && errno != EINTR)
            return error_system(err, "cannot wait for a chunk");
        size_t come;
        if (chunk_fetched(p, &come, err) < 0)
            return -1;
    }
}
