/* The life of an environment. Runs in the front.
 *
 *                    .--> INITIALISING --.--> FREEZING -----------------------> o   (the front's own builds)
 *  o --> REQUESTED --|      ^     |      |
 *           ^        |      |     |      v        deliver            answer
 *           |        '--> RESTORING --> PARKED ----------> SERVING ----------> ANSWERED
 *           |                                ^                                     |
 *           '- too slow, once: killed, and   '-------------------------------------'
 *              begun again (second_init)          the runtime asks for the next
 *
 *  Every state --> ENDING --> o: killed by us, waiting for the warden's last word.
 *
 * Invariants:
 *  1. An environment is in the table under its id from the request until the warden's last word on that id.
 *  2. `runtime`, the descriptors and the log watch exist from STARTED on; `runtime` is gone in ENDING.
 *  3. `call` is set in SERVING, and in ANSWERED when the dispatcher gave the next call before the runtime
 * asked for it (it is held, not lost: if the process dies first, the call is dispatched again). Nowhere else.
 *  4. `timer` runs in INITIALISING, RESTORING, SERVING, ANSWERED and FREEZING, and in no other state.
 *  5. To the dispatcher an environment is STARTING in REQUESTED, INITIALISING and RESTORING; IDLE in PARKED,
 * and in ANSWERED without a call; BUSY in SERVING, and in ANSWERED with one; ENDING in ENDING. It does not
 * know environments that build a snapshot.
 *  6. The warden is asked to kill an id at most once, and not after it said that the process is gone. */
#include "base/fd.h"
#include "daemon/front_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_DRAINS_AT_EXIT 64

const char *front_env_state_name(enum front_env_state state)
{
    static const char *const names[] = {
        "", "requested", "initialising", "restoring", "idle", "busy", "answered", "freezing", "ending"};
    return names[state];
}

/* ---- the table ---- */

static size_t bucket_of(uint64_t id)
{
    return (size_t)id & (FRONT_BUCKETS - 1);
}

struct front_env *front_env_find(struct front *front, uint64_t id)
{
    struct front_env *env = front->envs[bucket_of(id)];
    while (env && env->id != id)
        env = env->next_in_bucket;
    return env;
}

static void table_add(struct front_env *env)
{
    struct front_env **bucket = &env->front->envs[bucket_of(env->id)];
    env->next_in_bucket = *bucket;
    *bucket = env;
}

static void table_remove(struct front_env *env)
{
    struct front_env **at = &env->front->envs[bucket_of(env->id)];
    while (*at != env)
        at = &(*at)->next_in_bucket;
    *at = env->next_in_bucket;
}

/* ---- beginning and end ---- */

static void spec_refused(void *context)
{
    struct front_env *env = context;
    struct front_failure failure = {.type = "InvalidRuntimeException", .http_status = 502};
    if (env->state == FRONT_ENV_ENDING) {
        front_env_bury(env);
        return;
    }
    snprintf(failure.message, sizeof failure.message, "The runtime %s does not exist on this host.",
        env->version->function->config.runtime);
    front_env_fail_start(env, &failure);
    front_env_bury(env);
}

/* Ask the warden for the process. */
static void env_request(struct front_env *env)
{
    struct front *front = env->front;
    const struct catalog_function *function = env->version->function;
    CLEANUP_BUFFER struct buffer argv = {0}, variables = {0};
    struct wire_message message = {
        .type = WIRE_ENV_START,
        .env_start = {.env_id = env->id,
            .mode = env->mode,
            .memory_mb = function->config.memory_mb,
            .tmp_mb = function->config.tmp_mb,
            .fixed_layout = env->builds && front->options->fixed_layout},
    };
    memcpy(message.env_start.code_id, function->code.id, sizeof message.env_start.code_id);
    if (env->mode == WIRE_THAW) {
        memcpy(message.env_start.snapshot_id, env->snapshot_id, sizeof message.env_start.snapshot_id);
    } else {
        struct error err;
        if (front_spec_fill(front, env, &argv, &variables, &err) < 0) {
            /* The dispatcher is in the middle of starting it: it may hear of the failure next turn. */
            env->exited = true;
            loop_timer_set(front->loop, &env->exit_timer, clock_monotonic_ns(), spec_refused, env);
            return;
        }
        message.env_start.argv = (struct bytes){argv.data, argv.len};
        message.env_start.env = (struct bytes){variables.data, variables.len};
    }
    env->asked_ns = clock_monotonic_ns();
    front_warden_send(front, &message);
}

