/* Priming: sample events that run before the freeze, so that every clone has its classes loaded and its code
 * compiled. THAW_PRIME, a variable of the function or else a tag of it, names a file of the package with a list of
 * events, or one. Runs in the front.
 *
 * The events go through the Runtime API like any others, in the order of the list, each once the one before is
 * answered. A runtime that knows prime/next asks for them there, before it runs its before-snapshot hooks; any other
 * gets them for its first requests for invocation/next, and is frozen in the one that follows. A runtime that asks
 * restore/next first has run its hooks by then: it is frozen unprimed, and its log says so.
 *
 * An event that the handler fails on is logged, and primes what it reached. An event that is not answered within the
 * function's time, or that ends the process, fails the version, as does a file that cannot be used. */
#include "base/fd.h"
#include "daemon/front_private.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PRIME_NAME "THAW_PRIME"
#define PRIME_FILE_BYTES_MAX (1u << 20) /* it is parsed inside the front's loop */
#define PRIME_EVENTS_MAX 1000
#define TASK_ROOT "/var/task/"

struct front_prime {
    json_t *events;                     /* an array; NULL when there is nothing to prime with */
    size_t next;                        /* of the events: the one to be delivered */
    bool running;                       /* the one before it is being handled */
    char request_id[LAMBDA_REQUEST_ID]; /* of that one */
    uint64_t began_ns, spent_ns;
};

void front_prime_free(struct front_prime **prime)
{
    if (!*prime)
        return;
    json_decref((*prime)->events);
    free(*prime);
    *prime = NULL;
}

/* ---- the file ---- */

/* The name of the file, malloc'ed, or NULL: the version is not to be primed. */
static char *file_name(struct front *front, const struct catalog_function *function)
{
    const char *name = catalog_map_get(&function->config.environment, PRIME_NAME);
    if (name)
        return name[0] ? xstrdup(name) : NULL;
    struct catalog_map tags = {0};
    struct error err;
    char *found = NULL;
    if (catalog_tags(front->catalog, function->name, &tags, &err) < 0)
        log_warning("the tags of %s cannot be read: %s", function->name, err.text);
    name = catalog_map_get(&tags, PRIME_NAME);
    if (name && name[0])
        found = xstrdup(name);
    catalog_map_free(&tags);
    return found;
}

/* The package's file, which never leads out of the package. */
static int file_open(struct front *front, const char *code_id, const char *name, struct error *err)
{
    char folder[sizeof "code/" + CATALOG_FUNCTION_CODE_HEX];
    snprintf(folder, sizeof folder, "code/%s", code_id);
    CLEANUP_FD int package = openat(front->options->data_fd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (package < 0)
        return error_system(err, "the package");
    if (strncmp(name, TASK_ROOT, strlen(TASK_ROOT)) == 0) /* its name inside the sandbox will do, too */
        name += strlen(TASK_ROOT);
    struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, package, name, &how, sizeof how);
    return fd >= 0 ? fd : error_system(err, "%s, a file of the package", name);
}

static json_t *file_parse(struct front *front, const char *code_id, const char *name, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    json_error_t where;
    CLEANUP_FD int fd = file_open(front, code_id, name, err);
    if (fd < 0 || fd_read_all(fd, &text, PRIME_FILE_BYTES_MAX, err) < 0)
        return NULL;
    json_t *events = json_loadb((const char *)text.data, text.len, JSON_DECODE_ANY, &where);
    if (!events) {
        error_set(err, ERROR_INVALID, "%s is not JSON: %s (line %d, column %d)", name, where.text, where.line,
            where.column);
        return NULL;
    }
    if (!json_is_array(events))
        return json_pack("[o]", events);
    if (json_array_size(events) <= PRIME_EVENTS_MAX)
        return events;
    error_set(err, ERROR_LIMIT, "%s holds %zu events, and %d are the most", name, json_array_size(events),
        PRIME_EVENTS_MAX);
    json_decref(events);
    return NULL;
}

