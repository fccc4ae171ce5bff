#include "lambda/internal.h"

#include <string.h>

static void set(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, json_string(value));
}

static void set_unless_empty(json_t *object, const char *key, const char *value)
{
    if (value[0] != '\0')
        set(object, key, value);
}

json_t *describe_map(const struct catalog_map *map)
{
    json_t *object = json_object();
    for (size_t i = 0; i < map->count; i++)
        set(object, map->pairs[i].key, map->pairs[i].value);
    return object;
}

static json_t *describe_logging(const struct catalog_config *config)
{
    json_t *logging = json_object();
    set(logging, "LogFormat", config->log_format);
    set_unless_empty(logging, "ApplicationLogLevel", config->log_level_app);
    set_unless_empty(logging, "SystemLogLevel", config->log_level_system);
    set(logging, "LogGroup", config->log_group);
    return logging;
}

static void describe_states(json_t *object, const struct catalog_function *f, enum describe_as as)
{
    static const char creating[] = "The function is being created.";
    if (as == DESCRIBE_LISTED)
        return;
    if (as == DESCRIBE_CREATED) {
        set(object, "State", "Pending");
        set(object, "StateReason", creating);
        set(object, "StateReasonCode", "Creating");
        return;
    }
    set(object, "State", catalog_state_name(f->state));
    set_unless_empty(object, "StateReason", f->state_reason);
    set_unless_empty(object, "StateReasonCode", f->state_reason_code);
    if (f->state == CATALOG_PENDING)
        return;
    if (as == DESCRIBE_UPDATED) {
        set(object, "LastUpdateStatus", "InProgress");
        set(object, "LastUpdateStatusReason", creating);
        set(object, "LastUpdateStatusReasonCode", "Creating");
        return;
    }
    set(object, "LastUpdateStatus", catalog_update_name(f->last_update));
    set_unless_empty(object, "LastUpdateStatusReason", f->last_update_reason);
    set_unless_empty(object, "LastUpdateStatusReasonCode", f->last_update_reason_code);
}

/* Managed runtimes carry an ARN; its last part must only be stable for a runtime. */
static json_t *describe_runtime_version(const struct lambda_api *api, const struct catalog_function *f)
{
    unsigned long long hash = 0xcbf29ce484222325u;
    for (const char *c = f->config.runtime; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
    CLEANUP_FREE char *arn = xasprintf("arn:aws:lambda:%s::runtime:%016llx%016llx%016llx%016llx",
        catalog_region(api->catalog), hash, hash * 3, hash * 5, hash * 7);
    return json_pack("{s:s}", "RuntimeVersionArn", arn);
}

json_t *describe_function(
    const struct lambda_api *api, const struct catalog_function *f, enum describe_as as, bool qualified)
{
    const struct catalog_config *config = &f->config;
    json_t *object = json_object();
    set(object, "FunctionName", f->name);
    set(object, "FunctionArn", qualified ? f->qualified_arn : f->arn);
    set(object, "Runtime", config->runtime);
    set(object, "Role", config->role);
    set(object, "Handler", config->handler);
    json_object_set_new(object, "CodeSize", json_integer((json_int_t)f->code.size));
    set(object, "Description", config->description);
    json_object_set_new(object, "Timeout", json_integer(config->timeout_s));
    json_object_set_new(object, "MemorySize", json_integer(config->memory_mb));
    set(object, "LastModified", f->last_modified);
    set(object, "CodeSha256", f->code.sha256);
    set(object, "Version", f->version);
    if (config->environment.count > 0)
        json_object_set_new(
            object, "Environment", json_pack("{s:o}", "Variables", describe_map(&config->environment)));
    json_object_set_new(object, "TracingConfig", json_pack("{s:s}", "Mode", config->tracing_mode));
    set(object, "RevisionId", f->revision_id);
    describe_states(object, f, as);
    set(object, "PackageType", "Zip");
    json_object_set_new(object, "Architectures", json_pack("[s]", config->architecture));
    json_object_set_new(object, "EphemeralStorage", json_pack("{s:i}", "Size", (int)config->tmp_mb));
    json_object_set_new(object, "SnapStart",
        json_pack("{s:s,s:s}", "ApplyOn", config->snap_start ? "PublishedVersions" : "None",
            "OptimizationStatus", f->optimized ? "On" : "Off"));
    if (as != DESCRIBE_LISTED)
        json_object_set_new(object, "RuntimeVersionConfig", describe_runtime_version(api, f));
    json_object_set_new(object, "LoggingConfig", describe_logging(config));
    return object;
}
