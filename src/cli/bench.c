/* thaw bench: cold start, first thaw, thaw, warm, and many at once, of one version, side by side. */
#include "cli/bench.h"

#include "cli/payload.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_RUNS "100"

/* Only a version that is frozen can be measured; the reason is said otherwise. */
static int check_frozen(struct bench *bench, struct error *err)
{
    CLEANUP_FREE char *path = configuration_path(bench->version.name, bench->version.version);
    json_t *configuration = client_get_json(bench->client, path, err);
    if (!configuration)
        return -1;
    const char *state = json_string_value(json_object_get(configuration, "State"));
    const char *status =
        json_string_value(json_object_get(json_object_get(configuration, "SnapStart"), "OptimizationStatus"));
    int result = 0;
    if (!state || strcmp(state, "Active") != 0)
        result = error_set(err, ERROR_BUSY, "%s:%s is %s, not Active: 'thaw functions %s' tells why",
            bench->version.name, bench->version.version, state ? state : "in no known state",
            bench->version.name);
    else if (!status || strcmp(status, "On") != 0)
        result = error_set(err, ERROR_INVALID,
            "%s:%s has no snapshot: set --snap-start ApplyOn=PublishedVersions on the function and publish a "
            "version",
            bench->version.name, bench->version.version);
    json_decref(configuration);
    return result;
}

static enum cli_exit bench_version(
    const struct cli_options *options, struct bench *bench, const char *payload_text, bool json)
{
    struct error err;
    CLEANUP_CLIENT struct client *client = client_new(options, &err);
    CLEANUP_BUFFER struct buffer payload = {0};
    if (!client || payload_read(&payload, payload_text, &err) < 0)
        return cli_fail(&err);
    bench->options = options;
    bench->client = client;
    bench->payload = (struct bytes){payload.data, payload.len};
    bench->latest = (struct cli_target){.name = bench->version.name, .version = (char[]){"$LATEST"}};
    CLEANUP_FREE char *many = xasprintf("%ld thaws at once", bench->concurrency);
    const struct bench_series series[BENCH_KINDS] = {
        [BENCH_COLD] = {.key = "cold", .start = "cold", .title = "cold start"},
        [BENCH_FIRST] = {.key = "thaw_first", .start = "first", .title = "first thaw"},
        [BENCH_THAW] = {.key = "thaw", .start = "thaw", .title = "thaw"},
        [BENCH_WARM] = {.key = "warm", .start = "warm", .title = "warm invocation"},
        [BENCH_CONCURRENT] = {.key = "thaw_concurrent", .title = many},
    };
    memcpy(bench->series, series, sizeof series);
    int failed = check_frozen(bench, &err) < 0 || bench_measure(bench, &err) < 0;
    if (!failed && json)
        bench_print_json(bench);
    else if (!failed)
        bench_print(bench);
    for (int kind = 0; kind < BENCH_KINDS; kind++)
        bench_series_free(&bench->series[kind]);
    return failed ? cli_fail(&err) : CLI_OK;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {{"payload", required_argument, NULL, 'p'},
        {"json", no_argument, NULL, 'j'}, {"runs", required_argument, NULL, 'n'},
        {"concurrency", required_argument, NULL, 'c'}, {0}};
    const char *runs = DEFAULT_RUNS, *concurrency = "0", *payload = NULL;
    bool json = false;
    for (int option; (option = getopt_long(argc, argv, "n:c:p:", known, NULL)) != -1;) {
        if (option == 'n')
            runs = optarg;
        else if (option == 'c')
            concurrency = optarg;
        else if (option == 'p')
            payload = optarg;
        else if (option == 'j')
            json = true;
        else
            return cli_usage_error(&command_bench, "that option is not known, or lacks its value");
    }
    if (optind != argc - 1)
        return cli_usage_error(&command_bench, "name one version of a function");
    struct error err;
    struct bench bench = {0};
    CLEANUP_TARGET struct cli_target target = {0};
    if (cli_parse_number(&bench.runs, "-n", runs, 1, BENCH_RUNS_MAX, &err) < 0 ||
        cli_parse_number(&bench.concurrency, "-c", concurrency, 0, BENCH_CONCURRENCY_MAX, &err) < 0 ||
        cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_bench, "%s", err.text);
    if (!target.version)
        return cli_usage_error(
            &command_bench, "it measures a published version: write %s:1, say", target.name);
    bench.version = target;
    return bench_version(options, &bench, payload, json);
}

const struct cli_command command_bench = {
    .name = "bench",
    .arguments = "NAME:VERSION [-n N] [-c C] [--payload JSON|@FILE] [--json]",
    .summary = "Measure cold starts, thaws and warm invocations of a version, side by side",
    .details =
        "Evicts the version's environments before each start, outside of the timing; so it disturbs\n"
        "whoever uses that version. Cold starts are those of $LATEST, which is never frozen. Times are\n"
        "this client's, over a connection that is open already. A first thaw finds no template in memory\n"
        "and builds it from the snapshot. Phases are the server's own account: 'event' is when the\n"
        "function had its event, and spans those above it; --json has all percentiles of each.\n"
        "\n"
        "  -n, --runs N          thaws and cold starts (default " DEFAULT_RUNS
        "; cold starts end after 60 s);\n"
        "                        warm invocations are ten times as many, first thaws at most 10\n"
        "  -c, --concurrency C   also C requests at once after an eviction\n"
        "  -p, --payload JSON    the event, or @FILE (default {})\n"
        "  --json                one JSON object, microseconds\n"
        "\n"
        "examples:\n"
        "  thaw bench pets:1\n"
        "  thaw bench pets:1 -n 200 -c 50 --payload @event.json\n"
        "  thaw bench pets:1 --json | jq .thaw.total_us.median\n",
    .run = run,
};
