/* Blank sandboxes, prepared ahead of need: at leisure, when no start has asked for one for a moment; at once
 * and several beside each other when starts are waiting; and slowly in between, when they are running out. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static void pool_fill(struct warden *w);

static void free_blank(struct warden *w, struct blank *blank)
{
    loop_unwatch(&blank->watch);
    blank_kit_free(w, &blank->kit);
    free(blank);
}

void blank_kit_free(struct warden *w, struct blank_kit *kit)
{
    int *fds[] = {&kit->memory_fd, &kit->log_read, &kit->log_write, &kit->report_read, &kit->report_write};
    for (size_t i = 0; i < countof(fds); i++)
        fd_close(fds[i]);
    if (kit->sandbox == NULL)
        return;
    sandbox_kill_and_free(&kit->sandbox);
    warden_tick_soon(w);
}

/* The reader, which is the front, polls; the writer, which is the function, may block. */
static int open_pipe(int *read_end, int *write_end, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    *read_end = ends[0];
    *write_end = ends[1];
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0)
        return error_system(err, "cannot make a pipe non-blocking");
    return 0;
}

static int finish_kit(const struct warden_options *o, struct blank_kit *kit, struct error *err)
{
    if (sandbox_prepare_finish(kit->sandbox, err) < 0)
        return -1;
    kit->memory_fd = sandbox_open_peak_memory(kit->sandbox, err);
    if (kit->memory_fd < 0)
        return -1;
    if (open_pipe(&kit->log_read, &kit->log_write, err) < 0)
        return -1;
    /* So that the function may open /dev/stdout, which is this pipe, by its name. */
    if (fchown(kit->log_write, o->sandbox_uid, o->sandbox_gid) < 0)
        return error_system(err, "cannot give the log pipe to the sandbox's user");
    return open_pipe(&kit->report_read, &kit->report_write, err);
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
    if (finish_kit(w->options, &blank->kit, &err) < 0) {
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
    blank->kit = BLANK_KIT_NONE;
    blank->kit.sandbox = sandbox_prepare_begin(w->options->host, err);
    if (blank->kit.sandbox != NULL)
        blank->watch =
            loop_watch_fd(w->loop, sandbox_ready_fd(blank->kit.sandbox), EPOLLIN, blank_is_ready, blank, err);
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
    bool builds = template_may_build(w);
    TAILQ_FOREACH (t, &w->templates, entry)
        count += builds && t->state == TEMPLATE_WAITS_FOR_BLANK;
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

static bool is_running_out(const struct pool *pool)
{
    return pool->ready_count + pool->preparing_count <= pool->target / 4;
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
    else if (have < pool->target && (is_running_out(pool) || is_quiet(pool)))
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
    uint64_t pause = urgent ? 0 : WARDEN_REFILL_NS, quiet_at = pool->taken_ns + WARDEN_QUIET_NS;
    uint64_t now = clock_monotonic_ns();
    if (!urgent && !is_running_out(pool) && quiet_at > now + pause)
        pause = quiet_at - now;
    if (pool->failures > 0)
        pause = 10 * WARDEN_REFILL_NS << (pool->failures < 8 ? pool->failures : 8);
    pool->refill_is_urgent = urgent;
    loop_timer_set(w->loop, &pool->refill_timer, now + pause, refill_timer_fired, w);
}

/* Its first process has ended (an administrator, or a machine out of memory): it cannot be entered any more.
 */
static bool is_dead(const struct blank *blank)
{
    struct pollfd init = {.fd = sandbox_init_pidfd(blank->kit.sandbox), .events = POLLIN};
    return poll(&init, 1, 0) != 0;
}

static struct blank *first_alive(struct warden *w)
{
    struct pool *pool = &w->pool;
    struct blank *blank;
    while ((blank = TAILQ_FIRST(&pool->ready)) != NULL && is_dead(blank)) {
        TAILQ_REMOVE(&pool->ready, blank, entry);
        pool->ready_count--;
        free_blank(w, blank);
    }
    return blank;
}

bool pool_take(struct warden *w, struct blank_kit *kit)
{
    struct pool *pool = &w->pool;
    struct blank *blank = first_alive(w);
    if (blank == NULL) {
        uint32_t grown = pool->target + 4;
        uint32_t most =
            w->options->blanks > WARDEN_BLANKS_GROWN_MAX ? w->options->blanks : WARDEN_BLANKS_GROWN_MAX;
        pool->target = grown < most ? grown : most;
        pool_fill(w);
        return false;
    }
    TAILQ_REMOVE(&pool->ready, blank, entry);
    pool->ready_count--;
    pool->taken_ns = clock_monotonic_ns();
    *kit = blank->kit;
    blank->kit = BLANK_KIT_NONE;
    free_blank(w, blank);
    pool_fill(w);
    return true;
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
