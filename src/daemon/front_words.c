/* What an environment's process says, through the Runtime API, its log pipe, and the warden. Each word leads
 * to a transition that front_env.c draws. Runs in the front. */
#include "daemon/front_private.h"
#include "image/plan.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- what the runtime says ---- */

static void on_waiting(void *context)
{
    front_env_waits(context, false);
}

static void on_prime_waiting(void *context)
{
    front_env_asks_prime(context);
}

static void on_restore_waiting(void *context)
{
    front_env_waits(context, true);
}

static void on_response(void *context, const char *request_id, struct bytes body, const char *content_type)
{
    (void)request_id;
    (void)content_type;
    struct front_env *env = context;
    if (env->state == FRONT_ENV_SERVING)
        front_call_succeed(env->call, body);
    else
        front_prime_answered(env, NULL);
}

static void on_invocation_error(
    void *context, const char *request_id, struct bytes body, const char *error_type)
{
    (void)request_id;
    struct front_env *env = context;
    if (env->state == FRONT_ENV_SERVING)
        front_call_function_error(env->call, body);
    else
        front_prime_answered(env, error_type);
}

static void on_init_error(void *context, struct bytes body, const char *error_type)
{
    struct front_env *env = context;
    if (env->state != FRONT_ENV_INITIALISING)
        return;
    struct front_failure failure = {.type = error_type, .status = "error", .body = body};
    front_env_drain_log(env);
    front_log_init_report(env, env->second_init ? "invoke" : "init", "error", error_type);
    front_env_fail_start(env, &failure);
}

static void on_restore_error(void *context, struct bytes body, const char *error_type)
{
    struct front_env *env = context;
    if (env->state != FRONT_ENV_RESTORING)
        return;
    struct front_failure failure = {.type = error_type, .status = "error", .body = body};
    front_env_drain_log(env);
    front_log_restore_report(env, "error", error_type);
    front_env_fail_start(env, &failure);
}

static void on_response_too_large(void *context, const char *request_id, uint64_t len)
{
    (void)request_id;
    struct front_env *env = context;
    if (env->state != FRONT_ENV_SERVING) {
        front_prime_answered(env, "Function.ResponseSizeTooLarge");
        return;
    }
    CLEANUP_FREE char *body =
        xasprintf("{\"errorType\":\"Function.ResponseSizeTooLarge\",\"errorMessage\":"
                  "\"Response payload size (%llu bytes) exceeded maximum allowed payload "
                  "size (%d bytes).\"}",
            (unsigned long long)len, LIMIT_PAYLOAD_BYTES);
    front_call_function_error(env->call, (struct bytes){(const uint8_t *)body, strlen(body)});
}

static const struct runtime_callbacks runtime_callbacks = {
    .waiting = on_waiting,
    .prime_waiting = on_prime_waiting,
    .restore_waiting = on_restore_waiting,
    .response = on_response,
    .invocation_error = on_invocation_error,
    .init_error = on_init_error,
    .restore_error = on_restore_error,
    .response_too_large = on_response_too_large,
};

/* ---- what the warden says ---- */

/* It never became ready, through no fault of its own, and another may: nobody is blamed. */
static void start_again(struct front_env *env)
{
    dispatch_env_discard(env->front->dispatch, &env->dispatch, clock_monotonic_ns());
}

/* The warden could not start it. */
static void start_refused(struct front_env *env, const struct error *err)
{
    struct front_version *version = env->version;
    struct front_failure failure = {.type = "ServiceException", .http_status = 500};
    snprintf(failure.message, sizeof failure.message, "%s", err->text);
    env->exited = true;
    bool unusable =
        err->kind == ERROR_NOT_FOUND || err->kind == ERROR_CORRUPT || err->kind == ERROR_UNSUPPORTED;
    if (env->state == FRONT_ENV_ENDING) {
        front_env_bury(env);
        return;
    }
    if (env->mode == WIRE_THAW && unusable && front_snapshot_remake(env, err, &failure)) {
        start_again(env);
        front_env_bury(env);
        return;
    }
    if (env->mode == WIRE_COLD && err->kind == ERROR_INVALID) {
        failure.type = "Runtime.InvalidEntrypoint";
        failure.http_status = 0;
        failure.status = "error";
        front_log_init_report(env, env->second_init ? "invoke" : "init", "error", failure.type);
    } else {
        log_error(
            "%s:%s could not be started: %s", version->function->name, version->function->version, err->text);
    }
    front_env_fail_start(env, &failure);
    front_env_bury(env);
}

