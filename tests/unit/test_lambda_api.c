/* The REST API over exchanges in memory, with a backend that only remembers: routes, replies, texts. */
#include "lambda_fixture.h"

#include "catalog/internal.h"

#include <dirent.h>

#define FUNCTIONS "/2015-03-31/functions"
#define ARN "arn:aws:lambda:us-east-1:000000000000:function:"
#define ROLE "arn:aws:iam::000000000000:role/any"

static char *create_body(const char *name, const char *seed, const char *more)
{
    CLEANUP_FREE char *zip = small_package(seed);
    return xasprintf("{\"FunctionName\":\"%s\",\"Runtime\":\"python3.11\",\"Handler\":\"app.handler\","
                     "\"Role\":\"" ROLE "\",\"Code\":{\"ZipFile\":\"%s\"}%s%s}",
        name, zip, *more != '\0' ? "," : "", more);
}

static struct http_exchange *create(struct fixture *f, const char *name, const char *more)
{
    CLEANUP_FREE char *body = create_body(name, "x = 1", more);
    return ask(f, "POST " FUNCTIONS, body);
}

static void creates_and_describes_a_function(void **state)
{
    struct http_exchange *e = create(*state, "pets",
        "\"MemorySize\":512,\"Timeout\":30,\"Description\":\"d\",\"Environment\":{\"Variables\":{\"KEY\":"
        "\"v\"}},"
        "\"SnapStart\":{\"ApplyOn\":\"PublishedVersions\"},\"Tags\":{\"team\":\"blue\"}");
    assert_int_equal(e->status, 201);
    assert_string_equal(answer_header(e, "Content-Type"), "application/json");
    assert_int_equal(strlen(answer_header(e, "x-amzn-RequestId")), 36);
    assert_string_equal(answer(e, "FunctionName"), "pets");
    assert_string_equal(answer(e, "FunctionArn"), ARN "pets");
    assert_string_equal(answer(e, "Version"), "$LATEST");
    assert_string_equal(answer(e, "State"), "Pending");
    assert_string_equal(answer(e, "StateReasonCode"), "Creating");
    assert_string_equal(answer(e, "LastUpdateStatus"), "");
    assert_string_equal(answer(e, "SnapStart.ApplyOn"), "PublishedVersions");
    assert_string_equal(answer(e, "SnapStart.OptimizationStatus"), "Off");
    exchange_free(e);

    e = ask(*state, "GET " FUNCTIONS "/pets", NULL);
    assert_int_equal(e->status, 200);
    assert_string_equal(answer(e, "Configuration.State"), "Active");
    assert_string_equal(answer(e, "Configuration.LastUpdateStatus"), "Successful");
    assert_string_equal(answer(e, "Configuration.Environment.Variables.KEY"), "v");
    assert_string_equal(answer(e, "Configuration.LoggingConfig.LogGroup"), "/aws/lambda/pets");
    assert_string_equal(answer(e, "Configuration.Architectures.0"), "x86_64");
    assert_string_equal(answer(e, "Configuration.PackageType"), "Zip");
    assert_string_equal(answer(e, "Tags.team"), "blue");
    const char *location = answer(e, "Code.Location"), *base = "http://127.0.0.1:8429";
    assert_memory_equal(location, base, strlen(base));
    CLEANUP_FREE char *download = xasprintf("GET %s", location + strlen(base));
    struct http_exchange *zip = ask(*state, download, NULL);
    assert_int_equal(zip->status, 200);
    assert_memory_equal(zip->reply.data, "PK\3\4", 4);
    exchange_free(zip);
    exchange_free(e);
    expect_error(
        ask(*state, "GET /thaw/v1/code/..%2Fcatalog.sqlite", NULL), 404, "ResourceNotFoundException", "");
    expect_error(
        create(*state, "pets", ""), 409, "ResourceConflictException", "Function already exist: pets");
}

