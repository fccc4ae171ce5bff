/* thaw process: the engine for any program. Parses and prints; src/process does the work. */
#include "process/process.h"

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/table.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum cli_exit fail(const struct error *err)
{
    fprintf(stderr, "thaw: %s\n", err->text);
    return (enum cli_exit)PROCESS_EXIT_FAILED;
}

/* A program's own status, which is not one of ours. */
static enum cli_exit hand_on(int status)
{
    return (enum cli_exit)status;
}

static int require_root(struct error *err)
{
    if (geteuid() == 0)
        return 0;
    return error_set(err, ERROR_INVALID,
        "freezing and thawing need root (namespaces, ptrace, chosen process numbers): run it with sudo");
}

/* "1500ms", "2s", "1.5" (seconds), "3m", "1h". */
static int parse_duration(uint64_t *ms, const char *text, struct error *err)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}, {"h", 3600000}};
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    for (size_t i = 0; end != text && errno == 0 && i < countof(units); i++)
        if (strcmp(end, units[i].unit) == 0 && value >= 0 && value * units[i].ms <= PROCESS_AFTER_MS_MAX) {
            *ms = (uint64_t)(value * units[i].ms);
            *ms += *ms == 0; /* 0 would mean no limit */
            return 0;
        }
    return error_set(
        err, ERROR_INVALID, "--after takes a time of at most 24 h like 500ms, 2s or 1m, not '%s'", text);
}

/* ---- freeze ---- */

struct progress {
    bool shown;
    const char *name;
};

