/* CreateFunction and UpdateFunctionCode: what can be checked at once is, then a child unpacks the package,
 * then the catalog is changed and the client answered. */
#include "lambda/internal.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CREATE_NAME_MAX 140
#define CREATE_NAME_PATTERN \
    "(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{1}:)?" \
    "(\\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?"

/* What a job needs to know when its package is there. */
struct change {
    struct catalog_config config; /* create only */
    struct catalog_map tags;      /* create only */
    char *architecture;           /* update only, NULL: as it is */
    char *revision_id;            /* update only, NULL: any */
    bool publish, dry_run;
};

static void change_free(void *context)
{
    struct change *change = context;
    if (change == NULL)
        return;
    catalog_config_free(&change->config);
    catalog_map_free(&change->tags);
    free(change->architecture);
    free(change->revision_id);
    free(change);
}

static void cleanup_change(struct change **change)
{
    change_free(*change);
}

static void reply_package_error(struct call *call, const struct package_result *result)
{
    switch (result->verdict) {
    case PACKAGE_NOT_BASE64:
        reply_error(call, 400, "SerializationException", "The zip is not valid base64");
        return;
    case PACKAGE_TOO_LARGE:
        reply_error(call, 413, "RequestEntityTooLargeException", "Zipped size must be smaller than %d bytes",
            LIMIT_ZIP_BYTES);
        return;
    case PACKAGE_UNZIPPED_TOO_LARGE:
        reply_invalid(call, "Unzipped size must be smaller than %d bytes", LIMIT_UNZIPPED_BYTES);
        return;
    case PACKAGE_EMPTY:
        reply_invalid(call, "Uploaded file must be a non-empty zip");
        return;
    case PACKAGE_BAD:
        reply_invalid(call,
            "Could not unzip uploaded file. Please check your file, then try to upload again.%s%s%s",
            result->why[0] != '\0' ? " (" : "", result->why, result->why[0] != '\0' ? ")" : "");
        return;
    default:
        reply_error(call, 500, "ServiceException", "The package could not be stored: %s", result->why);
    }
}

/* What Lambda takes as code besides a zip in the request is refused in words that tools know. */
static bool code_source(struct body *body, json_t *code, struct bytes *zip)
{
    const char *bucket = body_string(body, code, "S3Bucket"), *image = body_string(body, code, "ImageUri");
    *zip = body_bytes(body, code, "ZipFile");
    if (!body_good(body))
        return false;
    if (zip->data != NULL)
        return true;
    if (bucket != NULL)
        reply_invalid(body->call, "Error occurred while GetObject. S3 Error Code: NoSuchBucket. S3 Error "
                                  "Message: The specified bucket "
                                  "does not exist (this server takes code as ZipFile)");
    else if (image != NULL)
        reply_invalid(
            body->call, "Please don't provide ImageUri when updating a function with packageType Zip.");
    else
        reply_invalid(body->call, "Please provide a source for function code.");
    return false;
}

static void submit(struct body *body, const char *name, struct bytes zip, struct change *change,
    void (*done)(struct job *job, const struct package_result *result))
{
    struct job *job = xcalloc(1, sizeof *job);
    struct call *call = body->call;
    job->call = call_ref(call);
    snprintf(job->name, sizeof job->name, "%s", name);
    job->base64 = zip;
    bool in_exchange = false;
    for (size_t i = 0; i < body->big_count; i++)
        in_exchange = in_exchange || body->big[i].data == zip.data;
    if (!in_exchange) { /* it is in the JSON, which goes with this request */
        job->own_base64 = xstrndup((const char *)zip.data, zip.len);
        job->base64.data = (const uint8_t *)job->own_base64;
    }
    job->keep = !change->dry_run;
    job->done = done;
    job->context = change;
    job->context_free = change_free;
    job_submit(call->api, job);
}

/* --- CreateFunction ----------------------------------------------------------------------------------- */