static void finds_functions_by_every_name(void **state)
{
    expect_status(create(*state, "pets", "\"Publish\":true"), 201);
    const char *good[] = {"pets", "pets/", "pets:1", "pets%3A1", "pets%3A%24LATEST", "pets?Qualifier=1",
        "pets:1?Qualifier=1", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Apets%3A1",
        "000000000000%3Afunction%3Apets"};
    for (size_t i = 0; i < countof(good); i++) {
        CLEANUP_FREE char *request = xasprintf("GET " FUNCTIONS "/%s", good[i]);
        expect_status(ask(*state, request, NULL), 200);
    }
    expect_error(ask(*state, "GET " FUNCTIONS "/dogs", NULL), 404, "ResourceNotFoundException",
        "Function not found: " ARN "dogs");
    expect_error(ask(*state, "GET " FUNCTIONS "/pets:9/configuration", NULL), 404,
        "ResourceNotFoundException", "Function not found: " ARN "pets:9");
    expect_error(ask(*state, "GET " FUNCTIONS "/pets:1?Qualifier=2", NULL), 400,
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.");
    expect_error(ask(*state, "GET " FUNCTIONS "/p*ts", NULL), 400, "ValidationException",
        "1 validation error detected: Value 'p*ts' at 'functionName' failed to satisfy constraint: Member "
        "must "
        "satisfy regular expression pattern: (arn:");
    expect_error(ask(*state, "GET " FUNCTIONS "/p%2A?Qualifier=no%21", NULL), 400, "ValidationException",
        "2 validation errors detected: ");
    expect_error(ask(*state, "GET " FUNCTIONS "/eu-west-1:000000000000:function:pets", NULL), 404,
        "ResourceNotFoundException",
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')");
    expect_error(
        ask(*state, "GET " FUNCTIONS "/123456789012:function:pets", NULL), 403, "AccessDeniedException", "");
    expect_error(ask(*state, "GET " FUNCTIONS "/pets%00", NULL), 400, "InvalidParameterValueException", "");
    expect_error(
        ask(*state, "GET " FUNCTIONS "/pets%C3%28", NULL), 400, "ValidationException", "functionName");
}

static void refuse_create(
    struct fixture *f, const char *more, unsigned status, const char *type, const char *text)
{
    expect_error(create(f, "bad", more), status, type, text);
}

static void refuses_bad_configurations(void **state)
{
    struct fixture *f = *state;
    const char *validation = "ValidationException", *invalid = "InvalidParameterValueException";
    refuse_create(f, "\"MemorySize\":127", 400, validation,
        "Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or "
        "equal to "
        "128");
    refuse_create(f, "\"MemorySize\":10241,\"Timeout\":0", 400, validation, "2 validation errors detected: ");
    refuse_create(f, "\"Timeout\":901", 400, validation, "less than or equal to 900");
    refuse_create(f, "\"Timeout\":\"3\"", 400, "SerializationException", "STRING_VALUE can not be converted");
    refuse_create(f, "\"Timeout\":99999999999999999999", 400, "InvalidRequestContentException", "");
    refuse_create(f, "\"Timeout\":1.5", 400, "SerializationException", "");
    refuse_create(f, "\"Description\":[]", 400, "SerializationException", "found where not expected");
    refuse_create(
        f, "\"Environment\":{\"Variables\":{\"A1\":1}}", 400, "SerializationException", "NUMBER_VALUE");
    refuse_create(
        f, "\"Environment\":{\"Variables\":{\"1A\":\"x\"}}", 400, validation, "[a-zA-Z]([a-zA-Z0-9_])+");
    refuse_create(f, "\"Environment\":{\"Variables\":{\"AWS_REGION\":\"x\"}}", 400, invalid,
        "Reserved keys used in this request: AWS_REGION");
    char long_value[4200];
    memset(long_value, 'v', sizeof long_value - 1);
    long_value[sizeof long_value - 1] = '\0';
    CLEANUP_FREE char *large = xasprintf("\"Environment\":{\"Variables\":{\"AB\":\"%s\"}}", long_value);
    refuse_create(f, large, 400, invalid, "exceeded the 4KB limit. String measured: {\"AB\":\"vvv");
    refuse_create(f, "\"EphemeralStorage\":{\"Size\":511}", 400, validation, "ephemeralStorage.size");
    refuse_create(f, "\"EphemeralStorage\":{}", 400, validation, "must not be null");
    refuse_create(f, "\"SnapStart\":{\"ApplyOn\":\"invalidOption\"}", 400, validation,
        "1 validation error detected: Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy "
        "constraint: "
        "Member must satisfy enum value set: [PublishedVersions, None]");
    refuse_create(f, "\"TracingConfig\":{\"Mode\":\"On\"}", 400, validation, "tracingConfig.mode");
    refuse_create(f, "\"LoggingConfig\":{\"LogFormat\":\"XML\"}", 400, validation, "loggingConfig.logFormat");
    refuse_create(
        f, "\"LoggingConfig\":{\"ApplicationLogLevel\":\"INFO\"}", 400, invalid, "LogFormat is JSON");
    refuse_create(f, "\"PackageType\":\"Image\"", 400, invalid, "PackageType Image is not supported");
    refuse_create(f, "\"Layers\":[\"arn\"]", 400, invalid, "Layers is not supported");
    refuse_create(
        f, "\"VpcConfig\":{\"SubnetIds\":[\"subnet-1\"]}", 400, invalid, "VpcConfig is not supported");
    refuse_create(f, "\"FileSystemConfigs\":[{}]", 400, invalid, "FileSystemConfigs is not supported");
    refuse_create(
        f, "\"Architectures\":[\"X86_64\"]", 400, validation, "Value '[X86_64]' at 'architectures'");
    refuse_create(f, "\"Architectures\":[\"x86_64\",\"arm64\"]", 400, validation, "Value '[x86_64, arm64]'");
#ifdef __x86_64__
    refuse_create(f, "\"Architectures\":[\"arm64\"]", 400, invalid, "cannot run arm64");
#endif
    refuse_create(f, "\"Runtime\":\"cobol74\"", 400, invalid,
        "Value cobol74 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        "[python3.11, "
        "provided, provided.al2, provided.al2023] or be a valid ARN");
    refuse_create(f, "\"Runtime\":null", 400, invalid, "Runtime and Handler are mandatory");
    refuse_create(f, "\"Handler\":\"a b\"", 400, validation, "[^\\s]+");
    refuse_create(f, "\"Role\":\"r1\"", 400, validation, "Value 'r1' at 'role'");
    refuse_create(f, "\"Code\":null", 400, validation, "'code'");
    refuse_create(f, "\"Code\":{}", 400, invalid, "Please provide a source for function code.");
    refuse_create(
        f, "\"Code\":{\"S3Bucket\":\"b\",\"S3Key\":\"k\"}", 400, invalid, "Error occurred while GetObject.");
    refuse_create(f, "\"Code\":{\"ZipFile\":\"bm90IGEgemlw\"}", 400, invalid,
        "Could not unzip uploaded file. Please check your file, then try to upload again.");
    refuse_create(f, "\"Code\":{\"ZipFile\":\"***\"}", 400, "SerializationException", "base64");
    refuse_create(f, "\"FunctionName\":\"invalid:function:name\"", 400, validation, "functionName");
    refuse_create(f, "\"FunctionName\":null", 400, validation, "Value null at 'functionName'");
    refuse_create(f, "\"FunctionName\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        400, invalid, "failed to satisfy constraint: Member must have length less than or equal to 64");
    expect_error(ask(f, "GET " FUNCTIONS "/bad", NULL), 404, "ResourceNotFoundException", "");
}

static void refuses_bad_json(void **state)
{
    struct fixture *f = *state;
    expect_error(ask(f, "POST " FUNCTIONS, "{"), 400, "InvalidRequestContentException", "Could not parse");
    expect_error(ask(f, "POST " FUNCTIONS, "[]"), 400, "SerializationException", "structure");
    expect_error(ask(f, "POST " FUNCTIONS, "{} x"), 400, "InvalidRequestContentException", "");
    expect_error(ask(f, "POST " FUNCTIONS, ""), 400, "ValidationException", "'functionName'");
    expect_error(ask(f, "POST " FUNCTIONS, "{\"FunctionName\":\"a\\u0000b\"}"), 400,
        "InvalidRequestContentException", "");
    size_t deep = 200000;
    char *text = xcalloc(1, deep + 1);
    memset(text, '[', deep);
    expect_error(ask(f, "POST " FUNCTIONS, text), 400, "InvalidRequestContentException", "");
    memset(text, '"', deep);
    expect_error(ask(f, "POST " FUNCTIONS, text), 400, "InvalidRequestContentException", "");
    free(text);
    size_t wide = LAMBDA_SMALL_BODY_BYTES + 100;
    text = xcalloc(1, wide + 1);
    memset(text, ' ', wide);
    expect_error(ask(f, "POST " FUNCTIONS, text), 413, "RequestEntityTooLargeException", "beside its code");
    expect_error(
        ask(f, "PUT " FUNCTIONS "/x/configuration", text), 413, "RequestEntityTooLargeException", "");
    free(text);
}

static void takes_a_large_package_without_its_json_tree(void **state)
{
    struct fixture *f = *state;
    struct zip_maker zip = {0};
    size_t size = 3 << 20;
    char *content = xcalloc(1, size + 1);
    for (size_t i = 0; i < size; i++)
        content[i] = (char)('a' + i * 7 % 23);
    zip_add(&zip, "app.py", 0100644, content);
    zip_end(&zip);
    CLEANUP_FREE char *text = base64_of(zip.data.data, zip.data.len);
    CLEANUP_FREE char *body = xasprintf("{\"Code\":{\"ZipFile\":\"%s\"},\"FunctionName\":\"big\",\"Runtime\":"
                                        "\"provided.al2023\",\"Handler\":\"h\",\"Role\":\"" ROLE "\"}",
        text);
    struct http_exchange *e = ask(f, "POST " FUNCTIONS, body);
    assert_int_equal(json_integer_value(json_object_get(e->json, "CodeSize")), zip.data.len);
    expect_status(e, 201);
    /* A client that writes our placeholder for a big string means that string, or nothing. */
    expect_error(create(f, "odd", "\"Code\":{\"ZipFile\":\"\\u0001big string 0\"}"), 400,
        "SerializationException", "");
    buffer_free(&zip.data);
    free(content);
}

static void updates_code(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    CLEANUP_FREE char *zip = small_package("x = 2");
    CLEANUP_FREE char *body = xasprintf("{\"ZipFile\":\"%s\"}", zip);
    CLEANUP_FREE char *dry = xasprintf("{\"ZipFile\":\"%s\",\"DryRun\":true}", zip);
    CLEANUP_FREE char *publish = xasprintf("{\"ZipFile\":\"%s\",\"Publish\":true}", zip);
    CLEANUP_FREE char *revision = xasprintf("{\"ZipFile\":\"%s\",\"RevisionId\":\"no\"}", zip);
    struct http_exchange *before = ask(f, "GET " FUNCTIONS "/pets/configuration", NULL);
    struct http_exchange *e = ask(f, "PUT " FUNCTIONS "/pets/code", dry);
    assert_int_equal(e->status, 200);
    assert_string_not_equal(answer(e, "CodeSha256"), answer(before, "CodeSha256"));
    assert_int_equal(f->backend.retired, 0);
    exchange_free(e);
    expect_error(ask(f, "PUT " FUNCTIONS "/pets/code", revision), 412, "PreconditionFailedException",
        "The Revision Id provided does not match");
    e = ask(f, "PUT " FUNCTIONS "/pets/code", body);
    assert_int_equal(e->status, 200);
    assert_string_equal(answer(e, "LastUpdateStatus"), "InProgress");
    assert_string_equal(answer(e, "State"), "Active");
    assert_string_not_equal(answer(e, "CodeSha256"), answer(before, "CodeSha256"));
    assert_string_not_equal(answer(e, "RevisionId"), answer(before, "RevisionId"));
    assert_int_equal(f->backend.retired, 1);
    exchange_free(e);
    exchange_free(before);
    e = ask(f, "PUT " FUNCTIONS "/pets/code", publish);
    assert_string_equal(answer(e, "Version"), "1");
    assert_string_equal(answer(e, "FunctionArn"), ARN "pets:1");
    expect_status(e, 200);
    expect_error(ask(f, "PUT " FUNCTIONS "/dogs/code", body), 404, "ResourceNotFoundException", "");
    expect_error(
        ask(f, "PUT " FUNCTIONS "/pets/code", "{}"), 400, "InvalidParameterValueException", "source");
}

static void one_update_at_a_time(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    CLEANUP_FREE char *zip = small_package("x = 2");
    CLEANUP_FREE char *body = xasprintf("{\"ZipFile\":\"%s\"}", zip);
    struct http_exchange *first =
        begin(f, "PUT " FUNCTIONS "/pets/code", (struct bytes){(const uint8_t *)body, strlen(body)}, NULL);
    assert_int_equal(first->status, 0);
    const char *text =
        "The operation cannot be performed at this time. An update is in progress for resource: " ARN "pets";
    expect_error(ask(f, "PUT " FUNCTIONS "/pets/code", body), 409, "ResourceConflictException", text);
    expect_error(
        ask(f, "PUT " FUNCTIONS "/pets/configuration", "{}"), 409, "ResourceConflictException", text);
    expect_error(ask(f, "POST " FUNCTIONS "/pets/versions", ""), 409, "ResourceConflictException", text);
    expect_error(ask(f, "DELETE " FUNCTIONS "/pets", ""), 409, "ResourceConflictException", text);
    finish(f, first);
    expect_status(first, 200);
}

static void stop_loop(void *context)
{
    loop_stop(context);
}

static void goes_on_when_the_client_left(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE char *one = create_body("one", "x = 1", ""), *two = create_body("two", "x = 2", "");
    CLEANUP_FREE char *three = create_body("three", "x = 3", ""), *last = create_body("last", "x = 4", "");
    const char *bodies[] = {one, two, three};
    struct http_exchange *gone[3];
    for (int i = 0; i < 3; i++) {
        gone[i] =
            begin(f, "POST " FUNCTIONS, (struct bytes){(const uint8_t *)bodies[i], strlen(bodies[i])}, NULL);
        lambda_done(f->api, gone[i], false);
    }
    expect_status(ask(f, "POST " FUNCTIONS, last), 201);
    /* What ran is done all the same; what only waited went with its client. */
    while (f->api->jobs != NULL) {
        struct loop_timer *timer = NULL;
        struct error err;
        loop_timer_set(f->loop, &timer, clock_monotonic_ns() + 1000000, stop_loop, f->loop);
        assert_int_equal(loop_run(f->loop, &err), 0);
    }
    expect_status(ask(f, "GET " FUNCTIONS "/one", NULL), 200);
    expect_status(ask(f, "GET " FUNCTIONS "/two", NULL), 200);
    expect_error(ask(f, "GET " FUNCTIONS "/three", NULL), 404, "ResourceNotFoundException", "");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gone[i]->status, 0);
        exchange_free(gone[i]);
    }
}

static void updates_configuration_in_part(void **state)
{
    struct fixture *f = *state;
    expect_status(
        create(f, "pets", "\"MemorySize\":256,\"Environment\":{\"Variables\":{\"KEY\":\"v\"}}"), 201);
    struct http_exchange *e = ask(f, "PUT " FUNCTIONS "/pets/configuration", "{\"Timeout\":9}");
    assert_int_equal(json_integer_value(json_object_get(e->json, "Timeout")), 9);
    assert_int_equal(json_integer_value(json_object_get(e->json, "MemorySize")), 256);
    assert_string_equal(answer(e, "Environment.Variables.KEY"), "v");
    assert_string_equal(answer(e, "LastUpdateStatus"), "InProgress");
    assert_int_equal(f->backend.retired, 1);
    expect_status(e, 200);
    e = ask(f, "PUT " FUNCTIONS "/pets/configuration",
        "{\"Environment\":{\"Variables\":{}},\"Runtime\":\"provided.al2\"}");
    assert_string_equal(answer(e, "Environment.Variables.KEY"), "");
    assert_string_equal(answer(e, "Runtime"), "provided.al2");
    expect_status(e, 200);
    expect_error(ask(f, "PUT " FUNCTIONS "/pets/configuration", "{\"RevisionId\":\"x\"}"), 412,
        "PreconditionFailedException", "");
    expect_error(
        ask(f, "PUT " FUNCTIONS "/pets/configuration", "{\"Timeout\":0}"), 400, "ValidationException", "");
    expect_error(ask(f, "PUT " FUNCTIONS "/dogs/configuration", "{}"), 404, "ResourceNotFoundException", "");
}

static void publishes_and_freezes(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", "\"SnapStart\":{\"ApplyOn\":\"PublishedVersions\"}"), 201);
    expect_error(ask(f, "POST " FUNCTIONS "/pets/versions", "{\"CodeSha256\":\"wrong\"}"), 400,
        "InvalidParameterValueException",
        "CodeSHA256 (wrong) is different from current CodeSHA256 in $LATEST (");
    expect_error(ask(f, "POST " FUNCTIONS "/pets/versions", "{\"RevisionId\":\"wrong\"}"), 412,
        "PreconditionFailedException", "");
    struct http_exchange *e = ask(f, "POST " FUNCTIONS "/pets/versions", "{\"Description\":\"one\"}");
    assert_string_equal(answer(e, "Version"), "1");
    assert_string_equal(answer(e, "FunctionArn"), ARN "pets:1");
    assert_string_equal(answer(e, "State"), "Pending");
    assert_string_equal(answer(e, "StateReasonCode"), "Creating");
    assert_string_equal(answer(e, "Description"), "one");
    expect_status(e, 201);
    assert_int_equal(f->backend.snapshots, 1);
    assert_string_equal(f->backend.frozen, "1");
    e = ask(f, "POST " FUNCTIONS "/pets/versions", ""); /* nothing changed: the same version */
    assert_string_equal(answer(e, "Version"), "1");
    expect_status(e, 201);
    assert_int_equal(f->backend.snapshots, 1);
    expect_error(ask(f, "POST " FUNCTIONS "/pets:1/invocations", "{}"), 409, "ResourceConflictException",
        "The operation cannot be performed at this time. The function is currently in the following state: "
        "Pending");

    CLEANUP_FUNCTION const struct catalog_function *one = NULL;
    struct error err;
    assert_int_equal(catalog_get(f->catalog, "pets", "1", &one, &err), 0);
    assert_int_equal(catalog_set_snapshot(f->catalog, one,
                         &(struct catalog_snapshot){.id = "0123456789abcdef0123456789abcdef"}, NULL, &err),
        0);
    e = ask(f, "GET " FUNCTIONS "/pets/configuration?Qualifier=1", NULL);
    assert_string_equal(answer(e, "State"), "Active");
    assert_string_equal(answer(e, "SnapStart.OptimizationStatus"), "On");
    assert_string_equal(answer(e, "LastUpdateStatus"), "Successful");
    expect_status(e, 200);
    expect_status(ask(f, "POST " FUNCTIONS "/pets:1/invocations", "{}"), 200);
    assert_string_equal(f->backend.version, "1");
    assert_int_equal(
        catalog_set_state(f->catalog, one, CATALOG_FAILED, "handler not found", "FunctionError", NULL, &err),
        0);
    expect_error(ask(f, "POST " FUNCTIONS "/pets:1/invocations", "{}"), 409, "ResourceConflictException",
        "following state: Failed (FunctionError: handler not found)");
    e = ask(f, "GET " FUNCTIONS "/pets/versions", NULL);
    assert_string_equal(answer(e, "Versions.0.Version"), "$LATEST");
    assert_string_equal(answer(e, "Versions.1.FunctionArn"), ARN "pets:1");
    assert_string_equal(answer(e, "Versions.1.State"), "");
    expect_status(e, 200);
}

