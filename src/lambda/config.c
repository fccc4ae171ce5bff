/* The configuration of a function as a request gives it: types, constraints, and what this server cannot do
 * (which is refused rather than ignored). Each check_* reads one member and puts it into `config`. */
#include "lambda/internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ROLE_PATTERN "arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+"
#define HANDLER_PATTERN "[^\\s]+"
#define LOG_GROUP_PATTERN "[\\.\\-_/#A-Za-z0-9]+"
#define VARIABLE_PATTERN "[a-zA-Z]([a-zA-Z0-9_])+"
#define LOG_GROUP_MAX 512
#define TAG_KEY_MAX 128
#define TAG_VALUE_MAX 256

static void replace(char **slot, const char *value)
{
    char *copy = xstrdup(value);
    free(*slot);
    *slot = copy;
}

static void too_long(struct body *body, const char *value, const char *field, size_t max)
{
    problems_add(&body->problems,
        "Value '%s' at '%s' failed to satisfy constraint: Member must have length less than or equal to %zu",
        value, field, max);
}

static void no_match(struct body *body, const char *value, const char *field, const char *pattern)
{
    problems_add(&body->problems,
        "Value '%s' at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: %s",
        value, field, pattern);
}

static bool one_of(
    struct body *body, const char *value, const char *field, const char *const *set, size_t count)
{
    CLEANUP_BUFFER struct buffer all = {0};
    for (size_t i = 0; i < count; i++) {
        if (strcmp(value, set[i]) == 0)
            return true;
        buffer_printf(&all, "%s%s", i > 0 ? ", " : "", set[i]);
    }
    problems_add(&body->problems,
        "Value '%s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: [%s]", value,
        field, (char *)all.data);
    return false;
}

/* Length and characters of a text; NULL for no such limit. */
static bool text_ok(struct body *body, const char *value, const char *field, size_t max, const char *pattern,
    bool good(const char *value))
{
    size_t before = body->problems.count;
    if (strlen(value) > max)
        too_long(body, value, field, max);
    if (good != NULL && !good(value))
        no_match(body, value, field, pattern);
    return body->problems.count == before;
}

static void read_number(struct body *body, json_t *object, const char *name, const char *field,
    json_int_t min, json_int_t max, uint32_t *out)
{
    json_int_t value;
    if (!body_integer(body, object, name, &value))
        return;
    if (value < min)
        problems_add(&body->problems,
            "Value '%lld' at '%s' failed to satisfy constraint: Member must have value greater than or equal "
            "to "
            "%lld",
            (long long)value, field, (long long)min);
    else if (value > max)
        problems_add(&body->problems,
            "Value '%lld' at '%s' failed to satisfy constraint: Member must have value less than or equal to "
            "%lld",
            (long long)value, field, (long long)max);
    else
        *out = (uint32_t)value;
}

static bool role_ok(const char *role)
{
    if (strncmp(role, "arn:", 4) != 0)
        return false;
    const char *at = role + 4;
    if (strncmp(at, "aws", 3) == 0)
        for (at += 3; isalpha((unsigned char)*at) || *at == '-';)
            at++;
    if (strncmp(at, ":iam::", 6) != 0 || strspn(at + 6, "0123456789") != 12)
        return false;
    at += 18;
    if (strncmp(at, ":role", 5) != 0)
        return false;
    at += 5 + (at[5] == '/');
    size_t len = 0;
    while (isalnum((unsigned char)at[len]) || (at[len] != '\0' && strchr("_+=,.@-/", at[len]) != NULL))
        len++;
    return len > 0 && at[len] == '\0';
}

static bool handler_ok(const char *handler)
{
    for (const char *c = handler; *c != '\0'; c++)
        if (isspace((unsigned char)*c))
            return false;
    return *handler != '\0';
}

static bool log_group_ok(const char *group)
{
    for (const char *c = group; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && strchr(".-_/#", *c) == NULL)
            return false;
    return *group != '\0';
}

static bool variable_ok(const char *name)
{
    if (!isalpha((unsigned char)*name) || name[1] == '\0')
        return false;
    for (const char *c = name; *c != '\0'; c++)
        if (!isalnum((unsigned char)*c) && *c != '_')
            return false;
    return true;
}

static void read_texts(struct body *body, struct catalog_config *config)
{
    const char *role = body_string(body, body->json, "Role");
    if (role != NULL && text_ok(body, role, "role", LIMIT_ARN, ROLE_PATTERN, role_ok))
        replace(&config->role, role);
    const char *handler = body_string(body, body->json, "Handler");
    if (handler != NULL && text_ok(body, handler, "handler", LIMIT_HANDLER, HANDLER_PATTERN, handler_ok))
        replace(&config->handler, handler);
    const char *description = body_string(body, body->json, "Description");
    if (description != NULL && text_ok(body, description, "description", LIMIT_DESCRIPTION, NULL, NULL))
        replace(&config->description, description);
}

