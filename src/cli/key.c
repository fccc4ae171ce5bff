/* thaw key: the master key that the snapshots' keys are wrapped with. */
#include "cli/client.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEY_LINE_BYTES_MAX 65536

/* Lines of JSON as they come. */
struct answer {
    struct buffer line;
    json_t *totals;
    char *error;
    bool shows_progress;
};

static void answer_free(struct answer *answer)
{
    buffer_free(&answer->line);
    json_decref(answer->totals);
    free(answer->error);
}
#define CLEANUP_ANSWER __attribute__((cleanup(answer_free)))

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void take_line(struct answer *answer, const char *text, size_t len)
{
    json_t *line = json_loadb(text, len, 0, NULL);
    const json_t *progress = json_object_get(line, "progress");
    if (progress && answer->shows_progress) {
        fprintf(stderr, "\r\033[K%lld of %lld keys are wrapped anew", number_of(progress, "done"),
            number_of(progress, "total"));
        fflush(stderr);
    }
    if (json_object_get(line, "totals")) {
        json_decref(answer->totals);
        answer->totals = json_incref(json_object_get(line, "totals"));
    }
    if (json_object_get(line, "error")) {
        free(answer->error);
        answer->error = xstrdup(text_of(line, "error"));
    }
    json_decref(line);
}

static int take_piece(void *context, const void *data, size_t len)
{
    struct answer *answer = context;
    buffer_append(&answer->line, data, len);
    const char *newline;
    size_t done = 0;
    while ((newline = memchr(answer->line.data + done, '\n', answer->line.len - done)) != NULL) {
        size_t end = (size_t)(newline - (const char *)answer->line.data);
        take_line(answer, (const char *)answer->line.data + done, end - done);
        done = end + 1;
    }
    memmove(answer->line.data, answer->line.data + done, answer->line.len - done);
    answer->line.len -= done;
    return answer->line.len > KEY_LINE_BYTES_MAX ? -1 : 0;
}

static int ask(
    const struct cli_options *options, const char *method, struct answer *answer, struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    CLEANUP_REPLY struct client_reply reply = {0};
    struct client_request request = {
        .method = method, .path = "/thaw/v1/store/key", .stream = take_piece, .context = answer};
    if (client_send(client, &request, &reply, err) < 0)
        return -1;
    if (answer->shows_progress)
        fputs("\r\033[K", stderr);
    if (reply.status != 200)
        return client_refused(&reply, err);
    if (answer->error)
        return error_set(err, ERROR_INTERNAL, "%s", answer->error);
    if (!answer->totals)
        return error_set(err, ERROR_INTERNAL, "the server's answer ended too early");
    return 0;
}

static void print_totals(const json_t *totals, bool rotated)
{
    CLEANUP_TABLE struct table *table = table_new("SOURCE|KEY|STATE|>KEYS|>WRAPPED ANEW|>DAMAGED");
    table_add(table, "%s", text_of(totals, "source"));
    table_add(table, "%.8s", text_of(totals, "key_id"));
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
    CLEANUP_ANSWER struct answer answer = {.shows_progress = rotate && !json && isatty(STDERR_FILENO)};
    if (ask(options, rotate ? "POST" : "GET", &answer, err) < 0)
        return -1;
    if (!json) {
        print_totals(answer.totals, rotate);
        return 0;
    }
    json_dumpf(answer.totals, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'}, {0}};
    bool json = false;
    struct error err = {0};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option != 'j')
            return cli_usage_error(&command_key, "that option is not known");
        json = true;
    }
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