static void on_log(void *context, uint32_t events)
{
    (void)events;
    struct front_env *env = context;
    if (logs_stream_drain(env->log, env->fd[WIRE_FD_LOG], clock_wall_ms()) == LOGS_DRAINED_END)
        loop_unwatch(&env->log_watch);
}

static int env_attach(struct front_env *env, struct error *err)
{
    struct front *front = env->front;
    env->runtime = runtime_endpoint_new(front->http, env->fd[WIRE_FD_LISTENER], &runtime_callbacks, env,
        env->builds || env->mode == WIRE_THAW, err);
    if (!env->runtime)
        return -1;
    env->log_watch = loop_watch_fd(front->loop, env->fd[WIRE_FD_LOG], EPOLLIN, on_log, env, err);
    return env->log_watch ? 0 : -1;
}

void front_env_started(struct front *front, const struct wire_env_started *message, int *fds)
{
    struct front_env *env = front_env_find(front, message->env_id);
    if (!env)
        return; /* of an initialisation that was given up: it is killed already */
    if (message->error.kind != ERROR_NONE) {
        start_refused(env, &message->error);
        return;
    }
    if (env->state == FRONT_ENV_ENDING)
        return;
    env->started_ns = clock_monotonic_ns();
    env->shared_bytes = message->shared_memory_bytes;
    env->tell_served = message->tell_served;
    memcpy(env->stamp_ns, message->stamp_ns, sizeof env->stamp_ns);
    for (size_t i = 0; i < WIRE_ENV_FD_COUNT; i++) {
        env->fd[i] = fds[i];
        fds[i] = -1;
    }
    front_env_began(env);
    struct error err;
    if (env_attach(env, &err) < 0) {
        log_error("%s: %s", env->version->function->name, err.text);
        struct front_failure failure = {.type = "ServiceException", .http_status = 500};
        snprintf(failure.message, sizeof failure.message, "%s", err.text);
        front_env_fail_start(env, &failure);
        return;
    }
    if (env->builds || env->mode == WIRE_THAW) {
        struct runtime_credentials credentials = front_spec_credentials(env);
        runtime_set_credentials(env->runtime, &credentials);
    }
}

bool front_env_read_report(struct front_env *env, struct plan_report *report)
{
    int fd = env->fd[WIRE_FD_REPORT];
    if (env->mode != WIRE_THAW || fd < 0)
        return false;
    return read(fd, report, sizeof *report) == (ssize_t)sizeof *report && report->magic == PLAN_REPORT_MAGIC;
}

/* A clone died before it asked for an event: its plan failed, or its after-restore hooks ended it. True: its version is
 * frozen anew, and nobody is to be blamed. */
static bool restore_died(struct front_env *env, struct front_failure *failure)
{
    struct plan_report report;
    front_log_restore_report(env, "error", failure->type);
    if (!front_env_read_report(env, &report) || report.failed == 0)
        return false;
    struct front_version *version = env->version;
    struct error why;
    log_error("%s:%s did not thaw: operation %u of plan %u of its process %u gave %d",
        version->function->name, version->function->version, report.op, report.plan, report.process,
        report.failed);
    *failure = (struct front_failure){.type = "ServiceException", .http_status = 500};
    snprintf(failure->message, sizeof failure->message,
        "The environment could not be restored: operation %u of plan %u of its process %u gave %d.",
        report.op, report.plan, report.process, report.failed);
    error_set(&why, ERROR_UNSUPPORTED, "%s", failure->message);
    return front_snapshot_remake(env, &why, failure);
}

/* What is stored got lost, or is not what was stored. */
static bool is_damage(const struct error *why)
{
    return why->kind == ERROR_NOT_FOUND || why->kind == ERROR_CORRUPT;
}