static void read_numbers(struct body *body, struct catalog_config *config)
{
    read_number(body, body->json, "Timeout", "timeout", 1, LIMIT_TIMEOUT_S_MAX, &config->timeout_s);
    read_number(body, body->json, "MemorySize", "memorySize", LIMIT_MEMORY_MB_MIN, LIMIT_MEMORY_MB_MAX,
        &config->memory_mb);
    json_t *storage = body_object(body, body->json, "EphemeralStorage");
    if (storage == NULL)
        return;
    json_int_t size;
    read_number(
        body, storage, "Size", "ephemeralStorage.size", LIMIT_TMP_MB_MIN, LIMIT_TMP_MB_MAX, &config->tmp_mb);
    if (!body->failed && !body_integer(body, storage, "Size", &size))
        problems_add(&body->problems,
            "Value null at 'ephemeralStorage.size' failed to satisfy constraint: Member must not be null");
}

static void read_snap_start(struct body *body, struct catalog_config *config)
{
    static const char *const set[] = {"PublishedVersions", "None"};
    json_t *snap_start = body_object(body, body->json, "SnapStart");
    const char *apply_on = snap_start != NULL ? body_string(body, snap_start, "ApplyOn") : NULL;
    if (apply_on != NULL && one_of(body, apply_on, "snapStart.applyOn", set, countof(set)))
        config->snap_start = strcmp(apply_on, set[0]) == 0;
}

static void read_tracing(struct body *body, struct catalog_config *config)
{
    static const char *const set[] = {"Active", "PassThrough"};
    json_t *tracing = body_object(body, body->json, "TracingConfig");
    const char *mode = tracing != NULL ? body_string(body, tracing, "Mode") : NULL;
    if (mode != NULL && one_of(body, mode, "tracingConfig.mode", set, countof(set)))
        replace(&config->tracing_mode, mode);
}

static void read_logging(struct body *body, struct catalog_config *config)
{
    static const char *const formats[] = {"JSON", "Text"};
    static const char *const app_levels[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"};
    static const char *const system_levels[] = {"DEBUG", "INFO", "WARN"};
    json_t *logging = body_object(body, body->json, "LoggingConfig");
    if (logging == NULL)
        return;
    const char *format = body_string(body, logging, "LogFormat");
    if (format != NULL && one_of(body, format, "loggingConfig.logFormat", formats, countof(formats)))
        replace(&config->log_format, format);
    const char *app = body_string(body, logging, "ApplicationLogLevel");
    if (app != NULL &&
        one_of(body, app, "loggingConfig.applicationLogLevel", app_levels, countof(app_levels)))
        replace(&config->log_level_app, app);
    const char *system = body_string(body, logging, "SystemLogLevel");
    if (system != NULL &&
        one_of(body, system, "loggingConfig.systemLogLevel", system_levels, countof(system_levels)))
        replace(&config->log_level_system, system);
    const char *group = body_string(body, logging, "LogGroup");
    if (group != NULL &&
        text_ok(body, group, "loggingConfig.logGroup", LOG_GROUP_MAX, LOG_GROUP_PATTERN, log_group_ok))
        replace(&config->log_group, group);
}

static void read_environment(struct body *body, struct catalog_config *config)
{
    json_t *environment = body_object(body, body->json, "Environment");
    json_t *variables = environment != NULL ? body_object(body, environment, "Variables") : NULL;
    if (environment == NULL || body->failed)
        return;
    const char *key;
    json_t *value;
    struct catalog_map read = {0};
    bool names_ok = true;
    json_object_foreach (variables, key, value) {
        const char *text = body_string(body, variables, key);
        names_ok = names_ok && variable_ok(key);
        if (text != NULL)
            catalog_map_set(&read, key, text);
    }
    if (!names_ok)
        problems_add(&body->problems, "Value at 'environment.variables' failed to satisfy constraint: Map "
                                      "keys must satisfy constraint: "
                                      "[Member must satisfy regular expression pattern: " VARIABLE_PATTERN
                                      ", Member must not be null]");
    catalog_map_free(&config->environment);
    config->environment = read;
}

static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "_HANDLER",
        "_X_AMZN_TRACE_ID"};
    for (size_t i = 0; i < countof(reserved); i++)
        if (strcmp(name, reserved[i]) == 0)
            return true;
    return false;
}