static void wakes_up_what_is_inactive(void **state)
{
    struct fixture *f = *state;
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *one = NULL;
    expect_status(
        create(f, "pets", "\"Publish\":true,\"SnapStart\":{\"ApplyOn\":\"PublishedVersions\"}"), 201);
    assert_int_equal(catalog_get(f->catalog, "pets", "1", &one, &err), 0);
    assert_int_equal(catalog_set_inactive(f->catalog, one, "It is idle.", "Idle", NULL, &err), 0);
    struct http_exchange *e = ask(f, "GET " FUNCTIONS "/pets?Qualifier=1", NULL);
    assert_string_equal(answer(e, "Configuration.State"), "Inactive");
    assert_string_equal(answer(e, "Configuration.StateReason"), "It is idle.");
    assert_string_equal(answer(e, "Configuration.StateReasonCode"), "Idle");
    assert_string_equal(answer(e, "Configuration.SnapStart.OptimizationStatus"), "Off");
    expect_status(e, 200);
    expect_status(ask(f, "POST " FUNCTIONS "/pets:1/invocations", "{}"), 200); /* the backend is asked */
    assert_string_equal(f->backend.version, "1");
    const char *event[] = {"X-Amz-Invocation-Type: Event", NULL};
    expect_status(ask_with(f, "POST " FUNCTIONS "/pets:1/invocations", "{}", event), 202);
    assert_int_equal(catalog_set_state(f->catalog, one, CATALOG_PENDING, "It is being restored.",
                         CATALOG_CODE_RESTORING, NULL, &err),
        0);
    expect_error(ask(f, "POST " FUNCTIONS "/pets:1/invocations", "{}"), 409, "SnapStartNotReadyException",
        "Lambda is initializing your function. It will be ready to invoke once your function state becomes "
        "ACTIVE.");
    expect_status(ask_with(f, "POST " FUNCTIONS "/pets:1/invocations", "{}", event), 202);
}

