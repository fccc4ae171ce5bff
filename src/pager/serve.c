/* The pager's loop: faults first, then what the kernel and the warden tell, then the rest of the stream.
 *
 *   a fault:  no page of the stream is missing there --> zeros
 *             its chunk is here --> all of it that is missing goes into the faulting space, and into the template
 *             (the first clone, while its working set is recorded: only the page, so that each one that it touches is seen;
 *             of one that touches many, a small neighbourhood, as a fault costs more than a few pages too many)
 *             its chunk is not  --> it is asked for; the fault waits */
#include "pager/private.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 32
#define MS 1000000ull
#define QUIET_NS (5 * MS)       /* without a fault, before the next chunk is streamed */
#define QUIET_FORK_NS (50 * MS) /* without a new clone, unless it has served its first request */
#define STREAM_LATEST_NS (200 * MS)
#define OUT_OF_REACH_NS (2000 * MS) /* when chunks from afar cannot be had, before the next is asked for */
#define PROBE_FIRST_NS (50 * MS)    /* whether a space still lives */
#define PROBE_MOST_NS (2000 * MS)
#define FULL_PAUSE_NS (1 * MS)
#define CHANGING_SHORT 4 /* times that it is looked at again at once */
#define CHANGING_TRIES 20
#define CHANGING_PAUSE_US 100
#define DRIFT_PAGES 32 /* more misses than this and a share of the hot set: it is recorded anew */
#define DRIFT_SHARE 8
#define LACKING_PAGES \
    8 /* more misses than this: they are recorded, too. Each makes the clone wait for a chunk */
#define RECORD_ALONE_MAX 4096 /* faults that are recorded page by page; then by four pages, then by sixteen */
#define RECORD_BY_FOUR_MAX 16384

static int tell(struct pager *p, enum pager_word_kind kind, int fd, struct error *err)
{
    struct pager_word word = {.kind = kind, .figures = p->figures};
    if (p->warden_is_gone)
        return 0;
    if (fd_send_message(p->warden_fd, &word, sizeof word, &fd, fd >= 0, err) < 0) {
        if (err->errno_value != EPIPE && err->errno_value != ECONNRESET)
            return -1;
        p->warden_is_gone = true;
    }
    return 0;
}

/* ---- spaces ---- */

static void sweep_gone(struct pager *p)
{
    for (struct space **at = &p->spaces; *at != NULL;) {
        struct space *s = *at;
        if (!s->gone) {
            at = &s->next;
            continue;
        }
        size_t kept = 0;
        for (size_t i = 0; i < p->waiting_count; i++)
            if (p->waiting[i].space != s)
                p->waiting[kept++] = p->waiting[i];
        p->waiting_count = kept;
        if (s == p->template)
            p->template = NULL;
        *at = s->next;
        hold_close(p, &s->fd);
        space_free(s);
        p->space_count--;
    }
}

static void probe_spaces(struct pager *p)
{
    bool any = false;
    for (struct space *s = p->spaces; s != NULL; s = s->next)
        if (!s->gone && !uffd_lives(s->fd))
            s->gone = any = true;
    p->probe_pause_ns = any ? PROBE_FIRST_NS : 2 * p->probe_pause_ns;
    if (p->probe_pause_ns > PROBE_MOST_NS)
        p->probe_pause_ns = PROBE_MOST_NS;
    p->probe_after_ns = clock_monotonic_ns() + p->probe_pause_ns;
}

/* Nothing is missing in it: it need not be served. False when it must be all the same. */
static bool let_go(struct space *s)
{
    for (size_t i = 0; i < s->pieces.count; i++)
        if (uffd_unregister(s->fd, s->pieces.list[i].start, s->pieces.list[i].end) == UFFD_NOT_HERE)
            return false; /* other memory lies there, too */
    return true;
}

/* Nothing is streamed for so long: something else has need of the processors. */
static void be_quiet(struct pager *p, uint64_t ns)
{
    uint64_t until = clock_monotonic_ns() + ns;
    if (p->quiet_until_ns < until)
        p->quiet_until_ns = until;
}

