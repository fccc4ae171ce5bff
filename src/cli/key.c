/* thaw key: the master key that the snapshots' keys are wrapped with. */
#include "cli/report.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void show_progress(void *context, json_t *line)
{
    const bool *shows_progress = context;
    const json_t *progress = json_object_get(line, "progress");
    if (progress == NULL || !*shows_progress)
        return;
    fprintf(stderr, "\r\033[K%lld of %lld keys are wrapped anew", number_of(progress, "done"),
        number_of(progress, "total"));
    fflush(stderr);
}

static void clear_progress(void *context)
{
    const bool *shows_progress = context;
    if (*shows_progress)
        fputs("\r\033[K", stderr);
}

static void print_totals(const json_t *totals, bool rotated)
{
    CLEANUP_TABLE struct table *table = table_new("SOURCE|KEY|STATE|>KEYS|>WRAPPED ANEW|>DAMAGED");
    table_add(table, "%s", report_text(totals, "source"));
    table_add(table, "%.8s", report_text(totals, "key_id"));
    table_add(table, "%s",
        json_is_true(json_object_get(totals, "rotating")) ? "being rotated"
        : rotated                                         ? "rotated"
                                                          : "in use");
    table_add(table, "%lld", number_of(totals, "files"));
    table_add(table, "%lld", number_of(totals, "done"));
    table_add(table, "%lld", number_of(totals, "damaged"));
    table_print(table, stdout);
}

static int run_verb(const struct cli_options *options, bool rotate, bool json, struct error *err)
{
    bool shows_progress = rotate && !json && isatty(STDERR_FILENO);
    struct report report = {.line = show_progress, .ended = clear_progress, .context = &shows_progress};
    int result = report_ask(options, rotate ? "POST" : "GET", "/thaw/v1/store/key", &report, err);
    if (result == 0 && json) {
        cli_print_json(report.totals);
    } else if (result == 0) {
        print_totals(report.totals, rotate);
    }
    json_decref(report.totals);
    return result;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    bool json;
    struct error err = {0};
    if (!cli_take_json_option(&command_key, argc, argv, &json))
        return CLI_USAGE;
    const char *verb = optind == argc - 1 ? argv[optind] : "";
    if (strcmp(verb, "rotate") != 0 && strcmp(verb, "show") != 0)
        return cli_usage_error(&command_key, "say rotate or show");
    return run_verb(options, strcmp(verb, "rotate") == 0, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_key = {
    .name = "key",
    .arguments = "rotate|show [--json]",
    .summary = "Rotate the master key that the snapshots' keys are wrapped with",
    .details = "  rotate   a new master key; the key of every snapshot and trust domain is wrapped anew, one "
               "by one,\n"
               "           while functions go on. Pages are not touched. When the server is killed "
               "meanwhile, it goes\n"
               "           on at its next start; rotating again then waits for that.\n"
               "  show     where the key comes from, its id (a hash), and how far the last rotation came\n"
               "\n"
               "A key of a file is made anew in its file. One of a command: the command is run again, and "
               "must print\n"
               "another key. One of the environment: start thawd with --master-key and --old-master-key, "
               "which rotates.\n"
               "\n"
               "  --json   as JSON\n"
               "\n"
               "examples:\n"
               "  thaw key rotate\n",
    .run = run,
};
