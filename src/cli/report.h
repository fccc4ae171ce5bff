/* What the server answers to something long: lines of JSON as they come. {"totals": ...} is the last of a job that went
 * well, {"error": "..."} of another; what comes before them is the caller's to show. */
#pragma once

#include "cli/client.h"

#define REPORT_LINE_BYTES_MAX (1u << 20)

struct report {
    void (*line)(void *context, json_t *line); /* of every other line; it stays the report's */
    void (*ended)(void *context);              /* before anything is said of how it ended; may be NULL */
    void *context;
    json_t *totals; /* the caller's to release */
};

/* Sends the request and gives the lines away until the answer ends. Without an error there are totals. */
MUST_CHECK int report_ask(const struct cli_options *options, const char *method, const char *path,
    struct report *report, struct error *err);

/* "" where there is no such text. */
const char *report_text(const json_t *object, const char *key);
