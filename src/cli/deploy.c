/* thaw deploy: from a folder to a frozen version, in one command. */
#include "cli/deploy.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"
#include "cli/table.h"

#include <ctype.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A name for the function out of its path: the last part, without ".zip", with '-' for what names may not have. */
static char *name_of_path(const char *path)
{
    CLEANUP_FREE char *whole = realpath(path, NULL);
    const char *slash = strrchr(whole ? whole : path, '/');
    const char *last = slash ? slash + 1 : path;
    struct stat about;
    bool is_file = stat(path, &about) == 0 && S_ISREG(about.st_mode);
    const char *dot = is_file ? strrchr(last, '.') : NULL;
    char *name = xstrndup(last, dot && dot > last ? (size_t)(dot - last) : strlen(last));
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
            *c = '-';
    if (strlen(name) > LIMIT_FUNCTION_NAME)
        name[LIMIT_FUNCTION_NAME] = '\0';
    return name;
}

/* ---- the parts of a deployment ---- */

static int add_prime(struct deploy *deploy, struct deploy_package *package, struct error *err)
{
    CLEANUP_BUFFER struct buffer events = {0};
    json_error_t where;
    if (!deploy->prime)
        return 0;
    if (file_read(AT_FDCWD, deploy->prime, &events, LIMIT_PAYLOAD_BYTES, err) < 0)
        return error_prefix(err, "--prime");
    json_t *json = json_loadb((const char *)events.data, events.len, JSON_DECODE_ANY, &where);
    if (!json)
        return error_set(err, ERROR_INVALID, "--prime: %s is not JSON: %s (line %d, column %d)",
            deploy->prime, where.text, where.line, where.column);
    json_decref(json);
    deploy_package_put(package, DEPLOY_PRIME_FILE, (struct bytes){events.data, events.len});
    return 0;
}

/* What the user did not say is as it was; for a new function it is guessed, and said so. */
static int choose_runtime(
    struct deploy *deploy, const struct deploy_package *package, const json_t *now, struct error *err)
{
    json_t *answer = client_get_json(deploy->client, "/thaw/v1/runtimes", err);
    if (!answer)
        return -1;
    const json_t *runtimes = json_object_get(answer, "runtimes");
    bool guesses = !json_is_object(now) && (!deploy->runtime || !deploy->handler);
    int result = 0;
    if (deploy->runtime)
        result = deploy_check_runtime(runtimes, deploy->runtime, err);
    if (result == 0 && guesses)
        result = deploy_guess(&deploy->guess, package, runtimes, deploy->runtime, err);
    json_decref(answer);
    if (result < 0)
        return -1;
    if (deploy->runtime)
        snprintf(deploy->guess.runtime, sizeof deploy->guess.runtime, "%s", deploy->runtime);
    if (deploy->handler)
        snprintf(deploy->guess.handler, sizeof deploy->guess.handler, "%s", deploy->handler);
    if (guesses && !deploy->json)
        fprintf(stderr, "guessed from %s:%s%s%s%s\n", deploy->guess.from,
            deploy->runtime ? "" : " --runtime ", deploy->runtime ? "" : deploy->guess.runtime,
            deploy->handler ? "" : " --handler ", deploy->handler ? "" : deploy->guess.handler);
    return 0;
}

/* What is forgotten most often. The function may do without them, so it is no error. */
static void warn_of_modules(const struct deploy_package *package)
{
    const struct deploy_entry *about = deploy_package_find(package, "package.json");
    json_t *json = about ? json_loadb((const char *)about->content.data, about->content.len, 0, NULL) : NULL;
    bool has_modules = false;
    for (size_t i = 0; i < package->count && !has_modules; i++)
        has_modules = strncmp(package->entries[i].name, "node_modules/", 13) == 0;
    if (!has_modules && json_object_size(json_object_get(json, "dependencies")) > 0)
        fputs("thaw: package.json has dependencies, and there is no node_modules: 'npm install --omit=dev' "
              "makes it\n",
            stderr);
    json_decref(json);
}

static int deploy_package(struct deploy *deploy, const json_t *now, struct error *err)
{
    CLEANUP_PACKAGE struct deploy_package package = {0};
    CLEANUP_BUFFER struct buffer zip = {0};
    deploy_progress(deploy, "packing...");
    if (deploy_package_load(&package, deploy->path, err) < 0 || add_prime(deploy, &package, err) < 0)
        return -1;
    deploy_progress(deploy, NULL);
    warn_of_modules(&package);
    if (choose_runtime(deploy, &package, now, err) < 0)
        return -1;
    deploy_progress(deploy, "zipping...");
    if (deploy_package_zip(&package, &zip, err) < 0)
        return -1;
    deploy->file_count = package.count;
    deploy->zip_bytes = zip.len;
    return deploy_send(deploy, now, (struct bytes){zip.data, zip.len}, err);
}