static bool environment_ok(struct body *body, const struct catalog_config *config)
{
#define UNABLE \
    "Lambda was unable to configure your environment variables because the environment variables you have " \
    "provided "
    CLEANUP_BUFFER struct buffer reserved = {0};
    for (size_t i = 0; i < config->environment.count; i++)
        if (is_reserved(config->environment.pairs[i].key))
            buffer_printf(&reserved, "%s%s", reserved.len > 0 ? ", " : "", config->environment.pairs[i].key);
    if (reserved.len > 0) {
        reply_invalid(body->call,
            UNABLE "contains reserved keys that are currently not supported for modification. Reserved keys "
                   "used in this request: %s",
            (char *)reserved.data);
        return false;
    }
    json_t *variables = describe_map(&config->environment);
    char *text = json_dumps(variables, JSON_COMPACT);
    bool fits = text != NULL && strlen(text) <= LIMIT_ENVIRONMENT_BYTES;
    if (!fits)
        reply_invalid(
            body->call, UNABLE "exceeded the 4KB limit. String measured: %s", text != NULL ? text : "");
    free(text);
    json_decref(variables);
    return fits;
}

static bool runtime_ok(struct body *body, const char *runtime)
{
    static const char *const provided[] = {"provided", "provided.al2", "provided.al2023"};
    const struct lambda_api *api = body->call->api;
    CLEANUP_BUFFER struct buffer set = {0};
    for (size_t i = 0; i < api->runtime_count; i++) {
        if (strcmp(runtime, api->runtimes[i]) == 0)
            return true;
        buffer_printf(&set, "%s, ", api->runtimes[i]);
    }
    for (size_t i = 0; i < countof(provided); i++) {
        if (strcmp(runtime, provided[i]) == 0)
            return true;
        buffer_printf(&set, "%s%s", i > 0 ? ", " : "", provided[i]);
    }
    reply_invalid(body->call,
        "Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [%s] or be "
        "a "
        "valid ARN",
        runtime, (char *)set.data);
    return false;
}

/* What would be silently without effect: say so. */
static bool nothing_unsupported(struct body *body)
{
    static const struct {
        const char *name, *member; /* member NULL: a list, or a text, that must be empty */
    } refused[] = {{"Layers", NULL}, {"FileSystemConfigs", NULL}, {"CodeSigningConfigArn", NULL},
        {"KMSKeyArn", NULL}, {"PublishTo", NULL}, {"VpcConfig", "SubnetIds"},
        {"VpcConfig", "SecurityGroupIds"}, {"DeadLetterConfig", "TargetArn"}, {"ImageConfig", "EntryPoint"},
        {"ImageConfig", "Command"}, {"ImageConfig", "WorkingDirectory"},
        {"TenancyConfig", "TenantIsolationMode"},
        {"CapacityProviderConfig", "LambdaManagedInstancesCapacityProviderConfig"},
        {"DurableConfig", "ExecutionTimeout"}, {"DurableConfig", "RetentionPeriodInDays"}};
    for (size_t i = 0; i < countof(refused); i++) {
        json_t *value = json_object_get(body->json, refused[i].name);
        if (refused[i].member != NULL)
            value = json_object_get(value, refused[i].member);
        bool empty = value == NULL || json_is_null(value) ||
                     (json_is_array(value) && json_array_size(value) == 0) ||
                     (json_is_string(value) && json_string_length(value) == 0);
        if (empty)
            continue;
        reply_invalid(body->call, "%s is not supported by this server yet", refused[i].name);
        return false;
    }
    return true;
}

static bool host_architecture(const char *name)
{
#ifdef __x86_64__
    return strcmp(name, "x86_64") == 0;
#else
    return strcmp(name, "arm64") == 0;
#endif
}

/* "[a, b]", as Lambda shows lists. */
static void show_list(json_t *list, struct buffer *out)
{
    size_t i;
    json_t *value;
    buffer_printf(out, "[");
    json_array_foreach (list, i, value)
        buffer_printf(out, "%s%s", i > 0 ? ", " : "", json_is_string(value) ? json_string_value(value) : "?");
    buffer_printf(out, "]");
}

static void read_architectures(struct body *body, char **architecture)
{
    json_t *list = body_list(body, body->json, "Architectures");
    if (list == NULL || json_array_size(list) == 0)
        return;
    CLEANUP_BUFFER struct buffer shown = {0};
    show_list(list, &shown);
    const char *name = json_string_value(json_array_get(list, 0));
    if (json_array_size(list) > 1)
        problems_add(&body->problems,
            "Value '%s' at 'architectures' failed to satisfy constraint: Member must have length less than "
            "or "
            "equal to 1",
            (char *)shown.data);
    else if (name == NULL || (strcmp(name, "x86_64") != 0 && strcmp(name, "arm64") != 0))
        problems_add(&body->problems,
            "Value '%s' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: "
            "[Member "
            "must satisfy enum value set: [x86_64, arm64], Member must not be null]",
            (char *)shown.data);
    else
        replace(architecture, name);
}

