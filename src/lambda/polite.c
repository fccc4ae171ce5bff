/* What clients ask on the way to something else: account settings, tags, and features that this server does
 * not have, which answer as an account that does not use them. */
#include "lambda/internal.h"

#include <string.h>

#define CODE_STORAGE_BYTES 80530636800 /* the default quota, which clients may show */

void op_account_settings(struct call *call)
{
    uint64_t code_bytes, functions;
    struct error err;
    if (catalog_account_usage(call->api->catalog, &code_bytes, &functions, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    json_int_t concurrency = call->api->concurrency_limit;
    reply_json(call, 200,
        json_pack("{s:{s:I,s:I,s:I,s:I,s:I},s:{s:I,s:I}}", "AccountLimit", "TotalCodeSize",
            (json_int_t)CODE_STORAGE_BYTES, "CodeSizeUnzipped", (json_int_t)LIMIT_UNZIPPED_BYTES,
            "CodeSizeZipped", (json_int_t)LIMIT_ZIP_BYTES, "ConcurrentExecutions", concurrency,
            "UnreservedConcurrentExecutions", concurrency, "AccountUsage", "TotalCodeSize",
            (json_int_t)code_bytes, "FunctionCount", (json_int_t)functions));
}

/* --- tags --------------------------------------------------------------------------------------------- */

static bool current_tags(struct call *call, struct name_parts *target, struct catalog_map *tags)
{
    struct error err;
    if (!call_tagged(call, target))
        return false;
    if (catalog_tags(call->api->catalog, target->name, tags, &err) == 0)
        return true;
    reply_catalog_error(call, &err, CONFLICT_EXISTS);
    return false;
}

static void store_tags(struct call *call, const struct name_parts *target, const struct catalog_map *tags)
{
    struct error err;
    if (catalog_set_tags(call->api->catalog, target->name, tags, &err) == 0)
        reply_empty(call, 204);
    else
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
}

void op_list_tags(struct call *call)
{
    struct name_parts target;
    struct catalog_map tags = {0};
    if (!current_tags(call, &target, &tags))
        return;
    reply_json(call, 200, json_pack("{s:o}", "Tags", describe_map(&tags)));
    catalog_map_free(&tags);
}

void op_tag(struct call *call)
{
    CLEANUP_BODY struct body body = {0};
    struct name_parts target;
    struct catalog_map tags = {0};
    if (!current_tags(call, &target, &tags))
        return;
    if (body_parse(call, &body)) {
        if (json_object_size(json_object_get(body.json, "Tags")) == 0)
            reply_invalid(call, "An error occurred and the request cannot be processed.");
        else if (tags_read(&body, &tags))
            store_tags(call, &target, &tags);
    }
    catalog_map_free(&tags);
}

/* tagKeys repeats. */
static void remove_tags(const char *query, struct catalog_map *tags)
{
    static const char name[] = "tagKeys=";
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        if (strncmp(query, name, strlen(name)) == 0) {
            CLEANUP_FREE char *key = http_decode_segment(query + strlen(name), len - strlen(name));
            if (key != NULL)
                catalog_map_remove(tags, key);
        }
        query += len;
        query += *query == '&';
    }
}

void op_untag(struct call *call)
{
    struct name_parts target;
    struct catalog_map tags = {0};
    if (!current_tags(call, &target, &tags))
        return;
    if (http_query(call->exchange, "tagKeys") == NULL) {
        reply_error(call, 400, "ValidationException",
            "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must "
            "not be "
            "null");
    } else {
        remove_tags(http_query_text(call->exchange), &tags);
        store_tags(call, &target, &tags);
    }
    catalog_map_free(&tags);
}

/* --- features that no function here uses --------------------------------------------------------------- */

static bool exists(struct call *call, const struct catalog_function **function)
{
    struct name_parts target;
    return call_function(call, &target, function);
}

void op_policy(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_error(call, 404, "ResourceNotFoundException", "The resource you requested does not exist.");
}

void op_no_url(struct call *call)
{
    reply_error(call, 404, "ResourceNotFoundException", "The resource you requested does not exist.");
}

void op_code_signing(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(
            call, 200, json_pack("{s:s,s:s}", "CodeSigningConfigArn", "", "FunctionName", function->name));
}

void op_concurrency(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(call, 200, json_object());
}

void op_runtime_management(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(call, 200,
            json_pack("{s:s,s:s}", "UpdateRuntimeOn", "Auto", "FunctionArn", function->qualified_arn));
}

void op_recursion(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(call, 200, json_pack("{s:s}", "RecursiveLoop", "Terminate"));
}

void op_list_aliases(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(call, 200, json_pack("{s:[]}", "Aliases"));
}

void op_get_alias(struct call *call)
{
    struct name_parts target;
    if (call_target(call, &target))
        reply_error(call, 404, "ResourceNotFoundException",
            "Cannot find alias arn: arn:aws:lambda:%s:%s:function:%s:%s", catalog_region(call->api->catalog),
            catalog_account_id(call->api->catalog), target.name, call->segments[1]);
}

void op_no_event_config(struct call *call)
{
    struct name_parts target;
    if (call_target(call, &target))
        reply_error(call, 404, "ResourceNotFoundException",
            "The function arn:aws:lambda:%s:%s:function:%s:%s doesn't have an EventInvokeConfig",
            catalog_region(call->api->catalog), catalog_account_id(call->api->catalog), target.name,
            target.qualifier[0] != '\0' ? target.qualifier : CATALOG_LATEST);
}

void op_provisioned(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (!exists(call, &function))
        return;
    if (http_query(call->exchange, "List") != NULL)
        reply_json(call, 200, json_pack("{s:[]}", "ProvisionedConcurrencyConfigs"));
    else
        reply_error(call, 404, "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function");
}

void op_layers(struct call *call)
{
    const char *arn = http_query(call->exchange, "Arn");
    if (http_query(call->exchange, "find") != NULL)
        reply_error(call, 404, "ResourceNotFoundException", "Layer version %s does not exist.",
            arn != NULL ? arn : "");
    else
        reply_json(call, 200, json_pack("{s:[]}", "Layers"));
}

void op_layer_versions(struct call *call)
{
    reply_json(call, 200, json_pack("{s:[]}", "LayerVersions"));
}

void op_event_sources(struct call *call)
{
    reply_json(call, 200, json_pack("{s:[]}", "EventSourceMappings"));
}

void op_event_configs(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(call, 200, json_pack("{s:[]}", "FunctionEventInvokeConfigs"));
}

void op_urls(struct call *call)
{
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (exists(call, &function))
        reply_json(call, 200, json_pack("{s:[]}", "FunctionUrlConfigs"));
}

void op_code_signing_configs(struct call *call)
{
    reply_json(call, 200, json_pack("{s:[]}", "CodeSigningConfigs"));
}