struct front_env *front_env_start(struct front_version *version, const char *snapshot_id)
{
    struct front *front = version->front;
    const struct catalog_function *function = version->function;
    struct front_env *env = xcalloc(1, sizeof *env);
    env->front = front;
    env->version = version;
    env->id = front->next_env_id++;
    env->state = FRONT_ENV_REQUESTED;
    env->builds = snapshot_id != NULL;
    version->build_envs += env->builds;
    env->mode = !env->builds && function->snapshot_id[0] ? WIRE_THAW : WIRE_COLD;
    snprintf(
        env->snapshot_id, sizeof env->snapshot_id, "%s", env->builds ? snapshot_id : function->snapshot_id);
    for (size_t i = 0; i < WIRE_ENV_FD_COUNT; i++)
        env->fd[i] = -1;
    struct error err;
    env->log = logs_stream_new(front->logs, function->name, function->version, clock_wall_ms(), &err);
    if (!env->log)
        front_fail(front, &err); /* names are checked long before: only the machine can be at fault */
    table_add(env);
    env_request(env);
    if (env->mode == WIRE_THAW)
        front->thaws++;
    else
        front->cold_starts++;
    if (env->log)
        front_log_start_of_env(env);
    return env;
}

/* What belongs to the process and not to the environment. */
static void env_detach(struct front_env *env)
{
    loop_timer_cancel(&env->timer);
    loop_timer_cancel(&env->exit_timer);
    loop_unwatch(&env->log_watch);
    runtime_endpoint_free(steal_pointer(env->runtime));
    for (size_t i = 0; i < WIRE_ENV_FD_COUNT; i++)
        fd_close(&env->fd[i]);
    table_remove(env);
}

void front_env_free(struct front_env *env)
{
    env_detach(env);
    logs_stream_free(&env->log, clock_wall_ms());
    front_prime_free(&env->prime);
    if (env->builds) {
        env->version->build_envs--;
        front_version_release(env->version);
    }
    free(env);
}

void front_env_kill(struct front_env *env)
{
    if (env->state == FRONT_ENV_ENDING)
        return;
    env->state = FRONT_ENV_ENDING;
    loop_timer_cancel(&env->timer);
    runtime_endpoint_free(steal_pointer(env->runtime));
    if (!env->exited)
        front_warden_send_env(env->front, WIRE_ENV_KILL, env->id);
}

/* The warden's last word was heard and everybody concerned was told: ENDING, or a build that is over. */
void front_env_bury(struct front_env *env)
{
    struct front *front = env->front;
    if (!env->builds)
        dispatch_env_ended(front->dispatch, &env->dispatch, clock_monotonic_ns());
    front_env_free(env);
    front_note_progress(front);
}

/* A start came to nothing: the version's build failed, or a waiting call loses. */
void front_env_fail_start(struct front_env *env, const struct front_failure *failure)
{
    struct front *front = env->front;
    if (env->builds) {
        front_build_failed(env, failure);
        return;
    }
    struct dispatch_call *loser = dispatch_env_failed(front->dispatch, &env->dispatch, clock_monotonic_ns());
    if (loser)
        front_call_lose((struct front_call *)loser, env, failure);
}

/* ---- the log pipe ---- */

