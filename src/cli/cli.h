/* The `thaw` command: what its subcommands have in common. A subcommand is one file with one entry in the
 * table of main.c. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>

#define CLI_DEFAULT_ENDPOINT "http://127.0.0.1:8429"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,         /* it was tried and did not work; for doctor: something needed is missing */
    CLI_USAGE = 2,          /* the command line makes no sense */
    CLI_FUNCTION_ERROR = 3, /* invoke: the function ran and returned an error */
};

struct cli_options {
    const char *endpoint; /* http://host:port, without a slash at its end */
};

struct cli_command {
    const char *name;
    const char *arguments; /* for the usage line */
    const char *summary;   /* for the list of commands */
    const char *details;   /* what --help says below the usage line: options and examples */
    /* argv[0] is the command's own name. Returns an exit status. */
    enum cli_exit (*run)(const struct cli_options *options, int argc, char **argv);
};

extern const struct cli_command command_doctor, command_functions, command_invoke, command_logs,
    command_evict, command_status, command_inspect, command_bench, command_runtimes, command_process,
    command_deploy, command_store, command_key, command_snapshots;

/* "NAME[:VERSION]" or a whole function ARN. `version` is NULL when none was given. Both malloc'ed. */
struct cli_target {
    char *name, *version;
};
MUST_CHECK int cli_target_parse(struct cli_target *target, const char *text, struct error *err);
void cli_target_free(struct cli_target *target);
#define CLEANUP_TARGET __attribute__((cleanup(cli_target_free)))

/* A decimal number between the two limits, or -1 with an error that names the option. */
MUST_CHECK int cli_parse_number(
    long *out, const char *option, const char *text, long least, long most, struct error *err);

/* Of a command whose only option is --json. False: another was given, and the user was told. */
MUST_CHECK bool cli_take_json_option(const struct cli_command *command, int argc, char **argv, bool *json);
/* On standard output, indented, with a newline. */
void cli_print_json(const json_t *json);

/* "thaw: <sentence>" on standard error; returns CLI_FAILED. */
enum cli_exit cli_fail(const struct error *err);
/* The same for a wrong command line, and how to get help; returns CLI_USAGE. */
enum cli_exit cli_usage_error(const struct cli_command *command, const char *format, ...) PRINTF_LIKE(2, 3);
