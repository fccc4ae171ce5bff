/* Routes, and what every request goes through. */
#include "lambda/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Every operation of the API, as of 2026-11; `*` is a part of the path that the operation gets. Those without
 * a function are known to Lambda's clients but not served here. The busiest stands first. */
static const struct route {
    const char *method, *path;
    operation *run;
} routes[] = {
    {"POST", "/2015-03-31/functions/*/invocations", op_invoke},
    {"GET", "/2015-03-31/functions", op_list_functions},
    {"POST", "/2015-03-31/functions", op_create_function},
    {"GET", "/2015-03-31/functions/*", op_get_function},
    {"DELETE", "/2015-03-31/functions/*", op_delete_function},
    {"PUT", "/2015-03-31/functions/*/code", op_update_function_code},
    {"GET", "/2015-03-31/functions/*/configuration", op_get_configuration},
    {"PUT", "/2015-03-31/functions/*/configuration", op_update_configuration},
    {"GET", "/2015-03-31/functions/*/versions", op_list_versions},
    {"POST", "/2015-03-31/functions/*/versions", op_publish_version},
    {"GET", "/2015-03-31/functions/*/aliases", op_list_aliases},
    {"POST", "/2015-03-31/functions/*/aliases", NULL},
    {"GET", "/2015-03-31/functions/*/aliases/*", op_get_alias},
    {"PUT", "/2015-03-31/functions/*/aliases/*", NULL},
    {"DELETE", "/2015-03-31/functions/*/aliases/*", NULL},
    {"GET", "/2015-03-31/functions/*/policy", op_policy},
    {"POST", "/2015-03-31/functions/*/policy", NULL},
    {"DELETE", "/2015-03-31/functions/*/policy/*", NULL},
    {"GET", "/2016-08-19/account-settings", op_account_settings},
    {"GET", "/2017-03-31/tags/*", op_list_tags},
    {"POST", "/2017-03-31/tags/*", op_tag},
    {"DELETE", "/2017-03-31/tags/*", op_untag},
    {"GET", "/2019-09-30/functions/*/concurrency", op_concurrency},
    {"PUT", "/2017-10-31/functions/*/concurrency", NULL},
    {"DELETE", "/2017-10-31/functions/*/concurrency", NULL},
    {"GET", "/2020-06-30/functions/*/code-signing-config", op_code_signing},
    {"PUT", "/2020-06-30/functions/*/code-signing-config", NULL},
    {"DELETE", "/2020-06-30/functions/*/code-signing-config", NULL},
    {"GET", "/2021-07-20/functions/*/runtime-management-config", op_runtime_management},
    {"PUT", "/2021-07-20/functions/*/runtime-management-config", NULL},
    {"GET", "/2024-08-31/functions/*/recursion-config", op_recursion},
    {"PUT", "/2024-08-31/functions/*/recursion-config", NULL},
    {"GET", "/2019-09-25/functions/*/event-invoke-config", op_no_event_config},
    {"PUT", "/2019-09-25/functions/*/event-invoke-config", NULL},
    {"POST", "/2019-09-25/functions/*/event-invoke-config", NULL},
    {"DELETE", "/2019-09-25/functions/*/event-invoke-config", NULL},
    {"GET", "/2019-09-25/functions/*/event-invoke-config/list", op_event_configs},
    {"GET", "/2021-10-31/functions/*/url", op_no_url},
    {"POST", "/2021-10-31/functions/*/url", NULL},
    {"PUT", "/2021-10-31/functions/*/url", NULL},
    {"DELETE", "/2021-10-31/functions/*/url", NULL},
    {"GET", "/2021-10-31/functions/*/urls", op_urls},
    {"GET", "/2019-09-30/functions/*/provisioned-concurrency", op_provisioned},
    {"PUT", "/2019-09-30/functions/*/provisioned-concurrency", NULL},
    {"DELETE", "/2019-09-30/functions/*/provisioned-concurrency", NULL},
    {"POST", "/2021-11-15/functions/*/response-streaming-invocations", NULL},
    {"POST", "/2014-11-13/functions/*/invoke-async", NULL},
    {"GET", "/2018-10-31/layers", op_layers},
    {"GET", "/2018-10-31/layers/*/versions", op_layer_versions},
    {"POST", "/2018-10-31/layers/*/versions", NULL},
    {"GET", "/2018-10-31/layers/*/versions/*", NULL},
    {"DELETE", "/2018-10-31/layers/*/versions/*", NULL},
    {"GET", "/2018-10-31/layers/*/versions/*/policy", NULL},
    {"POST", "/2018-10-31/layers/*/versions/*/policy", NULL},
    {"DELETE", "/2018-10-31/layers/*/versions/*/policy/*", NULL},
    {"GET", "/2015-03-31/event-source-mappings", op_event_sources},
    {"POST", "/2015-03-31/event-source-mappings", NULL},
    {"GET", "/2015-03-31/event-source-mappings/*", NULL},
    {"PUT", "/2015-03-31/event-source-mappings/*", NULL},
    {"DELETE", "/2015-03-31/event-source-mappings/*", NULL},
    {"GET", "/2020-04-22/code-signing-configs", op_code_signing_configs},
    {"POST", "/2020-04-22/code-signing-configs", NULL},
    {"GET", "/2020-04-22/code-signing-configs/*", NULL},
    {"PUT", "/2020-04-22/code-signing-configs/*", NULL},
    {"DELETE", "/2020-04-22/code-signing-configs/*", NULL},
    {"GET", "/2020-04-22/code-signing-configs/*/functions", NULL},
    {"GET", "/2025-11-30/capacity-providers", NULL},
    {"POST", "/2025-11-30/capacity-providers", NULL},
    {"GET", "/2025-11-30/capacity-providers/*", NULL},
    {"PUT", "/2025-11-30/capacity-providers/*", NULL},
    {"DELETE", "/2025-11-30/capacity-providers/*", NULL},
    {"GET", "/2025-11-30/capacity-providers/*/function-versions", NULL},
    {"GET", "/2025-11-30/functions/*/function-scaling-config", NULL},
    {"PUT", "/2025-11-30/functions/*/function-scaling-config", NULL},
    {"POST", "/2025-12-01/durable-execution-callbacks/*/fail", NULL},
    {"POST", "/2025-12-01/durable-execution-callbacks/*/heartbeat", NULL},
    {"POST", "/2025-12-01/durable-execution-callbacks/*/succeed", NULL},
    {"GET", "/2025-12-01/durable-executions/*", NULL},
    {"POST", "/2025-12-01/durable-executions/*/checkpoint", NULL},
    {"GET", "/2025-12-01/durable-executions/*/history", NULL},
    {"GET", "/2025-12-01/durable-executions/*/state", NULL},
    {"POST", "/2025-12-01/durable-executions/*/stop", NULL},
    {"GET", "/2025-12-01/functions/*/durable-executions", NULL},
    {"GET", "/2026-07-09/resource-policy/*", NULL},
    {"PUT", "/2026-07-09/resource-policy/*", NULL},
    {"DELETE", "/2026-07-09/resource-policy/*", NULL},
    {"GET", "/thaw/v1/code/*", op_download_code},
};