/* Once, when the runtime first asks. -1: the build has failed, and `env` is gone. */
static int load(struct front_env *env)
{
    if (env->prime)
        return 0;
    const struct catalog_function *function = env->version->function;
    struct error err;
    env->prime = xcalloc(1, sizeof *env->prime);
    CLEANUP_FREE char *name = file_name(env->front, function);
    if (!name)
        return 0;
    env->prime->events = file_parse(env->front, function->code.id, name, &err);
    if (env->prime->events)
        return 0;
    struct front_failure failure = {.type = "Runtime.PrimeError", .status = "error"};
    snprintf(failure.message, sizeof failure.message, PRIME_NAME ": %s", err.text);
    front_log_init_report(env, "init", "error", failure.type);
    front_build_failed(env, &failure);
    return -1;
}

/* ---- events ---- */

static void deliver(struct front_env *env, const char *payload)
{
    struct front_prime *prime = env->prime;
    const struct catalog_function *function = env->version->function;
    uint64_t now_ms = clock_wall_ms(), timeout_s = function->config.timeout_s;
    char trace_id[LAMBDA_TRACE_ID_BYTES];
    lambda_make_request_id(prime->request_id);
    lambda_make_trace_id(trace_id);
    snprintf(trace_id, sizeof trace_id, "Root=1-%08x-%.8s%.4s%.12s;Sampled=0", (unsigned)(now_ms / 1000),
        prime->request_id, prime->request_id + 9, prime->request_id + 24);
    front_env_drain_log(env);
    front_log_prime_start(env, prime->request_id, prime->next + 1, json_array_size(prime->events));
    prime->next++;
    prime->running = true;
    prime->began_ns = clock_monotonic_ns();
    front_env_set_timer(env, prime->began_ns + timeout_s * 1000000000u);
    runtime_deliver(env->runtime, &(struct runtime_event){.request_id = prime->request_id,
                                      .deadline_ms = now_ms + timeout_s * 1000,
                                      .function_arn = function->qualified_arn,
                                      .trace_id = trace_id,
                                      .payload = {(const uint8_t *)payload, strlen(payload)}});
}

bool front_prime_next(struct front_env *env)
{
    if (load(env) < 0)
        return true;
    struct front_prime *prime = env->prime;
    if (prime->next >= json_array_size(prime->events))
        return false;
    CLEANUP_FREE char *payload = json_dumps(
        json_array_get(prime->events, prime->next), JSON_COMPACT | JSON_ENCODE_ANY | JSON_PRESERVE_ORDER);
    if (!payload) {
        struct front_failure failure = {.type = "InternalError"};
        snprintf(
            failure.message, sizeof failure.message, "event %zu cannot be written as JSON", prime->next + 1);
        front_build_failed(env, &failure);
        return true;
    }
    deliver(env, payload);
    return true;
}

void front_prime_answered(struct front_env *env, const char *error_type)
{
    struct front_prime *prime = env->prime;
    if (!prime || !prime->running)
        return;
    uint64_t took_ns = clock_monotonic_ns() - prime->began_ns;
    prime->running = false;
    prime->spent_ns += took_ns;
    front_log_prime_report(env, prime->request_id, took_ns, error_type);
    front_env_set_init_timer(env); /* what is left of the initialisation has its whole time again */
}

void front_prime_blame(const struct front_env *env, struct front_failure *failure)
{
    const struct front_prime *prime = env->prime;
    if (!prime || !prime->running)
        return;
    struct front_failure plain = *failure;
    snprintf(failure->message, sizeof failure->message, PRIME_NAME ": event %zu (RequestId %s): %s",
        prime->next, prime->request_id, plain.message);
}

bool front_prime_is_running(const struct front_env *env)
{
    return env->prime && env->prime->running;
}

bool front_prime_passed_over(struct front_env *env)
{
    if (load(env) < 0)
        return true;
    size_t left = json_array_size(env->prime->events) - env->prime->next;
    if (left > 0)
        front_log_prime_passed_over(env, left);
    return false;
}

uint64_t front_prime_spent_ns(const struct front_env *env)
{
    return env->prime ? env->prime->spent_ns : 0;
}
