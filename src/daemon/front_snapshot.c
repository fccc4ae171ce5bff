/* Publish: initialise a version, have it frozen, and record the outcome. Also freezing anew a version whose
 * snapshot cannot be thawed on this machine, as Lambda does with inactive versions. Runs in the front.
 *
 *   front_snapshot, front_snapshot_remake -> queue -> an environment that builds -> it parks
 *       -> WIRE_ENV_FREEZE -> WIRE_ENV_FROZEN -> catalog
 *
 * A version has at most one build, queued or running. While a version that was Active is built anew because its
 * snapshot cannot be thawed, its pool is held: calls wait. What front_refreeze.c has built anew is thawed meanwhile. */
#include "base/fault.h"
#include "daemon/front_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define PARKED_RETRY_NS 5000000u       /* until a runtime that was busy is looked at again */
#define PARKED_PATIENCE_NS 5000000000u /* for how long */
#define STATE_REASON_BYTES 2048
#define TRUST_DOMAIN_TAG "thaw:trust-domain"
#define TRUST_DOMAIN_DEFAULT "default"

void front_build_start(struct front_version *version)
{
    struct front *front = version->front;
    uint8_t random[WIRE_ID_HEX / 2];
    char id[WIRE_ID_HEX + 1];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        struct error err;
        error_system(&err, "cannot draw the name of a snapshot");
        front_fail(front, &err);
        return;
    }
    hex_encode(id, random, sizeof random);
    front->builds_running++;
    version->build = front_env_start(version, id);
}

static void builds_next(struct front *front)
{
    while (front->builds_running < FRONT_BUILDS_AT_ONCE && !TAILQ_EMPTY(&front->builds) && !front->failed) {
        struct front_version *version = TAILQ_FIRST(&front->builds);
        TAILQ_REMOVE(&front->builds, version, in_builds);
        version->build_waits = false;
        front_build_start(version);
    }
    front_refreeze_next(front);
}

static void build_queue(struct front_version *version)
{
    struct front *front = version->front;
    if (version->build || version->build_waits || version->retired)
        return;
    front_refreeze_unqueue(version);
    version->build_waits = true;
    TAILQ_INSERT_TAIL(&front->builds, version, in_builds);
    builds_next(front);
}

void front_snapshot(void *context, const struct catalog_function *function)
{
    build_queue(front_version_of(context, function));
}

static void resume_one(void *context, const struct catalog_function *function)
{
    front_snapshot(context, function);
}

static void keep_one(void *context, const struct catalog_function *function)
{
    front_warden_send_snapshot(context, WIRE_SNAPSHOT_KEEP, function->snapshot_id);
}

int front_snapshot_resume(struct front *front, struct error *err)
{
    if (catalog_each_snapshot(front->catalog, keep_one, front, err) < 0)
        return -1;
    return catalog_each_pending(front->catalog, resume_one, front, err);
}

bool front_snapshot_remake(struct front_env *env, const struct error *why, struct front_failure *failure)
{
    struct front_version *version = env->version;
    const struct catalog_function *function = version->function;
    if (!version->pool || version->retired || !function->snapshot_id[0])
        return false;
    if (strcmp(env->snapshot_id, function->snapshot_id) != 0)
        return true;
    if (version->build || version->build_waits) {
        dispatch_pool_hold(version->pool);
        return true;
    }
    /* What got lost on its way may get lost again; what cannot be thawed will not be thawed the next time. */
    bool got_lost = why->kind == ERROR_NOT_FOUND || why->kind == ERROR_CORRUPT;
    bool in_vain = version->remakes >= (got_lost ? FRONT_REMAKES_MAX : 1);
    if (in_vain)
        front_refreeze_failed(version, why->text, "InternalError");
    else if (clock_monotonic_ns() < version->demand_ns)
        front_refuse_regeneration(failure, version->failure);
    if (clock_monotonic_ns() < version->demand_ns)
        return false;
    log_warning("%s:%s is initialised and frozen anew: %s", function->name, function->version, why->text);
    version->remakes++;
    dispatch_pool_hold(version->pool);
    build_queue(version);
    return true;
}