static void publishes_on_creation(void **state)
{
    struct http_exchange *e =
        create(*state, "pets", "\"Publish\":true,\"SnapStart\":{\"ApplyOn\":\"PublishedVersions\"}");
    assert_string_equal(answer(e, "Version"), "1");
    assert_string_equal(answer(e, "FunctionArn"), ARN "pets");
    assert_string_equal(answer(e, "State"), "Pending");
    expect_status(e, 201);
    assert_int_equal(((struct fixture *)*state)->backend.snapshots, 1);
}

static void invokes(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", "\"Publish\":true"), 201);
    f->backend.outcome.log_tail = (struct bytes){(const uint8_t *)"START\nEND\n", 10};
    f->backend.outcome.trace_json = "{\"fork_ns\":1}";
    const char *headers[] = {"X-Amz-Log-Type: Tail", "X-Amz-Client-Context: eyJhIjoxfQ==", "X-Thaw-Trace: 1",
        "X-Amzn-Trace-Id: Root=1-2-3", NULL};
    struct http_exchange *e =
        ask_with(f, "POST " FUNCTIONS "/pets/invocations?Qualifier=1", "{\"n\":1}", headers);
    assert_int_equal(e->status, 200);
    assert_memory_equal(e->reply.data, "{\"ok\":1}", 8);
    assert_string_equal(answer_header(e, "X-Amz-Executed-Version"), "1");
    assert_string_equal(answer_header(e, "X-Amz-Log-Result"), "U1RBUlQKRU5ECg==");
    assert_string_equal(answer_header(e, "X-Thaw-Trace"), "{\"fork_ns\":1}");
    assert_string_equal(answer_header(e, "X-Amzn-Trace-Id"), "Root=1-2-3");
    assert_string_equal(answer_header(e, "X-Amz-Function-Error"), "");
    assert_string_equal(f->backend.payload, "{\"n\":1}");
    assert_string_equal(f->backend.arn, ARN "pets:1");
    assert_string_equal(f->backend.context, "{\"a\":1}");
    assert_string_equal(f->backend.trace, "Root=1-2-3");
    exchange_free(e);

    f->backend.outcome.kind = LAMBDA_OUTCOME_FUNCTION_ERROR;
    e = ask(f, "POST " FUNCTIONS "/pets/invocations", "");
    assert_string_equal(answer_header(e, "X-Amz-Function-Error"), "Unhandled");
    assert_string_equal(answer_header(e, "X-Amz-Executed-Version"), "$LATEST");
    assert_string_equal(answer_header(e, "X-Amz-Log-Result"), "");
    assert_string_equal(answer_header(e, "X-Thaw-Trace"), "");
    assert_memory_equal(answer_header(e, "X-Amzn-Trace-Id"), "Root=1-", 7);
    assert_string_equal(f->backend.payload, "{}");
    assert_string_equal(f->backend.arn, ARN "pets");
    expect_status(e, 200);

    f->backend.outcome = (struct lambda_outcome){.kind = LAMBDA_OUTCOME_REFUSED,
        .http_status = 429,
        .error_type = "TooManyRequestsException",
        .message = "Rate Exceeded.",
        .reason = "ConcurrentInvocationLimitExceeded"};
    e = ask(f, "POST " FUNCTIONS "/pets/invocations", "{}");
    assert_string_equal(answer(e, "Reason"), "ConcurrentInvocationLimitExceeded");
    assert_string_equal(answer(e, "Type"), "User");
    assert_string_equal(answer_header(e, "Retry-After"), "1");
    expect_error(e, 429, "TooManyRequestsException", "Rate Exceeded.");
}

