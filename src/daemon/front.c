/* The front's role: opens everything it needs, runs the loop, drains and closes. One thread. Runs in the
 * front.
 *
 * One loop serves clients, functions, log pipes, the warden and all timers. Nothing in it waits: what cannot
 * go on now is a record with a callback. */
#include "daemon/front_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define CONNECTION_MEMORY 32768
#define LAST_REPLIES_NS 20000000u /* for answers to leave before the connections are closed */

void front_fail(struct front *front, const struct error *err)
{
    if (!front->failed)
        log_error("%s", err->text);
    front->failed = true;
    loop_stop(front->loop);
}

/* ---- time ---- */

static void on_tick(void *context)
{
    struct front *front = context;
    dispatch_tick(front->dispatch, clock_monotonic_ns());
    front_set_tick(front);
}

/* The timer may come too early, never too late: most invocations find it set already. */
void front_set_tick(struct front *front)
{
    uint64_t due_ns = dispatch_due(front->dispatch);
    if (due_ns == 0 || (front->tick_timer && front->tick_at_ns <= due_ns))
        return;
    front->tick_at_ns = due_ns;
    loop_timer_cancel(&front->tick_timer);
    loop_timer_set(front->loop, &front->tick_timer, due_ns, on_tick, front);
}

static void on_turn_end(void *context)
{
    struct front *front = context;
    logs_flush(front->logs);
}

/* ---- the listener ---- */

static size_t body_limit(void *context, const struct http_exchange *exchange)
{
    struct front *front = context;
    return front_admin_owns(http_path(exchange)) ? 0 : lambda_body_limit(front->lambda, exchange);
}

static void too_large(void *context, struct http_exchange *exchange)
{
    struct front *front = context;
    if (front_admin_owns(http_path(exchange)))
        front_admin_handle(front, exchange); /* its requests have no bodies that matter */
    else
        lambda_too_large(front->lambda, exchange);
}

static void request(void *context, struct http_exchange *exchange)
{
    struct front *front = context;
    if (front_browser_refused(exchange))
        return;
    if (front_admin_owns(http_path(exchange)))
        front_admin_handle(front, exchange);
    else
        lambda_handle(front->lambda, exchange);
}

static void done(void *context, struct http_exchange *exchange, bool replied)
{
    struct front *front = context;
    if (front_admin_owns(http_path(exchange)))
        front_admin_done(front, exchange, replied);
    else
        lambda_done(front->lambda, exchange, replied);
}

static const struct http_callbacks client_callbacks = {
    .body_limit = body_limit,
    .too_large = too_large,
    .request = request,
    .done = done,
};

/* ---- the end ---- */

static void stop_loop(void *context)
{
    loop_stop(((struct front *)context)->loop);
}

static void drained(struct front *front)
{
    if (front->drained)
        return;
    front->drained = true;
    loop_timer_cancel(&front->drain_timer);
    loop_timer_set(
        front->loop, &front->drain_timer, clock_monotonic_ns() + LAST_REPLIES_NS, stop_loop, front);
}

static void on_drain_timeout(void *context)
{
    struct front *front = context;
    log_warning("%u invocations still ran after %u seconds and are cut off",
        dispatch_in_flight(front->dispatch), front->options->drain_seconds);
    stop_loop(front);
}

void front_note_progress(struct front *front)
{
    if (!LIST_EMPTY(&front->evicts))
        front_admin_check_evicts(front);
    if (front->draining && dispatch_in_flight(front->dispatch) == 0)
        drained(front);
}

static void on_signal(void *context, uint32_t events)
{
    (void)events;
    struct front *front = context;
    struct signalfd_siginfo info;
    if (read(front->signal_fd, &info, sizeof info) != (ssize_t)sizeof info || front->draining)
        return;
    front->draining = true;
    log_info("draining: %u invocations are in flight", dispatch_in_flight(front->dispatch));
    loop_timer_set(front->loop, &front->drain_timer,
        clock_monotonic_ns() + (uint64_t)front->options->drain_seconds * 1000000000u, on_drain_timeout,
        front);
    front_note_progress(front);
}

static int open_signals(struct front *front, struct error *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return error_system(err, "cannot block signals");
    front->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (front->signal_fd < 0)
        return error_system(err, "cannot make a signalfd");
    front->signal_watch = loop_watch_fd(front->loop, front->signal_fd, EPOLLIN, on_signal, front, err);
    return front->signal_watch ? 0 : -1;
}

/* ---- the beginning ---- */

static void warn(void *context, const struct error *err)
{
    (void)context;
    log_warning("%s", err->text);
}

static int open_catalog(struct front *front, struct error *err)
{
    const struct front_options *options = front->options;
    CLEANUP_FREE char *path = xasprintf("%s/catalog", options->data_dir);
    front->catalog = catalog_open(
        &(struct catalog_options){
            .data_path = path, .region = options->region, .account_id = options->account_id},
        err);
    return front->catalog ? 0 : -1;
}

