#include "pager/decoding.h"

#include "base/bytes.h"
#include "base/processors.h"
#include "base/wakeups.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HELPER_STACK_BYTES (256 * 1024)
/* Of the first slots: a hot set that needs no more of them is not worth a huge page. */
#define SMALL_PAGES_BYTES (2ull << 20)
#define WARM_BYTES (1280ull << 10) /* of the first slots, in each process that waits */

enum slot_state { SLOT_FILLING, SLOT_READY, SLOT_NOTHING /* came: it is the end */ };

struct slot {
    struct pager_hot_piece piece; /* the first member */
    enum slot_state state;
};

struct helper {
    struct decoding *decoding;
    size_t worker; /* of the source's */
    pthread_t thread;
};

struct decoding {
    const struct pager_source *source;
    pthread_mutex_t taking; /* held while a piece is taken from the source */
    pthread_mutex_t lock;   /* of all that follows; the last to be taken */
    pthread_cond_t done;    /* a slot is ready, or a helper has arrived */
    pthread_cond_t room;    /* a slot was given back, or helpers may begin, or it is the end */
    size_t slot_count;
    struct slot *slots;
    struct slot **order; /* a ring of slot_count: taken, and not yet given out */
    size_t first, last;  /* counts; modulo slot_count they are places in `order` */
    struct slot **unused;
    size_t unused_count;
    bool helped, ended; /* helpers may begin; no more pieces are taken */
    size_t arrived;
    struct helper helpers[DECODING_THREADS_MAX - 1];
    size_t helper_count;
    uint8_t *pages; /* of all slots */
    struct pager_run *runs;
    size_t page_bytes, run_bytes; /* reserved */
};

/* ---- in any thread ---- */

/* A slot at the end of the order; NULL when none is free, or it is the end. */
static struct slot *claim_slot(struct decoding *d)
{
    struct slot *slot = NULL;
    pthread_mutex_lock(&d->lock);
    if (!d->ended && d->unused_count > 0) {
        slot = d->unused[--d->unused_count];
        slot->state = SLOT_FILLING;
        d->order[d->last++ % d->slot_count] = slot;
    }
    pthread_mutex_unlock(&d->lock);
    return slot;
}

static void settle_slot(struct decoding *d, struct slot *slot, bool good)
{
    pthread_mutex_lock(&d->lock);
    slot->state = good ? SLOT_READY : SLOT_NOTHING;
    if (!good) {
        d->ended = true;
        pthread_cond_broadcast(&d->room);
    }
    pthread_cond_signal(&d->done);
    pthread_mutex_unlock(&d->lock);
}

/* The next piece, taken and decoded; false when there was none to be had. Why is nobody's matter: it goes on without the rest. */
static bool decode_one(struct decoding *d, size_t worker)
{
    const struct pager_source *source = d->source;
    struct error ignored;
    pthread_mutex_lock(&d->taking);
    struct slot *slot = claim_slot(d);
    bool good = slot != NULL && source->hot_take(source->context, worker, &ignored) > 0;
    if (slot != NULL && !good)
        settle_slot(d, slot, false);
    pthread_mutex_unlock(&d->taking);
    if (!good)
        return false;
    good = source->hot_decode(source->context, worker, &slot->piece, &ignored) == 0;
    settle_slot(d, slot, good);
    return good;
}

/* ---- in a helper ---- */

static bool await_room(struct decoding *d)
{
    pthread_mutex_lock(&d->lock);
    while (!d->ended && (!d->helped || d->unused_count == 0))
        pthread_cond_wait(&d->room, &d->lock);
    bool ended = d->ended;
    pthread_mutex_unlock(&d->lock);
    return !ended;
}

static void *help(void *context)
{
    struct helper *h = context;
    struct decoding *d = h->decoding;
    wakeups_favor(); /* as the pager's own thread, which may have to wait for this one */
    pthread_mutex_lock(&d->lock);
    d->arrived++;
    pthread_cond_signal(&d->done);
    pthread_mutex_unlock(&d->lock);
    while (await_room(d))
        (void)decode_one(d, h->worker);
    return NULL;
}

/* ---- in the pager's thread ---- */

size_t decoding_helpers_max(void)
{
    return processors_usable(DECODING_THREADS_MAX) - 1;
}

bool decoding_is_helped(const struct pager_source *source)
{
    return source->hot_bytes >= DECODING_HELPED_BYTES;
}