static int deploy_all(struct deploy *deploy, struct error *err)
{
    deploy->started_ns = clock_monotonic_ns();
    json_t *now = deploy_get_function(deploy, err);
    if (!now)
        return -1;
    int result = deploy_package(deploy, now, err);
    json_decref(now);
    return result < 0 ? -1 : deploy_publish(deploy, err);
}

/* ---- what came of it ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_json(const struct deploy *deploy, double seconds)
{
    const json_t *configuration = deploy->configuration;
    const json_t *variables = json_object_get(json_object_get(configuration, "Environment"), "Variables");
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:s?, s:I, s:I, s:f}", "function",
        deploy->name, "version", deploy->version, "arn", text_of(configuration, "FunctionArn"), "runtime",
        text_of(configuration, "Runtime"), "handler", text_of(configuration, "Handler"), "created",
        (int)deploy->created, "frozen",
        strcmp(text_of(json_object_get(configuration, "SnapStart"), "OptimizationStatus"), "On") == 0,
        "primed", json_object_get(variables, "THAW_PRIME") != NULL, "guessed_from",
        deploy->guess.from[0] ? deploy->guess.from : NULL, "files", (json_int_t)deploy->file_count,
        "zip_bytes", (json_int_t)deploy->zip_bytes, "seconds", seconds);
    json_dumpf(out, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(out);
}

/* An event.json beside the function is what to call it with. */
static char *sample_event(const char *path)
{
    char *file = xasprintf("%s%sevent.json", path, path[strlen(path) - 1] == '/' ? "" : "/");
    struct stat about;
    if (stat(file, &about) == 0)
        return file;
    free(file);
    return NULL;
}

static void print_words(const struct cli_options *options, const struct deploy *deploy, double seconds)
{
    const char *name = deploy->name, *version = deploy->version, *environment = getenv("THAW_ENDPOINT");
    char size[SIZE_TEXT];
    bool frozen =
        strcmp(text_of(json_object_get(deploy->configuration, "SnapStart"), "OptimizationStatus"), "On") == 0;
    bool said = environment && *environment;
    CLEANUP_FREE char *event = sample_event(deploy->path);
    CLEANUP_FREE char *at = said ? xstrdup("") : xasprintf("--endpoint %s ", options->endpoint);
    bool usual = strcmp(options->endpoint, CLI_DEFAULT_ENDPOINT) == 0;
    CLEANUP_FREE char *payload = event ? xasprintf("@%s", event) : xstrdup("'{}'");
    printf("%s:%s %s: %s, handler %s; %zu file%s, %s zipped; %.1f s\n", name, version,
        frozen ? "is frozen" : "is published", text_of(deploy->configuration, "Runtime"),
        text_of(deploy->configuration, "Handler"), deploy->file_count, deploy->file_count == 1 ? "" : "s",
        size_text(size, (double)deploy->zip_bytes), seconds);
    printf("call it:\n  thaw %sinvoke %s:%s --payload %s\n", usual ? "" : at, name, version, payload);
    printf("  aws --endpoint-url %s lambda invoke --function-name %s:%s%s%s out.json\n", options->endpoint,
        name, version, event ? " --payload fileb://" : "", event ? event : "");
    if (frozen)
        printf("measure it:\n  thaw %sbench %s:%s --payload %s\n", usual ? "" : at, name, version, payload);
}

static enum cli_exit deploy_function(const struct cli_options *options, struct deploy *deploy)
{
    struct error err;
    CLEANUP_CLIENT struct client *client = client_new(options, &err);
    deploy->client = client;
    int result = client ? deploy_all(deploy, &err) : -1;
    deploy_progress(deploy, NULL);
    double seconds = (double)(clock_monotonic_ns() - deploy->started_ns) / 1e9;
    if (result == 0 && deploy->json)
        print_json(deploy, seconds);
    else if (result == 0)
        print_words(options, deploy, seconds);
    json_decref(deploy->configuration);
    free(deploy->version);
    return result < 0 ? cli_fail(&err) : CLI_OK;
}

/* ---- the command line ---- */