/* One line on a terminal, written over and over. */
static void show_progress(void *context, const char *text)
{
    struct progress *p = context;
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[Kthaw: %s: %s", p->name, text);
    fflush(stderr);
    p->shown = true;
}

static void end_progress(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}

struct freeze_arguments {
    struct process_freeze_options options;
    bool json, quiet;
};

enum {
    OPTION_OUT = 256,
    OPTION_UNTIL,
    OPTION_AFTER,
    OPTION_PID,
    OPTION_LEAVE,
    OPTION_NETWORK,
    OPTION_TMP,
    OPTION_JSON,
    OPTION_QUIET,
    OPTION_COUNT,
    OPTION_WAIT,
    OPTION_TIMINGS,
    OPTION_PLAN,
    OPTION_PID_FILE
};

static int parse_freeze_option(struct freeze_arguments *a, int option, struct error *err)
{
    long number;
    switch (option) {
    case OPTION_OUT:
        a->options.directory = optarg;
        return 0;
    case OPTION_UNTIL:
        a->options.until_output = optarg;
        return 0;
    case OPTION_AFTER:
        return parse_duration(&a->options.after_ms, optarg, err);
    case OPTION_PID:
        if (cli_parse_number(&number, "--pid", optarg, 1, 1 << 22, err) < 0)
            return -1;
        a->options.pid = (pid_t)number;
        return 0;
    case OPTION_LEAVE:
        a->options.leave_running = true;
        return 0;
    case OPTION_TMP:
        a->options.private_tmp = true;
        return 0;
    case OPTION_NETWORK:
        a->options.private_network = strcmp(optarg, "private") == 0;
        if (a->options.private_network || strcmp(optarg, "host") == 0)
            return 0;
        return error_set(err, ERROR_INVALID, "--network is 'host' or 'private', not '%s'", optarg);
    case OPTION_JSON:
        a->json = true;
        return 0;
    case OPTION_QUIET:
        a->quiet = true;
        return 0;
    default:
        return error_set(err, ERROR_INVALID, "that option is not known");
    }
}

static int check_freeze(struct freeze_arguments *a, struct error *err)
{
    const struct process_freeze_options *o = &a->options;
    if (!o->directory)
        return error_set(err, ERROR_INVALID, "say with --out DIR where the snapshot is to go");
    if ((o->command != NULL) == (o->pid != 0))
        return error_set(err, ERROR_INVALID, "it takes either a command (after --) or --pid PID");
    if (o->pid != 0 && (o->until_output || o->private_network || o->private_tmp))
        return error_set(err, ERROR_INVALID,
            "--until-output, --network and --private-tmp are for commands that are started here, not for "
            "--pid");
    if (o->pid == 0 && !o->until_output && o->after_ms == 0)
        return error_set(err, ERROR_INVALID,
            "say when to freeze: --until-output REGEX (it has printed that), or --after DURATION");
    return 0;
}

static int parse_freeze(struct freeze_arguments *a, int argc, char **argv, struct error *err)
{
    static const struct option known[] = {{"out", required_argument, NULL, OPTION_OUT},
        {"until-output", required_argument, NULL, OPTION_UNTIL},
        {"after", required_argument, NULL, OPTION_AFTER}, {"pid", required_argument, NULL, OPTION_PID},
        {"leave-running", no_argument, NULL, OPTION_LEAVE},
        {"network", required_argument, NULL, OPTION_NETWORK}, {"private-tmp", no_argument, NULL, OPTION_TMP},
        {"json", no_argument, NULL, OPTION_JSON}, {"quiet", no_argument, NULL, OPTION_QUIET}, {0}};
    for (int option; (option = getopt_long(argc, argv, "+", known, NULL)) != -1;)
        if (parse_freeze_option(a, option, err) < 0)
            return -1;
    if (optind < argc)
        a->options.command = argv + optind;
    return check_freeze(a, err);
}

static void report_freeze(const struct freeze_arguments *a, const struct process_frozen *f)
{
    char size[SIZE_TEXT];
    const char *what = f->running || a->options.leave_running ? "it runs on" : "it was ended";
    if (a->json)
        fprintf(stderr,
            "{\"name\": \"%s\", \"pid\": %d, \"processes\": %u, \"threads\": %u, \"page_bytes\": %llu, "
            "\"file_bytes\": %llu, \"manifest_bytes\": %llu, \"stopped_ms\": %.3f}\n",
            f->name, f->pid, f->processes, f->threads, (unsigned long long)f->page_bytes,
            (unsigned long long)f->bulk_bytes, (unsigned long long)f->manifest_bytes,
            (double)f->stopped_ns / 1e6);
    else if (!a->quiet)
        fprintf(stderr,
            "thaw: %s is frozen in %s: %s, %u thread%s in %u process%s; it stood still for %.0f ms, and %s\n",
            f->name, a->options.directory, size_text(size, (double)(f->page_bytes + f->bulk_bytes)),
            f->threads, f->threads == 1 ? "" : "s", f->processes, f->processes == 1 ? "" : "es",
            (double)f->stopped_ns / 1e6, what);
}

static enum cli_exit fail_freeze(const struct process_freeze_options *o, const struct error *err)
{
    if (err->kind == ERROR_UNSUPPORTED)
        fprintf(stderr, "thaw: cannot freeze it: %s\n", err->text);
    else
        fprintf(stderr, "thaw: %s\n", err->text);
    if (err->kind == ERROR_INVALID && err->errno_value != 0 && o->command)
        return (enum cli_exit)(err->errno_value == ENOENT ? PROCESS_EXIT_NOT_FOUND : PROCESS_EXIT_CANNOT_RUN);
    return (enum cli_exit)PROCESS_EXIT_FAILED;
}

static enum cli_exit run_freeze(int argc, char **argv)
{
    struct freeze_arguments a = {0};
    struct process_frozen frozen;
    struct process_run *run = NULL;
    struct error err = {0};
    int status = 0;
    if (parse_freeze(&a, argc, argv, &err) < 0)
        return cli_usage_error(&command_process, "%s", err.text);
    if (require_root(&err) < 0)
        return fail(&err);
    struct progress progress = {.name = a.options.command ? a.options.command[0] : "freeze"};
    a.options.progress = a.quiet ? NULL : show_progress;
    a.options.progress_context = &progress;
    int result = process_freeze(&a.options, &frozen, &run, &status, &err);
    end_progress(&progress);
    if (result < 0)
        return fail_freeze(&a.options, &err);
    report_freeze(&a, &frozen);
    if (run == NULL)
        return CLI_OK;
    result = process_attend(run, &status, &err);
    process_run_free(&run);
    return result < 0 ? fail(&err) : hand_on(status);
}

/* ---- thaw ---- */

struct thaw_arguments {
    struct process_thaw_options options;
    const char *pid_file;
    bool json, timings;
};

static int parse_thaw_option(struct thaw_arguments *a, int option, struct error *err)
{
    long number;
    switch (option) {
    case OPTION_COUNT:
        if (cli_parse_number(&number, "--count", optarg, 1, PROCESS_CLONES_MAX, err) < 0)
            return -1;
        a->options.count = (unsigned)number;
        return 0;
    case OPTION_PID_FILE:
        a->pid_file = optarg;
        return 0;
    case OPTION_WAIT:
        a->options.wait = true;
        return 0;
    case OPTION_NETWORK:
        a->options.network = strcmp(optarg, "private") == 0 ? PROCESS_NETWORK_PRIVATE : PROCESS_NETWORK_HOST;
        if (a->options.network == PROCESS_NETWORK_PRIVATE || strcmp(optarg, "host") == 0)
            return 0;
        return error_set(err, ERROR_INVALID, "--network is 'host' or 'private', not '%s'", optarg);
    case OPTION_JSON:
        a->json = true;
        return 0;
    case OPTION_TIMINGS:
        a->timings = true;
        return 0;
    default:
        return error_set(err, ERROR_INVALID, "that option is not known");
    }
}

static int parse_thaw(struct thaw_arguments *a, int argc, char **argv, struct error *err)
{
    static const struct option known[] = {{"count", required_argument, NULL, OPTION_COUNT},
        {"pid-file", required_argument, NULL, OPTION_PID_FILE}, {"wait", no_argument, NULL, OPTION_WAIT},
        {"network", required_argument, NULL, OPTION_NETWORK}, {"json", no_argument, NULL, OPTION_JSON},
        {"timings", no_argument, NULL, OPTION_TIMINGS}, {0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;)
        if (parse_thaw_option(a, option, err) < 0)
            return -1;
    if (argc != optind + 1)
        return error_set(err, ERROR_INVALID, "it takes one folder, that 'thaw process freeze' made");
    a->options.directory = argv[optind];
    return 0;
}

static double ms(uint64_t from_ns, uint64_t to_ns)
{
    return (double)(to_ns - from_ns) / 1e6;
}

static void print_timings(const struct process_clones *c)
{
    char size[SIZE_TEXT];
    CLEANUP_TABLE struct table *once = table_new("ONCE, MS|>READ|>NAMESPACES|>BUILD|OF");
    table_add(once, "%s", c->name);
    table_add(once, "%.3f", ms(c->began_ns, c->read_ns));
    table_add(once, "%.3f", ms(c->read_ns, c->prepared_ns));
    table_add(once, "%.3f", ms(c->prepared_ns, c->built_ns));
    table_add(once, "%s", size_text(size, (double)c->page_bytes));
    table_print(once, stderr);
    CLEANUP_TABLE struct table *each =
        table_new("EACH CLONE, MS|>FORK|>ENTER|>DESCRIPTORS|>THREADS|>WHOLE THAW");
    for (unsigned i = 0; i < c->count; i++) {
        const struct process_clone *clone = &c->list[i];
        table_add(each, "%d", clone->pid);
        table_add(each, "%.3f", ms(clone->asked_ns, clone->report.forked_ns));
        table_add(each, "%.3f", ms(clone->report.forked_ns, clone->report.sandboxed_ns));
        table_add(each, "%.3f", ms(clone->report.sandboxed_ns, clone->report.descriptors_ns));
        table_add(each, "%.3f", ms(clone->report.descriptors_ns, clone->report.threads_ns));
        table_add(each, "%.3f", ms(clone->asked_ns, clone->alive_ns));
    }
    table_print(each, stderr);
}

/* To standard output, which is the clones' too: only asked for, or where it is all that there is to say. */
static void print_clones(const struct thaw_arguments *a, const struct process_clones *c)
{
    if (a->json) {
        FILE *out = a->options.wait ? stderr : stdout;
        fprintf(out,
            "{\"name\": \"%s\", \"page_bytes\": %llu, \"read_ms\": %.3f, \"namespaces_ms\": %.3f, "
            "\"build_ms\": %.3f, \"clones\": [",
            c->name, (unsigned long long)c->page_bytes, ms(c->began_ns, c->read_ns),
            ms(c->read_ns, c->prepared_ns), ms(c->prepared_ns, c->built_ns));
        for (unsigned i = 0; i < c->count; i++)
            fprintf(out, "%s{\"pid\": %d, \"thaw_ms\": %.3f}", i ? ", " : "", c->list[i].pid,
                ms(c->list[i].asked_ns, c->list[i].alive_ns));
        fputs("]}\n", out);
        fflush(out);
    } else if (!a->options.wait) {
        for (unsigned i = 0; i < c->count; i++)
            printf("%d\n", c->list[i].pid);
        fflush(stdout);
    }
    if (a->timings && !a->json)
        print_timings(c);
}

static int write_pid_file(const char *path, const struct process_clones *c, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    for (unsigned i = 0; i < c->count; i++)
        buffer_printf(&text, "%d\n", c->list[i].pid);
    return file_write_atomic(AT_FDCWD, path, text.data, text.len, 0644, err);
}

static enum cli_exit run_thaw(int argc, char **argv)
{
    struct thaw_arguments a = {.options = {.count = 1}};
    struct process_clones clones;
    struct error err = {0};
    int status = 0;
    if (parse_thaw(&a, argc, argv, &err) < 0)
        return cli_usage_error(&command_process, "%s", err.text);
    if (require_root(&err) < 0 || process_thaw(&a.options, &clones, &err) < 0)
        return fail(&err);
    print_clones(&a, &clones);
    if (a.pid_file && write_pid_file(a.pid_file, &clones, &err) < 0)
        fprintf(stderr, "thaw: %s\n", err.text);
    int result = a.options.wait ? process_wait(&clones, &status, &err) : 0;
    process_clones_free(&clones);
    return result < 0 ? fail(&err) : hand_on(status);
}

/* ---- inspect ---- */

static enum cli_exit run_inspect(int argc, char **argv)
{
    static const struct option known[] = {
        {"plan", no_argument, NULL, OPTION_PLAN}, {"json", no_argument, NULL, OPTION_JSON}, {0}};
    bool plan = false, json = false;
    struct error err = {0};
    CLEANUP_BUFFER struct buffer text = {0};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option != OPTION_PLAN && option != OPTION_JSON)
            return cli_usage_error(&command_process, "that option is not known");
        plan |= option == OPTION_PLAN;
        json |= option == OPTION_JSON;
    }
    if (argc != optind + 1)
        return cli_usage_error(&command_process, "it takes one folder, that 'thaw process freeze' made");
    if (process_print(&text, argv[optind], plan, json, &err) < 0)
        return fail(&err);
    fwrite(text.data, 1, text.len, stdout);
    return CLI_OK;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    (void)options;
    static const struct {
        const char *name;
        enum cli_exit (*run)(int argc, char **argv);
    } actions[] = {{"freeze", run_freeze}, {"thaw", run_thaw}, {"inspect", run_inspect}};
    for (size_t i = 0; argc > 1 && i < countof(actions); i++)
        if (strcmp(argv[1], actions[i].name) == 0)
            return actions[i].run(argc - 1, argv + 1);
    return cli_usage_error(&command_process, "say what to do: freeze, thaw or inspect");
}

