/* Interval and POSIX timers are not inherited by a fork; each clone makes them anew when all its threads
 * exist, as a timer may signal one of them. */
#include "freeze/parts.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#define TIMER_ID_MAX 4096

static int freeze_interval_timers(struct freeze *f, struct error *err)
{
    for (uint64_t which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        struct itimerval timer;
        if (tracee_query(&f->tracee, 0, &timer, sizeof timer, err, SYS_getitimer, 1,
                (const uint64_t[4]){which, 0, 0, 0}) < 0)
            return -1;
        if (timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0)
            continue;
        plan_call(&f->process->release_plan, SYS_setitimer, plan_literal(which),
            plan_data(image_put(f->image, &timer, sizeof timer)), plan_literal(0));
    }
    return 0;
}

/* One entry of /proc/PID/timers. */
struct posix_timer {
    int id, signal, clock, thread; /* thread: as we see it, or 0 */
    uint64_t value;                /* sival */
    bool none, to_thread;
};

static int inner_thread_id(const struct freeze *f, int tid)
{
    for (size_t i = 0; i < f->tracee.thread_count; i++)
        if (f->tracee.threads[i].tid == tid)
            return f->tracee.threads[i].inner_tid;
    return 0;
}

/* Timer ids are given in order from 0, so that a timer gets its number when those before it exist; what was
 * deleted in between is created and deleted again. */
static void plan_posix_timer(
    struct freeze *f, const struct posix_timer *timer, const struct itimerspec *state, int *next_id)
{
    struct plan *plan = &f->process->release_plan;
    struct sigevent event = {.sigev_value.sival_ptr = (void *)timer->value, .sigev_signo = timer->signal};
    event.sigev_notify = timer->none ? SIGEV_NONE : timer->to_thread ? SIGEV_THREAD_ID : SIGEV_SIGNAL;
    if (timer->to_thread)
        event._sigev_un._tid = inner_thread_id(f, timer->thread);
    struct sigevent nothing = {.sigev_notify = SIGEV_NONE};
    uint64_t id_at = image_put(f->image, &(uint64_t){0}, 8),
             event_at = image_put(f->image, &event, sizeof event);
    uint64_t nothing_at = image_put(f->image, &nothing, sizeof nothing),
             state_at = image_put(f->image, state, sizeof *state);
    for (; *next_id < timer->id; ++*next_id) {
        plan_call(
            plan, SYS_timer_create, plan_literal(CLOCK_MONOTONIC), plan_data(nothing_at), plan_data(id_at));
        plan_call(plan, SYS_timer_delete, plan_literal((uint64_t)*next_id));
    }
    plan_call(
        plan, SYS_timer_create, plan_literal((uint64_t)timer->clock), plan_data(event_at), plan_data(id_at));
    plan_expect_value(plan_do(plan, PLAN_LOAD, plan_data(id_at), plan_literal(4)), timer->id);
    ++*next_id;
    if (state->it_value.tv_sec != 0 || state->it_value.tv_nsec != 0)
        plan_call(
            plan, SYS_timer_settime, plan_literal((uint64_t)timer->id), plan_literal(0), plan_data(state_at));
}

static bool parse_posix_timer(struct posix_timer *timer, const char *text)
{
    char how[16], whom[8];
    if (sscanf(text, "ID: %d signal: %d/%lx notify: %15[^/]/%7[^.].%d ClockID: %d", &timer->id,
            &timer->signal, &timer->value, how, whom, &timer->thread, &timer->clock) != 7)
        return false;
    timer->none = strcmp(how, "none") == 0;
    timer->to_thread = strcmp(whom, "tid") == 0;
    return true;
}

static size_t count_timers(const char *text)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, "\nID: ")) != NULL; at++)
        count++;
    return count;
}

static int freeze_posix_timers(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    buffer_append_u8(&text, '\n'); /* so that every line has one before it */
    if (tracee_proc_file(&f->tracee, "timers", &text, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    size_t left = count_timers((const char *)text.data);
    /* The list is the newest first or in hash order: find each id in turn. */
    for (int id = 0, next_id = 0; left > 0; id++) {
        char key[32];
        if (id == TIMER_ID_MAX)
            return tracee_refuse(&f->tracee, err, "it has timers with numbers above %d", TIMER_ID_MAX);
        /* At a line's start: "ClockID: 1" is something else. */
        snprintf(key, sizeof key, "\nID: %d\n", id);
        const char *at = strstr((char *)text.data, key);
        if (at == NULL)
            continue;
        at++;
        left--;
        struct posix_timer timer;
        struct itimerspec state;
        if (!parse_posix_timer(&timer, at))
            return error_set(err, ERROR_INTERNAL, "cannot understand /proc/PID/timers");
        if (tracee_query(&f->tracee, 0, &state, sizeof state, err, SYS_timer_gettime, 1,
                (const uint64_t[4]){(uint64_t)id, 0, 0, 0}) < 0)
            return -1;
        plan_posix_timer(f, &timer, &state, &next_id);
    }
    return 0;
}

int freeze_timers(struct freeze *f, struct error *err)
{
    if (freeze_interval_timers(f, err) < 0)
        return -1;
    return freeze_posix_timers(f, err);
}