static int add_fork(struct pager *p, struct space *parent, int fd, struct error *err)
{
    if (hold_add(p, fd, err) < 0) /* first of all: until then only keeper and pager have it */
        return -1;
    struct space *s = space_fork(parent, fd);
    be_quiet(p, parent->is_template ? QUIET_FORK_NS : QUIET_NS);
    s->first = parent->first || (parent->is_template && !p->has_first);
    p->has_first |= s->first;
    s->next = p->spaces;
    p->spaces = s;
    p->space_count++;
    p->probe_pause_ns = PROBE_FIRST_NS;
    if (s->missing_count == 0 && let_go(s)) {
        s->gone = true;
        return 0;
    }
    if (p->space_count > PAGER_SPACES_MAX) {
        probe_spaces(p);
        size_t living = 0;
        for (const struct space *at = p->spaces; at != NULL; at = at->next)
            living += !at->gone;
        if (living > PAGER_SPACES_MAX)
            return error_set(
                err, ERROR_LIMIT, "more than %d processes wait for pages of one template", PAGER_SPACES_MAX);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return error_system(err, "cannot watch the memory of a clone");
    return 0;
}

static int heed(struct pager *p, struct space *s, const struct uffd_msg *message, struct error *err)
{
    if (message->event == UFFD_EVENT_FORK)
        return add_fork(p, s, (int)message->arg.fork.ufd, err);
    return space_change(s, message, PAGER_PIECES_MAX, err);
}

/* 1: a message; 0: none now; -1. */
static int read_message(struct space *s, struct uffd_msg *message, struct error *err)
{
    ssize_t n = read(s->fd, message, sizeof *message);
    if (n == sizeof *message)
        return 1;
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ESRCH))
        return 0;
    return error_system(err, "cannot hear what happens in a clone's memory");
}

/* Everything that the kernel has to tell of `s` now. Faults come before the rest in its queue: they are put aside, and their
 * threads wait, as else they could ask again and again before anything else is read. A thread waits for one page only. */
static int read_all(struct pager *p, struct space *s, struct error *err)
{
    struct uffd_msg message;
    int result;
    while ((result = read_message(s, &message, err)) > 0) {
        if (message.event != UFFD_EVENT_PAGEFAULT) {
            if (heed(p, s, &message, err) < 0)
                return -1;
            continue;
        }
        if (p->aside_count == PAGER_WAITING_MAX)
            return error_set(err, ERROR_LIMIT, "more than %d threads wait for pages", PAGER_WAITING_MAX);
        if (p->aside_count == p->aside_capacity) {
            p->aside_capacity = p->aside_capacity > 0 ? 2 * p->aside_capacity : 64;
            p->aside = xrealloc(p->aside, p->aside_capacity * sizeof *p->aside);
        }
        p->aside[p->aside_count++] = message.arg.pagefault.address & ~(LAYOUT_PAGE - 1);
    }
    return result;
}

/* The memory of `s` is being changed: until we have heard how, and it has been. Then the faults look again. */
static int heed_all(struct pager *p, struct space *s, struct error *err)
{
    int result;
    p->aside_count = 0;
    for (int tries = 0; (result = read_all(p, s, err)) == 0; tries++) {
        if (!uffd_changes(s->fd) || tries == CHANGING_TRIES)
            break;
        if (tries < CHANGING_SHORT) /* whoever changes it has to run */
            sched_yield();
        else
            usleep(CHANGING_PAUSE_US);
    }
    for (size_t i = 0; i < p->aside_count; i++)
        uffd_wake(s->fd, p->aside[i], LAYOUT_PAGE);
    return result;
}

/* What became of an attempt to fill in `address`: whoever waits for it may have to look again. */
static int settle(
    struct pager *p, struct space *s, uint64_t address, enum uffd_result result, struct error *err)
{
    switch (result) {
    case UFFD_GONE:
        s->gone = true;
        return 0;
    case UFFD_CHANGING:
        if (heed_all(p, s, err) < 0)
            return -1;
        break;
    case UFFD_FULL: /* its limit: the kernel is ending something there */
        usleep(FULL_PAUSE_NS / 1000);
        break;
    case UFFD_FAILED:
        return error_system(err, "cannot fill in memory at %#lx", address);
    default:
        return 0;
    }
    uffd_wake(s->fd, address, LAYOUT_PAGE);
    return 0;
}

/* ---- faults ---- */

