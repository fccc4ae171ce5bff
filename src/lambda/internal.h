/* Inside lambda/ only. */
#pragma once

#include "lambda/lambda.h"
#include "lambda/package.h"

#include <jansson.h>
#include <sys/types.h>

#define LAMBDA_SEGMENTS 8 /* parts of a path */
#define LAMBDA_SMALL_BODY_BYTES \
    (1024 * 1024)                        /* a request without code and payload; also JSON beside code \
                                          */
#define LAMBDA_JSON_DEPTH 1000           /* nesting of an invocation's payload */
#define LAMBDA_CLIENT_CONTEXT_BYTES 3583 /* in base64 */
#define LAMBDA_TAGS_MAX 50
#define LAMBDA_MAX_ITEMS 10000 /* what a client may ask a list for */
#define LAMBDA_PAGE_MAX 1000   /* what one reply holds */
#define LAMBDA_PAGE_DEFAULT 50
#define LAMBDA_CHILDREN_MAX 2       /* packages unpacked at once */
#define LAMBDA_JOBS_MAX 16          /* and waiting for it, before 429 */
#define LAMBDA_CHILD_SECONDS 120    /* then the child is killed */
#define LAMBDA_CODE_GRACE_MS 960000 /* longer than the longest invocation: one that runs may still import */
#define LAMBDA_RUNTIMES_MAX 32

struct job;
struct child;
struct doomed_code;

struct lambda_api {
    struct loop *loop;
    struct catalog *catalog;
    struct lambda_backend backend;
    int code_fd;
    char *base_url;
    char *runtimes[LAMBDA_RUNTIMES_MAX];
    size_t runtime_count;
    uint32_t concurrency_limit, code_grace_ms;
    void (*warn)(void *context, const struct error *err);
    void *warn_context;
    struct job *jobs; /* in order of arrival */
    struct child *children;
    struct doomed_code *doomed; /* in order of their time */
    struct loop_timer *doom_timer;
};

/* One request on its way through the API. Reference-counted: lambda_handle has one, and who answers later. */
struct call {
    struct lambda_api *api;
    struct http_exchange *exchange; /* NULL when the client left, or once it was answered */
    char request_id[LAMBDA_REQUEST_ID];
    char *segments[LAMBDA_SEGMENTS]; /* the path's parts that the route leaves open, decoded */
    size_t segment_count;
    unsigned references;
};
struct call *call_ref(struct call *call);
void call_unref(struct call *call);
/* Who answers with headers of its own takes the exchange out of the call; NULL when the client left. */
struct http_exchange *call_take_exchange(struct call *call);

/* reply.c. Each answers the exchange, if it is still there. */
void reply_json(struct call *call, unsigned status, json_t *body); /* takes the body over */
void reply_empty(struct call *call, unsigned status);
void reply_error(struct call *call, unsigned status, const char *type, const char *format, ...)
    PRINTF_LIKE(4, 5);
#define reply_invalid(call, ...) reply_error((call), 400, "InvalidParameterValueException", __VA_ARGS__)
/* 429; `reason` may be NULL. */
void reply_throttled(struct call *call, const char *reason, const char *message);
/* The catalog's error as Lambda would put it; ERROR_CONFLICT is 412 about a revision id, or 409. */
enum conflict_means { CONFLICT_EXISTS, CONFLICT_REVISION };
void reply_catalog_error(struct call *call, const struct error *err, enum conflict_means conflict);
/* Violated constraints, which Lambda tells together: "2 validation errors detected: ...; ...". */
struct problems {
    struct buffer text;
    size_t count;
};
void problems_add(struct problems *problems, const char *format, ...) PRINTF_LIKE(2, 3);
/* Answers with ValidationException if there are any. Frees them. */
bool problems_reply(struct problems *problems, struct call *call);

/* describe.c: the API's picture of a version. */
enum describe_as {
    DESCRIBE_FULL,    /* with its states, as they are */
    DESCRIBE_CREATED, /* in the reply to its creation: Pending */
    DESCRIBE_UPDATED, /* in the reply to its update: LastUpdateStatus InProgress */
    DESCRIBE_LISTED,  /* in a list: without states */
};
json_t *describe_function(const struct lambda_api *api, const struct catalog_function *function,
    enum describe_as as, bool qualified);
json_t *describe_map(const struct catalog_map *map);

/* names.c */
#define NAME_TEXT_MAX 170
struct name_parts {
    char region[32], account[16]; /* "" when not given */
    char name[NAME_TEXT_MAX + 1], qualifier[NAME_TEXT_MAX + 1];
};
/* name, name:qualifier, partial ARN, full ARN with or without qualifier. */
bool name_parse(const char *text, struct name_parts *parts);
bool name_is_version(const char *qualifier); /* $LATEST or a number, not an alias */
/* The function that the path's first part and `Qualifier` name. Answers with an error when it returns false.
 */