/* ---- freezing ---- */

/* The function's tag says in which trust domain its snapshots share chunks. */
static int find_domain(const struct front_env *env, char domain[WIRE_DOMAIN_MAX + 1], struct error *err)
{
    struct catalog_map tags = {0};
    if (catalog_tags(env->front->catalog, env->version->function->name, &tags, err) < 0)
        return -1;
    const char *named = catalog_map_get(&tags, TRUST_DOMAIN_TAG);
    if (named == NULL)
        named = TRUST_DOMAIN_DEFAULT;
    bool valid = wire_domain_is_valid((struct bytes){(const uint8_t *)named, strlen(named)});
    if (valid)
        memcpy(domain, named, strlen(named) + 1);
    catalog_map_free(&tags);
    return valid ? 0
                 : error_set(err, ERROR_INVALID,
                       "the tag " TRUST_DOMAIN_TAG " does not name a trust domain: 1 to %d lower-case "
                       "letters, digits, dots, dashes and underscores, "
                       "not beginning with a dot",
                       WIRE_DOMAIN_MAX);
}

static int send_freeze(
    struct front_env *env, const struct runtime_parked *parked, size_t count, struct error *err)
{
    struct wire_message message = {.type = WIRE_ENV_FREEZE, .env_freeze = {.env_id = env->id}};
    struct wire_env_freeze *freeze = &message.env_freeze;
    if (find_domain(env, freeze->domain, err) < 0)
        return -1;
    memcpy(freeze->snapshot_id, env->snapshot_id, sizeof freeze->snapshot_id);
    freeze->replay_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        freeze->replays[i] = (struct wire_replay){.port = parked[i].port, .request = parked[i].request};
    env->freeze_asked_ns = clock_monotonic_ns();
    front_warden_send(env->front, &message);
    return 0;
}

/* Also called again by the environment's timer: while the runtime is busy, and when the freeze takes too long
 * (then nothing is parked any more that could be asked for). */
void front_build_parked(struct front_env *env)
{
    struct runtime_parked parked[WIRE_REPLAY_MAX];
    struct front_failure failure = {.type = "InternalError"};
    size_t count = 0;
    struct error err;
    uint64_t now_ns = clock_monotonic_ns();
    if (env->restored_ns) { /* asked to freeze already */
        snprintf(failure.message, sizeof failure.message, "the freeze took longer than %d seconds",
            FRONT_FREEZE_S);
        front_build_failed(env, &failure);
        return;
    }
    if (runtime_parked_requests(env->runtime, parked, WIRE_REPLAY_MAX, &count, &err) == 0 &&
        send_freeze(env, parked, count, &err) == 0) {
        env->restored_ns = now_ns;
        front_env_set_timer(env, now_ns + FRONT_FREEZE_S * 1000000000ull);
    } else if (err.kind == ERROR_BUSY && now_ns < env->ready_ns + PARKED_PATIENCE_NS) {
        front_env_set_timer(env, now_ns + PARKED_RETRY_NS);
    } else {
        snprintf(failure.message, sizeof failure.message, "%s", err.text);
        front_build_failed(env, &failure);
    }
}

/* ---- outcomes ---- */

static void build_over(struct front_env *env)
{
    struct front_version *version = env->version;
    struct front *front = version->front;
    version->build = NULL;
    front->builds_running--;
    front_env_kill(env);
    if (version->pool && dispatch_pool_is_held(version->pool))
        dispatch_pool_release(version->pool);
    builds_next(front);
}

static void refuse_waiting(struct front_version *version, const char *reason)
{
    struct front_failure failure;
    struct dispatch_call *call;
    front_refuse_regeneration(&failure, reason);
    while ((call = dispatch_call_withdraw(version->front->dispatch, version->pool)) != NULL)
        front_call_refuse((struct front_call *)call, &failure);
}

