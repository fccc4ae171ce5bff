#include "pager/private.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What comes is verified, but was made from what an unprivileged process said. */
static bool fits(const struct pager *p, const struct pager_run *run)
{
    return run->offset % LAYOUT_PAGE == 0 && run->bytes > 0 && run->bytes <= p->layout.bytes &&
           run->offset <= p->layout.bytes - run->bytes &&
           (run->bytes % LAYOUT_PAGE == 0 || run->offset + run->bytes == p->layout.bytes) &&
           p->hot.run_count < PAGER_HOT_RUNS_MAX &&
           p->hot.total + run->bytes + LAYOUT_PAGE <= PAGER_HOT_BYTES_MAX;
}

/* ---- eager pages ---- */

/* The first eager stretch that is not yet given whole, and what of it is. */
struct eager {
    size_t stretch;
    uint64_t done;
};

static const struct stretch *next_eager(const struct pager *p, struct eager *e)
{
    const struct layout *l = &p->layout;
    while (e->stretch < l->count &&
           (l->stretches[e->stretch].lazy || e->done == l->stretches[e->stretch].bytes)) {
        e->stretch++;
        e->done = 0;
    }
    return e->stretch < l->count ? &l->stretches[e->stretch] : NULL;
}

static int give(struct pager *p, struct eager *e, const uint8_t *data, uint64_t bytes, struct error *err)
{
    e->done += bytes;
    if (fd_write_all(p->pages_fd, data, bytes, err) < 0)
        return error_prefix(err, "cannot give the template its pages");
    return 0;
}

/* What of this run is next. */
static int give_from_run(
    struct pager *p, struct eager *e, const struct pager_run *run, const uint8_t *data, struct error *err)
{
    const struct stretch *stretch;
    while ((stretch = next_eager(p, e)) != NULL) {
        uint64_t offset = stretch->offset + e->done;
        if (offset < run->offset || offset >= run->offset + run->bytes)
            return 0;
        uint64_t left = stretch->bytes - e->done, bytes = run->offset + run->bytes - offset;
        if (give(p, e, data + (offset - run->offset), bytes < left ? bytes : left, err) < 0)
            return -1;
    }
    return 0;
}

static int give_rest(struct pager *p, struct eager *e, struct error *err)
{
    const struct stretch *stretch;
    while ((stretch = next_eager(p, e)) != NULL) {
        const uint8_t *data;
        uint64_t offset = stretch->offset + e->done, left = stretch->bytes - e->done;
        size_t i = chunk_of_page(p, offset / LAYOUT_PAGE);
        struct pager_chunk chunk = p->source->chunk(p->source->context, i);
        if (chunk_get_now(p, i, &data, err) < 0)
            return -1;
        uint64_t bytes = chunk.offset + chunk.bytes - offset;
        if (give(p, e, data + (offset - chunk.offset), bytes < left ? bytes : left, err) < 0)
            return -1;
    }
    fd_close(&p->pages_fd); /* the template goes on to its end */
    return 0;
}

/* ---- lazy pages ---- */

static int install(struct pager *p, const struct pager_run *run, const uint8_t *data, struct error *err)
{
    uint8_t last[LAYOUT_PAGE] = {0};
    uint64_t whole = run->bytes / LAYOUT_PAGE * LAYOUT_PAGE, rest = run->bytes - whole;
    uint64_t *pages = &p->figures.hot_pages;
    memcpy(last, data + whole, rest);
    enum uffd_result result = space_install(p->template, run->offset, data, whole, pages);
    if (result == UFFD_DONE && rest > 0)
        result = space_install(p->template, run->offset + whole, last, rest, pages);
    return result == UFFD_DONE ? 0 : error_system(err, "cannot fill in the hot set (%d)", (int)result);
}

static int install_piece(struct pager *p, struct pager_hot_piece *piece, struct error *err)
{
    const uint8_t *data = piece->data;
    int result = 0;
    for (size_t i = 0; i < piece->run_count && result == 0; data += piece->runs[i++].bytes)
        result = install(p, &piece->runs[i], data, err);
    decoding_give_back(p->hot.decoding, piece);
    return result;
}

static int install_kept(struct pager *p, struct error *err)
{
    struct hot *hot = &p->hot;
    int result = 0;
    for (size_t i = 0; i < hot->kept_count && result == 0; i++)
        result = install_piece(p, hot->kept[i], err);
    hot->kept_count = 0;
    return result;
}

static void keep(struct hot *hot, struct pager_hot_piece *piece)
{
    if (hot->kept_count == hot->kept_capacity) {
        hot->kept_capacity = hot->kept_capacity > 0 ? 2 * hot->kept_capacity : 256;
        hot->kept = xrealloc(hot->kept, hot->kept_capacity * sizeof(struct pager_hot_piece *));
    }
    hot->kept[hot->kept_count++] = piece;
}

/* ---- both ---- */

static bool has_lazy(const struct layout *l, const struct pager_run *run)
{
    for (size_t i = layout_find(l, run->offset); i < l->count; i++)
        if (l->stretches[i].offset >= run->offset + run->bytes)
            return false;
        else if (l->stretches[i].lazy)
            return true;
    return false;
}