/* Neighbours, and the template, which has no fault to settle. */
static int install_aside(
    struct space *s, const struct pager_chunk *part, const uint8_t *data, struct error *err)
{
    uint64_t pages = 0;
    if (s == NULL || s->gone || !space_misses(s, part->offset, part->bytes))
        return 0;
    enum uffd_result result = space_install(s, part->offset, data, part->bytes, &pages);
    if (result == UFFD_FAILED)
        return error_system(err, "cannot fill in memory of %s", s->is_template ? "the template" : "a clone");
    if (result == UFFD_GONE)
        s->gone = true;
    return 0;
}

static void note_touch(struct pager *p, const struct space *s, uint64_t page)
{
    if (!s->first || p->served || bit_get(p->touched, page))
        return;
    p->figures.missed_pages++;
    bit_set(p->touched, page);
}

/* A part of chunk `i`: the neighbourhood of a page, as large as what is recorded has become. It counts as touched. */
static void touch_neighbours(const struct pager *p, uint64_t page, size_t i, struct pager_chunk *part)
{
    const struct pager_chunk chunk = p->source->chunk(p->source->context, i);
    uint64_t many = p->figures.missed_pages < RECORD_ALONE_MAX     ? 1
                    : p->figures.missed_pages < RECORD_BY_FOUR_MAX ? 4
                                                                   : 16;
    uint64_t start = page / many * many * LAYOUT_PAGE, end = start + many * LAYOUT_PAGE;
    start = start > chunk.offset ? start : chunk.offset;
    end = end < chunk.offset + chunk.bytes ? end : chunk.offset + chunk.bytes;
    *part = (struct pager_chunk){start, (uint32_t)(end - start)};
    for (uint64_t at = start / LAYOUT_PAGE; at * LAYOUT_PAGE < end; at++)
        bit_set(p->touched, at);
}

static int serve_page(struct pager *p, struct space *s, uint64_t address, uint64_t page, size_t i,
    const uint8_t *data, struct error *err)
{
    const struct pager_chunk chunk = p->source->chunk(p->source->context, i);
    struct pager_chunk part = chunk;
    uint64_t offset = page * LAYOUT_PAGE, pages = 0;
    enum uffd_result result = space_install(s, offset, data + (offset - chunk.offset), LAYOUT_PAGE, &pages);
    if (settle(p, s, address, result, err) < 0)
        return -1;
    if (s->first && p->records && !p->served)
        touch_neighbours(p, page, i, &part);
    if (result == UFFD_DONE && install_aside(s, &part, data + (part.offset - chunk.offset), err) < 0)
        return -1;
    return install_aside(p->template, &chunk, data, err);
}

static int wait_for_chunk(struct pager *p, struct space *s, uint64_t page, size_t i, struct error *err)
{
    if (p->waiting_count == PAGER_WAITING_MAX)
        return error_set(err, ERROR_LIMIT, "more than %d faults wait for chunks", PAGER_WAITING_MAX);
    if (p->waiting_count == p->waiting_capacity) {
        p->waiting_capacity = p->waiting_capacity > 0 ? 2 * p->waiting_capacity : 64;
        p->waiting = xrealloc(p->waiting, p->waiting_capacity * sizeof *p->waiting);
    }
    p->waiting[p->waiting_count++] = (struct waiting_fault){s, page, i};
    return 0;
}

static int serve_fault(struct pager *p, struct space *s, uint64_t address, struct error *err)
{
    uint64_t page;
    address &= ~(LAYOUT_PAGE - 1);
    if (!space_missing_at(s, address, &page)) {
        p->figures.zero_faults++;
        return settle(p, s, address, space_zero(s, address), err);
    }
    const uint8_t *data;
    size_t i = chunk_of_page(p, page);
    int result = chunk_get(p, i, true, &data, err);
    if (result < 0)
        return -1;
    p->figures.faults++;
    note_touch(p, s, page);
    return result > 0 ? serve_page(p, s, address, page, i, data, err) : wait_for_chunk(p, s, page, i, err);
}

/* Where a page of the stream is in this space now. */
static bool address_of(const struct space *s, uint64_t page, uint64_t *address)
{
    uint64_t offset = page * LAYOUT_PAGE, bytes = LAYOUT_PAGE;
    const struct stretch *stretch = &s->layout->stretches[layout_find(s->layout, offset)];
    return pieces_current(&s->pieces, stretch->address + (offset - stretch->offset), address, &bytes);
}

