/* The requests of thaw deploy: the function is created or brought up to date, a version published, and waited for. */
#include "base/clock.h"
#include "cli/deploy.h"
#include "cli/payload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROLE "arn:aws:iam::000000000000:role/any" /* functions have no rights that a role could name */
#define MEMORY_MB_DEFAULT 512
#define TIMEOUT_S_DEFAULT 30
#define POLL_NS 20000000
#define PRIME_VARIABLE "THAW_PRIME"

void deploy_progress(const struct deploy *deploy, const char *text)
{
    if (deploy->json || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%s", text ? text : "");
    fflush(stderr);
}

/* ---- requests ---- */

/* With a JSON body, which is released here. The answer, or NULL. */
static json_t *ask(
    struct deploy *deploy, const char *method, const char *path, json_t *body, struct error *err)
{
    CLEANUP_REPLY struct client_reply reply = {0};
    CLEANUP_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : xstrdup("");
    json_decref(body);
    struct client_request request = {
        .method = method, .path = path, .body = {(const uint8_t *)text, strlen(text)}};
    if (client_send(deploy->client, &request, &reply, err) < 0)
        return NULL;
    if (reply.status < 200 || reply.status > 299) {
        client_refused(&reply, err);
        return NULL;
    }
    json_t *json = json_loadb((const char *)reply.body.data, reply.body.len, 0, NULL);
    if (!json)
        error_set(err, ERROR_CORRUPT, "%s answered something that is not JSON", path);
    return json;
}

static char *function_path(const char *name, const char *rest)
{
    CLEANUP_FREE char *escaped = client_escape(name);
    return xasprintf("/2015-03-31/functions/%s%s", escaped, rest);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

json_t *deploy_get_function(struct deploy *deploy, struct error *err)
{
    CLEANUP_FREE char *path = configuration_path(deploy->name, NULL);
    json_t *function = client_get_json(deploy->client, path, err);
    return !function && err->kind == ERROR_NOT_FOUND && strstr(err->text, "404") ? json_null() : function;
}

/* Until neither a creation nor an update of this version is under way. Its configuration, or NULL. */
static json_t *wait_settled(struct deploy *deploy, const char *version, const char *what, struct error *err)
{
    CLEANUP_FREE char *path = configuration_path(deploy->name, version);
    uint64_t began_ns = clock_monotonic_ns();
    for (;;) {
        json_t *now = client_get_json(deploy->client, path, err);
        if (!now || (strcmp(text_of(now, "State"), "Pending") != 0 &&
                        strcmp(text_of(now, "LastUpdateStatus"), "InProgress") != 0))
            return now;
        json_decref(now);
        CLEANUP_FREE char *line =
            xasprintf("%s... %.1f s", what, (double)(clock_monotonic_ns() - began_ns) / 1e9);
        deploy_progress(deploy, line);
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}

/* ---- what is to be ---- */

/* The variables as they are, with what the user said, and priming on or off. A new reference, or NULL. */
static json_t *wanted_variables(const struct deploy *deploy, const json_t *now, struct error *err)
{
    const json_t *old = json_object_get(json_object_get(now, "Environment"), "Variables");
    json_t *variables = old ? json_deep_copy(old) : json_object();
    for (size_t i = 0; i < deploy->variable_count; i++) {
        const char *text = deploy->variables[i], *equals = strchr(text, '=');
        if (!equals || equals == text) {
            json_decref(variables);
            error_set(err, ERROR_INVALID, "--env takes NAME=VALUE, not '%s'", text);
            return NULL;
        }
        CLEANUP_FREE char *name = xstrndup(text, (size_t)(equals - text));
        json_object_set_new(variables, name, json_string(equals + 1));
    }
    if (deploy->prime)
        json_object_set_new(variables, PRIME_VARIABLE, json_string(DEPLOY_PRIME_FILE));
    else if (strcmp(text_of(variables, PRIME_VARIABLE), DEPLOY_PRIME_FILE) == 0)
        json_object_del(
            variables, PRIME_VARIABLE); /* of the last deployment: its file is not in this package */
    return variables;
}

static void set_text(json_t *object, const json_t *now, const char *key, const char *wanted)
{
    if (wanted && *wanted && strcmp(text_of(now, key), wanted) != 0)
        json_object_set_new(object, key, json_string(wanted));
}

static void set_number(json_t *object, const json_t *now, const char *key, long said, long otherwise)
{
    bool exists = json_is_object(now);
    long wanted = said > 0 ? said : exists ? -1 : otherwise;
    if (wanted > 0 && json_integer_value(json_object_get(now, key)) != wanted)
        json_object_set_new(object, key, json_integer(wanted));
}

/* What differs between the function `now` and what is wanted; for a new function, all. A new reference, or NULL. */
static json_t *differences(const struct deploy *deploy, const json_t *now, struct error *err)
{
    json_t *variables = wanted_variables(deploy, now, err);
    if (!variables)
        return NULL;
    json_t *changes = json_object();
    set_text(changes, now, "Runtime", deploy->guess.runtime);
    set_text(changes, now, "Handler", deploy->guess.handler);
    set_number(changes, now, "MemorySize", deploy->memory_mb, MEMORY_MB_DEFAULT);
    set_number(changes, now, "Timeout", deploy->timeout_s, TIMEOUT_S_DEFAULT);
    const json_t *old = json_object_get(json_object_get(now, "Environment"), "Variables");
    if (json_object_size(variables) > 0 ? !json_equal(variables, old) : json_object_size(old) > 0)
        json_object_set_new(changes, "Environment", json_pack("{s:O}", "Variables", variables));
    json_decref(variables);
    const char *apply_on = deploy->no_snap_start ? "None" : "PublishedVersions";
    if (strcmp(text_of(json_object_get(now, "SnapStart"), "ApplyOn"), apply_on) != 0)
        json_object_set_new(changes, "SnapStart", json_pack("{s:s}", "ApplyOn", apply_on));
    return changes;
}

static json_t *zip_text(struct bytes zip)
{
    CLEANUP_BUFFER struct buffer text = {0};
    base64_encode(&text, zip);
    return json_stringn_nocheck((const char *)text.data, text.len);
}

static int create(struct deploy *deploy, json_t *settings, struct bytes zip, struct error *err)
{
    json_object_set_new(settings, "FunctionName", json_string(deploy->name));
    json_object_set_new(settings, "Role", json_string(ROLE));
    json_object_set_new(settings, "Code", json_pack("{s:o}", "ZipFile", zip_text(zip)));
    json_t *answer = ask(deploy, "POST", "/2015-03-31/functions", settings, err);
    json_decref(answer);
    deploy->created = answer != NULL;
    return answer ? 0 : -1;
}

static int update_code(struct deploy *deploy, struct bytes zip, struct error *err)
{
    CLEANUP_FREE char *path = function_path(deploy->name, "/code");
    json_t *answer = ask(deploy, "PUT", path, json_pack("{s:o}", "ZipFile", zip_text(zip)), err);
    json_decref(answer);
    return answer ? 0 : -1;
}

static int update_settings(struct deploy *deploy, json_t *settings, struct error *err)
{
    CLEANUP_FREE char *path = function_path(deploy->name, "/configuration");
    json_t *answer = ask(deploy, "PUT", path, settings, err);
    json_decref(answer);
    return answer ? 0 : -1;
}

static int settle_latest(struct deploy *deploy, struct error *err)
{
    json_t *now = wait_settled(deploy, NULL, "updating", err);
    json_decref(now);
    return now ? 0 : -1;
}

int deploy_send(struct deploy *deploy, const json_t *now, struct bytes zip, struct error *err)
{
    json_t *settings = differences(deploy, now, err);
    if (!settings)
        return -1;
    CLEANUP_FREE char *line = xasprintf("uploading %.1f MB...", (double)zip.len / 1e6);
    deploy_progress(deploy, line);
    if (!json_is_object(now))
        return create(deploy, settings, zip, err) < 0 ? -1 : settle_latest(deploy, err);
    if (update_code(deploy, zip, err) < 0 || settle_latest(deploy, err) < 0) {
        json_decref(settings);
        return -1;
    }
    if (json_object_size(settings) == 0) {
        json_decref(settings);
        return 0;
    }
    return update_settings(deploy, settings, err) < 0 ? -1 : settle_latest(deploy, err);
}

/* ---- the version ---- */

/* Why it failed: what a function reported is JSON, and its message says most. */
static char *failure_text(const json_t *configuration)
{
    const char *reason = text_of(configuration, "StateReason");
    json_t *report = json_loads(reason, 0, NULL);
    const char *message = text_of(report, "errorMessage"), *type = text_of(report, "errorType");
    char *text = *message ? xasprintf("%s: %.400s", type, message) : xasprintf("%.400s", reason);
    json_decref(report);
    return text;
}

int deploy_publish(struct deploy *deploy, struct error *err)
{
    CLEANUP_FREE char *path = function_path(deploy->name, "/versions");
    json_t *published = ask(deploy, "POST", path, json_object(), err);
    if (!published)
        return -1;
    deploy->version = xstrdup(text_of(published, "Version"));
    json_decref(published);
    CLEANUP_FREE char *what = xasprintf("%s %s:%s",
        deploy->no_snap_start ? "publishing" : "initialising and freezing", deploy->name, deploy->version);
    deploy->configuration = wait_settled(deploy, deploy->version, what, err);
    deploy_progress(deploy, NULL);
    if (!deploy->configuration)
        return -1;
    if (strcmp(text_of(deploy->configuration, "State"), "Active") == 0)
        return 0;
    CLEANUP_FREE char *why = failure_text(deploy->configuration);
    return error_set(err, ERROR_INVALID,
        "%s:%s is %s: %s\n'thaw logs %s' shows what it said; deploy again when it is mended", deploy->name,
        deploy->version, text_of(deploy->configuration, "State"), why, deploy->name);
}
