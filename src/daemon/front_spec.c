/* The command and the variables of a runtime, as Lambda's functions see them. Runs in the front. */
#include "daemon/front_private.h"

#include <stdio.h>
#include <string.h>

/* Functions reach no network but their own loopback, so these open nothing; SDKs want to find some. */
#define ACCESS_KEY_ID "ASIATHAWLOCALFUNCTION"
#define SECRET_ACCESS_KEY "thaw-functions-have-no-rights-outside-this-host"
#define SESSION_TOKEN "thaw"
#define CREDENTIALS_PATH "/2021-04-23/credentials"
#define CREDENTIALS_LIFE_MS (12u * 3600 * 1000)

void front_spec_put(struct buffer *block, const char *text)
{
    buffer_append(block, text, strlen(text) + 1);
}

void front_spec_put_pair(struct buffer *block, const char *name, const char *value)
{
    buffer_append(block, name, strlen(name));
    buffer_append_u8(block, '=');
    front_spec_put(block, value);
}

/* A variable that users may set themselves. */
void front_spec_put_default(
    struct buffer *block, const struct catalog_map *set, const char *name, const char *value)
{
    if (!catalog_map_get(set, name))
        front_spec_put_pair(block, name, value);
}

size_t front_spec_runtimes(struct front *front, const char **names)
{
    front->runtime_count = front_runtimes_find(front->runtimes, FRONT_RUNTIMES_MAX);
    for (size_t i = 0; i < front->runtime_count; i++)
        names[i] = front->runtimes[i].name;
    return front->runtime_count;
}

/* The function brings its own `bootstrap`. */
static bool is_provided(const char *runtime)
{
    return strncmp(runtime, "provided", 8) == 0;
}

static void put_credentials(struct buffer *block, const struct front_env *env)
{
    if (!env->builds) {
        front_spec_put_pair(block, "AWS_ACCESS_KEY_ID", ACCESS_KEY_ID);
        front_spec_put_pair(block, "AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        front_spec_put_pair(block, "AWS_SESSION_TOKEN", SESSION_TOKEN);
        return;
    }
    /* What is frozen must hold no credentials: each clone asks for its own. */
    char uri[96];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%d" CREDENTIALS_PATH, RUNTIME_PORT);
    front_spec_put_pair(block, "AWS_CONTAINER_CREDENTIALS_FULL_URI", uri);
    front_spec_put_pair(block, "AWS_CONTAINER_AUTHORIZATION_TOKEN", env->snapshot_id);
}

static void put_reserved(struct front *front, const struct front_env *env, struct buffer *block)
{
    const struct catalog_function *function = env->version->function;
    const struct catalog_config *config = &function->config;
    char api[32], memory[16];
    snprintf(api, sizeof api, "127.0.0.1:%d", RUNTIME_PORT);
    snprintf(memory, sizeof memory, "%u", config->memory_mb);
    put_credentials(block, env);
    front_spec_put_pair(block, "AWS_REGION", front->options->region);
    front_spec_put_pair(block, "AWS_DEFAULT_REGION", front->options->region);
    front_spec_put_pair(block, "AWS_LAMBDA_FUNCTION_NAME", function->name);
    front_spec_put_pair(block, "AWS_LAMBDA_FUNCTION_VERSION", function->version);
    front_spec_put_pair(block, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory);
    front_spec_put_pair(block, "AWS_LAMBDA_INITIALIZATION_TYPE", env->builds ? "snap-start" : "on-demand");
    front_spec_put_pair(block, "AWS_LAMBDA_RUNTIME_API", api);
    /* As on Lambda, a managed runtime does not see them with SnapStart: a clone would bring the names of the
     * environment that was frozen. A program of the function's own gets just those, as the official client for
     * Node answers no event without. */
    if (!env->builds || is_provided(config->runtime)) {
        front_spec_put_pair(block, "AWS_LAMBDA_LOG_GROUP_NAME", config->log_group);
        front_spec_put_pair(block, "AWS_LAMBDA_LOG_STREAM_NAME", logs_stream_name(env->log));
    }
    if (strcmp(config->log_format, "JSON") == 0) {
        front_spec_put_pair(block, "AWS_LAMBDA_LOG_FORMAT", config->log_format);
        front_spec_put_pair(block, "AWS_LAMBDA_LOG_LEVEL", config->log_level_app);
    }
    front_spec_put_pair(block, "LAMBDA_TASK_ROOT", "/var/task");
    front_spec_put_pair(block, "LAMBDA_RUNTIME_DIR", "/var/runtime");
    front_spec_put_pair(block, "_HANDLER", config->handler);
    front_spec_put_pair(block, "_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1");
    front_spec_put_pair(block, "_AWS_XRAY_DAEMON_PORT", "2000");
}

static void put_defaults(const struct catalog_config *config, struct buffer *block)
{
    const struct catalog_map *set = &config->environment;
    front_spec_put_default(block, set, "AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    front_spec_put_default(block, set, "AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000");
    front_spec_put_default(block, set, "LANG", "en_US.UTF-8");
    front_spec_put_default(block, set, "TZ", ":UTC");
    front_spec_put_default(block, set, "PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin");
    front_spec_put_default(block, set, "LD_LIBRARY_PATH",
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib");
    front_spec_put_default(block, set, "PWD", "/var/task");
    front_spec_put_default(block, set, "SHLVL", "0");
}

int front_spec_fill(struct front *front, const struct front_env *env, struct buffer *argv,
    struct buffer *variables, struct error *err)
{
    const struct catalog_config *config = &env->version->function->config;
    const struct catalog_map *set = &config->environment;
    bool provided = is_provided(config->runtime);
    const struct front_runtime *runtime =
        front_runtimes_get(front->runtimes, front->runtime_count, config->runtime);
    if (!provided && runtime == NULL)
        return error_set(
            err, ERROR_UNSUPPORTED, "the runtime %s does not exist on this host", config->runtime);
    if (provided)
        front_spec_put(argv, "/var/task/bootstrap");
    else
        front_runtimes_put_command(runtime, config, env->builds && front->options->fixed_layout, argv);
    put_reserved(front, env, variables);
    if (!provided) {
        char name[64];
        snprintf(name, sizeof name, "AWS_Lambda_%s", config->runtime);
        front_spec_put_pair(variables, "AWS_EXECUTION_ENV", name);
    }
    for (size_t i = 0; i < set->count; i++)
        front_spec_put_pair(variables, set->pairs[i].key, set->pairs[i].value);
    put_defaults(config, variables);
    if (!provided)
        front_runtimes_put_variables(runtime, set, variables);
    if (env->builds && front->options->fixed_layout)
        front_layout_put_variables(front, env->version->function, variables);
    return 0;
}

struct runtime_credentials front_spec_credentials(const struct front_env *env)
{
    /* The token only tells the SDK from other code in the same sandbox: nobody else reaches this endpoint. */
    return (struct runtime_credentials){
        .token = env->snapshot_id,
        .access_key_id = ACCESS_KEY_ID,
        .secret_access_key = SECRET_ACCESS_KEY,
        .session_token = SESSION_TOKEN,
        .expiration_ms = clock_wall_ms() + CREDENTIALS_LIFE_MS,
    };
}