bool config_architecture(struct body *body, char **architecture)
{
    read_architectures(body, architecture);
    if (!body_good(body))
        return false;
    if (*architecture == NULL || host_architecture(*architecture))
        return true;
    reply_invalid(body->call, "This server cannot run %s functions: its processor is another", *architecture);
    return false;
}

static void set_defaults(struct catalog_config *config, const char *function_name)
{
    *config =
        (struct catalog_config){.timeout_s = 3, .memory_mb = LIMIT_MEMORY_MB_MIN, .tmp_mb = LIMIT_TMP_MB_MIN};
    replace(&config->tracing_mode, "PassThrough");
    replace(&config->log_format, "Text");
    config->log_group = xasprintf("/aws/lambda/%s", function_name);
    replace(&config->runtime, "");
    replace(&config->handler, "");
    replace(&config->role, "");
    replace(&config->description, "");
    replace(&config->log_level_app, "");
    replace(&config->log_level_system, "");
#ifdef __x86_64__
    replace(&config->architecture, "x86_64");
#else
    replace(&config->architecture, "arm64");
#endif
}

static bool log_levels_fit(struct body *body, struct catalog_config *config)
{
    bool json = strcmp(config->log_format, "JSON") == 0;
    json_t *logging = json_object_get(body->json, "LoggingConfig");
    bool asked = json_is_string(json_object_get(logging, "ApplicationLogLevel")) ||
                 json_is_string(json_object_get(logging, "SystemLogLevel"));
    if (!json && asked) {
        reply_invalid(body->call,
            "Log levels can only be set when LogFormat is JSON: with Text there are none to choose");
        return false;
    }
    if (!json) {
        replace(&config->log_level_app, "");
        replace(&config->log_level_system, "");
    } else {
        if (config->log_level_app[0] == '\0')
            replace(&config->log_level_app, "INFO");
        if (config->log_level_system[0] == '\0')
            replace(&config->log_level_system, "INFO");
    }
    return true;
}

static bool package_type_ok(struct body *body)
{
    static const char *const set[] = {"Image", "Zip"};
    const char *type = body_string(body, body->json, "PackageType");
    if (type != NULL)
        one_of(body, type, "packageType", set, countof(set));
    if (!body_good(body))
        return false;
    if (type == NULL || strcmp(type, "Zip") == 0)
        return true;
    reply_invalid(body->call, "PackageType Image is not supported by this server: give the code as Zip");
    return false;
}

bool config_read(struct body *body, bool create, const char *function_name, struct catalog_config *config)
{
    if (create)
        set_defaults(config, function_name);
    read_texts(body, config);
    read_numbers(body, config);
    read_snap_start(body, config);
    read_tracing(body, config);
    read_logging(body, config);
    read_environment(body, config);
    if (create && !body->failed && json_object_get(body->json, "Role") == NULL)
        problems_add(
            &body->problems, "Value null at 'role' failed to satisfy constraint: Member must not be null");
    const char *runtime = body_string(body, body->json, "Runtime");
    if (create ? !package_type_ok(body) || !config_architecture(body, &config->architecture)
               : !body_good(body))
        return false;
    if (!nothing_unsupported(body) || !environment_ok(body, config) || !log_levels_fit(body, config))
        return false;
    if (create && (runtime == NULL || config->handler[0] == '\0')) {
        reply_invalid(body->call,
            "Runtime and Handler are mandatory parameters for functions created with deployment packages.");
        return false;
    }
    if (runtime != NULL && !runtime_ok(body, runtime))
        return false;
    if (runtime != NULL)
        replace(&config->runtime, runtime);
    return true;
}

bool tags_read(struct body *body, struct catalog_map *tags)
{
    json_t *given = body_object(body, body->json, "Tags");
    const char *key;
    json_t *value;
    json_object_foreach (given, key, value) {
        const char *text = body_string(body, given, key);
        if (body->failed)
            return false;
        if (strlen(key) == 0 || strlen(key) > TAG_KEY_MAX || (text != NULL && strlen(text) > TAG_VALUE_MAX)) {
            reply_invalid(body->call,
                "A tag's key must have 1 to %d characters and its value at most %d (key '%.40s')",
                TAG_KEY_MAX, TAG_VALUE_MAX, key);
            return false;
        }
        catalog_map_set(tags, key, text != NULL ? text : "");
    }
    if (!body_good(body))
        return false;
    if (tags->count <= LAMBDA_TAGS_MAX)
        return true;
    reply_invalid(body->call, "Number of tags exceeds resource tag limit.");
    return false;
}