static void refuses_bad_invocations(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    const char *path = "POST " FUNCTIONS "/pets/invocations";
    expect_error(ask(f, path, "not json"), 400, "InvalidRequestContentException",
        "Could not parse request body into json: Could not parse payload into json: Unrecognized token "
        "'not'");
    expect_error(ask(f, "POST " FUNCTIONS "/dogs/invocations", "{}"), 404, "ResourceNotFoundException",
        "Function not found: " ARN "dogs:$LATEST");
    const char *bad_type[] = {"X-Amz-Invocation-Type: Later", NULL};
    expect_error(ask_with(f, path, "{}", bad_type), 400, "ValidationException", "'invocationType'");
    const char *bad_log[] = {"X-Amz-Log-Type: All", NULL};
    expect_error(ask_with(f, path, "{}", bad_log), 400, "ValidationException", "[None, Tail]");
    const char *contexts[] = {"X-Amz-Client-Context: ***",
        "X-Amz-Client-Context: bm8=", "X-Amz-Client-Context: WzFd", "X-Amz-Client-Context: e",
        "X-Amz-Client-Context: AAAA"};
    for (size_t i = 0; i < countof(contexts); i++) {
        const char *headers[] = {contexts[i], NULL};
        expect_error(
            ask_with(f, path, "{}", headers), 400, "InvalidRequestContentException", "Client context");
    }
    char *large = xcalloc(1, LIMIT_PAYLOAD_BYTES + 2);
    memset(large, '1', LIMIT_PAYLOAD_BYTES + 1);
    expect_error(ask(f, path, large), 413, "RequestTooLargeException",
        "6291557 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)");
    large[LIMIT_EVENT_PAYLOAD_BYTES + 1] = '\0';
    const char *event[] = {"X-Amz-Invocation-Type: Event", NULL};
    expect_error(
        ask_with(f, path, large, event), 413, "RequestTooLargeException", "for the Event invocation type");
    free(large);
    assert_int_equal(f->backend.invoked, 0);
}

