/* thaw doctor: what this kernel offers, and what is missing, in words. Asks the kernel, not the server. */
#include "cli/cli.h"
#include "cli/table.h"
#include "sandbox/probe.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

static const char *const need_texts[] = {
    [PROBE_REQUIRED] = "required", [PROBE_OPTIONAL] = "optional", [PROBE_FACT] = ""};

static const char *state_text(const struct probe_result *result)
{
    if (result->need == PROBE_FACT)
        return "";
    switch (result->state) {
    case PROBE_PRESENT:
        return "yes";
    case PROBE_MISSING:
        return result->need == PROBE_REQUIRED ? "MISSING" : "no";
    case PROBE_UNKNOWN:
        break;
    }
    return "unknown";
}

static void print_table(const struct probe_report *report)
{
    CLEANUP_TABLE struct table *table = table_new("WHAT|NEED|HERE|FOUND");
    for (size_t i = 0; i < report->count; i++) {
        const struct probe_result *result = &report->results[i];
        table_add(table, "%s", result->name);
        table_add(table, "%s", need_texts[result->need]);
        table_add(table, "%s", state_text(result));
        table_add(table, "%s", result->detail);
    }
    table_print(table, stdout);
}

/* The table says what; these sentences say what it means and what to do. */
static void print_words(const struct probe_report *report)
{
    bool unknown = false;
    putchar('\n');
    for (size_t i = 0; i < report->count; i++) {
        const struct probe_result *result = &report->results[i];
        unknown |= result->state == PROBE_UNKNOWN;
        if (result->state == PROBE_MISSING && result->need != PROBE_FACT && result->when_missing)
            printf("%s is missing: %s\n", result->name, result->when_missing);
    }
    if (unknown)
        printf("Some things could not be tried with these rights: run 'sudo thaw doctor' to know.\n");
    else
        printf(report->usable ? "thawd can run on this machine.\n" : "thawd cannot run on this machine.\n");
}

static void print_json(const struct probe_report *report)
{
    static const char *const needs[] = {
        [PROBE_REQUIRED] = "required", [PROBE_OPTIONAL] = "optional", [PROBE_FACT] = "fact"};
    static const char *const states[] = {
        [PROBE_PRESENT] = "present", [PROBE_MISSING] = "missing", [PROBE_UNKNOWN] = "unknown"};
    json_t *results = json_array();
    for (size_t i = 0; i < report->count; i++) {
        const struct probe_result *result = &report->results[i];
        json_array_append_new(
            results, json_pack("{s:s, s:s, s:s, s:s}", "name", result->name, "need", needs[result->need],
                         "state", states[result->state], "found", result->detail));
    }
    json_t *out = json_pack("{s:b, s:o}", "usable", report->usable, "results", results);
    cli_print_json(out);
    json_decref(out);
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    (void)options;
    bool json;
    if (!cli_take_json_option(&command_doctor, argc, argv, &json))
        return CLI_USAGE;
    if (optind != argc)
        return cli_usage_error(&command_doctor, "it takes no argument");
    struct probe_report report;
    sandbox_probe(&report);
    if (json) {
        print_json(&report);
    } else {
        print_table(&report);
        print_words(&report);
    }
    return report.usable ? CLI_OK : CLI_FAILED;
}

const struct cli_command command_doctor = {
    .name = "doctor",
    .arguments = "[--json]",
    .summary = "Try what this kernel and machine offer, and say what is missing",
    .details =
        "Everything is tried, nothing is guessed from versions; nothing stays changed. Some things can\n"
        "only be tried as root. Exit status 1 says that something required is missing.\n"
        "\n"
        "  --json   the same as JSON\n"
        "\n"
        "examples:\n"
        "  sudo thaw doctor\n",
    .run = run,
};