/* A thousand clones of one template that lost pages together are one mishap. */
static bool lost_too_often(struct front_env *env)
{
    struct front_version *version = env->version;
    if (env->id > version->losses_up_to_env) {
        version->losses++;
        version->losses_up_to_env = env->front->next_env_id - 1;
    }
    return version->losses > FRONT_LOSSES_MAX;
}

/* Pages of its memory could not be had: whoever served it is gone, or what is stored is damaged or away. Then the version is
 * frozen anew. What it was asked to do is done by another environment. */
static void env_lost_pages(struct front_env *env)
{
    const struct error *why = &env->lost;
    struct front_failure failure = {.type = "ServiceException", .http_status = 500};
    snprintf(failure.message, sizeof failure.message, "%s", why->text);
    bool hopeless = lost_too_often(env) || (is_damage(why) && !front_snapshot_remake(env, why, &failure));
    if (env->state == FRONT_ENV_SERVING) {
        front_call_run_again(env->call, hopeless);
    } else if (hopeless) {
        front_log_restore_report(env, "error", failure.type);
        front_env_fail_start(env, &failure);
    } else {
        start_again(env);
    }
}

static void env_verdict(void *context)
{
    struct front_env *env = context;
    struct front *front = env->front;
    struct front_failure failure;
    front_env_drain_log(env);
    front_failure_of_exit(&failure, env);
    bool worked = env->state == FRONT_ENV_RESTORING || env->state == FRONT_ENV_SERVING;
    if (worked && env->lost.kind != ERROR_NONE) {
        env_lost_pages(env);
        front_env_bury(env);
        return;
    }
    if (is_damage(&env->lost))
        (void)front_snapshot_remake(env, &env->lost, &failure);
    switch (env->state) {
    case FRONT_ENV_REQUESTED:
    case FRONT_ENV_INITIALISING:
        front_log_init_report(env, env->second_init ? "invoke" : "init", "error", failure.type);
        front_prime_blame(env, &failure);
        front_env_fail_start(env, &failure);
        break;
    case FRONT_ENV_RESTORING:
        if (restore_died(env, &failure))
            start_again(env);
        else
            front_env_fail_start(env, &failure);
        break;
    case FRONT_ENV_SERVING:
        front_call_break(env->call, &failure);
        break;
    case FRONT_ENV_PARKED:
    case FRONT_ENV_ANSWERED: {
        struct front_call *held = steal_pointer(env->call);
        if (held) {
            dispatch_call_broke(front->dispatch, &held->dispatch, clock_monotonic_ns());
            front_call_submit(held);
        } else {
            dispatch_env_discard(front->dispatch, &env->dispatch, clock_monotonic_ns());
        }
        break;
    }
    case FRONT_ENV_FREEZING:
        front_build_failed(env, &failure);
        break;
    case FRONT_ENV_ENDING:
        break;
    }
    front_env_bury(env);
}

void front_env_exited(struct front *front, const struct wire_env_exited *message)
{
    struct front_env *env = front_env_find(front, message->env_id);
    if (!env || env->exited)
        return;
    env->exited = true;
    env->wait_status = message->wait_status;
    env->out_of_memory = message->out_of_memory;
    env->lost = message->error;
    /* Its last words (an answer, an error report) may still be on their way through our own loop. */
    bool may_have_spoken = env->state == FRONT_ENV_SERVING || env->state == FRONT_ENV_INITIALISING ||
                           env->state == FRONT_ENV_RESTORING;
    if (may_have_spoken)
        loop_timer_set(
            front->loop, &env->exit_timer, clock_monotonic_ns() + FRONT_EXIT_GRACE_NS, env_verdict, env);
    else
        env_verdict(env);
}

void front_env_frozen(struct front *front, const struct wire_env_frozen *message)
{
    struct front_env *env = front_env_find(front, message->env_id);
    if (!env)
        return;
    env->exited = true;
    if (env->state == FRONT_ENV_FREEZING)
        front_build_frozen(env, message);
    else if (message->error.kind == ERROR_NONE)
        front_snapshot_discard(front, message->snapshot_id); /* it was given up meanwhile */
    front_env_bury(env);
}