/* -1: the option is wrong; err says why. */
static int take_option(struct deploy *deploy, int option, struct error *err)
{
    switch (option) {
    case 'r':
        deploy->runtime = optarg;
        return 0;
    case 'h':
        deploy->handler = optarg;
        return 0;
    case 'm':
        return cli_parse_number(
            &deploy->memory_mb, "--memory", optarg, LIMIT_MEMORY_MB_MIN, LIMIT_MEMORY_MB_MAX, err);
    case 't':
        return cli_parse_number(&deploy->timeout_s, "--timeout", optarg, 1, LIMIT_TIMEOUT_S_MAX, err);
    case 'e':
        if (deploy->variable_count == DEPLOY_VARIABLES_MAX)
            return error_set(err, ERROR_LIMIT, "at most %d times --env", DEPLOY_VARIABLES_MAX);
        deploy->variables[deploy->variable_count++] = optarg;
        return 0;
    case 'p':
        deploy->prime = optarg;
        return 0;
    case 'n':
        deploy->no_snap_start = true;
        return 0;
    case 'j':
        deploy->json = true;
        return 0;
    default:
        return error_set(err, ERROR_INVALID, "that option is not known, or lacks its value");
    }
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {{"runtime", required_argument, NULL, 'r'},
        {"handler", required_argument, NULL, 'h'}, {"memory", required_argument, NULL, 'm'},
        {"timeout", required_argument, NULL, 't'}, {"env", required_argument, NULL, 'e'},
        {"prime", required_argument, NULL, 'p'}, {"no-snapstart", no_argument, NULL, 'n'},
        {"json", no_argument, NULL, 'j'}, {0}};
    struct deploy deploy = {0};
    struct error err;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (take_option(&deploy, option, &err) < 0)
            return cli_usage_error(&command_deploy, "%s", err.text);
    if (argc - optind < 1 || argc - optind > 2)
        return cli_usage_error(
            &command_deploy, "name a folder or a zip, and the function if it is to be called otherwise");
    if (deploy.prime && deploy.no_snap_start)
        return cli_usage_error(&command_deploy, "--prime has no effect without SnapStart");
    deploy.path = argv[optind];
    CLEANUP_FREE char *name = optind + 1 < argc ? xstrdup(argv[optind + 1]) : name_of_path(deploy.path);
    deploy.name = name;
    if (!*deploy.path || !*name)
        return cli_usage_error(
            &command_deploy, "the name of the folder is no name for a function: say one after it");
    return deploy_function(options, &deploy);
}

const struct cli_command command_deploy = {
    .name = "deploy",
    .arguments = "FOLDER|ZIP [NAME] [--runtime R] [--handler H] [--memory MB] [--timeout S] [--env K=V]... "
                 "[--prime FILE] [--no-snapstart] [--json]",
    .summary = "Zip a folder, create or update the function, publish it, and wait until it is frozen",
    .details =
        "The function is called as the folder unless NAME says otherwise. For a new function, runtime and\n"
        "handler are guessed from its files, and said: bootstrap, app.py, lambda_function.py, index.js, "
        "app.rb,\n"
        "a Java class that implements a handler interface, a .runtimeconfig.json. For one that exists, what "
        "is\n"
        "not said stays as it is. A folder with a pom.xml is deployed as Maven has built it.\n"
        "\n"
        "  --runtime R       one of 'thaw runtimes'; by default the newest on offer that fits\n"
        "  --handler H       the handler, in the runtime's own way to write it\n"
        "  --memory MB       128 to 10240 (a new function: 512)\n"
        "  --timeout S       1 to 900 (a new function: 30)\n"
        "  --env K=V         set a variable; may be repeated; others stay as they are\n"
        "  --prime FILE      a JSON list of events that run through the handler before the freeze, so that "
        "every\n"
        "                    clone has its code loaded and compiled; their side effects are real: see\n"
        "                    docs/RUNTIMES.md. Without it a function that was primed so is no longer\n"
        "  --no-snapstart    publish without a snapshot: every start is a cold one\n"
        "  --json            one JSON object about the version, and nothing else\n"
        "\n"
        "examples:\n"
        "  thaw deploy examples/python-pets\n"
        "  thaw deploy . pets --memory 1769 --env STAGE=test\n"
        "  thaw deploy build/function.zip --prime samples.json\n"
        "  thaw invoke \"$(thaw deploy . --json | jq -r .arn)\"\n",
    .run = run,
};