void front_env_drain_log(struct front_env *env)
{
    if (env->fd[WIRE_FD_LOG] < 0)
        return;
    uint64_t now_ms = clock_wall_ms();
    for (int i = 0; i < LOG_DRAINS_AT_EXIT; i++)
        if (logs_stream_drain(env->log, env->fd[WIRE_FD_LOG], now_ms) != LOGS_DRAINED_MORE)
            return;
}

/* ---- time ---- */

static void fail_second_init(struct front_env *env)
{
    struct front_failure failure = {.type = "Sandbox.Timedout", .status = "timeout"};
    snprintf(failure.message, sizeof failure.message, "Task timed out after %u.00 seconds",
        env->version->function->config.timeout_s);
    front_log_init_report(env, "invoke", "timeout", NULL);
    front_env_fail_start(env, &failure);
}

/* As on Lambda: an initialisation that takes too long is begun again, inside the invocation's own time. */
static void begin_second_init(struct front_env *env)
{
    front_env_drain_log(env);
    front_log_init_report(env, "init", "timeout", NULL);
    front_warden_send_env(env->front, WIRE_ENV_KILL, env->id);
    env_detach(env);
    env->id = env->front->next_env_id++;
    table_add(env);
    env->second_init = true;
    env->state = FRONT_ENV_REQUESTED;
    env_request(env);
}

static void on_init_timeout(struct front_env *env)
{
    if (env->builds) {
        struct front_failure failure = {.type = "Sandbox.Timedout", .status = "timeout"};
        if (front_prime_is_running(env))
            snprintf(failure.message, sizeof failure.message, "Task timed out after %u.00 seconds",
                env->version->function->config.timeout_s);
        else
            snprintf(failure.message, sizeof failure.message, "Initialization timed out");
        front_prime_blame(env, &failure);
        front_log_init_report(env, "init", "timeout", NULL);
        front_build_failed(env, &failure);
    } else if (env->second_init) {
        fail_second_init(env);
    } else {
        begin_second_init(env);
    }
}

static void on_timer(void *context)
{
    struct front_env *env = context;
    struct front_failure failure = {.type = "Sandbox.Timedout", .status = "timeout"};
    front_env_drain_log(env);
    switch (env->state) {
    case FRONT_ENV_INITIALISING:
        on_init_timeout(env);
        break;
    case FRONT_ENV_RESTORING:
        front_log_restore_report(env, "timeout", NULL);
        failure = (struct front_failure){.type = "SnapStartTimeoutException", .http_status = 408};
        snprintf(failure.message, sizeof failure.message,
            "The after-restore hooks did not finish within %d seconds.", LIMIT_RESTORE_HOOKS_S);
        front_env_fail_start(env, &failure);
        break;
    case FRONT_ENV_SERVING:
        snprintf(failure.message, sizeof failure.message, "Task timed out after %u.00 seconds",
            env->version->function->config.timeout_s);
        front_call_break(env->call, &failure);
        break;
    case FRONT_ENV_ANSWERED: {
        /* It answered and never asked again within its time: nobody's loss but its own. */
        struct front_call *held = steal_pointer(env->call);
        if (held) {
            dispatch_call_broke(env->front->dispatch, &held->dispatch, clock_monotonic_ns());
            front_call_submit(held);
        } else {
            dispatch_env_discard(env->front->dispatch, &env->dispatch, clock_monotonic_ns());
        }
        break;
    }
    case FRONT_ENV_FREEZING:
        front_build_parked(env); /* it was too busy to be frozen; or it takes too long */
        break;
    default:
        break;
    }
}

void front_env_set_timer(struct front_env *env, uint64_t at_ns)
{
    loop_timer_cancel(&env->timer);
    loop_timer_set(env->front->loop, &env->timer, at_ns, on_timer, env);
}

static void set_timer(struct front_env *env, uint64_t seconds)
{
    front_env_set_timer(env, clock_monotonic_ns() + seconds * 1000000000u);
}

