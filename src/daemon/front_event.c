/* The durable queue of Event invocations: claimed, run as any other invocation, then removed or put off. Runs
 * in the front. As on Lambda, a function's error is tried twice more; what could not run at all (throttled,
 * not ready) does not count and is tried until it is six hours old. */
#include "daemon/front_private.h"

#include <stdlib.h>
#include <string.h>

struct event_try {
    struct lambda_invocation invocation; /* first: `finish` gets it back */
    struct front *front;
    struct catalog_event event;
    const struct catalog_function *function;
};

static void events_pump(void *context);

static void pump_soon(struct front *front)
{
    loop_timer_cancel(&front->event_timer);
    loop_timer_set(front->loop, &front->event_timer, clock_monotonic_ns(), events_pump, front);
}

static void warn(const struct catalog_event *event, const struct error *err)
{
    if (err->kind != ERROR_NOT_FOUND)
        log_error("event %s of %s: %s", event->request_id, event->function_name, err->text);
}

static void event_drop(struct front *front, const struct catalog_event *event)
{
    struct error err;
    if (catalog_event_remove(front->catalog, event->id, &err) < 0)
        warn(event, &err);
}

static void event_put_off(
    struct front *front, const struct catalog_event *event, uint64_t wait_ms, bool attempted)
{
    uint64_t now_ms = clock_wall_ms();
    struct error err;
    if (now_ms > event->enqueued_ms + FRONT_EVENT_AGE_MS) {
        log_warning("event %s of %s is too old and was dropped", event->request_id, event->function_name);
        event_drop(front, event);
    } else if (catalog_event_retry(front->catalog, event->id, now_ms + wait_ms, attempted, &err) < 0) {
        warn(event, &err);
    }
}

/* Lambda waits a minute before the first retry and two before the second. */
static void event_failed(struct front *front, const struct catalog_event *event)
{
    if (event->attempts >= FRONT_EVENT_ATTEMPTS)
        event_drop(front, event);
    else
        event_put_off(front, event, front->options->event_retry_ms * (uint64_t)event->attempts, true);
}

static void try_free(struct event_try *try)
{
    catalog_function_unref(&try->function);
    catalog_event_free(&try->event);
    free(try);
}

/* Its version is being initialised: this and all that waits for the same goes on when that is done. */
static void event_waits(struct front *front, const struct catalog_event *event)
{
    struct error err;
    uint64_t until_ms = clock_wall_ms() + FRONT_EVENT_NOT_READY_MS;
    event_put_off(front, event, FRONT_EVENT_NOT_READY_MS, false);
    if (catalog_event_postpone(front->catalog, event->function_name, event->qualifier, until_ms, &err) < 0)
        warn(event, &err);
}

void front_event_ready(struct front *front, const struct catalog_function *function)
{
    struct error err;
    if (catalog_event_postpone(front->catalog, function->name, function->version, clock_wall_ms(), &err) < 0)
        log_error("%s:%s: events that wait for it: %s", function->name, function->version, err.text);
    pump_soon(front);
}

static void on_finish(struct lambda_invocation *invocation, const struct lambda_outcome *outcome)
{
    struct event_try *try = (struct event_try *)invocation;
    struct front *front = try->front;
    if (outcome->kind == LAMBDA_OUTCOME_RESULT)
        event_drop(front, &try->event);
    else if (outcome->kind == LAMBDA_OUTCOME_FUNCTION_ERROR)
        event_failed(front, &try->event);
    else if (strncmp(outcome->error_type, "SnapStart", strlen("SnapStart")) == 0 &&
             outcome->http_status == 409)
        event_waits(front, &try->event);
    else
        event_put_off(front, &try->event, FRONT_EVENT_THROTTLE_MS, false);
    front->events_running--;
    try_free(try);
    pump_soon(front);
}

static const char *or_null(const char *text)
{
    return text && text[0] ? text : NULL;
}

static void try_begin(struct event_try *try)
{
    struct front *front = try->front;
    struct error err;
    const struct catalog_event *event = &try->event;
    if (catalog_get(front->catalog, event->function_name, event->qualifier, &try->function, &err) < 0) {
        if (err.kind == ERROR_NOT_FOUND)
            event_drop(front, event);
        else
            warn(event, &err);
        try_free(try);
        return;
    }
    try->invocation = (struct lambda_invocation){
        .function = try->function,
        .payload = {event->payload.data, event->payload.len},
        .invoked_arn = event->invoked_arn,
        .client_context = or_null(event->client_context),
        .trace_id = or_null(event->trace_id),
        .started_ns = clock_monotonic_ns(),
        .finish = on_finish,
    };
    memcpy(try->invocation.request_id, event->request_id, sizeof try->invocation.request_id);
    front->events_running++;
    front_invoke(front, &try->invocation);
}

static void sleep_until_due(struct front *front)
{
    uint64_t due_ms, now_ms = clock_wall_ms();
    bool found;
    struct error err;
    if (catalog_event_next_due(front->catalog, &due_ms, &found, &err) < 0) {
        log_error("the event queue cannot be read: %s", err.text);
        due_ms = now_ms + FRONT_EVENT_THROTTLE_MS;
        found = true;
    }
    if (!found)
        return;
    uint64_t wait_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    loop_timer_cancel(&front->event_timer);
    loop_timer_set(
        front->loop, &front->event_timer, clock_monotonic_ns() + wait_ms * 1000000, events_pump, front);
}

static void events_pump(void *context)
{
    struct front *front = context;
    while (front->events_running < FRONT_EVENTS_AT_ONCE && !front->draining) {
        struct event_try *try = xcalloc(1, sizeof *try);
        bool found = false;
        struct error err;
        try->front = front;
        if (catalog_event_claim(front->catalog, clock_wall_ms(), &try->event, &found, &err) < 0)
            log_error("an event cannot be claimed: %s", err.text);
        if (!found) {
            free(try);
            sleep_until_due(front);
            return;
        }
        try_begin(try);
    }
}

void front_event_queued(void *context)
{
    pump_soon(context);
}
