#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

struct lines {
    struct report *report;
    struct buffer rest; /* of a line that is not yet whole */
    char *error;
};

static void lines_free(struct lines *lines)
{
    buffer_free(&lines->rest);
    free(lines->error);
}
#define CLEANUP_LINES __attribute__((cleanup(lines_free)))

const char *report_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void take_line(struct lines *lines, const char *text, size_t len)
{
    struct report *report = lines->report;
    json_t *line = json_loadb(text, len, 0, NULL);
    if (json_object_get(line, "totals")) {
        json_decref(report->totals);
        report->totals = json_incref(json_object_get(line, "totals"));
    } else if (json_object_get(line, "error")) {
        free(lines->error);
        lines->error = xstrdup(report_text(line, "error"));
    } else if (line) {
        report->line(report->context, line);
    }
    json_decref(line);
}

static int take_piece(void *context, const void *data, size_t len)
{
    struct lines *lines = context;
    buffer_append(&lines->rest, data, len);
    const char *newline;
    size_t done = 0;
    while ((newline = memchr(lines->rest.data + done, '\n', lines->rest.len - done)) != NULL) {
        size_t end = (size_t)(newline - (const char *)lines->rest.data);
        take_line(lines, (const char *)lines->rest.data + done, end - done);
        done = end + 1;
    }
    memmove(lines->rest.data, lines->rest.data + done, lines->rest.len - done);
    lines->rest.len -= done;
    return lines->rest.len > REPORT_LINE_BYTES_MAX ? -1 : 0;
}

int report_ask(const struct cli_options *options, const char *method, const char *path, struct report *report,
    struct error *err)
{
    CLEANUP_CLIENT struct client *client = client_new(options, err);
    if (!client)
        return -1;
    CLEANUP_LINES struct lines lines = {.report = report};
    CLEANUP_REPLY struct client_reply reply = {0};
    struct client_request request = {.method = method, .path = path, .stream = take_piece, .context = &lines};
    if (client_send(client, &request, &reply, err) < 0)
        return -1;
    if (reply.status != 200)
        return client_refused(&reply, err);
    if (report->ended)
        report->ended(report->context);
    if (lines.error)
        return error_set(err, ERROR_INTERNAL, "%s", lines.error);
    if (!report->totals)
        return error_set(err, ERROR_INTERNAL, "the server's answer ended too early");
    return 0;
}
