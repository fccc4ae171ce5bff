/* The command and the variables of a runtime, as Lambda's functions see them. Runs in the front. */
#include "daemon/front_private.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PYTHON_MINOR_MIN 8
#define PYTHON_MINOR_MAX 30
#define PYTHON_RUNTIME_DIR "/var/runtime/python" /* inside the sandbox: runtimes/python of this project */

/* Functions reach no network but their own loopback, so these open nothing; SDKs want to find some. */
#define ACCESS_KEY_ID "ASIATHAWLOCALFUNCTION"
#define SECRET_ACCESS_KEY "thaw-functions-have-no-rights-outside-this-host"
#define SESSION_TOKEN "thaw"
#define CREDENTIALS_PATH "/2021-04-23/credentials"
#define CREDENTIALS_LIFE_MS (12u * 3600 * 1000)

static void put(struct buffer *block, const char *text)
{
    buffer_append(block, text, strlen(text) + 1);
}

static void put_pair(struct buffer *block, const char *name, const char *value)
{
    buffer_append(block, name, strlen(name));
    buffer_append_u8(block, '=');
    put(block, value);
}

/* A variable that users may set themselves. */
static void put_default(
    struct buffer *block, const struct catalog_map *set, const char *name, const char *value)
{
    if (!catalog_map_get(set, name))
        put_pair(block, name, value);
}

static bool is_python(const char *runtime, char interpreter[64])
{
    snprintf(interpreter, 64, "/usr/bin/%s", runtime);
    return strncmp(runtime, "python3.", 8) == 0 && strspn(runtime + 8, "0123456789") == strlen(runtime + 8);
}

static bool is_provided(const char *runtime)
{
    return strncmp(runtime, "provided", 8) == 0;
}

size_t front_spec_runtimes(char (*names)[32], size_t max)
{
    size_t count = 0;
    for (int minor = PYTHON_MINOR_MIN; minor <= PYTHON_MINOR_MAX && count < max; minor++) {
        char path[64];
        snprintf(path, sizeof path, "/usr/bin/python3.%d", minor);
        if (access(path, X_OK) == 0)
            snprintf(names[count++], sizeof *names, "python3.%d", minor);
    }
    return count;
}

static int put_command(struct buffer *argv, const char *runtime, struct error *err)
{
    char interpreter[64];
    if (is_python(runtime, interpreter) && access(interpreter, X_OK) == 0) {
        put(argv, interpreter);
        put(argv, PYTHON_RUNTIME_DIR "/bootstrap.py");
        return 0;
    }
    if (is_provided(runtime)) {
        put(argv, "/var/task/bootstrap");
        return 0;
    }
    return error_set(err, ERROR_UNSUPPORTED, "the runtime %s does not exist on this host", runtime);
}

static void put_credentials(struct buffer *block, const struct front_env *env)
{
    if (!env->builds) {
        put_pair(block, "AWS_ACCESS_KEY_ID", ACCESS_KEY_ID);
        put_pair(block, "AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        put_pair(block, "AWS_SESSION_TOKEN", SESSION_TOKEN);
        return;
    }
    /* What is frozen must hold no credentials: each clone asks for its own. */
    char uri[96];
    snprintf(uri, sizeof uri, "http://127.0.0.1:%d" CREDENTIALS_PATH, RUNTIME_PORT);
    put_pair(block, "AWS_CONTAINER_CREDENTIALS_FULL_URI", uri);
    put_pair(block, "AWS_CONTAINER_AUTHORIZATION_TOKEN", env->snapshot_id);
}

static void put_reserved(struct front *front, const struct front_env *env, struct buffer *block)
{
    const struct catalog_function *function = env->version->function;
    const struct catalog_config *config = &function->config;
    char api[32], memory[16];
    snprintf(api, sizeof api, "127.0.0.1:%d", RUNTIME_PORT);
    snprintf(memory, sizeof memory, "%u", config->memory_mb);
    put_credentials(block, env);
    put_pair(block, "AWS_REGION", front->options->region);
    put_pair(block, "AWS_DEFAULT_REGION", front->options->region);
    put_pair(block, "AWS_LAMBDA_FUNCTION_NAME", function->name);
    put_pair(block, "AWS_LAMBDA_FUNCTION_VERSION", function->version);
    put_pair(block, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory);
    put_pair(block, "AWS_LAMBDA_INITIALIZATION_TYPE", env->builds ? "snap-start" : "on-demand");
    put_pair(block, "AWS_LAMBDA_RUNTIME_API", api);
    if (!env->builds) { /* a clone would bring the names of the environment that was frozen */
        put_pair(block, "AWS_LAMBDA_LOG_GROUP_NAME", config->log_group);
        put_pair(block, "AWS_LAMBDA_LOG_STREAM_NAME", logs_stream_name(env->log));
    }
    if (strcmp(config->log_format, "JSON") == 0) {
        put_pair(block, "AWS_LAMBDA_LOG_FORMAT", config->log_format);
        put_pair(block, "AWS_LAMBDA_LOG_LEVEL", config->log_level_app);
    }
    put_pair(block, "LAMBDA_TASK_ROOT", "/var/task");
    put_pair(block, "LAMBDA_RUNTIME_DIR", "/var/runtime");
    put_pair(block, "_HANDLER", config->handler);
    put_pair(block, "_AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1");
    put_pair(block, "_AWS_XRAY_DAEMON_PORT", "2000");
}

static void put_defaults(const struct catalog_config *config, struct buffer *block)
{
    const struct catalog_map *set = &config->environment;
    put_default(block, set, "AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR");
    put_default(block, set, "AWS_XRAY_DAEMON_ADDRESS", "127.0.0.1:2000");
    put_default(block, set, "LANG", "en_US.UTF-8");
    put_default(block, set, "TZ", ":UTC");
    put_default(block, set, "PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin");
    put_default(block, set, "LD_LIBRARY_PATH",
        "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib");
    put_default(block, set, "PWD", "/var/task");
    put_default(block, set, "SHLVL", "0");
    char interpreter[64];
    if (is_python(config->runtime, interpreter)) {
        put_default(block, set, "PYTHONPATH", PYTHON_RUNTIME_DIR);
        put_default(block, set, "LC_CTYPE", "C.UTF-8");
    }
}

int front_spec_fill(struct front *front, const struct front_env *env, struct buffer *argv,
    struct buffer *variables, struct error *err)
{
    const struct catalog_config *config = &env->version->function->config;
    if (put_command(argv, config->runtime, err) < 0)
        return -1;
    put_reserved(front, env, variables);
    if (!is_provided(config->runtime)) {
        char name[64];
        snprintf(name, sizeof name, "AWS_Lambda_%s", config->runtime);
        put_pair(variables, "AWS_EXECUTION_ENV", name);
    }
    for (size_t i = 0; i < config->environment.count; i++)
        put_pair(variables, config->environment.pairs[i].key, config->environment.pairs[i].value);
    put_defaults(config, variables);
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
