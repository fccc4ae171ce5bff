/* thaw status: what the server has done, and what it holds in memory. */
#include "cli/client.h"

#include <getopt.h>
#include <stdio.h>

static long long number(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static double in_mb(long long bytes)
{
    return (double)bytes / 1e6;
}

static void print_templates(const json_t *templates)
{
    long long hits = number(templates, "hits"), misses = number(templates, "misses");
    printf("templates    %lld in memory, %.1f of at most %.1f MB\n", number(templates, "count"),
        in_mb(number(templates, "bytes")), in_mb(number(templates, "budget_bytes")));
    printf("             %lld thaws found theirs ready, %lld waited for it", hits, misses);
    if (hits + misses > 0)
        printf(" (%.1f %% found it)", 100.0 * (double)hits / (double)(hits + misses));
    printf("\n             %lld built, %lld evicted to save memory\n", number(templates, "builds"),
        number(templates, "evictions"));
}

static void print_status(const json_t *status)
{
    printf("thawd        %s, up for %lld s%s\n", json_string_value(json_object_get(status, "version")),
        number(status, "uptime_seconds"),
        json_is_true(json_object_get(status, "draining")) ? ", shutting down" : "");
    printf("invocations  %lld, %lld of them running\n", number(status, "invocations"),
        number(status, "in_flight"));
    printf("environments %lld now; %lld were thawed, %lld started cold\n", number(status, "environments"),
        number(status, "thaws"), number(status, "cold_starts"));
    printf(
        "snapshots    %lld are made now, %lld are to be made anew; %lld were, and %lld times that failed\n",
        number(status, "building"), number(status, "stale"), number(status, "refreezes"),
        number(status, "refreezes_failed"));
    print_templates(json_object_get(status, "templates"));
}

static int show(const struct cli_options *options, bool json, struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    json_t *status = client_get_json(client, "/thaw/v1/status", err);
    if (!status)
        return -1;
    if (json) {
        cli_print_json(status);
    } else {
        print_status(status);
    }
    json_decref(status);
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    bool json;
    if (!cli_take_json_option(&command_status, argc, argv, &json))
        return CLI_USAGE;
    if (optind != argc)
        return cli_usage_error(&command_status, "it takes no arguments");
    struct error err;
    return show(options, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_status = {
    .name = "status",
    .arguments = "[--json]",
    .summary = "What the server has done so far, and what it holds in memory",
    .details =
        "  --json  as JSON\n"
        "\n"
        "A template that is not in memory is built at the next thaw from its snapshot. thawd's option\n"
        "--template-budget says how much memory all templates may hold.\n",
    .run = run,
};
