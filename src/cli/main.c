/* The `thaw` command: a table of commands. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_command *const commands[] = {
    &command_doctor,
    &command_runtimes,
    &command_deploy,
    &command_functions,
    &command_snapshots,
    &command_status,
    &command_invoke,
    &command_logs,
    &command_evict,
    &command_status,
    &command_inspect,
    &command_store,
    &command_key,
    &command_bench,
    &command_process,
};

static void print_overview(FILE *out)
{
    fputs("usage: thaw [--endpoint URL] COMMAND [ARGUMENTS]\n"
          "\n"
          "Looks after a thawd server: functions that are initialised once, frozen, and thawed in "
          "milliseconds.\n"
          "\n"
          "commands:\n",
        out);
    for (size_t i = 0; i < countof(commands); i++)
        fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
    fputs(
        "\n"
        "The server is found by --endpoint, else the environment variable THAW_ENDPOINT, "
        "else\n" CLI_DEFAULT_ENDPOINT
        ". Functions are created with thaw deploy, the AWS CLI or any AWS SDK, pointed at the same address:\n"
        "  aws --endpoint-url " CLI_DEFAULT_ENDPOINT " lambda create-function ...\n"
        "\n"
        "'thaw COMMAND --help' tells more about a command.\n"
        "exit status: 0 done, 1 failed, 2 wrong usage, 3 the invoked function returned an error\n",
        out);
}

static void print_help(const struct cli_command *command)
{
    printf("usage: thaw %s %s\n\n%s.\n\n%s", command->name, command->arguments, command->summary,
        command->details);
}

static const struct cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < countof(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

enum cli_exit cli_fail(const struct error *err)
{
    fprintf(stderr, "thaw: %s\n", err->text);
    return CLI_FAILED;
}

enum cli_exit cli_usage_error(const struct cli_command *command, const char *format, ...)
{
    fputs("thaw: ", stderr);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nusage: thaw %s %s\n'thaw %s --help' tells more.\n", command->name, command->arguments,
        command->name);
    return CLI_USAGE;
}

bool cli_take_json_option(const struct cli_command *command, int argc, char **argv, bool *json)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'}, {0}};
    *json = false;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option != 'j') {
            cli_usage_error(command, "that option is not known");
            return false;
        }
        *json = true;
    }
    return true;
}

void cli_print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
}

/* --endpoint may stand before the command or after it, so it is taken out of the command's arguments here,
 * and --help is answered here. Returns the new count, or -1 for a wrong one. */
static int take_common_options(struct cli_options *options, bool *help, int argc, char **argv)
{
    int kept = 0;
    bool ended = false;
    for (int i = 0; i < argc; i++) {
        if (ended || argv[i][0] != '-') {
            argv[kept++] = argv[i];
        } else if (strcmp(argv[i], "--endpoint") == 0) {
            if (i + 1 == argc)
                return -1;
            options->endpoint = argv[++i];
        } else if (strncmp(argv[i], "--endpoint=", 11) == 0) {
            options->endpoint = argv[i] + 11;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
        } else {
            ended = strcmp(argv[i], "--") == 0;
            argv[kept++] = argv[i];
        }
    }
    argv[kept] = NULL;
    return kept;
}

static char *endpoint_clean(const char *text)
{
    char *clean = strstr(text, "://") ? xstrdup(text) : xasprintf("http://%s", text);
    size_t len = strlen(clean);
    while (len > 0 && clean[len - 1] == '/')
        clean[--len] = 0;
    return clean;
}

int main(int argc, char **argv)
{
    const char *from_environment = getenv("THAW_ENDPOINT");
    struct cli_options options = {
        .endpoint = from_environment && *from_environment ? from_environment : CLI_DEFAULT_ENDPOINT};
    bool help = false;
    int count = take_common_options(&options, &help, argc - 1, argv + 1);
    if (count < 0) {
        fputs("thaw: --endpoint needs a URL after it, like " CLI_DEFAULT_ENDPOINT "\n", stderr);
        return CLI_USAGE;
    }
    char **rest = argv + 1;
    if (count > 0 && strcmp(rest[0], "--version") == 0) {
        puts("thaw " THAW_VERSION);
        return CLI_OK;
    }
    if (count == 0 || strcmp(rest[0], "help") == 0) {
        print_overview(count > 0 || help ? stdout : stderr);
        return count > 0 || help ? CLI_OK : CLI_USAGE;
    }
    const struct cli_command *command = find_command(rest[0]);
    if (!command) {
        fprintf(stderr, "thaw: there is no command '%s'; 'thaw help' lists them\n", rest[0]);
        return CLI_USAGE;
    }
    if (help) {
        print_help(command);
        return CLI_OK;
    }
    CLEANUP_FREE char *endpoint = endpoint_clean(options.endpoint);
    options.endpoint = endpoint;
    return (int)command->run(&options, count, rest);
}