static int open_lambda(struct front *front, struct error *err)
{
    const char *runtimes[FRONT_RUNTIMES_MAX];
    size_t count = front_spec_runtimes(front, runtimes);
    CLEANUP_FREE char *base_url = xasprintf("http://%s", front->options->listen_address);
    const struct lambda_backend backend = {
        .invoke = front_invoke,
        .event_queued = front_event_queued,
        .snapshot = front_snapshot,
        .retire = front_retire,
        .context = front,
    };
    front->lambda = lambda_new(
        &(struct lambda_options){
            .loop = front->loop,
            .catalog = front->catalog,
            .backend = &backend,
            .data_dir_fd = front->options->data_fd,
            .base_url = base_url,
            .runtimes = runtimes,
            .runtime_count = count,
            .concurrency_limit = front->options->concurrency,
            .warn = warn,
        },
        err);
    return front->lambda ? 0 : -1;
}

static int open_logs(struct front *front, struct error *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/logs", front->options->data_dir);
    front->logs = logs_open(&(struct logs_options){.path = path}, err);
    return front->logs ? 0 : -1;
}

static void open_dispatch(struct front *front)
{
    struct dispatch_effects effects = front_effects;
    effects.context = front;
    front->dispatch = dispatch_new(
        &(struct dispatch_options){
            .environments_max = front->options->concurrency,
            .group_max = front->options->function_concurrency ? front->options->function_concurrency
                                                              : front->options->concurrency,
            .idle_ns = (uint64_t)front->options->idle_seconds * 1000000000u,
        },
        &effects);
}

static int open_http(struct front *front, struct error *err)
{
    front->http = http_server_new(front->loop,
        &(struct http_options){.idle_timeout_s = FRONT_IDLE_CONNECTION_S,
            .connection_limit = FRONT_CONNECTIONS_MAX,
            .connection_memory = CONNECTION_MEMORY},
        err);
    return front->http ? 0 : -1;
}

static int front_open(struct front *front, struct error *err)
{
    LIST_INIT(&front->evicts);
    LIST_INIT(&front->inspects);
    LIST_INIT(&front->statuses);
    LIST_INIT(&front->store_jobs);
    TAILQ_INIT(&front->builds);
    TAILQ_INIT(&front->refreezes);
    TAILQ_INIT(&front->uses);
    front->next_env_id = front->next_request_id = 1;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    front->thaws_at_once = FRONT_THAWS_PER_CPU * (processors > 0 ? (uint32_t)processors : 1);
    front->opened_ns = clock_monotonic_ns();
    front->loop = loop_new(err);
    if (!front->loop || front_stamp_open(front, err) < 0 || open_signals(front, err) < 0 ||
        front_warden_open(front, err) < 0 || open_logs(front, err) < 0 || open_catalog(front, err) < 0 ||
        front_layout_open(front, err) < 0 || open_http(front, err) < 0)
        return -1;
    open_dispatch(front);
    if (open_lambda(front, err) < 0)
        return -1;
    loop_on_turn_end(front->loop, on_turn_end, front);
    front->listener = http_listen(front->http, front->options->listen_fd, &client_callbacks, front, err);
    return front->listener ? 0 : -1;
}

/* What the drain did not wait for. */
static void refuse_calls(struct front *front)
{
    struct front_failure failure = {.type = "ServiceException", .http_status = 503};
    snprintf(failure.message, sizeof failure.message, "The server was stopped.");
    for (size_t i = 0; i < FRONT_BUCKETS; i++) {
        for (struct front_env *env = front->envs[i]; env; env = env->next_in_bucket)
            if (env->call)
                front_call_refuse(steal_pointer(env->call), &failure);
        for (struct front_version *at = front->versions[i]; at; at = at->next_in_bucket) {
            struct dispatch_call *call;
            while (at->pool && !at->retired && (call = dispatch_call_withdraw(front->dispatch, at->pool)))
                front_call_refuse((struct front_call *)call, &failure);
        }
    }
}

static void close_envs(struct front *front)
{
    for (size_t i = 0; i < FRONT_BUCKETS; i++)
        while (front->envs[i])
            front_env_free(front->envs[i]);
}

static void front_close(struct front *front)
{
    front->draining = front->drained = true;
    refuse_calls(front);
    http_unlisten(&front->listener);
    close_envs(front);
    front_lifecycle_close(front);
    front_versions_close(front);
    dispatch_free(front->dispatch);
    lambda_free(front->lambda);
    http_server_free(front->http);
    catalog_close(front->catalog);
    logs_close(front->logs);
    if (front->loop)
        front_warden_close(front);
    loop_unwatch(&front->signal_watch);
    if (front->signal_fd >= 0)
        close(front->signal_fd);
    loop_free(front->loop);
}

int front_run(const struct front_options *options)
{
    struct front *front = xcalloc(1, sizeof *front);
    struct error err = {0};
    front->options = options;
    front->signal_fd = -1;
    int result = front_open(front, &err);
    if (result == 0)
        result = front_lifecycle_open(front, &err);
    if (result == 0)
        result = front_snapshot_resume(front, &err);
    if (result < 0) {
        log_error("%s", err.text);
    } else {
        front_event_queued(front);
        front_refreeze_open(front);
        front_warden_send(front, &(struct wire_message){.type = WIRE_FRONT_READY});
        result = loop_run(front->loop, &err);
        if (result < 0)
            log_error("%s", err.text);
    }
    bool failed = result < 0 || front->failed;
    front_close(front);
    free(front);
    return failed ? 1 : 0;
}