/* Runs may have eager pages, lazy ones, or both. */
static int take_piece(struct pager *p, struct eager *e, struct pager_hot_piece *piece, struct error *err)
{
    const uint8_t *data = piece->data;
    bool lazy = false;
    for (size_t i = 0; i < piece->run_count; data += piece->runs[i++].bytes) {
        const struct pager_run *run = &piece->runs[i];
        if (!fits(p, run)) {
            piece->run_count = i; /* what is not of this stream: only the start is slower */
            break;
        }
        p->hot.run_count++;
        p->hot.total += run->bytes;
        for (uint64_t at = 0; at < run->bytes; at += LAYOUT_PAGE)
            bit_set(p->touched, (run->offset + at) / LAYOUT_PAGE);
        lazy |= has_lazy(&p->layout, run);
        if (p->pages_fd >= 0 && give_from_run(p, e, run, data, err) < 0)
            return -1;
        if (p->pages_fd >= 0 && next_eager(p, e) == NULL)
            fd_close(&p->pages_fd);
    }
    if (lazy && p->template != NULL)
        return install_piece(p, piece, err);
    if (lazy)
        keep(&p->hot, piece);
    else
        decoding_give_back(p->hot.decoding, piece);
    return 0;
}

void hot_decode_ahead(struct pager *p, int until_fd)
{
    struct hot *hot = &p->hot;
    struct pollfd until = {.fd = until_fd, .events = POLLIN};
    while (hot->decoding != NULL && hot->ahead_count < HOT_AHEAD_MAX && poll(&until, 1, 0) == 0) {
        struct pager_hot_piece *piece = decoding_next(hot->decoding, false);
        if (piece == NULL)
            return;
        hot->ahead[hot->ahead_count++] = piece;
    }
}

static struct pager_hot_piece *next_piece(struct pager *p)
{
    struct hot *hot = &p->hot;
    if (hot->ahead_next < hot->ahead_count)
        return hot->ahead[hot->ahead_next++];
    return decoding_next(hot->decoding, p->pages_fd < 0); /* eager pages have an order */
}

static int bring_pieces(struct pager *p, struct eager *e, struct error *err)
{
    struct pager_hot_piece *piece;
    while ((piece = next_piece(p)) != NULL) {
        int mapped = p->template != NULL || p->pages_fd >= 0 ? 0 : pager_register(p, false, err);
        if (mapped < 0 || (mapped > 0 && install_kept(p, err) < 0) || take_piece(p, e, piece, err) < 0)
            return -1;
    }
    return 0;
}

int hot_bring(struct pager *p, struct error *err)
{
    struct eager e = {0};
    if (p->hot.decoding != NULL && bring_pieces(p, &e, err) < 0)
        return -1;
    p->figures.read_ns = clock_monotonic_ns();
    if (p->pages_fd >= 0 && give_rest(p, &e, err) < 0)
        return -1;
    if (p->template == NULL && (pager_register(p, true, err) < 0 || install_kept(p, err) < 0))
        return -1;
    return 0;
}

void hot_end(struct pager *p)
{
    decoding_free(p->hot.decoding);
    free(p->hot.kept);
    p->hot = (struct hot){.total = p->hot.total};
}

/* ---- recording ---- */

struct recording {
    struct buffer runs;
    struct pager_run run;
};

static void add_page(struct recording *r, const struct layout *l, uint64_t page)
{
    uint64_t offset = page * LAYOUT_PAGE;
    uint64_t bytes = l->bytes - offset < LAYOUT_PAGE ? l->bytes - offset : LAYOUT_PAGE;
    if (r->run.bytes > 0 && r->run.offset + r->run.bytes == offset) {
        r->run.bytes += bytes;
        return;
    }
    if (r->run.bytes > 0 && r->runs.len < PAGER_HOT_RUNS_MAX * sizeof r->run)
        buffer_append(&r->runs, &r->run, sizeof r->run);
    r->run = (struct pager_run){offset, bytes};
}

/* First what is eager, as the template waits for it while it makes its mappings; then what was touched. */
static void add_pages(struct recording *r, const struct pager *p, bool lazy)
{
    const struct layout *l = &p->layout;
    for (size_t i = 0; i < l->count; i++) {
        const struct stretch *stretch = &l->stretches[i];
        uint64_t end = (stretch->offset + stretch->bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE;
        for (uint64_t page = stretch->offset / LAYOUT_PAGE; stretch->lazy == lazy && page < end; page++)
            if (!lazy || bit_get(p->touched, page))
                add_page(r, l, page);
    }
}

int hot_write_recorded(const struct pager *p, struct error *err)
{
    struct recording r = {0};
    add_pages(&r, p, false);
    add_pages(&r, p, true);
    if (r.run.bytes > 0)
        buffer_append(&r.runs, &r.run, sizeof r.run);
    int fd = memfd_create("hot", MFD_CLOEXEC);
    int result =
        fd < 0 ? error_system(err, "cannot make a memfd") : fd_write_all(fd, r.runs.data, r.runs.len, err);
    buffer_free(&r.runs);
    if (result == 0)
        return fd;
    fd_close(&fd);
    return -1;
}