static bool create_name(struct body *body, struct name_parts *parts)
{
    const char *text = body_string(body, body->json, "FunctionName");
    if (body->failed)
        return false;
    if (text == NULL)
        problems_add(&body->problems,
            "Value null at 'functionName' failed to satisfy constraint: Member must not be null");
    else if (strlen(text) > CREATE_NAME_MAX)
        problems_add(&body->problems,
            "Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or "
            "equal to %d",
            text, CREATE_NAME_MAX);
    else if (!name_parse(text, parts) || strchr(parts->name, '.') != NULL ||
             strchr(parts->qualifier, '.') != NULL)
        problems_add(&body->problems,
            "Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular "
            "expression "
            "pattern: " CREATE_NAME_PATTERN,
            text);
    return true;
}

/* What the gathered problems do not cover, in Lambda's order. */
static bool create_name_fits(struct call *call, const struct name_parts *parts)
{
    if (!name_is_ours(call, parts))
        return false;
    if (strlen(parts->name) > LIMIT_FUNCTION_NAME) {
        reply_invalid(call,
            "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member "
            "must "
            "have length less than or equal to %d",
            parts->name, LIMIT_FUNCTION_NAME);
        return false;
    }
    CLEANUP_FUNCTION const struct catalog_function *existing = NULL;
    if (catalog_get(call->api->catalog, parts->name, NULL, &existing, NULL) == 0) {
        reply_error(call, 409, "ResourceConflictException", "Function already exist: %s", parts->name);
        return false;
    }
    return !job_refuses(call, parts->name);
}

