/* The server's own API, on the same (loopback) listener as Lambda's. Runs in the front.
 *
 *   GET  /thaw/v1/status
 *        {"version", "uptime_seconds", "in_flight", "environments", "invocations", "thaws", "cold_starts",
 *         "events_running", "draining", "building", "stale", "refreezes", "refreezes_failed", "templates":
 *         {"count", "bytes", "budget_bytes", "hits", "misses", "builds", "evictions"}}
 *   GET  /thaw/v1/runtimes
 *        {"runtimes": [{"runtime", "offered", "program", "version", "hooks", "install"}]}: what this host had when
 *        the server started, and what to install for the rest of Lambda's.
 *   GET  /thaw/v1/environments
 *        {"environments": [{"function", "version", "state", "start": "cold"|"thaw", "invocations",
 *         "idle_seconds", "log_stream"}]}; state: requested, initialising, restoring, idle, busy, answered,
 *         freezing, ending
 *   POST /thaw/v1/evict?function=NAME[&version=V][&templates=1]
 *        Ends idle environments of the version (all versions when absent), and drops templates; answers when
 *        they are gone: {"environments": n, "templates": n}. Environments that serve stay.
 *   GET  /thaw/v1/logs?function=NAME[&lines=N][&follow=1]
 *        text/plain, streamed: "2026-01-31T12:34:56.789Z [VERSION]0123abcd text". The newest N lines (100)
 *        over all streams, in order of time; with follow, then every new line until the client leaves.
 *   GET  /thaw/v1/snapshots[?function=NAME]
 *        {"snapshots": [...]}: every published version with SnapStart, see front_snapshots_list.c.
 *   GET  /thaw/v1/snapshots/NAME/VERSION[?plan=1][&json=1]
 *        What the snapshot holds, as the warden prints it: text/plain or application/json.
 *   GET  /thaw/v1/store/stats, POST /thaw/v1/store/verify[?repair=1], POST /thaw/v1/store/gc,
 *   GET and POST /thaw/v1/store/key
 *        application/x-ndjson, streamed: see front_store.c.
 *
 * Errors are JSON as in Lambda's API: {"Type", "Message"} and the header x-amzn-ErrorType. */
#include "base/fd.h"
#include "daemon/front_private.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PREFIX "/thaw/v1/"
#define LINES_DEFAULT 100
#define INSPECT_TEXT_BYTES_MAX (256u << 20)
#define TEMPLATES_MAX 256 /* of one function, that one evict may drop */

struct front_evict {
    enum admin_kind kind;
    LIST_ENTRY(front_evict) entry;
    struct http_exchange *exchange;
    char function[LIMIT_FUNCTION_NAME + 1], version[24]; /* version "": all */
    size_t environments, templates;
    char (*dropping)[WIRE_ID_HEX + 1]; /* snapshots whose templates are on their way out */
    size_t dropping_count;
};

struct front_inspect {
    enum admin_kind kind;
    LIST_ENTRY(front_inspect) entry;
    struct http_exchange *exchange; /* NULL: the client left */
    uint64_t request_id;
    bool json;
};

struct front_status {
    enum admin_kind kind;
    LIST_ENTRY(front_status) entry;
    struct http_exchange *exchange;
    uint64_t request_id;
};

struct admin_follow {
    enum admin_kind kind;
    struct http_exchange *exchange;
    struct logs_follower *follower;
};

/* ---- replies ---- */

static void reply_json(struct http_exchange *exchange, unsigned status, const char *error_type, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(body);
    const struct http_field fields[] = {
        {"Content-Type", "application/json"}, {"x-amzn-ErrorType", error_type}};
    http_reply_owned(exchange, status, fields, error_type ? 2 : 1, text, text ? strlen(text) : 0);
}

void front_admin_reply_error(
    struct http_exchange *exchange, unsigned status, const char *type, const char *message)
{
    reply_json(exchange, status, type,
        json_pack("{s:s, s:s}", "Type", status < 500 ? "User" : "Server", "Message", message));
}

/* The parameter, or (it is missing) NULL and the exchange is answered. */
static const char *need_query(struct http_exchange *exchange, const char *name)
{
    const char *value = http_query(exchange, name);
    if (value && value[0])
        return value;
    CLEANUP_FREE char *message = xasprintf("The parameter %s is missing.", name);
    front_admin_reply_error(exchange, 400, "InvalidParameterValueException", message);
    return NULL;
}

