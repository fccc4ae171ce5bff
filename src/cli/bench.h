/* thaw bench in parts: the connection that is timed, the series that are measured, the report. */
#pragma once

#include "cli/client.h"

#include <stdint.h>

#define BENCH_RUNS_MAX 100000
#define BENCH_CONCURRENCY_MAX 1000
#define BENCH_PHASES_MAX 32
#define BENCH_PHASE_NAME 48
#define BENCH_FAULTS "faults" /* the number in a trace that is no time: page faults of the environment */

/* Values in microseconds, or whatever a phase counts. */
struct bench_samples {
    double *value;
    size_t count, capacity;
};
void bench_samples_add(struct bench_samples *samples, double value);
void bench_samples_free(struct bench_samples *samples);
/* Nearest rank: the least value that `percent` of all are not above. 0 when there is none. Sorts. */
double bench_percentile(struct bench_samples *samples, unsigned percent);

/* One kind of request, measured again and again. */
struct bench_series {
    const char *key, *title;    /* "thaw", "thaw from a template" */
    const char *start;          /* what the trace must call it: cold, first, thaw, warm; NULL: any of them */
    struct bench_samples total; /* as this client saw it, in microseconds */
    /* The server's own account of each (X-Thaw-Trace), in microseconds; names in the order of their coming.
     */
    struct {
        char name[BENCH_PHASE_NAME];
        struct bench_samples samples;
    } phase[BENCH_PHASES_MAX];
    size_t phase_count;
    size_t others; /* replies whose trace says that they were started in another way than this series means */
};
void bench_series_free(struct bench_series *series);

/* One keep-alive connection with nothing between the clock and the socket. */
struct bench_connection {
    int fd;
    const struct bench_request *request;
    uint64_t started_ns, ended_ns;
    struct buffer reply;
    size_t head_bytes, body_bytes; /* head_bytes is 0 until the head is complete */
    int status;
};
/* What is sent, as it goes over the wire. */
struct bench_request {
    struct buffer wire;
};
void bench_request_invoke(struct bench_request *request, const char *endpoint,
    const struct cli_target *target, struct bytes payload);
void bench_request_status(struct bench_request *request, const char *endpoint);

/* Connects to the endpoint and exchanges one request for the server's status, so that the connection is in
 * use. `fd` is -1 after an error. */
MUST_CHECK int bench_connect(struct bench_connection *connection, const char *endpoint, struct error *err);
void bench_disconnect(struct bench_connection *connection);
#define CLEANUP_CONNECTION __attribute__((cleanup(bench_disconnect)))
/* Send; then advance until it returns 1 (the reply is complete). 0: more is to come. */
MUST_CHECK int bench_begin(
    struct bench_connection *connection, const struct bench_request *request, struct error *err);
MUST_CHECK int bench_advance(struct bench_connection *connection, struct error *err);
/* Both, blocking. */
MUST_CHECK int bench_exchange(
    struct bench_connection *connection, const struct bench_request *request, struct error *err);
/* A header of the complete reply, malloc'ed, or NULL. */
char *bench_header(const struct bench_connection *connection, const char *name);
/* Files the complete reply under `series`; an error when the function did not answer well. */
MUST_CHECK int bench_record(
    struct bench_series *series, const struct bench_connection *connection, struct error *err);

enum bench_kind { BENCH_COLD, BENCH_FIRST, BENCH_THAW, BENCH_WARM, BENCH_CONCURRENT, BENCH_KINDS };

struct bench {
    const struct cli_options *options;
    struct client *client; /* for everything that is not timed */
    struct cli_target version, latest;
    struct bytes payload;
    long runs, concurrency;
    struct bench_series series[BENCH_KINDS];
};

/* The measurements, one after the other, into bench->series. */
MUST_CHECK int bench_measure(struct bench *bench, struct error *err);
void bench_print(struct bench *bench);
void bench_print_json(struct bench *bench);

/* "cold start  34/100" on a terminal's standard error; nothing otherwise. */
void bench_progress(const char *what, size_t done, size_t all);