static void create_done(struct job *job, const struct package_result *result)
{
    struct call *call = job->call;
    struct lambda_api *api = call->api;
    struct change *change = job->context;
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *function = NULL, *version = NULL;
    if (result->verdict != PACKAGE_OK) {
        reply_package_error(call, result);
        return;
    }
    if (catalog_create_function(
            api->catalog, job->name, &change->config, &result->code, &change->tags, &function, &err) != 0) {
        code_doom(api, result->code.id);
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    bool is_new = false;
    if (change->publish &&
        catalog_publish(api->catalog, job->name, NULL, NULL, &is_new, &version, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_REVISION);
        return;
    }
    reply_json(
        call, 201, describe_function(api, version != NULL ? version : function, DESCRIBE_CREATED, false));
    if (version != NULL)
        version_published(api, version, is_new);
}

void op_create_function(struct call *call)
{
    CLEANUP_BODY struct body body;
    struct name_parts parts = {0};
    struct bytes zip;
    __attribute__((cleanup(cleanup_change))) struct change *change = xcalloc(1, sizeof *change);
    if (!body_parse(call, &body) || !create_name(&body, &parts))
        return;
    json_t *code = body_object(&body, body.json, "Code");
    change->publish = body_bool(&body, body.json, "Publish");
    if (code == NULL && !body.failed)
        problems_add(
            &body.problems, "Value null at 'code' failed to satisfy constraint: Member must not be null");
    if (!config_read(&body, true, parts.name, &change->config) || !tags_read(&body, &change->tags) ||
        !code_source(&body, code, &zip) || !create_name_fits(call, &parts))
        return;
    submit(&body, parts.name, zip, steal_pointer(change), create_done);
}

/* --- UpdateFunctionCode ------------------------------------------------------------------------------- */

static void dry_run_done(
    struct call *call, const struct catalog_function *current, const struct package_result *result)
{
    json_t *description = describe_function(call->api, current, DESCRIBE_FULL, false);
    json_object_set_new(description, "CodeSha256", json_string(result->code.sha256));
    json_object_set_new(description, "CodeSize", json_integer((json_int_t)result->code.size));
    reply_json(call, 200, description);
}

static void update_publish(struct job *job, const struct catalog_function *updated)
{
    struct lambda_api *api = job->call->api;
    CLEANUP_FUNCTION const struct catalog_function *version = NULL;
    bool is_new;
    struct error err;
    if (catalog_publish(api->catalog, updated->name, NULL, NULL, &is_new, &version, &err) != 0) {
        reply_catalog_error(job->call, &err, CONFLICT_REVISION);
        return;
    }
    reply_json(
        job->call, 200, describe_function(api, version, is_new ? DESCRIBE_CREATED : DESCRIBE_FULL, true));
    version_published(api, version, is_new);
}

static void update_done(struct job *job, const struct package_result *result)
{
    struct call *call = job->call;
    struct lambda_api *api = call->api;
    struct change *change = job->context;
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *before = NULL, *after = NULL;
    if (result->verdict != PACKAGE_OK) {
        reply_package_error(call, result);
        return;
    }
    int status = catalog_get(api->catalog, job->name, NULL, &before, &err);
    if (status == 0 && change->dry_run) {
        dry_run_done(call, before, result);
        return;
    }
    if (status == 0)
        status = catalog_update_code(
            api->catalog, job->name, &result->code, change->architecture, change->revision_id, &after, &err);
    if (status != 0) {
        code_doom(api, result->code.id);
        reply_catalog_error(call, &err, CONFLICT_REVISION);
        return;
    }
    code_doom(api, before->code.id);
    api->backend.retire(api->backend.context, before, false);
    if (change->publish)
        update_publish(job, after);
    else
        reply_json(call, 200, describe_function(api, after, DESCRIBE_UPDATED, false));
}

static bool revision_fits(struct call *call, const struct catalog_function *current, const char *revision_id)
{
    if (revision_id == NULL || strcmp(revision_id, current->revision_id) == 0)
        return true;
    reply_error(call, 412, "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API "
        "to "
        "retrieve the latest Revision Id");
    return false;
}

void op_update_function_code(struct call *call)
{
    CLEANUP_BODY struct body body = {0};
    struct name_parts target;
    struct bytes zip;
    CLEANUP_FUNCTION const struct catalog_function *current = NULL;
    __attribute__((cleanup(cleanup_change))) struct change *change = xcalloc(1, sizeof *change);
    if (!call_target(call, &target) || !body_parse(call, &body))
        return;
    const char *revision_id = body_string(&body, body.json, "RevisionId");
    change->revision_id = revision_id != NULL ? xstrdup(revision_id) : NULL;
    change->publish = body_bool(&body, body.json, "Publish");
    change->dry_run = body_bool(&body, body.json, "DryRun");
    if (!config_architecture(&body, &change->architecture) || !code_source(&body, body.json, &zip))
        return;
    struct error err;
    if (catalog_get(call->api->catalog, target.name, NULL, &current, &err) != 0) {
        reply_catalog_error(call, &err, CONFLICT_EXISTS);
        return;
    }
    if (!revision_fits(call, current, revision_id) || job_refuses(call, target.name))
        return;
    submit(&body, target.name, zip, steal_pointer(change), update_done);
}

/* --- what GetFunction's Code.Location points to ------------------------------------------------------- */

void op_download_code(struct call *call)
{
    const char *file = call->segments[0];
    char id[CATALOG_FUNCTION_CODE_HEX + 1];
    uint8_t digest[CATALOG_FUNCTION_CODE_HEX / 2];
    struct buffer zip = {0};
    struct error err;
    snprintf(id, sizeof id, "%s", file);
    bool named = hex_decode(digest, sizeof digest, id) && strcmp(file + strlen(id), ".zip") == 0;
    if (!named || file_read(call->api->code_fd, file, &zip, LIMIT_ZIP_BYTES, &err) != 0) {
        buffer_free(&zip);
        reply_error(call, 404, "ResourceNotFoundException", "The resource you requested does not exist.");
        return;
    }
    struct http_field fields[] = {
        {"Content-Type", "application/zip"}, {"x-amzn-RequestId", call->request_id}};
    http_reply_owned(call_take_exchange(call), 200, fields, countof(fields), zip.data, zip.len);
}