static void queues_events_and_dry_runs(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    const char *event[] = {"X-Amz-Invocation-Type: Event", "X-Amz-Client-Context: eyJhIjoxfQ==", NULL};
    struct http_exchange *e = ask_with(f, "POST " FUNCTIONS "/pets/invocations", "[1,2]", event);
    assert_int_equal(e->status, 202);
    assert_int_equal(e->reply.len, 0);
    assert_int_equal(f->backend.queued, 1);
    struct catalog_event queued;
    bool found;
    struct error err;
    assert_int_equal(catalog_event_claim(f->catalog, clock_wall_ms(), &queued, &found, &err), 0);
    assert_true(found);
    assert_string_equal(queued.request_id, answer_header(e, "x-amzn-RequestId"));
    assert_string_equal(queued.qualifier, "$LATEST");
    assert_string_equal(queued.client_context, "{\"a\":1}");
    assert_string_equal(queued.invoked_arn, ARN "pets");
    assert_memory_equal(queued.payload.data, "[1,2]", 5);
    catalog_event_free(&queued);
    exchange_free(e);
    const char *dry[] = {"X-Amz-Invocation-Type: DryRun", NULL};
    expect_status(ask_with(f, "POST " FUNCTIONS "/pets/invocations", "{}", dry), 204);
    assert_int_equal(f->backend.invoked, 0);
}