bool front_admin_query_flag(const struct http_exchange *exchange, const char *name)
{
    const char *value = http_query(exchange, name);
    return value && strcmp(value, "0") != 0;
}

/* ---- status and environments ---- */

/* The warden is asked about the templates. */
static void handle_status(struct front *front, struct http_exchange *exchange)
{
    struct front_status *status = xcalloc(1, sizeof *status);
    status->kind = ADMIN_STATUS;
    status->exchange = exchange;
    status->request_id = front->next_request_id++;
    LIST_INSERT_HEAD(&front->statuses, status, entry);
    http_set_user(exchange, status);
    front_warden_send(front, &(struct wire_message){.type = WIRE_STATUS, .request_id = status->request_id});
}

static json_t *describe_templates(const struct wire_status_told *told)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)told->templates, "bytes",
        (json_int_t)told->bytes, "budget_bytes", (json_int_t)told->budget_bytes, "hits",
        (json_int_t)told->hits, "misses", (json_int_t)told->misses, "builds", (json_int_t)told->builds,
        "evictions", (json_int_t)told->evictions);
}

static json_t *describe_status(const struct front *front, const struct wire_status_told *told)
{
    uint64_t uptime_s = (clock_monotonic_ns() - front->opened_ns) / 1000000000u;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:o}", "version",
        THAW_VERSION, "uptime_seconds", (json_int_t)uptime_s, "in_flight",
        (json_int_t)dispatch_in_flight(front->dispatch), "environments",
        (json_int_t)dispatch_environments(front->dispatch), "invocations", (json_int_t)front->invocations,
        "thaws", (json_int_t)front->thaws, "cold_starts", (json_int_t)front->cold_starts, "events_running",
        (json_int_t)front->events_running, "draining", (int)front->draining, "building",
        (json_int_t)front->builds_running, "stale", (json_int_t)front_refreeze_count(front), "refreezes",
        (json_int_t)front->refreezes_done, "refreezes_failed", (json_int_t)front->refreezes_failed,
        "templates", describe_templates(told));
}

static void status_free(struct front_status *status)
{
    LIST_REMOVE(status, entry);
    free(status);
}

void front_admin_status_told(struct front *front, const struct wire_status_told *told)
{
    struct front_status *status;
    LIST_FOREACH (status, &front->statuses, entry)
        if (status->request_id == told->request_id)
            break;
    if (!status)
        return; /* the client left */
    struct http_exchange *exchange = status->exchange;
    http_set_user(exchange, NULL);
    status_free(status);
    reply_json(exchange, 200, NULL, describe_status(front, told));
}

static json_t *describe_env(const struct front_env *env, uint64_t now_ns)
{
    const struct catalog_function *function = env->version->function;
    bool idle = env->state == FRONT_ENV_PARKED;
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s}", "function", function->name, "version",
        function->version, "state", front_env_state_name(env->state), "start",
        env->mode == WIRE_THAW ? "thaw" : "cold", "invocations", (json_int_t)env->invocations, "idle_seconds",
        (json_int_t)(idle ? (now_ns - env->dispatch.since_ns) / 1000000000u : 0), "log_stream",
        logs_stream_name(env->log));
}

static void handle_environments(struct front *front, struct http_exchange *exchange)
{
    uint64_t now_ns = clock_monotonic_ns();
    json_t *list = json_array();
    for (size_t i = 0; i < FRONT_BUCKETS; i++)
        for (const struct front_env *env = front->envs[i]; env; env = env->next_in_bucket)
            json_array_append_new(list, describe_env(env, now_ns));
    reply_json(exchange, 200, NULL, json_pack("{s:o}", "environments", list));
}

static void handle_snapshots(struct front *front, struct http_exchange *exchange)
{
    struct error err;
    json_t *list = front_snapshots_describe(front, http_query(exchange, "function"), &err);
    if (list)
        reply_json(exchange, 200, NULL, json_pack("{s:o}", "snapshots", list));
    else
        front_admin_reply_error(exchange, 500, "ServiceException", err.text);
}

/* ---- evict ---- */