/* The faults that waited for it. One whose memory was changed meanwhile was woken by that, or has no page any more. */
static int chunk_came(struct pager *p, size_t i, struct error *err)
{
    const uint8_t *data;
    int result = chunk_get(p, i, true, &data, err);
    if (result <= 0)
        return result;
    for (size_t k = 0; k < p->waiting_count;) {
        struct waiting_fault fault = p->waiting[k];
        if (fault.chunk != i) {
            k++;
            continue;
        }
        p->waiting[k] = p->waiting[--p->waiting_count];
        uint64_t address;
        if (!fault.space->gone && address_of(fault.space, fault.page, &address) &&
            serve_page(p, fault.space, address, fault.page, i, data, err) < 0)
            return -1;
    }
    const struct pager_chunk chunk = p->source->chunk(p->source->context, i);
    return install_aside(p->template, &chunk, data, err);
}

static int serve_space(struct pager *p, struct space *s, struct error *err)
{
    struct uffd_msg message;
    if (s->gone)
        return 0;
    int result = read_message(s, &message, err);
    if (result <= 0)
        return result;
    if (message.event != UFFD_EVENT_PAGEFAULT)
        return heed(p, s, &message, err);
    be_quiet(p, QUIET_NS);
    return serve_fault(p, s, message.arg.pagefault.address, err);
}

/* ---- the warden ---- */

static int end_recording(struct pager *p, struct error *err)
{
    p->served = true;
    p->quiet_until_ns = clock_monotonic_ns() + QUIET_NS;
    if (tell(p, PAGER_SERVING, -1, err) < 0)
        return -1;
    if (p->figures.missed_pages > DRIFT_PAGES + p->figures.hot_pages / DRIFT_SHARE && p->hot.total > 0)
        return tell(p, PAGER_DRIFTED, -1, err);
    if (!p->records)
        return p->figures.missed_pages > LACKING_PAGES ? tell(p, PAGER_LACKING, -1, err) : 0;
    if (p->figures.missed_pages == 0 && p->hot.total > 0)
        return 0;
    CLEANUP_FD int fd = hot_write_recorded(p, err);
    if (fd < 0)
        return -1;
    return tell(p, PAGER_HOT_SET, fd, err);
}

static int hear_warden(struct pager *p, struct error *err)
{
    char byte;
    ssize_t n = read(p->warden_fd, &byte, 1);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0) {
        p->warden_is_gone = true;
        epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, p->warden_fd, NULL);
        p->probe_pause_ns = PROBE_FIRST_NS;
        p->probe_after_ns = 0;
        return 0;
    }
    return byte == PAGER_SERVED && !p->served && p->has_first ? end_recording(p, err) : 0;
}

/* ---- the rest of the stream ---- */

/* The template has all its pages: it is served no longer. Forks that are being told of must be heard first, though they
 * miss nothing. */
static int complete(struct pager *p, struct error *err)
{
    const char byte = PAGER_SAYS_COMPLETE;
    struct space *s = p->template;
    if (!let_go(s) && uffd_lives(s->fd))
        return error_set(err, ERROR_INTERNAL, "the template's memory is not what it was");
    if (heed_all(p, s, err) < 0)
        return -1;
    s->gone = true;
    sweep_gone(p);
    p->figures.complete_ns = clock_monotonic_ns();
    if (fd_write_all(p->template_fd, &byte, 1, err) < 0 && err->errno_value != EPIPE)
        return -1;
    return tell(p, PAGER_COMPLETE, -1, err);
}

static int stream_step(struct pager *p, struct error *err)
{
    const struct pager_source *source = p->source;
    for (size_t looked_at = 0; looked_at < source->chunk_count; looked_at++) {
        size_t i = p->stream_next;
        struct pager_chunk chunk = source->chunk(source->context, i);
        p->stream_next = (i + 1) % source->chunk_count;
        if (!space_misses(p->template, chunk.offset, chunk.bytes) || p->chunk_states[i] & CHUNK_FETCHING)
            continue;
        const uint8_t *data;
        int result = chunk_get(p, i, false, &data, err);
        return result > 0 ? install_aside(p->template, &chunk, data, err) : result;
    }
    return 0; /* the rest is on its way */
}

/* When the next chunk is due, or the end: behind faults and new clones, but not for ever; and after a pause at least as long
 * as the last one took, which leaves room for what runs. */
