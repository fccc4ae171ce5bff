/* thaw invoke: run a function once. */
#include "base/clock.h"
#include "cli/client.h"
#include "cli/payload.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>

struct invoke_options {
    const char *payload;
    bool tail, json;
};

static void print_tail(const struct client_reply *reply)
{
    const char *encoded = client_reply_field(reply, "X-Amz-Log-Result");
    if (!encoded)
        return;
    CLEANUP_BUFFER struct buffer log = {0};
    base64_decode(&log, encoded);
    bool dim = table_may_colour(stderr);
    fprintf(
        stderr, "%s%.*s%s", dim ? "\033[2m" : "", (int)log.len, (const char *)log.data, dim ? "\033[0m" : "");
    if (log.len > 0 && log.data[log.len - 1] != '\n')
        fputc('\n', stderr);
}

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static void print_json(const struct client_reply *reply, double ms)
{
    json_t *out = json_object();
    json_object_set_new(out, "status", json_integer(reply->status));
    set_text(out, "executed_version", client_reply_field(reply, "X-Amz-Executed-Version"));
    set_text(out, "request_id", client_reply_field(reply, "x-amzn-RequestId"));
    set_text(out, "function_error", client_reply_field(reply, "X-Amz-Function-Error"));
    json_object_set_new(out, "milliseconds", json_real(ms));
    const char *trace = client_reply_field(reply, "X-Thaw-Trace");
    json_t *phases = trace ? json_loads(trace, 0, NULL) : NULL;
    json_object_set_new(out, "trace", phases ? phases : json_null());
    const char *encoded = client_reply_field(reply, "X-Amz-Log-Result");
    if (encoded) {
        CLEANUP_BUFFER struct buffer log = {0};
        base64_decode(&log, encoded);
        json_t *text = json_stringn((const char *)log.data, log.len);
        json_object_set_new(out, "log", text ? text : json_null());
    }
    json_t *payload = json_loadb((const char *)reply->body.data, reply->body.len, JSON_DECODE_ANY, NULL);
    json_object_set_new(
        out, "payload", payload ? payload : json_stringn((const char *)reply->body.data, reply->body.len));
    json_dumpf(out, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(out);
}

static int send_invocation(struct client *client, const struct cli_target *target,
    const struct invoke_options *invoke, struct client_reply *reply, double *ms, struct error *err)
{
    CLEANUP_BUFFER struct buffer payload = {0};
    if (payload_read(&payload, invoke->payload, err) < 0)
        return -1;
    CLEANUP_FREE char *path = invoke_path(target);
    struct client_field fields[3] = {{"Content-Type", "application/json"}};
    size_t count = 1;
    if (invoke->tail)
        fields[count++] = (struct client_field){"X-Amz-Log-Type", "Tail"};
    if (invoke->json)
        fields[count++] = (struct client_field){"X-Thaw-Trace", "1"};
    struct client_request request = {.method = "POST",
        .path = path,
        .fields = fields,
        .field_count = count,
        .body = {payload.data, payload.len}};
    uint64_t before = clock_monotonic_ns();
    if (client_send(client, &request, reply, err) < 0)
        return -1;
    *ms = (double)(clock_monotonic_ns() - before) / 1e6;
    return reply->status == 200 ? 0 : client_refused(reply, err);
}

static enum cli_exit invoke_function(
    const struct cli_options *options, const struct cli_target *target, const struct invoke_options *invoke)
{
    struct error err;
    CLEANUP_CLIENT struct client *client = client_new(options, &err);
    CLEANUP_REPLY struct client_reply reply = {0};
    double ms;
    if (!client || send_invocation(client, target, invoke, &reply, &ms, &err) < 0)
        return cli_fail(&err);
    if (invoke->json) {
        print_json(&reply, ms);
    } else {
        print_tail(&reply);
        fwrite(reply.body.data, 1, reply.body.len, stdout);
        putchar('\n');
    }
    if (!client_reply_field(&reply, "X-Amz-Function-Error"))
        return CLI_OK;
    if (!invoke->json)
        fprintf(stderr, "thaw: the function returned an error (see above)\n");
    return CLI_FUNCTION_ERROR;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {{"payload", required_argument, NULL, 'p'},
        {"tail", no_argument, NULL, 't'}, {"json", no_argument, NULL, 'j'}, {0}};
    struct invoke_options invoke = {0};
    for (int option; (option = getopt_long(argc, argv, "p:", known, NULL)) != -1;) {
        if (option == 'p')
            invoke.payload = optarg;
        else if (option == 't')
            invoke.tail = true;
        else if (option == 'j')
            invoke.json = true;
        else
            return cli_usage_error(&command_invoke, "that option is not known, or lacks its value");
    }
    if (optind != argc - 1)
        return cli_usage_error(&command_invoke, "name one function");
    struct error err;
    CLEANUP_TARGET struct cli_target target = {0};
    if (cli_target_parse(&target, argv[optind], &err) < 0)
        return cli_usage_error(&command_invoke, "%s", err.text);
    return invoke_function(options, &target, &invoke);
}

const struct cli_command command_invoke = {
    .name = "invoke",
    .arguments = "NAME[:VERSION] [--payload JSON|@FILE] [--tail] [--json]",
    .summary = "Run a function once and print what it returned",
    .details = "Without :VERSION, $LATEST. What the function returned goes to standard output, all else to\n"
               "standard error. Exit status 3 says that the function ran and returned an error.\n"
               "\n"
               "  -p, --payload JSON|@FILE  the event; @- reads standard input (default {})\n"
               "  --tail                    also print the end of this invocation's log\n"
               "  --json                    one JSON object: payload, version, times of each phase\n"
               "\n"
               "examples:\n"
               "  thaw invoke pets --payload '{\"name\": \"Rex\"}'\n"
               "  thaw invoke pets:1 --payload @event.json --tail\n"
               "  thaw invoke pets:1 --json | jq .trace\n",
    .run = run,
};