static bool evict_matches(const struct front_evict *evict, const struct catalog_function *function)
{
    return strcmp(function->name, evict->function) == 0 &&
           (evict->version[0] == '\0' || strcmp(function->version, evict->version) == 0);
}

static void evict_version(struct front *front, struct front_evict *evict, struct front_version *version)
{
    const char *snapshot_id = version->function->snapshot_id;
    if (front_admin_query_flag(evict->exchange, "templates") && snapshot_id[0] &&
        evict->dropping_count < TEMPLATES_MAX) {
        memcpy(evict->dropping[evict->dropping_count++], snapshot_id, WIRE_ID_HEX + 1);
        evict->templates++;
    }
    if (!version->pool)
        return;
    uint32_t ending = dispatch_pool_count(version->pool).ending;
    dispatch_pool_evict(version->pool);
    evict->environments += dispatch_pool_count(version->pool).ending - ending;
    (void)front;
}

static void evict_free(struct front_evict *evict)
{
    LIST_REMOVE(evict, entry);
    free(evict->dropping);
    free(evict);
}

static bool evict_is_complete(const struct front *front, const struct front_evict *evict)
{
    if (evict->dropping_count > 0)
        return false;
    for (size_t i = 0; i < FRONT_BUCKETS; i++)
        for (const struct front_version *version = front->versions[i]; version;
             version = version->next_in_bucket)
            if (version->pool && evict_matches(evict, version->function) &&
                dispatch_pool_count(version->pool).ending > 0)
                return false;
    return true;
}

void front_admin_check_evicts(struct front *front)
{
    struct front_evict *evict, *next;
    for (evict = LIST_FIRST(&front->evicts); evict; evict = next) {
        next = LIST_NEXT(evict, entry);
        if (!evict_is_complete(front, evict))
            continue;
        struct http_exchange *exchange = evict->exchange;
        json_t *counts = json_pack("{s:I, s:I}", "environments", (json_int_t)evict->environments, "templates",
            (json_int_t)evict->templates);
        http_set_user(exchange, NULL);
        evict_free(evict);
        reply_json(exchange, 200, NULL, counts);
    }
}

void front_admin_template_dropped(struct front *front, const char *snapshot_id)
{
    struct front_evict *evict;
    LIST_FOREACH (evict, &front->evicts, entry)
        for (size_t i = 0; i < evict->dropping_count; i++)
            if (strcmp(evict->dropping[i], snapshot_id) == 0) {
                memcpy(evict->dropping[i], evict->dropping[--evict->dropping_count], WIRE_ID_HEX + 1);
                break;
            }
    front_admin_check_evicts(front);
}

static void handle_evict(struct front *front, struct http_exchange *exchange)
{
    const char *function = need_query(exchange, "function"), *version = http_query(exchange, "version");
    if (!function)
        return;
    if (strlen(function) > LIMIT_FUNCTION_NAME || (version && strlen(version) > 20)) {
        front_admin_reply_error(exchange, 404, "ResourceNotFoundException", "Function not found.");
        return;
    }
    struct front_evict *evict = xcalloc(1, sizeof *evict);
    evict->kind = ADMIN_EVICT;
    evict->exchange = exchange;
    evict->dropping = xcalloc(TEMPLATES_MAX, sizeof *evict->dropping);
    snprintf(evict->function, sizeof evict->function, "%s", function);
    snprintf(evict->version, sizeof evict->version, "%s", version ? version : "");
    LIST_INSERT_HEAD(&front->evicts, evict, entry);
    http_set_user(exchange, evict);
    for (size_t i = 0; i < FRONT_BUCKETS; i++)
        for (struct front_version *at = front->versions[i]; at; at = at->next_in_bucket)
            if (evict_matches(evict, at->function))
                evict_version(front, evict, at);
    for (size_t i = 0; i < evict->dropping_count; i++)
        front_warden_send_snapshot(front, WIRE_TEMPLATE_DROP, evict->dropping[i]);
    front_admin_check_evicts(front);
}

/* ---- logs ---- */

