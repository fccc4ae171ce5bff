#include "base/loop.h"

#include "base/bytes.h"
#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <unistd.h>

#define EVENTS_PER_TURN 64

struct loop_watch {
    struct loop *loop;
    int fd;
    loop_fd_callback *callback;
    void *context;
    bool dead; /* unwatched during this turn: freed at its end, as later events may still name it */
    LIST_ENTRY(loop_watch) entry;
};

struct loop_timer {
    uint64_t at_ns;
    loop_callback *callback;
    void *context;
    struct loop_timer **slot;
    size_t index; /* its place in the heap */
    struct loop *loop;
};

struct loop {
    int epoll_fd;
    bool stopping;
    LIST_HEAD(, loop_watch) watches, dead;
    struct loop_timer **heap; /* a binary heap, the earliest first */
    size_t timer_count, timer_capacity;
    loop_callback *turn_end;
    void *turn_end_context;
};

struct loop *loop_new(struct error *err)
{
    struct loop *loop = xcalloc(1, sizeof *loop);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        error_system(err, "cannot create an epoll descriptor");
        free(loop);
        return NULL;
    }
    return loop;
}

static void free_dead(struct loop *loop)
{
    while (!LIST_EMPTY(&loop->dead)) {
        struct loop_watch *watch = LIST_FIRST(&loop->dead);
        LIST_REMOVE(watch, entry);
        free(watch);
    }
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    while (!LIST_EMPTY(&loop->watches)) {
        struct loop_watch *watch = LIST_FIRST(&loop->watches);
        loop_unwatch(&watch);
    }
    free_dead(loop);
    while (loop->timer_count > 0)
        loop_timer_cancel(loop->heap[0]->slot);
    free(loop->heap);
    close(loop->epoll_fd);
    free(loop);
}

struct loop_watch *loop_watch_fd(
    struct loop *loop, int fd, uint32_t events, loop_fd_callback *callback, void *context, struct error *err)
{
    struct loop_watch *watch = xcalloc(1, sizeof *watch);
    *watch = (struct loop_watch){.loop = loop, .fd = fd, .callback = callback, .context = context};
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        error_system(err, "cannot watch descriptor %d", fd);
        free(watch);
        return NULL;
    }
    LIST_INSERT_HEAD(&loop->watches, watch, entry);
    return watch;
}

int loop_watch_change(struct loop_watch *watch, uint32_t events, struct error *err)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0)
        return error_system(err, "cannot change the watch on descriptor %d", watch->fd);
    return 0;
}

void loop_unwatch(struct loop_watch **slot)
{
    struct loop_watch *watch = *slot;
    if (watch == NULL)
        return;
    *slot = NULL;
    epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->dead = true;
    LIST_REMOVE(watch, entry);
    LIST_INSERT_HEAD(&watch->loop->dead, watch, entry);
}

static void heap_place(struct loop *loop, size_t index, struct loop_timer *timer)
{
    loop->heap[index] = timer;
    timer->index = index;
}

static void heap_up(struct loop *loop, size_t index)
{
    struct loop_timer *timer = loop->heap[index];
    while (index > 0 && loop->heap[(index - 1) / 2]->at_ns > timer->at_ns) {
        heap_place(loop, index, loop->heap[(index - 1) / 2]);
        index = (index - 1) / 2;
    }
    heap_place(loop, index, timer);
}

static void heap_down(struct loop *loop, size_t index)
{
    struct loop_timer *timer = loop->heap[index];
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= loop->timer_count)
            break;
        if (child + 1 < loop->timer_count && loop->heap[child + 1]->at_ns < loop->heap[child]->at_ns)
            child++;
        if (loop->heap[child]->at_ns >= timer->at_ns)
            break;
        heap_place(loop, index, loop->heap[child]);
        index = child;
    }
    heap_place(loop, index, timer);
}

void loop_timer_set(
    struct loop *loop, struct loop_timer **slot, uint64_t at_ns, loop_callback *callback, void *context)
{
    loop_timer_cancel(slot);
    struct loop_timer *timer = xcalloc(1, sizeof *timer);
    *timer = (struct loop_timer){
        .at_ns = at_ns, .callback = callback, .context = context, .slot = slot, .loop = loop};
    if (loop->timer_count == loop->timer_capacity) {
        loop->timer_capacity = loop->timer_capacity ? 2 * loop->timer_capacity : 16;
        loop->heap = xrealloc(loop->heap, loop->timer_capacity * sizeof *loop->heap);
    }
    loop->heap[loop->timer_count] = timer;
    heap_up(loop, loop->timer_count++);
    *slot = timer;
}

void loop_timer_cancel(struct loop_timer **slot)
{
    struct loop_timer *timer = *slot;
    if (timer == NULL)
        return;
    *slot = NULL;
    struct loop *loop = timer->loop;
    struct loop_timer *last = loop->heap[--loop->timer_count];
    if (last != timer) {
        size_t index = timer->index;
        heap_place(loop, index, last);
        heap_up(loop, index);
        heap_down(loop, last->index);
    }
    free(timer);
}

static int milliseconds_to_first_timer(const struct loop *loop)
{
    if (loop->timer_count == 0)
        return -1;
    uint64_t now = clock_monotonic_ns(), at = loop->heap[0]->at_ns;
    if (at <= now)
        return 0;
    uint64_t ms = (at - now + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}

static void run_due_timers(struct loop *loop)
{
    uint64_t now = clock_monotonic_ns();
    while (loop->timer_count > 0 && loop->heap[0]->at_ns <= now) {
        struct loop_timer due = *loop->heap[0];
        loop_timer_cancel(due.slot);
        due.callback(due.context);
    }
}

void loop_on_turn_end(struct loop *loop, loop_callback *callback, void *context)
{
    loop->turn_end = callback;
    loop->turn_end_context = context;
}

int loop_run(struct loop *loop, struct error *err)
{
    loop->stopping = false;
    while (!loop->stopping) {
        struct epoll_event events[EVENTS_PER_TURN];
        int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, milliseconds_to_first_timer(loop));
        if (n < 0 && errno != EINTR)
            return error_system(err, "cannot wait for events");
        for (int i = 0; i < n; i++) {
            struct loop_watch *watch = events[i].data.ptr;
            if (!watch->dead)
                watch->callback(watch->context, events[i].events);
        }
        run_due_timers(loop);
        if (loop->turn_end != NULL)
            loop->turn_end(loop->turn_end_context);
        free_dead(loop);
    }
    return 0;
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
}
