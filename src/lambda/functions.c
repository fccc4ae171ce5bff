/* Operations on functions and versions that are answered at once. */
#include "lambda/internal.h"

#include <stdlib.h>
#include <string.h>

void version_published(struct lambda_api *api, const struct catalog_function *version, bool is_new)
{
    if (is_new && version->config.snap_start)
        api->backend.snapshot(api->backend.context, version);
}

void op_get_configuration(struct call *call)
{
    struct name_parts target;
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (call_function(call, &target, &function))
        reply_json(
            call, 200, describe_function(call->api, function, DESCRIBE_FULL, target.qualifier[0] != '\0'));
}

void op_get_function(struct call *call)
{
    struct name_parts target;
    struct catalog_map tags = {0};
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *function = NULL;
    if (!call_function(call, &target, &function))
        return;
    if (catalog_tags(call->api->catalog, function->name, &tags, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    CLEANUP_FREE char *location = xasprintf("%s/thaw/v1/code/%s.zip", call->api->base_url, function->code.id);
    json_t *reply = json_pack("{s:o,s:{s:s,s:s}}", "Configuration",
        describe_function(call->api, function, DESCRIBE_FULL, target.qualifier[0] != '\0'), "Code",
        "RepositoryType", "S3", "Location", location);
    if (tags.count > 0)
        json_object_set_new(reply, "Tags", describe_map(&tags));
    catalog_map_free(&tags);
    reply_json(call, 200, reply);
}

/* --- lists -------------------------------------------------------------------------------------------- */

struct page {
    size_t max;
    char marker_name[NAME_TEXT_MAX + 1]; /* "" at the beginning */
    uint64_t marker_number;
};

static bool page_number(const char *text, uint64_t *number)
{
    size_t digits = strspn(text, "0123456789");
    *number = strtoull(text, NULL, 10);
    return digits > 0 && digits <= 18 && text[digits] == '\0';
}

/* Markers are NAME:NUMBER of the last version shown. */
static bool page_read(struct call *call, struct page *page)
{
    const char *max = http_query(call->exchange, "MaxItems"), *marker = http_query(call->exchange, "Marker");
    uint64_t asked = LAMBDA_PAGE_DEFAULT;
    *page = (struct page){0};
    if (max != NULL && (!page_number(max, &asked) || asked < 1 || asked > LAMBDA_MAX_ITEMS)) {
        reply_error(call, 400, "ValidationException",
            "1 validation error detected: Value '%.40s' at 'maxItems' failed to satisfy constraint: Member "
            "must "
            "have value %s",
            max, asked > LAMBDA_MAX_ITEMS ? "less than or equal to 10000" : "greater than or equal to 1");
        return false;
    }
    page->max = asked < LAMBDA_PAGE_MAX ? asked : LAMBDA_PAGE_MAX;
    if (marker == NULL || *marker == '\0')
        return true;
    const char *colon = strrchr(marker, ':');
    if (colon == NULL || colon == marker || colon - marker > NAME_TEXT_MAX ||
        !page_number(colon + 1, &page->marker_number)) {
        reply_invalid(call, "The pagination token is invalid");
        return false;
    }
    memcpy(page->marker_name, marker, (size_t)(colon - marker));
    return true;
}

static void reply_list(struct call *call, const char *name, bool all_versions, const char *key)
{
    struct page page;
    struct catalog_list list;
    struct error err;
    if (!page_read(call, &page))
        return;
    if (catalog_list(call->api->catalog, name, all_versions,
            page.marker_name[0] != '\0' ? page.marker_name : NULL, page.marker_number, page.max, &list,
            &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    json_t *items = json_array(), *reply = json_object();
    for (size_t i = 0; i < list.count; i++)
        json_array_append_new(items,
            describe_function(call->api, list.items[i], DESCRIBE_LISTED, name != NULL || all_versions));
    json_object_set_new(reply, key, items);
    if (list.more) {
        const struct catalog_function *last = list.items[list.count - 1];
        CLEANUP_FREE char *marker = xasprintf("%s:%llu", last->name, (unsigned long long)last->number);
        json_object_set_new(reply, "NextMarker", json_string(marker));
    }
    catalog_list_free(&list);
    reply_json(call, 200, reply);
}

void op_list_functions(struct call *call)
{
    const char *version = http_query(call->exchange, "FunctionVersion");
    if (version != NULL && strcmp(version, "ALL") != 0)
        reply_error(call, 400, "ValidationException",
            "1 validation error detected: Value '%.100s' at 'functionVersion' failed to satisfy constraint: "
            "Member must satisfy enum value set: [ALL]",
            version);
    else
        reply_list(call, NULL, version != NULL, "Functions");
}

void op_list_versions(struct call *call)
{
    struct name_parts target;
    if (call_target(call, &target))
        reply_list(call, target.name, true, "Versions");
}

/* --- changes ------------------------------------------------------------------------------------------ */

void op_update_configuration(struct call *call)
{
    CLEANUP_BODY struct body body = {0};
    struct name_parts target;
    struct error err;
    struct lambda_api *api = call->api;
    CLEANUP_FUNCTION const struct catalog_function *before = NULL, *after = NULL;
    if (!call_target(call, &target) || !body_parse(call, &body))
        return;
    if (catalog_get(api->catalog, target.name, NULL, &before, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    const char *revision_id = body_string(&body, body.json, "RevisionId");
    struct catalog_config config;
    catalog_config_copy(&config, &before->config);
    if (config_read(&body, false, target.name, &config) && !job_refuses(call, target.name)) {
        if (catalog_update_configuration(api->catalog, target.name, &config, revision_id, &after, &err) !=
            0) {
            reply_catalog_error(call, &err, CONFLICT_REVISION);
        } else {
            reply_json(call, 200, describe_function(api, after, DESCRIBE_UPDATED, false));
            api->backend.retire(api->backend.context, before, false);
        }
    }
    catalog_config_free(&config);
}

void op_publish_version(struct call *call)
{
    CLEANUP_BODY struct body body = {0};
    struct name_parts target;
    struct error err;
    struct lambda_api *api = call->api;
    CLEANUP_FUNCTION const struct catalog_function *latest = NULL, *version = NULL;
    if (!call_target(call, &target) || !body_parse(call, &body))
        return;
    const char *revision_id = body_string(&body, body.json, "RevisionId");
    const char *sha256 = body_string(&body, body.json, "CodeSha256");
    const char *description = body_string(&body, body.json, "Description");
    if (description != NULL && strlen(description) > LIMIT_DESCRIPTION)
        problems_add(&body.problems,
            "Value '%s' at 'description' failed to satisfy constraint: Member must have length less than or "
            "equal to %d",
            description, LIMIT_DESCRIPTION);
    if (!body_good(&body))
        return;
    if (catalog_get(api->catalog, target.name, NULL, &latest, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    if (job_refuses(call, target.name))
        return;
    if (sha256 != NULL && sha256[0] != '\0' && strcmp(sha256, latest->code.sha256) != 0) {
        reply_invalid(call,
            "CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the "
            "CodeSHA256 in $LATEST.",
            sha256, latest->code.sha256);
        return;
    }
    bool is_new;
    if (catalog_publish(api->catalog, target.name, description != NULL && *description ? description : NULL,
            revision_id, &is_new, &version, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_REVISION);
        return;
    }
    reply_json(call, 201, describe_function(api, version, DESCRIBE_FULL, true));
    version_published(api, version, is_new);
}

/* --- DeleteFunction ----------------------------------------------------------------------------------- */

static void forget_version(struct lambda_api *api, const struct catalog_function *version)
{
    api->backend.retire(api->backend.context, version, true);
    code_doom(api, version->code.id);
}

static void delete_version(struct call *call, const struct name_parts *target)
{
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *latest = NULL, *version = NULL;
    if (!name_is_version(target->qualifier)) {
        reply_invalid(call, "Deletion of aliases is not currently supported.");
        return;
    }
    if (catalog_get(call->api->catalog, target->name, NULL, &latest, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    if (catalog_get(call->api->catalog, target->name, target->qualifier, &version, &err) != 0) {
        if (err.kind == ERROR_NOT_FOUND)
            reply_empty(call, 204); /* the function is there, the version is not: as wanted */
        else
            reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    if (catalog_delete(call->api->catalog, target->name, target->qualifier, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    reply_empty(call, 204);
    forget_version(call->api, version);
}

static void delete_all(struct call *call, const struct name_parts *target)
{
    struct catalog_list list;
    struct error err;
    struct lambda_api *api = call->api;
    if (catalog_list(api->catalog, target->name, true, NULL, 0, SIZE_MAX / 4, &list, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    if (catalog_delete(api->catalog, target->name, NULL, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
    } else {
        reply_empty(call, 204);
        for (size_t i = 0; i < list.count; i++)
            forget_version(api, list.items[i]);
    }
    catalog_list_free(&list);
}

void op_delete_function(struct call *call)
{
    struct name_parts target;
    if (!call_target(call, &target) || job_refuses(call, target.name))
        return;
    if (target.qualifier[0] != '\0')
        delete_version(call, &target);
    else
        delete_all(call, &target);
}
