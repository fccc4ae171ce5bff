/* Versions: one record for each generation that was asked for, which owns a pool of the dispatcher. Also the
 * dispatcher's effects, which turn its decisions into the life of environments. Runs in the front. */
#include "daemon/front_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t bucket_of(uint64_t generation)
{
    return (size_t)generation & (FRONT_BUCKETS - 1);
}

struct front_version *front_version_find(struct front *front, uint64_t generation)
{
    struct front_version *version = front->versions[bucket_of(generation)];
    while (version && version->generation != generation)
        version = version->next_in_bucket;
    return version;
}

void front_version_update(struct front_version *version, const struct catalog_function *function)
{
    if (version->function == function)
        return;
    const struct catalog_function *old = version->function;
    version->function = catalog_function_ref(function);
    catalog_function_unref(&old);
}

struct front_version *front_version_of(struct front *front, const struct catalog_function *function)
{
    struct front_version *version = front_version_find(front, function->generation);
    if (version) {
        front_version_update(version, function);
        return version;
    }
    version = xcalloc(1, sizeof *version);
    version->front = front;
    version->generation = function->generation;
    version->function = catalog_function_ref(function);
    bool thaws = function->config.snap_start && function->number > 0;
    version->pool = dispatch_pool_new(front->dispatch, function->name,
        &(struct dispatch_pool_options){
            .starting_max = thaws ? front->thaws_at_once : FRONT_COLD_STARTS_AT_ONCE, .user = version});
    struct front_version **bucket = &front->versions[bucket_of(version->generation)];
    version->next_in_bucket = *bucket;
    *bucket = version;
    return version;
}

static void version_free(struct front_version *version)
{
    struct front_version **at = &version->front->versions[bucket_of(version->generation)];
    while (*at != version)
        at = &(*at)->next_in_bucket;
    *at = version->next_in_bucket;
    front_use_forget(version);
    front_refreeze_forget(version);
    catalog_function_unref(&version->function);
    free(version);
}

void front_version_release(struct front_version *version)
{
    if (version->pool == NULL && version->build_envs == 0 && !version->build_waits)
        version_free(version);
}

void front_versions_close(struct front *front)
{
    for (size_t i = 0; i < FRONT_BUCKETS; i++)
        while (front->versions[i])
            version_free(front->versions[i]);
}

/* Calls that wait for a snapshot that will never be. */
static void refuse_waiting(struct front_version *version)
{
    struct front_failure failure = {.type = "ResourceNotFoundException", .http_status = 404};
    snprintf(
        failure.message, sizeof failure.message, "Function not found: %s", version->function->qualified_arn);
    struct dispatch_call *call;
    while ((call = dispatch_call_withdraw(version->front->dispatch, version->pool)) != NULL)
        front_call_refuse((struct front_call *)call, &failure);
}

static void version_retire(struct front_version *version, bool deleted)
{
    struct front *front = version->front;
    if (version->retired)
        return;
    version->retired = true;
    front_refreeze_forget(version);
    if (version->build_waits) {
        version->build_waits = false;
        TAILQ_REMOVE(&front->builds, version, in_builds);
    }
    if (dispatch_pool_is_held(version->pool))
        refuse_waiting(version);
    if (version->build) {
        struct front_failure failure = {.type = "InternalError", .message = "it was deleted meanwhile"};
        front_build_failed(version->build, &failure);
    }
    if (deleted && version->function->snapshot_id[0]) {
        front_warden_send_snapshot(front, WIRE_TEMPLATE_DROP, version->function->snapshot_id);
        front_warden_send_snapshot(front, WIRE_SNAPSHOT_DELETE, version->function->snapshot_id);
    }
    dispatch_pool_retire(version->pool); /* may free the version */
}

/* When $LATEST is deleted, so is the function, and its logs go with it. */
void front_retire(void *context, const struct catalog_function *function, bool deleted)
{
    struct front *front = context;
    struct front_version *version = front_version_find(front, function->generation);
    if (version) {
        front_version_update(version, function);
        version_retire(version, deleted);
    } else if (deleted && function->snapshot_id[0]) {
        front_warden_send_snapshot(front, WIRE_TEMPLATE_DROP, function->snapshot_id);
        front_warden_send_snapshot(front, WIRE_SNAPSHOT_DELETE, function->snapshot_id);
    }
    if (deleted && function->number == 0)
        logs_forget_function(front->logs, function->name);
}

/* ---- the dispatcher's effects ---- */

static struct dispatch_env *effect_start(void *context, struct dispatch_pool *pool)
{
    (void)context;
    return &front_env_start(dispatch_pool_user(pool), NULL)->dispatch;
}

static void effect_serve(void *context, struct dispatch_env *env, struct dispatch_call *call)
{
    (void)context;
    front_env_serve((struct front_env *)env, (struct front_call *)call);
}

static void effect_end(void *context, struct dispatch_env *env)
{
    (void)context;
    front_env_kill((struct front_env *)env);
}

static void effect_pool_gone(void *context, struct dispatch_pool *pool)
{
    (void)context;
    struct front_version *version = dispatch_pool_user(pool);
    version->pool = NULL;
    front_version_release(version);
}

const struct dispatch_effects front_effects = {
    .start = effect_start,
    .serve = effect_serve,
    .end = effect_end,
    .pool_gone = effect_pool_gone,
};