/* Without helpers, or with fewer, it only takes longer. */
static void start_helpers(struct decoding *d, size_t count)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setstacksize(&attributes, HELPER_STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (; d->helper_count < count; d->helper_count++) {
        struct helper *h = &d->helpers[d->helper_count];
        *h = (struct helper){.decoding = d, .worker = d->helper_count + 1};
        if (pthread_create(&h->thread, &attributes, help, h) != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* A helper that has arrived has made all the system calls of a thread's begin. */
static void await_helpers(struct decoding *d)
{
    pthread_mutex_lock(&d->lock);
    while (d->arrived < d->helper_count)
        pthread_cond_wait(&d->done, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

static void *reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Only address space: what a slot needs is there once it is first filled. In huge pages where it is much. */
static bool make_slots(struct decoding *d)
{
    size_t stride = (d->source->hot_piece_bytes + PAGER_PAGE_BYTES - 1) / PAGER_PAGE_BYTES * PAGER_PAGE_BYTES;
    if (stride == 0)
        return false;
    size_t count = PAGER_HOT_BYTES_MAX / stride;
    count = count > DECODING_SLOTS_MAX ? DECODING_SLOTS_MAX : count;
    d->slot_count = d->unused_count = count;
    d->page_bytes = count * stride;
    d->run_bytes = count * d->source->hot_piece_runs * sizeof *d->runs;
    d->slots = xcalloc(count + 1, sizeof *d->slots);
    d->order = xcalloc(count + 1, sizeof(struct slot *));
    d->unused = xcalloc(count + 1, sizeof(struct slot *));
    d->pages = reserve(d->page_bytes);
    d->runs = reserve(d->run_bytes);
    if (count == 0 || d->pages == NULL || d->runs == NULL)
        return false;
    if (d->page_bytes > SMALL_PAGES_BYTES)
        madvise(d->pages + SMALL_PAGES_BYTES, d->page_bytes - SMALL_PAGES_BYTES, MADV_HUGEPAGE);
    for (size_t i = 0; i < count; i++) {
        d->slots[i].piece = (struct pager_hot_piece){
            .runs = d->runs + i * d->source->hot_piece_runs, .data = d->pages + i * stride};
        d->unused[count - 1 - i] = &d->slots[i]; /* the first one first */
    }
    return true;
}

struct decoding *decoding_new(const struct pager_source *source, size_t helpers_max)
{
    size_t count = helpers_max < DECODING_THREADS_MAX ? helpers_max : DECODING_THREADS_MAX - 1;
    struct decoding *d = xcalloc(1, sizeof *d);
    d->source = source;
    pthread_mutex_init(&d->taking, NULL);
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->done, NULL);
    pthread_cond_init(&d->room, NULL);
    start_helpers(d, count);
    if (make_slots(d)) {
        await_helpers(d);
        return d;
    }
    decoding_free(d);
    return NULL;
}

void decoding_warm_up(struct decoding *d)
{
    (void)!madvise(d->pages, d->page_bytes < WARM_BYTES ? d->page_bytes : WARM_BYTES, MADV_POPULATE_WRITE);
    (void)!madvise(
        d->runs, d->run_bytes < PAGER_PAGE_BYTES ? d->run_bytes : PAGER_PAGE_BYTES, MADV_POPULATE_WRITE);
}

bool decoding_begin(struct decoding *d, bool helped)
{
    struct error ignored;
    if (d->source->hot_take == NULL ||
        d->source->hot_begin(d->source->context, d->helper_count + 1, &ignored) < 0)
        return false;
    if (!helped)
        return true;
    pthread_mutex_lock(&d->lock);
    d->helped = true;
    pthread_cond_broadcast(&d->room);
    pthread_mutex_unlock(&d->lock);
    return true;
}

/* The first in the order; or, if that is not ready and any will do, one that is, which changes places with it. */
static struct slot *find_next(struct decoding *d, bool any)
{
    if (d->first == d->last)
        return NULL;
    struct slot **first = &d->order[d->first % d->slot_count];
    for (size_t i = d->first; any && (*first)->state == SLOT_FILLING && i < d->last; i++) {
        struct slot **other = &d->order[i % d->slot_count];
        if ((*other)->state == SLOT_READY) {
            struct slot *ready = *other;
            *other = *first;
            *first = ready;
        }
    }
    return *first;
}

struct pager_hot_piece *decoding_next(struct decoding *d, bool any)
{
    struct pager_hot_piece *piece = NULL;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        struct slot *next = find_next(d, any);
        if (next != NULL && next->state == SLOT_READY) {
            d->first++;
            piece = &next->piece;
            break;
        }
        bool more = !d->ended && d->unused_count > 0;
        if ((next == NULL && !more) || (next != NULL && next->state == SLOT_NOTHING))
            break;
        if (!more) {
            pthread_cond_wait(&d->done, &d->lock);
            continue;
        }
        pthread_mutex_unlock(&d->lock);
        (void)decode_one(d, 0);
        pthread_mutex_lock(&d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return piece;
}

void decoding_give_back(struct decoding *d, struct pager_hot_piece *piece)
{
    pthread_mutex_lock(&d->lock);
    d->unused[d->unused_count++] = (struct slot *)piece;
    if (d->helped)
        pthread_cond_signal(&d->room);
    pthread_mutex_unlock(&d->lock);
}

void decoding_end(struct decoding *d)
{
    pthread_mutex_lock(&d->lock);
    d->ended = true;
    pthread_cond_broadcast(&d->room);
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < d->helper_count; i++)
        pthread_join(d->helpers[i].thread, NULL);
    d->helper_count = 0;
}

void decoding_free(struct decoding *d)
{
    if (d == NULL)
        return;
    decoding_end(d);
    if (d->pages != NULL)
        munmap(d->pages, d->page_bytes);
    if (d->runs != NULL)
        munmap(d->runs, d->run_bytes);
    free(d->slots);
    free(d->order);
    free(d->unused);
    pthread_cond_destroy(&d->done);
    pthread_cond_destroy(&d->room);
    pthread_mutex_destroy(&d->lock);
    pthread_mutex_destroy(&d->taking);
    free(d);
}