bool call_target(struct call *call, struct name_parts *target);
/* The same, and its version in the catalog. */
bool call_function(struct call *call, struct name_parts *target, const struct catalog_function **function);
/* Region and account are ours, or answers with an error. */
bool name_is_ours(struct call *call, const struct name_parts *parts);
/* The function of a tag path's ARN. */
bool call_tagged(struct call *call, struct name_parts *target);

/* body.c: a request's JSON. Strings too big for a JSON library to be asked (a zip in base64) are cut out
 * first and found again by body_string. */
#define BODY_BIG_MAX 4
#define BODY_BIG_BYTES 65536
struct body {
    struct call *call;
    json_t *json;
    struct bytes big[BODY_BIG_MAX]; /* between the quotes, in the exchange's body */
    size_t big_count;
    bool failed; /* a value had the wrong type: answered already, every later read gives nothing */
    struct problems problems;
};
bool body_parse(struct call *call, struct body *body); /* answers with an error when it returns false */
void body_free(struct body *body);
#define CLEANUP_BODY __attribute__((cleanup(body_free)))
/* What `object` has under `name`; absent and null are the same. A wrong type answers SerializationException.
 */
const char *body_string(struct body *body, json_t *object, const char *name);
bool body_integer(struct body *body, json_t *object, const char *name, json_int_t *out);
bool body_bool(struct body *body, json_t *object, const char *name);
json_t *body_object(struct body *body, json_t *object, const char *name);
json_t *body_list(struct body *body, json_t *object, const char *name);
/* A string that may be a big one; data NULL when absent. */
struct bytes body_bytes(struct body *body, json_t *object, const char *name);
/* Everything was read: answers with what was found wrong, if anything, and returns false then. */
bool body_good(struct body *body);

/* config.c: read and check what CreateFunction and UpdateFunctionConfiguration share, on top of `config`.
 * Answers with an error when it returns false. */
bool config_read(struct body *body, bool create, const char *function_name, struct catalog_config *config);
bool config_architecture(struct body *body, char **architecture);
bool tags_read(struct body *body, struct catalog_map *tags);

/* json_check.c: is this JSON? Fast, and without memory of its own. When not, *why says what stands where, in
 * the words that clients know. */
bool json_check(struct bytes text, char why[256]);

/* jobs.c: packages, unpacked and removed by children. */
struct job {
    struct job *next;
    struct call *call;                  /* a reference of its own */
    char name[LIMIT_FUNCTION_NAME + 1]; /* the function whose update is in progress */
    struct bytes base64;                /* in the exchange's body, or in `own_base64` */
    char *own_base64;
    bool keep, started;
    char temp[PACKAGE_TEMP_NAME];
    /* Called once, unless the client left before it began. Then the job is freed. */
    void (*done)(struct job *job, const struct package_result *result);
    void *context; /* owned through context_free, which may be NULL */
    void (*context_free)(void *context);
};
/* Takes the job over. Answers 429 and frees it when too many wait. */
void job_submit(struct lambda_api *api, struct job *job);
void job_free(struct job *job);
bool job_in_progress(const struct lambda_api *api, const char *function_name);
/* Answers 409 when an update of this function is in progress. */
bool job_refuses(struct call *call, const char *function_name);
void jobs_forget_exchange(struct lambda_api *api, struct call *call);
/* No version may run this package any more: look in a while, and remove it then. */
void code_doom(struct lambda_api *api, const char *code_id);
/* At start-up: what was left half done, and what no version runs. */
MUST_CHECK int code_sweep(struct lambda_api *api, struct error *err);
void jobs_end(struct lambda_api *api);

/* The operations, by the file they are in. */
typedef void operation(struct call *call);
operation op_create_function, op_update_function_code, op_download_code;                /* code.c */
operation op_get_function, op_get_configuration, op_list_functions, op_list_versions;   /* functions.c */
operation op_update_configuration, op_delete_function, op_publish_version;              /* functions.c */
operation op_invoke;                                                                    /* invoke.c */
operation op_account_settings, op_list_tags, op_tag, op_untag, op_policy, op_no_url;    /* polite.c */
operation op_code_signing, op_concurrency, op_runtime_management, op_recursion;         /* polite.c */
operation op_list_aliases, op_get_alias, op_no_event_config, op_provisioned, op_layers; /* polite.c */
operation op_layer_versions, op_event_sources, op_event_configs, op_urls;               /* polite.c */
operation op_code_signing_configs;                                                      /* polite.c */
size_t invoke_body_limit(const struct http_exchange *exchange);
void invoke_too_large(struct call *call);
/* Tells the backend when a version that was just published is to be frozen. */
void version_published(struct lambda_api *api, const struct catalog_function *version, bool is_new);
