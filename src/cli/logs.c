/* thaw logs: what a function printed, and the platform's lines. */
#include "cli/client.h"

#include <getopt.h>
#include <stdio.h>

#define LOGS_DEFAULT_LINES "100"
#define LOGS_MAX_LINES 10000

static int print_piece(void *context, const void *data, size_t len)
{
    (void)context;
    /* A reader that went away (| head) ends it. */
    return fwrite(data, 1, len, stdout) == len && fflush(stdout) == 0 ? 0 : -1;
}

static int show_logs(
    const struct cli_options *options, const char *name, long lines, bool follow, struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    CLEANUP_FREE char *escaped = client_escape(name);
    /* Asked first on its own, so that a function that is not there is an error and no endless silence. */
    CLEANUP_FREE char *function_path = configuration_path(name, NULL);
    json_t *function = client_get_json(client, function_path, err);
    if (!function)
        return -1;
    json_decref(function);
    CLEANUP_FREE char *path =
        xasprintf("/thaw/v1/logs?function=%s&lines=%ld%s", escaped, lines, follow ? "&follow=1" : "");
    CLEANUP_REPLY struct client_reply reply = {0};
    struct client_request request = {.method = "GET", .path = path, .stream = print_piece};
    if (client_send(client, &request, &reply, err) < 0)
        return -1;
    if (reply.status != 200)
        return client_refused(&reply, err);
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"follow", no_argument, NULL, 'f'}, {"lines", required_argument, NULL, 'n'}, {0}};
    bool follow = false;
    const char *lines_text = LOGS_DEFAULT_LINES;
    for (int option; (option = getopt_long(argc, argv, "fn:", known, NULL)) != -1;) {
        if (option == 'f')
            follow = true;
        else if (option == 'n')
            lines_text = optarg;
        else
            return cli_usage_error(&command_logs, "that option is not known, or lacks its value");
    }
    if (optind != argc - 1)
        return cli_usage_error(&command_logs, "name one function");
    struct error err;
    long lines;
    CLEANUP_TARGET struct cli_target target = {0};
    if (cli_parse_number(&lines, "--lines", lines_text, 0, LOGS_MAX_LINES, &err) < 0 ||
        cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_logs, "%s", err.text);
    return show_logs(options, target.name, lines, follow, &err) < 0 ? cli_fail(&err) : CLI_OK;
}

const struct cli_command command_logs = {
    .name = "logs",
    .arguments = "NAME [-f] [-n LINES]",
    .summary = "Print the newest log lines of a function; -f goes on as they come",
    .details = "  -f, --follow       go on until interrupted\n"
               "  -n, --lines LINES  how many of the newest lines first (default " LOGS_DEFAULT_LINES ")\n"
               "\n"
               "examples:\n"
               "  thaw logs pets\n"
               "  thaw logs pets -f -n 0 | grep RESTORE_REPORT\n",
    .run = run,
};
