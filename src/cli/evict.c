/* thaw evict: drop idle environments, and templates, and return when they are gone. */
#include "cli/client.h"

#include <getopt.h>
#include <stdio.h>

static int evict(const struct cli_options *options, const struct cli_target *target, bool templates,
    bool json, struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    CLEANUP_FREE char *path = evict_path(target, templates);
    json_t *counts = client_post_json(client, path, err);
    if (!counts)
        return -1;
    if (json)
        json_dumpf(counts, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    else
        printf("evicted %lld environments and %lld templates",
            (long long)json_integer_value(json_object_get(counts, "environments")),
            (long long)json_integer_value(json_object_get(counts, "templates")));
    putchar('\n');
    json_decref(counts);
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"templates", no_argument, NULL, 't'}, {"json", no_argument, NULL, 'j'}, {0}};
    bool templates = false, json = false;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 't')
            templates = true;
        else if (option == 'j')
            json = true;
        else
            return cli_usage_error(&command_evict, "that option is not known");
    }
    if (optind != argc - 1)
        return cli_usage_error(&command_evict, "name one function");
    struct error err;
    CLEANUP_TARGET struct cli_target target = {0};
    if (cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_evict, "%s", err.text);
    return evict(options, &target, templates, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_evict = {
    .name = "evict",
    .arguments = "NAME[:VERSION] [--templates] [--json]",
    .summary = "Drop idle environments of a function, and return when they are gone",
    .details =
        "Without :VERSION, those of all its versions. An environment that serves an invocation stays.\n"
        "\n"
        "  --templates  also drop the templates: the next thaw builds its template from the snapshot\n"
        "  --json       counts as JSON\n"
        "\n"
        "examples:\n"
        "  thaw evict pets:1               the next invocation is a thaw\n"
        "  thaw evict pets:1 --templates   the next invocation is a first thaw\n",
    .run = run,
};