static void record_failure(struct front_version *version, const char *reason, const char *reason_code)
{
    const struct catalog_function *now = NULL;
    struct error err;
    if (catalog_set_state(version->front->catalog, version->function, CATALOG_FAILED, reason, reason_code,
            &now, &err) < 0) {
        if (err.kind != ERROR_NOT_FOUND)
            log_error("%s:%s: its failure could not be recorded: %s", version->function->name,
                version->function->version, err.text);
        return;
    }
    front_version_update(version, now);
    catalog_function_unref(&now);
}

void front_build_failed(struct front_env *env, const struct front_failure *failure)
{
    struct front_version *version = env->version;
    CLEANUP_FREE char *reason =
        failure->body.len > 0
            ? xstrndup((const char *)failure->body.data,
                  failure->body.len < STATE_REASON_BYTES ? failure->body.len : STATE_REASON_BYTES)
            : xstrdup(failure->message);
    bool functions_fault = strcmp(failure->type, "InternalError") != 0 && failure->http_status == 0;
    log_warning("%s:%s was not frozen: %s", version->function->name, version->function->version, reason);
    front_env_drain_log(env);
    const char *reason_code = functions_fault ? "FunctionError" : "InternalError";
    if (!version->retired && front_is_waking(version->function))
        front_wake_failed(version, reason, reason_code);
    else if (!version->retired && version->function->state == CATALOG_PENDING)
        record_failure(version, reason, reason_code);
    else if (!version->retired)
        front_refreeze_failed(version, reason, reason_code);
    if (version->pool && dispatch_pool_is_held(version->pool))
        refuse_waiting(version, reason);
    build_over(env);
}

void front_snapshot_discard(struct front *front, const char *id)
{
    front_warden_send_snapshot(front, WIRE_TEMPLATE_DROP, id);
    front_warden_send_snapshot(front, WIRE_SNAPSHOT_DELETE, id);
}

/* The catalog has the new snapshot. What was thawed from the old one and is idle goes with it. */
static void take_over(struct front_version *version, const struct catalog_function *now, const char *old_id)
{
    struct front *front = version->front;
    if (old_id[0])
        fault_point("refreeze.named");
    bool was_waking = front_is_waking(version->function);
    bool was_pending = version->function->state == CATALOG_PENDING;
    front->refreezes_done += !was_pending;
    front_version_update(version, now);
    front_refreeze_forget(version);
    if (was_pending)
        front_use_mark(version);
    if (was_waking)
        front_event_ready(front, now);
    if (!old_id[0])
        return;
    if (version->pool)
        dispatch_pool_evict(version->pool);
    front_snapshot_discard(front, old_id);
}

void front_build_frozen(struct front_env *env, const struct wire_env_frozen *message)
{
    struct front_version *version = env->version;
    struct front *front = version->front;
    struct error err = message->error;
    const struct catalog_function *now = NULL;
    char old_id[WIRE_ID_HEX + 1];
    memcpy(old_id, version->function->snapshot_id, sizeof old_id);
    struct catalog_snapshot snapshot = front_stamp_make(env, message);
    if (err.kind == ERROR_NONE &&
        catalog_set_snapshot(front->catalog, version->function, &snapshot, &now, &err) < 0)
        front_snapshot_discard(front, env->snapshot_id);
    catalog_snapshot_free(&snapshot);
    if (!now) {
        struct front_failure failure = {
            .type = err.kind == ERROR_UNSUPPORTED ? "FunctionError" : "InternalError"};
        snprintf(failure.message, sizeof failure.message, "%s", err.text);
        front_build_failed(env, &failure);
        return;
    }
    front_log_init_report(env, NULL, NULL, NULL);
    log_info("%s:%s is frozen: %llu KiB of memory, %llu KiB more on disk, in %llu ms",
        version->function->name, version->function->version, (unsigned long long)message->memory_bytes >> 10,
        (unsigned long long)message->stored_bytes >> 10,
        (unsigned long long)(clock_monotonic_ns() - env->freeze_asked_ns) / 1000000);
    take_over(version, now, old_id);
    catalog_function_unref(&now);
    build_over(env);
}
