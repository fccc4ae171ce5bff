/* thaw runtimes: what functions may be written for on the server's host, and what to install for the rest. */
#include "cli/client.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_runtimes(const json_t *runtimes)
{
    CLEANUP_TABLE struct table *table = table_new("RUNTIME|HERE|VERSION|PROGRAM|HOOKS|TO BE INSTALLED");
    size_t i;
    const json_t *runtime;
    json_array_foreach (runtimes, i, runtime) {
        bool offered = json_is_true(json_object_get(runtime, "offered"));
        const char *program = text_of(runtime, "program");
        table_add(table, "%s", text_of(runtime, "runtime"));
        table_add(table, "%s", offered ? "yes" : "no");
        table_add(table, "%s", text_of(runtime, "version"));
        table_add(table, "%s", offered && !*program ? "the function's bootstrap" : program);
        table_add(table, "%s", offered ? text_of(runtime, "hooks") : "");
        table_add(table, "%s", text_of(runtime, "install"));
    }
    table_print(table, stdout);
    puts("\nThe server looks once, when it starts: restart it after an installation.");
}

/* Those of this name, or all: an empty array when there is no such runtime. A new reference. */
static json_t *select_runtimes(const json_t *all, const char *only)
{
    json_t *selected = json_array();
    size_t i;
    json_t *runtime;
    json_array_foreach (all, i, runtime)
        if (!only || strcmp(text_of(runtime, "runtime"), only) == 0)
            json_array_append(selected, runtime);
    return selected;
}

static enum cli_exit show_runtimes(const struct cli_options *options, const char *only, bool json)
{
    struct error err;
    CLEANUP_CLIENT struct client *client = client_new(options, &err);
    json_t *answer = client ? client_get_json(client, "/thaw/v1/runtimes", &err) : NULL;
    if (!answer)
        return cli_fail(&err);
    json_t *runtimes = select_runtimes(json_object_get(answer, "runtimes"), only);
    bool known = json_array_size(runtimes) > 0;
    bool missing = only && !json_is_true(json_object_get(json_array_get(runtimes, 0), "offered"));
    if (json) {
        cli_print_json(runtimes);
    } else if (known) {
        print_runtimes(runtimes);
    } else {
        fprintf(stderr, "thaw: there is no runtime %s; 'thaw runtimes' lists them\n", only);
    }
    json_decref(runtimes);
    json_decref(answer);
    return missing ? CLI_FAILED : CLI_OK;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    bool json;
    if (!cli_take_json_option(&command_runtimes, argc, argv, &json))
        return CLI_USAGE;
    if (argc - optind > 1)
        return cli_usage_error(&command_runtimes, "name one runtime, or none for all");
    return show_runtimes(options, optind < argc ? argv[optind] : NULL, json);
}

const struct cli_command command_runtimes = {
    .name = "runtimes",
    .arguments = "[RUNTIME] [--json]",
    .summary = "List the runtimes that the host offers, and what to install for the rest",
    .details =
        "HOOKS names what a function loads to run code before its snapshot and after a restore. The server\n"
        "answers, as only it knows what it found when it started. With one RUNTIME the exit status 1 says "
        "that\n"
        "it is not offered.\n"
        "\n"
        "  --json   the same as a JSON array\n"
        "\n"
        "examples:\n"
        "  thaw runtimes\n"
        "  thaw runtimes java21 || sudo apt-get install openjdk-21-jdk-headless\n",
    .run = run,
};
