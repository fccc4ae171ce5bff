/* Blank sandboxes, prepared ahead of need: at leisure, when no start has asked for one for a moment; at once
 * and several beside each other when starts are waiting; and slowly in between, when they are running out. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"

#include <stdlib.h>
#include <sys/epoll.h>

static void pool_fill(struct warden *w);

static void free_blank(struct warden *w, struct blank *blank)
{
    loop_unwatch(&blank->watch);
    if (blank->sandbox != NULL) {
        sandbox_kill_and_free(&blank->sandbox);
        warden_tick_soon(w);
    }
    free(blank);
}

static void note_failure(struct warden *w, const struct error *err)
{
    if (w->pool.failures++ == 0)
        log_error("cannot prepare a sandbox: %s", err->text);
    w->pool.last_error = *err;
}

static void blank_is_ready(void *context, uint32_t events)
{
    (void)events;
    struct blank *blank = context;
    struct warden *w = blank->warden;
    struct pool *pool = &w->pool;
    struct error err = {0};
    loop_unwatch(&blank->watch);
    TAILQ_REMOVE(&pool->preparing, blank, entry);
    pool->preparing_count--;
    if (sandbox_prepare_finish(blank->sandbox, &err) < 0) {
        free_blank(w, blank);
        note_failure(w, &err);
    } else {
        pool->failures = 0;
        TAILQ_INSERT_TAIL(&pool->ready, blank, entry);
        pool->ready_count++;
        env_advance_waiting(w);
    }
    pool_fill(w);
}

static int prepare_one(struct warden *w, struct error *err)
{
    struct blank *blank = xcalloc(1, sizeof *blank);
    blank->warden = w;
    blank->sandbox = sandbox_prepare_begin(w->options->host, err);
    if (blank->sandbox != NULL)
        blank->watch =
            loop_watch_fd(w->loop, sandbox_ready_fd(blank->sandbox), EPOLLIN, blank_is_ready, blank, err);
    if (blank->watch == NULL) {
        free_blank(w, blank);
        return -1;
    }
    TAILQ_INSERT_TAIL(&w->pool.preparing, blank, entry);
    w->pool.preparing_count++;
    return 0;
}

static void prepare_some(struct warden *w, uint32_t count)
{
    struct error err = {0};
    while (count-- > 0 && w->pool.preparing_count < WARDEN_PREPARING_MAX) {
        if (prepare_one(w, &err) == 0)
            continue;
        note_failure(w, &err);
        return;
    }
}

/* How many blanks something is waiting for now. */
static uint32_t count_waiting(const struct warden *w)
{
    uint32_t count = 0;
    const struct template_entry *t;
    const struct env *env;
    TAILQ_FOREACH (t, &w->templates, entry)
        count += t->state == TEMPLATE_WAITS_FOR_BLANK;
    TAILQ_FOREACH (env, &w->waiting, in_waiting) {
        /* A thaw needs its blank only when its template is ready. */
        count += env->mode == WIRE_COLD || template_takes_clone(env->template);
        if (count >= WARDEN_PREPARING_MAX)
            break;
    }
    return count;
}

/* Preparing takes a millisecond of processor time, which those that are being started now need more. */
static bool is_quiet(const struct pool *pool)
{
    return clock_monotonic_ns() - pool->taken_ns >= WARDEN_QUIET_NS;
}

static void refill_timer_fired(void *context)
{
    struct warden *w = context;
    struct pool *pool = &w->pool;
    pool->refill_is_urgent = false;
    uint32_t waiting = count_waiting(w), have = pool->ready_count + pool->preparing_count;
    if (pool->failures >= WARDEN_PREPARE_FAILURES_MAX && !TAILQ_EMPTY(&w->waiting)) {
        /* Do not let requests wait for what does not come. */
        pool->failures = 0;
        env_refuse(TAILQ_FIRST(&w->waiting), &pool->last_error);
    }
    if (pool->failures == 0 && waiting > pool->preparing_count)
        prepare_some(w, waiting - pool->preparing_count);
    else if (have < pool->target && (have <= pool->target / 4 || is_quiet(pool)))
        prepare_some(w, 1);
    pool_fill(w);
}

/* Only sets a timer, so that it may be called from anywhere. */
static void pool_fill(struct warden *w)
{
    struct pool *pool = &w->pool;
    uint32_t waiting = count_waiting(w);
    bool urgent = waiting > pool->preparing_count && pool->preparing_count < WARDEN_PREPARING_MAX;
    bool wanted = urgent || pool->ready_count + pool->preparing_count < pool->target;
    if (!wanted || pool->closed || (pool->refill_timer != NULL && (!urgent || pool->refill_is_urgent)))
        return;
    uint64_t pause = urgent ? 0 : WARDEN_REFILL_NS;
    if (pool->failures > 0)
        pause = 10 * WARDEN_REFILL_NS << (pool->failures < 8 ? pool->failures : 8);
    pool->refill_is_urgent = urgent;
    loop_timer_set(w->loop, &pool->refill_timer, clock_monotonic_ns() + pause, refill_timer_fired, w);
}

struct sandbox *pool_take(struct warden *w)
{
    struct pool *pool = &w->pool;
    struct blank *blank = TAILQ_FIRST(&pool->ready);
    if (blank == NULL) {
        uint32_t grown = pool->target + 4;
        uint32_t most =
            w->options->blanks > WARDEN_BLANKS_GROWN_MAX ? w->options->blanks : WARDEN_BLANKS_GROWN_MAX;
        pool->target = grown < most ? grown : most;
        pool_fill(w);
        return NULL;
    }
    TAILQ_REMOVE(&pool->ready, blank, entry);
    pool->ready_count--;
    pool->taken_ns = clock_monotonic_ns();
    struct sandbox *sandbox = steal_pointer(blank->sandbox);
    free_blank(w, blank);
    pool_fill(w);
    return sandbox;
}

/* Demand of long ago is forgotten step by step. */
static void shrink_timer_fired(void *context)
{
    struct warden *w = context;
    struct pool *pool = &w->pool;
    uint32_t extra = pool->target - w->options->blanks;
    if (pool->target > w->options->blanks)
        pool->target -= (extra + 3) / 4;
    while (pool->ready_count > pool->target) {
        struct blank *blank = TAILQ_FIRST(&pool->ready);
        TAILQ_REMOVE(&pool->ready, blank, entry);
        pool->ready_count--;
        free_blank(w, blank);
    }
    loop_timer_set(
        w->loop, &pool->shrink_timer, clock_monotonic_ns() + WARDEN_SHRINK_NS, shrink_timer_fired, w);
}

void pool_open(struct warden *w)
{
    TAILQ_INIT(&w->pool.ready);
    TAILQ_INIT(&w->pool.preparing);
    w->pool.target = w->options->blanks;
    loop_timer_set(
        w->loop, &w->pool.shrink_timer, clock_monotonic_ns() + WARDEN_SHRINK_NS, shrink_timer_fired, w);
    pool_fill(w);
}

static void free_list(struct warden *w, struct blank_list *list)
{
    while (!TAILQ_EMPTY(list)) {
        struct blank *blank = TAILQ_FIRST(list);
        TAILQ_REMOVE(list, blank, entry);
        free_blank(w, blank);
    }
}

void pool_close(struct warden *w)
{
    w->pool.closed = true;
    loop_timer_cancel(&w->pool.refill_timer);
    loop_timer_cancel(&w->pool.shrink_timer);
    free_list(w, &w->pool.ready);
    free_list(w, &w->pool.preparing);
    w->pool.ready_count = w->pool.preparing_count = 0;
}