static void an_invocation_outlives_its_client(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    f->backend.hold = true;
    struct http_exchange *e =
        begin(f, "POST " FUNCTIONS "/pets/invocations", (struct bytes){(const uint8_t *)"{}", 2}, NULL);
    lambda_done(f->api, e, false);
    exchange_free(e);
    expect_status(ask(f, "DELETE " FUNCTIONS "/pets", NULL), 204);
    assert_string_equal(f->backend.held->function->name, "pets"); /* still there for who holds it */
    f->backend.held->finish(f->backend.held, &f->backend.outcome);
}

static void lists_in_pages(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "a", "\"Publish\":true"), 201);
    expect_status(create(f, "b", ""), 201);
    expect_status(create(f, "c", ""), 201);
    struct http_exchange *e = ask(f, "GET " FUNCTIONS "/?MaxItems=2", NULL);
    assert_string_equal(answer(e, "Functions.1.FunctionName"), "b");
    assert_string_equal(answer(e, "Functions.1.FunctionArn"), ARN "b");
    CLEANUP_FREE char *next = xasprintf("GET " FUNCTIONS "?Marker=%s", answer(e, "NextMarker"));
    expect_status(e, 200);
    e = ask(f, next, NULL);
    assert_string_equal(answer(e, "Functions.0.FunctionName"), "c");
    assert_string_equal(answer(e, "NextMarker"), "");
    expect_status(e, 200);
    e = ask(f, "GET " FUNCTIONS "?FunctionVersion=ALL", NULL);
    assert_string_equal(answer(e, "Functions.1.FunctionArn"), ARN "a:1");
    expect_status(e, 200);
    expect_status(ask(f, "GET " FUNCTIONS "/a/versions?MaxItems=10000", NULL), 200);
    expect_error(ask(f, "GET " FUNCTIONS "?FunctionVersion=x", NULL), 400, "ValidationException", "[ALL]");
    expect_error(ask(f, "GET " FUNCTIONS "?MaxItems=0", NULL), 400, "ValidationException", "greater than");
    expect_error(ask(f, "GET " FUNCTIONS "?MaxItems=10001", NULL), 400, "ValidationException", "less than");
    expect_error(ask(f, "GET " FUNCTIONS "?MaxItems=-1", NULL), 400, "ValidationException", "maxItems");
    expect_error(ask(f, "GET " FUNCTIONS "?Marker=x", NULL), 400, "InvalidParameterValueException", "");
}

static unsigned code_entries(const struct fixture *f)
{
    unsigned count = 0;
    CLEANUP_FREE char *path = xasprintf("%s/code", f->folder);
    DIR *dir = opendir(path);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void stop(void *context)
{
    loop_stop(context);
}

static void wait_for_code_entries(struct fixture *f, unsigned count)
{
    struct error err;
    while (code_entries(f) != count) {
        struct loop_timer *timer = NULL;
        loop_timer_set(f->loop, &timer, clock_monotonic_ns() + 5000000, stop, f->loop);
        assert_int_equal(loop_run(f->loop, &err), 0);
    }
}

static void deletes_and_removes_packages(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", "\"Publish\":true"), 201);
    assert_int_equal(code_entries(f), 2);
    CLEANUP_FREE char *zip = small_package("x = 2");
    CLEANUP_FREE char *body = xasprintf("{\"ZipFile\":\"%s\"}", zip);
    expect_status(ask(f, "PUT " FUNCTIONS "/pets/code", body), 200);
    assert_int_equal(code_entries(f), 4); /* version 1 still runs the first */
    expect_error(ask(f, "DELETE " FUNCTIONS "/pets:$LATEST", NULL), 400, "InvalidParameterValueException",
        "$LATEST version cannot be deleted without deleting the function.");
    expect_error(
        ask(f, "DELETE " FUNCTIONS "/pets:prod", NULL), 400, "InvalidParameterValueException", "aliases");
    expect_status(ask(f, "DELETE " FUNCTIONS "/pets?Qualifier=1", NULL), 204);
    assert_int_equal(f->backend.deleted, 1);
    wait_for_code_entries(f, 2);
    expect_status(ask(f, "DELETE " FUNCTIONS "/pets?Qualifier=1", NULL), 204);
    expect_status(ask(f, "DELETE " FUNCTIONS "/pets", NULL), 204);
    assert_int_equal(f->backend.deleted, 2);
    wait_for_code_entries(f, 0);
    expect_error(
        ask(f, "DELETE " FUNCTIONS "/pets", NULL), 404, "ResourceNotFoundException", "Function not found");
    expect_error(ask(f, "DELETE " FUNCTIONS "/pets:1", NULL), 404, "ResourceNotFoundException", "");
}