static void write_line(void *context, const struct logs_line *line)
{
    struct http_exchange *exchange = context;
    static struct buffer text; /* kept */
    time_t seconds = (time_t)(line->wall_ms / 1000);
    struct tm utc;
    char stamp[32];
    gmtime_r(&seconds, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    const char *stream = strrchr(line->stream, '/');
    stream = stream ? stream + 1 : line->stream;
    const char *bracket = strchr(stream, ']');
    int shown = bracket ? (int)(bracket - stream) + 9 : (int)strlen(stream); /* "[1]" and 8 digits */
    text.len = 0;
    buffer_printf(&text, "%s.%03uZ %.*s ", stamp, (unsigned)(line->wall_ms % 1000), shown, stream);
    buffer_append(&text, line->text.data, line->text.len);
    buffer_append_u8(&text, '\n');
    http_stream_write(exchange, text.data, text.len);
}

static void follow_line(void *context, const struct logs_line *line)
{
    write_line(((struct admin_follow *)context)->exchange, line);
}

static void handle_logs(struct front *front, struct http_exchange *exchange)
{
    const char *function = need_query(exchange, "function"), *lines = http_query(exchange, "lines");
    if (!function)
        return;
    long wanted = lines ? strtol(lines, NULL, 10) : LINES_DEFAULT;
    const struct catalog_function *known = NULL;
    struct error err;
    if (wanted < 0 || wanted > (long)LOGS_READ_LINES_MAX) {
        front_admin_reply_error(exchange, 400, "InvalidParameterValueException", "lines must be 0 to 10000.");
        return;
    }
    if (catalog_get(front->catalog, function, NULL, &known, &err) < 0) {
        front_admin_reply_error(exchange, err.kind == ERROR_NOT_FOUND ? 404 : 500,
            err.kind == ERROR_NOT_FOUND ? "ResourceNotFoundException" : "ServiceException", err.text);
        return;
    }
    catalog_function_unref(&known);
    const struct http_field fields[] = {{"Content-Type", "text/plain; charset=utf-8"}};
    http_stream_begin(exchange, 200, fields, 1);
    if (logs_read(front->logs, function, (uint32_t)wanted, write_line, exchange, &err) < 0)
        log_warning("%s", err.text);
    if (!front_admin_query_flag(exchange, "follow")) {
        http_stream_end(exchange);
        return;
    }
    struct admin_follow *follow = xcalloc(1, sizeof *follow);
    follow->kind = ADMIN_FOLLOW;
    follow->exchange = exchange;
    follow->follower = logs_follow(front->logs, function, follow_line, follow);
    http_set_user(exchange, follow);
}

/* ---- inspect ---- */

/* "NAME/VERSION" of the path: both decoded, the caller's to free. */
static bool parse_snapshot_path(const char *rest, char **name, char **version)
{
    const char *slash = strchr(rest, '/');
    if (!slash)
        return false;
    *name = http_decode_segment(rest, (size_t)(slash - rest));
    *version = http_decode_segment(slash + 1, strlen(slash + 1));
    return *name && *version;
}

static void handle_inspect(struct front *front, struct http_exchange *exchange, const char *rest)
{
    CLEANUP_FREE char *name = NULL;
    CLEANUP_FREE char *version = NULL;
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    struct error err;
    if (!parse_snapshot_path(rest, &name, &version)) {
        front_admin_reply_error(
            exchange, 400, "InvalidParameterValueException", "Name a function and a version.");
        return;
    }
    if (catalog_get(front->catalog, name, version, &function, &err) < 0) {
        front_admin_reply_error(exchange, err.kind == ERROR_NOT_FOUND ? 404 : 500,
            err.kind == ERROR_NOT_FOUND ? "ResourceNotFoundException" : "ServiceException", err.text);
        return;
    }
    if (!function->snapshot_id[0]) {
        front_admin_reply_error(exchange, 404, "ResourceNotFoundException",
            function->state == CATALOG_INACTIVE
                ? "This version is inactive and has no snapshot: its next invocation has one made."
                : "This version has no snapshot: publish a version of a function with SnapStart.");
        return;
    }
    struct front_inspect *inspect = xcalloc(1, sizeof *inspect);
    inspect->kind = ADMIN_INSPECT;
    inspect->exchange = exchange;
    inspect->request_id = front->next_request_id++;
    inspect->json = front_admin_query_flag(exchange, "json");
    LIST_INSERT_HEAD(&front->inspects, inspect, entry);
    http_set_user(exchange, inspect);
    struct wire_message message = {.type = WIRE_SNAPSHOT_INSPECT,
        .snapshot_inspect = {.request_id = inspect->request_id,
            .plan = front_admin_query_flag(exchange, "plan"),
            .json = inspect->json}};
    memcpy(message.snapshot_inspect.snapshot_id, function->snapshot_id, WIRE_ID_HEX + 1);
    front_warden_send(front, &message);
}

static void answer_inspect(struct http_exchange *exchange, const struct front_inspect *inspect, int text_fd)
{
    struct buffer text = {0};
    struct error err;
    struct stat st;
    if (fstat(text_fd, &st) < 0 || lseek(text_fd, 0, SEEK_SET) < 0 ||
        fd_read_all(text_fd, &text, INSPECT_TEXT_BYTES_MAX, &err) < 0) {
        buffer_free(&text);
        front_admin_reply_error(
            exchange, 500, "ServiceException", "What the snapshot holds could not be read.");
        return;
    }
    const struct http_field field = {
        "Content-Type", inspect->json ? "application/json" : "text/plain; charset=utf-8"};
    http_reply_owned(exchange, 200, &field, 1, text.data, text.len);
}

void front_admin_inspected(struct front *front, const struct wire_snapshot_inspected *message, int text_fd)
{
    struct front_inspect *inspect;
    LIST_FOREACH (inspect, &front->inspects, entry)
        if (inspect->request_id == message->request_id)
            break;
    if (!inspect)
        return;
    struct http_exchange *exchange = inspect->exchange;
    LIST_REMOVE(inspect, entry);
    if (exchange) {
        http_set_user(exchange, NULL);
        if (message->error.kind != ERROR_NONE)
            front_admin_reply_error(exchange, message->error.kind == ERROR_NOT_FOUND ? 404 : 500,
                message->error.kind == ERROR_NOT_FOUND ? "ResourceNotFoundException" : "ServiceException",
                message->error.text);
        else
            answer_inspect(exchange, inspect, text_fd);
    }
    free(inspect);
}

/* ---- routes ---- */

bool front_admin_owns(const char *path)
{
    return strncmp(path, PREFIX, strlen(PREFIX)) == 0 &&
           strncmp(path, PREFIX "code/", strlen(PREFIX "code/")) != 0;
}

void front_admin_handle(struct front *front, struct http_exchange *exchange)
{
    const char *path = http_path(exchange) + strlen(PREFIX), *method = http_method(exchange);
    bool get = strcmp(method, "GET") == 0, post = strcmp(method, "POST") == 0;
    if (get && strcmp(path, "status") == 0)
        handle_status(front, exchange);
    else if (get && strcmp(path, "runtimes") == 0)
        reply_json(exchange, 200, NULL,
            json_pack("{s:o}", "runtimes", front_runtimes_describe(front->runtimes, front->runtime_count)));
    else if (get && strcmp(path, "environments") == 0)
        handle_environments(front, exchange);
    else if (post && strcmp(path, "evict") == 0)
        handle_evict(front, exchange);
    else if (get && strcmp(path, "logs") == 0)
        handle_logs(front, exchange);
    else if (get && strcmp(path, "snapshots") == 0)
        handle_snapshots(front, exchange);
    else if (get && strncmp(path, "snapshots/", 10) == 0)
        handle_inspect(front, exchange, path + 10);
    else if ((get || post) && strncmp(path, "store/", 6) == 0)
        front_store_handle(front, exchange, path + 6, post);
    else
        front_admin_reply_error(
            exchange, 404, "ResourceNotFoundException", "There is nothing at this path and method.");
}

void front_admin_done(struct front *front, struct http_exchange *exchange, bool replied)
{
    (void)front;
    (void)replied;
    void *user = http_user(exchange);
    if (!user)
        return;
    switch (*(enum admin_kind *)user) {
    case ADMIN_EVICT:
        evict_free(user);
        break;
    case ADMIN_INSPECT:
        ((struct front_inspect *)user)->exchange = NULL; /* the warden's answer is still to come */
        break;
    case ADMIN_STATUS:
        status_free(user);
        break;
    case ADMIN_STORE:
        front_store_client_left(user);
        break;
    case ADMIN_FOLLOW:
        logs_unfollow(&((struct admin_follow *)user)->follower);
        free(user);
        break;
    }
}