static uint64_t init_limit_s(const struct front_env *env)
{
    uint64_t timeout_s = env->version->function->config.timeout_s;
    if (env->builds)
        return timeout_s > LIMIT_SNAPSTART_INIT_S ? timeout_s : LIMIT_SNAPSTART_INIT_S;
    return env->second_init ? timeout_s : LIMIT_INIT_S;
}

void front_env_set_init_timer(struct front_env *env)
{
    set_timer(env, init_limit_s(env));
}

/* ---- serving ---- */

static void env_deliver(struct front_env *env)
{
    struct front_call *call = env->call;
    const struct lambda_invocation *invocation = call->invocation;
    uint64_t timeout_s = env->version->function->config.timeout_s;
    env->state = FRONT_ENV_SERVING;
    runtime_deliver(env->runtime, &(struct runtime_event){.request_id = invocation->request_id,
                                      .deadline_ms = clock_wall_ms() + timeout_s * 1000,
                                      .function_arn = invocation->invoked_arn,
                                      .trace_id = invocation->trace_id,
                                      .client_context = invocation->client_context,
                                      .payload = invocation->payload});
    front_call_delivered(call);
    set_timer(env, timeout_s);
    if (env->served)
        logs_stream_mark(env->log);
    front_log_start(env, call);
    env->served = true;
    env->invocations++;
}

void front_env_serve(struct front_env *env, struct front_call *call)
{
    env->call = call;
    call->env = env;
    if (env->state == FRONT_ENV_PARKED)
        env_deliver(env);
}

void front_env_answered(struct front_env *env)
{
    env->call = NULL;
    env->state = FRONT_ENV_ANSWERED;
    env->version->losses = 0;
}

static void env_ready(struct front_env *env)
{
    loop_timer_cancel(&env->timer);
    env->ready_ns = clock_monotonic_ns();
    if (env->mode == WIRE_THAW) {
        env->version->remakes = 0;
        front_log_restore_report(env, NULL, NULL);
    }
    env->state = FRONT_ENV_PARKED;
    dispatch_env_ready(env->front->dispatch, &env->dispatch, env->ready_ns);
    front_set_tick(env->front);
}

static void env_build_parked(struct front_env *env)
{
    front_env_drain_log(env);
    env->ready_ns = clock_monotonic_ns();
    env->state = FRONT_ENV_FREEZING;
    front_build_parked(env);
}

void front_env_waits(struct front_env *env, bool for_restore)
{
    if (env->spoke_ns == 0)
        env->spoke_ns = clock_monotonic_ns();
    if (env->state == FRONT_ENV_INITIALISING && env->builds) {
        bool taken = for_restore ? front_prime_passed_over(env) : front_prime_next(env);
        if (!taken)
            env_build_parked(env);
    } else if (env->state == FRONT_ENV_RESTORING && for_restore) {
        runtime_restored(env->runtime);
        env->restored_ns = clock_monotonic_ns();
    } else if ((env->state == FRONT_ENV_INITIALISING || env->state == FRONT_ENV_RESTORING) && !for_restore) {
        env_ready(env);
    } else if (env->state == FRONT_ENV_ANSWERED && !for_restore) {
        loop_timer_cancel(&env->timer);
        env->state = FRONT_ENV_PARKED;
        if (env->tell_served)
            front_warden_send_env(env->front, WIRE_ENV_SERVED, env->id);
        env->tell_served = false;
        if (env->call)
            env_deliver(env);
    } /* else it asks again on another connection, or while it is frozen */
}

/* A clone that asks again, and a version that is not to be primed, hear that there is none. */
void front_env_asks_prime(struct front_env *env)
{
    bool builds = env->state == FRONT_ENV_INITIALISING && env->builds;
    if (!builds || !front_prime_next(env))
        runtime_primed(env->runtime);
}

void front_env_began(struct front_env *env)
{
    bool thaws = env->mode == WIRE_THAW;
    env->state = thaws ? FRONT_ENV_RESTORING : FRONT_ENV_INITIALISING;
    set_timer(env, thaws ? LIMIT_RESTORE_HOOKS_S : init_limit_s(env));
}