static uint64_t stream_due_ns(const struct pager *p)
{
    uint64_t latest = p->stream_after_ns + STREAM_LATEST_NS;
    if (p->template->missing_count == 0)
        return 0;
    if (p->quiet_until_ns <= p->stream_after_ns)
        return p->stream_after_ns;
    return p->quiet_until_ns < latest ? p->quiet_until_ns : latest;
}

static bool streams(const struct pager *p)
{
    return p->template != NULL && !p->template->gone;
}

static int stream(struct pager *p, struct error *err)
{
    uint64_t now = clock_monotonic_ns();
    if (!streams(p) || now < stream_due_ns(p))
        return 0;
    if (p->template->missing_count == 0)
        return complete(p, err);
    if (p->fetching < PAGER_FETCHES_BEHIND && stream_step(p, err) < 0)
        return -1;
    uint64_t after = clock_monotonic_ns(), pause_ns = p->source->stream_pause_ms * MS;
    p->stream_after_ns = after + (pause_ns > after - now ? pause_ns : after - now);
    return 0;
}

/* ---- the loop ---- */

static int wait_ms(const struct pager *p)
{
    uint64_t now = clock_monotonic_ns(), until = p->probe_after_ns;
    if (streams(p) && p->fetching < PAGER_FETCHES_BEHIND && stream_due_ns(p) < until)
        until = stream_due_ns(p);
    return until <= now ? 0 : (int)((until - now + MS - 1) / MS);
}

static bool is_waited_for(const struct pager *p, size_t chunk)
{
    for (size_t i = 0; i < p->waiting_count; i++)
        if (p->waiting[i].chunk == chunk)
            return true;
    return false;
}

/* Faults whose chunk could not be asked for, as too many were under way. */
static int ask_for_waiting(struct pager *p, struct error *err)
{
    for (size_t k = 0; k < p->waiting_count && p->fetching < PAGER_FETCHES_MAX; k++) {
        size_t i = p->waiting[k].chunk, before = p->waiting_count;
        if (p->chunk_states[i] & CHUNK_FETCHING)
            continue;
        if (chunk_came(p, i, err) < 0) /* asked for; or here by now, and then the list has changed */
            return -1;
        if (p->waiting_count != before)
            k = SIZE_MAX;
    }
    return 0;
}

/* What nobody waits for may come later, when it is only out of reach now. */
static int serve_fetched(struct pager *p, struct error *err)
{
    size_t i;
    int result = chunk_fetched(p, &i, err);
    if (result < 0 && i < p->source->chunk_count && err->kind == ERROR_BUSY && !is_waited_for(p, i)) {
        p->chunk_states[i] = 0;
        p->stream_after_ns = clock_monotonic_ns() + OUT_OF_REACH_NS;
        return 0;
    }
    if (result > 0)
        result = chunk_came(p, i, err);
    return result < 0 ? -1 : ask_for_waiting(p, err);
}

static int serve_ready(struct pager *p, void *what, struct error *err)
{
    if (what == NULL)
        return hear_warden(p, err);
    return what == &p->fetching ? serve_fetched(p, err) : serve_space(p, what, err);
}

int pager_serve(struct pager *p, struct error *err)
{
    struct epoll_event ready[EVENTS_MAX];
    struct epoll_event fetched = {.events = EPOLLIN, .data.ptr = &p->fetching};
    if (p->source->fetch != NULL && epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->source->fetch_fd, &fetched) < 0)
        return error_system(err, "cannot wait for chunks from afar");
    uint64_t now = clock_monotonic_ns();
    be_quiet(p, QUIET_FORK_NS); /* it was made for a clone */
    p->stream_after_ns = now + p->source->stream_pause_ms * MS;
    p->probe_pause_ns = PROBE_FIRST_NS;
    p->probe_after_ns = now + p->probe_pause_ns;
    while (p->spaces != NULL) {
        int count = epoll_wait(p->epoll_fd, ready, EVENTS_MAX, wait_ms(p));
        if (count < 0 && errno != EINTR)
            return error_system(err, "cannot wait for faults");
        for (int i = 0; i < count; i++)
            if (serve_ready(p, ready[i].data.ptr, err) < 0)
                return -1;
        if (count <= 0 && stream(p, err) < 0)
            return -1;
        if (clock_monotonic_ns() >= p->probe_after_ns)
            probe_spaces(p);
        sweep_gone(p);
    }
    return 0;
}
