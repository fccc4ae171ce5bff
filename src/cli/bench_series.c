/* Samples, percentiles, and what each reply adds to them. */
#include "cli/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_samples_add(struct bench_samples *samples, double value)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 128;
        samples->value = xrealloc(samples->value, samples->capacity * sizeof *samples->value);
    }
    samples->value[samples->count++] = value;
}

void bench_samples_free(struct bench_samples *samples)
{
    free(samples->value);
    *samples = (struct bench_samples){0};
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_percentile(struct bench_samples *samples, unsigned percent)
{
    if (samples->count == 0)
        return 0;
    qsort(samples->value, samples->count, sizeof *samples->value, compare);
    size_t rank = (percent * samples->count + 99) / 100;
    return samples->value[rank < 1 ? 0 : rank - 1];
}

void bench_series_free(struct bench_series *series)
{
    bench_samples_free(&series->total);
    for (size_t i = 0; i < series->phase_count; i++)
        bench_samples_free(&series->phase[i].samples);
}

static void add_phase(struct bench_series *series, const char *name, double value)
{
    size_t i = 0;
    while (i < series->phase_count && strcmp(series->phase[i].name, name) != 0)
        i++;
    if (i == BENCH_PHASES_MAX)
        return;
    if (i == series->phase_count)
        snprintf(series->phase[series->phase_count++].name, BENCH_PHASE_NAME, "%s", name);
    bench_samples_add(&series->phase[i].samples, value);
}

/* Every number of the trace is a phase; "start" says how the environment came to be. */
static void add_trace(struct bench_series *series, const char *text)
{
    json_t *trace = json_loads(text, 0, NULL);
    const char *name;
    json_t *value;
    json_object_foreach (trace, name, value)
        if (json_is_number(value))
            add_phase(series, name, json_number_value(value));
    const char *start = json_string_value(json_object_get(trace, "start"));
    if (start && series->start && strcmp(start, series->start) != 0)
        series->others++;
    json_decref(trace);
}

int bench_record(struct bench_series *series, const struct bench_connection *connection, struct error *err)
{
    CLEANUP_FREE char *function_error = bench_header(connection, "X-Amz-Function-Error");
    if (connection->status != 200 || function_error)
        return error_set(err, ERROR_INVALID, "%s: %s (HTTP status %d): %.*s", series->title,
            function_error ? "the function returned an error; choose an event that it likes with --payload"
                           : "the server refused an invocation",
            connection->status, (int)(connection->body_bytes < 300 ? connection->body_bytes : 300),
            (const char *)connection->reply.data + connection->head_bytes);
    bench_samples_add(&series->total, (double)(connection->ended_ns - connection->started_ns) / 1e3);
    CLEANUP_FREE char *trace = bench_header(connection, "X-Thaw-Trace");
    if (trace)
        add_trace(series, trace);
    return 0;
}