static void cleans_up_when_it_starts(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    fixture_close(f);
    const char *rest[] = {
        "tmp-1", "tmp-1/deep", "gone-2", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    for (size_t i = 0; i < countof(rest); i++) {
        CLEANUP_FREE char *path = xasprintf("%s/code/%s", f->folder, rest[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    fixture_open(f);
    wait_for_code_entries(f, 2);
    expect_status(ask(f, "GET " FUNCTIONS "/pets", NULL), 200);
}

static void keeps_tags(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", "\"Tags\":{\"a\":\"1\"}"), 201);
#define TAGS "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Apets"
    expect_status(ask(f, "POST " TAGS, "{\"Tags\":{\"b c\":\"2\",\"d\":\"3\"}}"), 204);
    expect_status(ask(f, "DELETE " TAGS "?tagKeys=a&tagKeys=b%20c&tagKeys=none", NULL), 204);
    struct http_exchange *e = ask(f, "GET " TAGS, NULL);
    assert_string_equal(answer(e, "Tags.d"), "3");
    assert_int_equal(json_object_size(json_object_get(e->json, "Tags")), 1);
    expect_status(e, 200);
    expect_error(ask(f, "DELETE " TAGS, NULL), 400, "ValidationException", "'tagKeys'");
    expect_error(ask(f, "POST " TAGS, "{\"Tags\":{}}"), 400, "InvalidParameterValueException", "");
    expect_error(
        ask(f, "GET " TAGS "%3A1", NULL), 400, "InvalidParameterValueException", "aliases and versions");
    expect_error(ask(f, "GET /2017-03-31/tags/pets", NULL), 400, "ValidationException", "'resource'");
    CLEANUP_BUFFER struct buffer many = {0};
    buffer_printf(&many, "{\"Tags\":{");
    for (int i = 0; i < 51; i++)
        buffer_printf(&many, "%s\"k%d\":\"v\"", i > 0 ? "," : "", i);
    buffer_printf(&many, "}}");
    expect_error(ask(f, "POST " TAGS, (char *)many.data), 400, "InvalidParameterValueException",
        "Number of tags exceeds resource tag limit.");
}

static void is_polite_about_what_it_lacks(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    const char *good[] = {"GET /2016-08-19/account-settings/", "GET /2019-09-30/functions/pets/concurrency",
        "GET /2020-06-30/functions/pets/code-signing-config", "GET " FUNCTIONS "/pets/aliases",
        "GET /2021-07-20/functions/pets/runtime-management-config",
        "GET /2024-08-31/functions/pets/recursion-config", "GET /2018-10-31/layers",
        "GET /2015-03-31/event-source-mappings/?FunctionName=pets", "GET /2021-10-31/functions/pets/urls",
        "GET /2019-09-25/functions/pets/event-invoke-config/list",
        "GET /2019-09-30/functions/pets/provisioned-concurrency?List=ALL"};
    for (size_t i = 0; i < countof(good); i++)
        expect_status(ask(f, good[i], NULL), 200);
    struct http_exchange *e = ask(f, "GET /2016-08-19/account-settings", NULL);
    json_t *usage = json_object_get(e->json, "AccountUsage");
    assert_int_equal(json_integer_value(json_object_get(usage, "FunctionCount")), 1);
    expect_status(e, 200);
    const char *missing = "The resource you requested does not exist.";
    expect_error(ask(f, "GET " FUNCTIONS "/pets/policy", NULL), 404, "ResourceNotFoundException", missing);
    expect_error(
        ask(f, "GET /2021-10-31/functions/pets/url", NULL), 404, "ResourceNotFoundException", missing);
    expect_error(ask(f, "GET " FUNCTIONS "/pets/aliases/x", NULL), 404, "ResourceNotFoundException",
        "Cannot find alias arn: " ARN "pets:x");
    expect_error(ask(f, "GET /2019-09-25/functions/pets/event-invoke-config", NULL), 404,
        "ResourceNotFoundException", "The function " ARN "pets:$LATEST doesn't have an EventInvokeConfig");
    expect_error(ask(f, "POST " FUNCTIONS "/pets/aliases", "{}"), 501, "NotImplementedException", "");
    expect_error(ask(f, "GET /nowhere", NULL), 404, "UnknownOperationException", "");
    expect_error(ask(f, "PATCH " FUNCTIONS, NULL), 405, "UnknownOperationException", "");
}

static void says_when_the_catalog_cannot_write(void **state)
{
    struct fixture *f = *state;
    expect_status(create(f, "pets", ""), 201);
    sqlite3_exec(f->catalog->db, "PRAGMA query_only=1", NULL, NULL, NULL);
    expect_error(create(f, "dogs", ""), 500, "ServiceException", "cannot be written");
    expect_error(ask(f, "DELETE " FUNCTIONS "/pets", NULL), 500, "ServiceException", "cannot be written");
    const char *event[] = {"X-Amz-Invocation-Type: Event", NULL};
    expect_error(
        ask_with(f, "POST " FUNCTIONS "/pets/invocations", "{}", event), 500, "ServiceException", "");
    expect_status(ask(f, "POST " FUNCTIONS "/pets/invocations", "{}"), 200);
    assert_int_equal(f->backend.queued, 0);
    assert_int_equal(f->backend.deleted, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(creates_and_describes_a_function),
        TEST(finds_functions_by_every_name),
        TEST(refuses_bad_configurations),
        TEST(refuses_bad_json),
        TEST(takes_a_large_package_without_its_json_tree),
        TEST(updates_code),
        TEST(one_update_at_a_time),
        TEST(goes_on_when_the_client_left),
        TEST(updates_configuration_in_part),
        TEST(publishes_and_freezes),
        TEST(wakes_up_what_is_inactive),
        TEST(publishes_on_creation),
        TEST(invokes),
        TEST(refuses_bad_invocations),
        TEST(queues_events_and_dry_runs),
        TEST(an_invocation_outlives_its_client),
        TEST(lists_in_pages),
        TEST(deletes_and_removes_packages),
        TEST(cleans_up_when_it_starts),
        TEST(keeps_tags),
        TEST(is_polite_about_what_it_lacks),
        TEST(says_when_the_catalog_cannot_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