const struct cli_command command_process = {
    .name = "process",
    .arguments = "freeze --out DIR [OPTIONS] (-- COMMAND... | --pid PID)\n"
                 "       thaw process thaw DIR [OPTIONS]\n"
                 "       thaw process inspect DIR [--plan] [--json]",
    .summary = "Freeze any program into a folder, and thaw clones of it (needs root, no server)",
    .details =
        "freeze starts COMMAND, waits for its moment, and freezes it with all its memory, threads and\n"
        "descriptors. Then it is ended. It sees the host's files, and lives in a pid namespace of its own.\n"
        "\n"
        "  --out DIR             a new folder for the snapshot: it holds the program's memory, secrets and "
        "all\n"
        "  --until-output REGEX  freeze when a line of its output matches (extended regular expression)\n"
        "  --after DURATION      freeze after so long: 500ms, 2s, 1m\n"
        "  --pid PID             freeze a program that runs already, and its children\n"
        "  --leave-running       let the original run on, undisturbed\n"
        "  --network private     only loopback, which each clone has for itself (default: host)\n"
        "  --private-tmp         /tmp begins empty and is part of the snapshot (default: the host's)\n"
        "  --quiet, --json       say less, or the same for scripts, on standard error\n"
        "\n"
        "thaw makes clones, which go on from where the program was frozen, with this command's standard "
        "input,\n"
        "output and error.\n"
        "\n"
        "  --count N             so many clones\n"
        "  --wait                wait for them: pass signals on, and exit with their status (128+N for "
        "signal N)\n"
        "                        instead of printing their process numbers; they then end with this command\n"
        "  --pid-file FILE       write their process numbers there\n"
        "  --network host|private  another network than the one it was frozen in\n"
        "  --timings, --json     how long everything took\n"
        "\n"
        "exit status: 0 done, 2 wrong usage, 125 freezing or thawing failed, 126 the command cannot be run,\n"
        "127 it is not found; with --wait, and of a program that runs on, its own. docs/PROCESS.md tells "
        "more.\n"
        "\n"
        "examples:\n"
        "  sudo thaw process freeze --until-output '>>> ' --out ./warm -- python3 -i -c 'import json, "
        "decimal'\n"
        "  echo 'print(json.dumps([1, 2]))' | sudo thaw process thaw ./warm --wait\n"
        "  sudo thaw process freeze --until-output 'Ready to accept' --out ./redis -- redis-server --save "
        "''\n"
        "  sudo thaw process thaw ./redis --count 5 --network private\n",
    .run = run,
};
