/* thaw inspect: what a snapshot holds. */
#include "cli/client.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static int inspect(const struct cli_options *options, const struct cli_target *target, bool plan, bool json,
    struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    CLEANUP_FREE char *name = client_escape(target->name);
    CLEANUP_FREE char *version = client_escape(target->version);
    CLEANUP_FREE char *path = xasprintf(
        "/thaw/v1/snapshots/%s/%s?%s%s", name, version, plan ? "plan=1&" : "", json ? "json=1" : "");
    CLEANUP_REPLY struct client_reply reply = {0};
    struct client_request request = {.method = "GET", .path = path};
    if (client_send(client, &request, &reply, err) < 0)
        return -1;
    if (reply.status != 200)
        return client_refused(&reply, err);
    fwrite(reply.body.data, 1, reply.body.len, stdout);
    if (reply.body.len == 0 || reply.body.data[reply.body.len - 1] != '\n')
        putchar('\n');
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"plan", no_argument, NULL, 'p'}, {"json", no_argument, NULL, 'j'}, {0}};
    bool plan = false, json = false;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'p')
            plan = true;
        else if (option == 'j')
            json = true;
        else
            return cli_usage_error(&command_inspect, "that option is not known");
    }
    if (optind != argc - 1)
        return cli_usage_error(&command_inspect, "name one version of a function");
    struct error err;
    CLEANUP_TARGET struct cli_target target = {0};
    if (cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_inspect, "%s", err.text);
    if (!target.version)
        return cli_usage_error(&command_inspect,
            "snapshots belong to versions: write %s:1, say ('thaw functions' lists them)", target.name);
    return inspect(options, &target, plan, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_inspect = {
    .name = "inspect",
    .arguments = "NAME:VERSION [--plan] [--json]",
    .summary = "Show what a snapshot holds: threads, mappings, descriptors, sizes",
    .details = "  --plan   also the plan: the system calls that bring a clone to life, as a readable trace\n"
               "  --json   the same as JSON\n"
               "\n"
               "examples:\n"
               "  thaw inspect pets:1\n"
               "  thaw inspect pets:1 --plan | less\n",
    .run = run,
};
