#include "pager/private.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool fits(const struct pager *p, const struct pager_run *run)
{
    const struct hot *hot = &p->hot;
    uint64_t end = hot->count > 0 ? hot->runs[hot->count - 1].offset + hot->runs[hot->count - 1].bytes : 0;
    return run->offset % LAYOUT_PAGE == 0 && run->bytes > 0 && run->offset >= end &&
           run->bytes <= p->layout.bytes && run->offset <= p->layout.bytes - run->bytes &&
           (run->bytes % LAYOUT_PAGE == 0 || run->offset + run->bytes == p->layout.bytes) &&
           hot->count < PAGER_HOT_RUNS_MAX && hot->bytes + run->bytes + LAYOUT_PAGE <= PAGER_HOT_BYTES_MAX;
}

static void add_run(struct hot *hot, const struct pager_run *run, const uint8_t *data)
{
    if (hot->count == hot->capacity) {
        hot->capacity = hot->capacity > 0 ? 2 * hot->capacity : 256;
        hot->runs = xrealloc(hot->runs, hot->capacity * sizeof *hot->runs);
        hot->at = xrealloc(hot->at, hot->capacity * sizeof *hot->at);
    }
    hot->runs[hot->count] = *run;
    hot->at[hot->count++] = hot->bytes;
    memcpy(hot->data + hot->bytes, data, run->bytes);
    hot->bytes += (run->bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE * LAYOUT_PAGE;
}

/* One piece more. A hot set that cannot be read, or does not fit this stream, only makes the start slower. */
static void load_piece(struct pager *p)
{
    struct pager_hot_piece piece;
    struct error ignored;
    int result = p->source->hot_next == NULL ? 0 : p->source->hot_next(p->source->context, &piece, &ignored);
    p->hot.ended = result <= 0;
    const uint8_t *data = result > 0 ? piece.data : NULL;
    for (size_t i = 0; result > 0 && i < piece.run_count; i++) {
        if (!fits(p, &piece.runs[i])) {
            p->hot.ended = true;
            return;
        }
        add_run(&p->hot, &piece.runs[i], data);
        data += piece.runs[i].bytes;
    }
}

/* Bytes of the stream from the hot set: how many are there from `offset` on, at *data; 0: not there. */
static uint64_t find_hot(struct pager *p, uint64_t offset, const uint8_t **data)
{
    struct hot *hot = &p->hot;
    while (!hot->ended &&
           (hot->count == 0 || hot->runs[hot->count - 1].offset + hot->runs[hot->count - 1].bytes <= offset))
        load_piece(p);
    size_t low = 0, high = hot->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (hot->runs[middle].offset + hot->runs[middle].bytes <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == hot->count || hot->runs[low].offset > offset)
        return 0;
    *data = hot->data + hot->at[low] + (offset - hot->runs[low].offset);
    return hot->runs[low].bytes - (offset - hot->runs[low].offset);
}

static int give_eager(struct pager *p, const struct stretch *stretch, struct error *err)
{
    for (uint64_t done = 0; done < stretch->bytes;) {
        const uint8_t *data;
        uint64_t offset = stretch->offset + done, left = stretch->bytes - done;
        uint64_t bytes = find_hot(p, offset, &data);
        if (bytes == 0) {
            size_t i = chunk_of_page(p, offset / LAYOUT_PAGE);
            struct pager_chunk chunk = p->source->chunk(p->source->context, i);
            if (chunk_get_now(p, i, &data, err) < 0)
                return -1;
            data += offset - chunk.offset;
            bytes = chunk.offset + chunk.bytes - offset;
        }
        bytes = bytes < left ? bytes : left;
        if (fd_write_all(p->pages_fd, data, bytes, err) < 0)
            return error_prefix(err, "cannot give the template its pages");
        done += bytes;
    }
    return 0;
}

int hot_load(struct pager *p, struct error *err)
{
    p->hot.ended = p->options->record;
    p->hot.data = mmap(NULL, PAGER_HOT_BYTES_MAX, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->hot.data == MAP_FAILED)
        return error_system(err, "cannot map memory for the hot set");
    for (size_t i = 0; i < p->layout.count; i++)
        if (!p->layout.stretches[i].lazy && give_eager(p, &p->layout.stretches[i], err) < 0)
            return -1;
    while (!p->hot.ended)
        load_piece(p);
    fd_close(&p->pages_fd);
    return 0;
}

int hot_install(struct pager *p, struct error *err)
{
    for (size_t i = 0; i < p->hot.count; i++) {
        const struct pager_run *run = &p->hot.runs[i];
        enum uffd_result result = space_install(
            p->template, run->offset, p->hot.data + p->hot.at[i], run->bytes, &p->figures.hot_pages);
        if (result != UFFD_DONE)
            return error_system(err, "cannot fill in the hot set (%d)", (int)result);
    }
    return 0;
}

void hot_free(struct pager *p)
{
    if (p->hot.data != NULL)
        munmap(p->hot.data, PAGER_HOT_BYTES_MAX);
    free(p->hot.runs);
    free(p->hot.at);
    p->hot = (struct hot){.ended = true};
}

/* *at: the stretch that the page is in, or one before: pages are asked for in ascending order. */
static bool is_hot(const struct pager *p, uint64_t page, size_t *at)
{
    const struct stretch *stretches = p->layout.stretches;
    while (stretches[*at].offset + stretches[*at].bytes <= page * LAYOUT_PAGE)
        ++*at;
    return !stretches[*at].lazy || bit_get(p->touched, page);
}

int hot_write_recorded(const struct pager *p, struct error *err)
{
    CLEANUP_BUFFER struct buffer runs = {0};
    struct pager_run run = {0};
    size_t at = 0;
    for (uint64_t page = 0; page <= p->layout.pages; page++) {
        bool hot = page < p->layout.pages && is_hot(p, page, &at);
        if (hot && run.bytes == 0)
            run.offset = page * LAYOUT_PAGE;
        if (hot)
            run.bytes += LAYOUT_PAGE;
        if (hot || run.bytes == 0)
            continue;
        if (run.offset + run.bytes > p->layout.bytes)
            run.bytes = p->layout.bytes - run.offset;
        if (runs.len == PAGER_HOT_RUNS_MAX * sizeof run)
            break;
        buffer_append(&runs, &run, sizeof run);
        run.bytes = 0;
    }
    int fd = memfd_create("hot", MFD_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot make a memfd");
    if (fd_write_all(fd, runs.data, runs.len, err) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}
