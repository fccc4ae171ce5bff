/* A small event loop over epoll: descriptors, one-shot timers, signals. Single-threaded. Callbacks may add
 * and remove any watch, also their own. */
#pragma once

#include "base/error.h"

#include <stdint.h>

struct loop;
struct loop_watch;
struct loop_timer;

typedef void loop_fd_callback(void *context, uint32_t epoll_events);
typedef void loop_callback(void *context);

MUST_CHECK struct loop *loop_new(struct error *err);
void loop_free(struct loop *loop); /* watches and timers still there are freed; descriptors are not closed */

/* Watch `fd` (not owned) for EPOLLIN etc., level-triggered. */
MUST_CHECK struct loop_watch *loop_watch_fd(
    struct loop *loop, int fd, uint32_t events, loop_fd_callback *callback, void *context, struct error *err);
MUST_CHECK int loop_watch_change(struct loop_watch *watch, uint32_t events, struct error *err);
void loop_unwatch(struct loop_watch **watch); /* before closing the descriptor; NULL is fine; sets to NULL */

/* Runs once, at or after `at_ns` on CLOCK_MONOTONIC (see clock_monotonic_ns), then frees itself: *slot (where
 * the caller keeps it) is set to NULL before the callback runs. */
void loop_timer_set(
    struct loop *loop, struct loop_timer **slot, uint64_t at_ns, loop_callback *callback, void *context);
void loop_timer_cancel(struct loop_timer **slot);

/* Called at the end of every turn, after all ready descriptors were served (to flush batched work). */
void loop_on_turn_end(struct loop *loop, loop_callback *callback, void *context);

MUST_CHECK int loop_run(struct loop *loop, struct error *err); /* until loop_stop */
void loop_stop(struct loop *loop);