struct captured {
    const char *at[LAMBDA_SEGMENTS];
    size_t len[LAMBDA_SEGMENTS], count;
};

/* One trailing slash more or less is the same path: older models of the API write it. */
static bool path_matches(const char *pattern, const char *path, struct captured *captured)
{
    captured->count = 0;
    while (*pattern != '\0') {
        if (*pattern == '*') {
            size_t len = strcspn(path, "/");
            if (len == 0 || captured->count == LAMBDA_SEGMENTS)
                return false;
            captured->at[captured->count] = path;
            captured->len[captured->count++] = len;
            path += len;
            pattern++;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0' || (*path == '/' && path[1] == '\0');
}

static const struct route *find_route(
    const struct http_exchange *exchange, struct captured *captured, bool *path_known)
{
    const char *method = http_method(exchange), *path = http_path(exchange);
    *path_known = false;
    for (size_t i = 0; i < countof(routes); i++) {
        if (!path_matches(routes[i].path, path, captured))
            continue;
        *path_known = true;
        if (strcmp(routes[i].method, method) == 0)
            return &routes[i];
    }
    return NULL;
}

struct call *call_ref(struct call *call)
{
    call->references++;
    return call;
}

void call_unref(struct call *call)
{
    if (--call->references > 0)
        return;
    for (size_t i = 0; i < call->segment_count; i++)
        free(call->segments[i]);
    free(call);
}

struct http_exchange *call_take_exchange(struct call *call)
{
    struct http_exchange *exchange = call->exchange;
    call->exchange = NULL;
    if (exchange != NULL)
        http_set_user(exchange, NULL);
    return exchange;
}

static struct call *call_new(struct lambda_api *api, struct http_exchange *exchange)
{
    struct call *call = xcalloc(1, sizeof *call);
    call->api = api;
    call->exchange = exchange;
    call->references = 1;
    lambda_make_request_id(call->request_id);
    http_set_user(exchange, call);
    return call;
}

static bool decode_segments(struct call *call, const struct captured *captured)
{
    for (size_t i = 0; i < captured->count; i++) {
        char *segment = http_decode_segment(captured->at[i], captured->len[i]);
        if (segment == NULL)
            return false;
        call->segments[call->segment_count++] = segment;
    }
    return true;
}

void lambda_handle(void *context, struct http_exchange *exchange)
{
    struct call *call = call_new(context, exchange);
    struct captured captured;
    bool path_known;
    const struct route *route = find_route(exchange, &captured, &path_known);
    if (route == NULL)
        reply_error(call, path_known ? 405 : 404, "UnknownOperationException", "No such operation: %s %.200s",
            http_method(exchange), http_path(exchange));
    else if (route->run == NULL)
        reply_error(call, 501, "NotImplementedException", "This server does not implement %s %s yet",
            route->method, route->path);
    else if (!decode_segments(call, &captured))
        reply_invalid(call, "The path %.200s is not well encoded", http_path(exchange));
    else
        route->run(call);
    call_unref(call);
}

size_t lambda_body_limit(void *context, const struct http_exchange *exchange)
{
    struct captured captured;
    bool path_known;
    (void)context;
    const struct route *route = find_route(exchange, &captured, &path_known);
    if (route != NULL && route->run == op_invoke)
        return invoke_body_limit(exchange);
    if (route != NULL && (route->run == op_create_function || route->run == op_update_function_code))
        return LIMIT_REQUEST_BYTES;
    return LAMBDA_SMALL_BODY_BYTES;
}

void lambda_too_large(void *context, struct http_exchange *exchange)
{
    struct call *call = call_new(context, exchange);
    struct captured captured;
    bool path_known;
    const struct route *route = find_route(exchange, &captured, &path_known);
    if (route != NULL && route->run == op_invoke)
        invoke_too_large(call);
    else if (route != NULL && (route->run == op_create_function || route->run == op_update_function_code))
        reply_error(call, 413, "RequestEntityTooLargeException",
            "Request must be smaller than %d bytes for the %s operation", LIMIT_REQUEST_BYTES,
            route->run == op_create_function ? "CreateFunction" : "UpdateFunctionCode");
    else
        reply_error(call, 413, "RequestEntityTooLargeException", "Request must be smaller than %d bytes",
            LAMBDA_SMALL_BODY_BYTES);
    call_unref(call);
}

void lambda_done(void *context, struct http_exchange *exchange, bool replied)
{
    struct call *call = http_user(exchange);
    (void)replied;
    if (call == NULL) /* answered by us */
        return;
    call->exchange = NULL;
    jobs_forget_exchange(context, call);
}

struct lambda_api *lambda_new(const struct lambda_options *options, struct error *err)
{
    if (mkdirat(options->data_dir_fd, "code", 0755) != 0 && errno != EEXIST)
        return error_system(err, "making the folder of packages"), NULL;
    CLEANUP_FD int code_fd = openat(options->data_dir_fd, "code", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (code_fd < 0)
        return error_system(err, "opening the folder of packages"), NULL;
    if (options->runtime_count > LAMBDA_RUNTIMES_MAX)
        return error_set(err, ERROR_LIMIT, "more than %d runtimes", LAMBDA_RUNTIMES_MAX), NULL;
    struct lambda_api *api = xcalloc(1, sizeof *api);
    api->loop = options->loop;
    api->catalog = options->catalog;
    api->backend = *options->backend;
    api->code_fd = fd_steal(&code_fd);
    api->base_url = xstrdup(options->base_url);
    for (size_t i = 0; i < options->runtime_count; i++)
        api->runtimes[api->runtime_count++] = xstrdup(options->runtimes[i]);
    api->concurrency_limit = options->concurrency_limit;
    api->code_grace_ms = options->code_grace_ms != 0 ? options->code_grace_ms : LAMBDA_CODE_GRACE_MS;
    api->warn = options->warn;
    api->warn_context = options->warn_context;
    if (code_sweep(api, err) != 0) {
        lambda_free(api);
        return NULL;
    }
    return api;
}

void lambda_free(struct lambda_api *api)
{
    if (api == NULL)
        return;
    jobs_end(api);
    fd_close(&api->code_fd);
    free(api->base_url);
    for (size_t i = 0; i < api->runtime_count; i++)
        free(api->runtimes[i]);
    free(api);
}
