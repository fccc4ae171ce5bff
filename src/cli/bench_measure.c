/* What thaw bench measures, in this order: cold starts, first thaws, thaws, warm invocations, many at once.
 */
#include "base/clock.h"
#include "cli/bench.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_RUNS_MAX 10 /* each builds a template from the disk */
#define FIRST_PAUSE_NS \
    300000000 /* before a template is dropped: it still stores what it learned, and fills itself in */
#define COLD_SECONDS_MAX 60      /* cold starts may be slow: so many seconds of them, and no more runs */
#define WARM_RUNS_PER_RUN 10     /* warm invocations are short, and their spread is what one wants to know */
#define CONCURRENT_ROUNDS_MAX 20 /* each round asks `concurrency` requests at once */
#define REPLY_WAIT_MS 920000

static int evict(struct bench *bench, const struct cli_target *target, bool templates, struct error *err)
{
    CLEANUP_FREE char *path = evict_path(target, templates);
    json_t *counts = client_post_json(bench->client, path, err);
    json_decref(counts);
    return counts ? 0 : error_prefix(err, "evict");
}

/* Evict, then time one invocation on a connection that is in use already. `series` NULL: it does not count. */
static int measure_start(struct bench *bench, struct bench_series *series, const struct cli_target *target,
    const struct bench_request *request, bool templates, struct error *err)
{
    if (templates)
        nanosleep(&(struct timespec){.tv_nsec = FIRST_PAUSE_NS}, NULL);
    if (evict(bench, target, templates, err) < 0)
        return -1;
    CLEANUP_CONNECTION struct bench_connection connection;
    if (bench_connect(&connection, bench->options->endpoint, err) < 0 ||
        bench_exchange(&connection, request, err) < 0)
        return -1;
    return series == NULL ? 0 : bench_record(series, &connection, err);
}

static int measure_starts(struct bench *bench, enum bench_kind kind, const struct cli_target *target,
    const struct bench_request *request, struct error *err)
{
    struct bench_series *series = &bench->series[kind];
    size_t runs = (size_t)bench->runs;
    if (kind == BENCH_FIRST && runs > FIRST_RUNS_MAX)
        runs = FIRST_RUNS_MAX;
    /* The very first one of a version records what the others get at once. */
    if (kind == BENCH_FIRST && measure_start(bench, NULL, target, request, true, err) < 0)
        return -1;
    uint64_t deadline_ns = clock_monotonic_ns() + COLD_SECONDS_MAX * 1000000000ull;
    for (size_t i = 0; i < runs; i++) {
        bench_progress(series->title, i, runs);
        if (measure_start(bench, series, target, request, kind == BENCH_FIRST, err) < 0)
            return -1;
        if (kind == BENCH_COLD && clock_monotonic_ns() > deadline_ns)
            break;
    }
    return 0;
}

static int measure_warm(struct bench *bench, const struct bench_request *request, struct error *err)
{
    struct bench_series *series = &bench->series[BENCH_WARM];
    size_t runs = (size_t)bench->runs * WARM_RUNS_PER_RUN;
    CLEANUP_CONNECTION struct bench_connection connection;
    /* The first one is not counted: it may still be a thaw. */
    if (bench_connect(&connection, bench->options->endpoint, err) < 0 ||
        bench_exchange(&connection, request, err) < 0)
        return -1;
    for (size_t i = 0; i < runs; i++) {
        if (i % 64 == 0)
            bench_progress(series->title, i, runs);
        if (bench_exchange(&connection, request, err) < 0 || bench_record(series, &connection, err) < 0)
            return -1;
    }
    return 0;
}

/* Every connection sends its request, then replies are read as they come. */
static int run_round(struct bench_series *series, struct bench_connection *connections, size_t count,
    const struct bench_request *request, struct error *err)
{
    CLEANUP_FREE struct pollfd *wait = xcalloc(count, sizeof *wait);
    for (size_t i = 0; i < count; i++) {
        wait[i] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
        if (bench_begin(&connections[i], request, err) < 0)
            return -1;
    }
    for (size_t left = count; left > 0;) {
        int ready = poll(wait, count, REPLY_WAIT_MS);
        if (ready == 0 || (ready < 0 && errno != EINTR))
            return error_set(err, ERROR_BUSY, "%zu of %zu requests got no reply", left, count);
        for (size_t i = 0; i < count; i++) {
            if (wait[i].fd < 0 || !wait[i].revents)
                continue;
            int done = bench_advance(&connections[i], err);
            if (done < 0)
                return -1;
            if (done) {
                wait[i].fd = -1; /* poll ignores it from now on */
                left--;
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        if (bench_record(series, &connections[i], err) < 0)
            return -1;
    return 0;
}

static int measure_concurrent(struct bench *bench, const struct bench_request *request, struct error *err)
{
    struct bench_series *series = &bench->series[BENCH_CONCURRENT];
    size_t count = (size_t)bench->concurrency;
    size_t rounds = ((size_t)bench->runs + count - 1) / count;
    if (rounds > CONCURRENT_ROUNDS_MAX)
        rounds = CONCURRENT_ROUNDS_MAX;
    CLEANUP_FREE struct bench_connection *connections = xcalloc(count, sizeof *connections);
    int result = 0;
    for (size_t round = 0; round < rounds && result == 0; round++) {
        bench_progress(series->title, round, rounds);
        result = evict(bench, &bench->version, false, err);
        size_t opened = 0;
        while (result == 0 && opened < count)
            result = bench_connect(&connections[opened++], bench->options->endpoint, err);
        if (result == 0)
            result = run_round(series, connections, count, request, err);
        for (size_t i = 0; i < opened; i++)
            bench_disconnect(&connections[i]);
    }
    return result;
}

static int measure_all(struct bench *bench, const struct bench_request *request,
    const struct bench_request *cold_request, struct error *err)
{
    if (measure_starts(bench, BENCH_COLD, &bench->latest, cold_request, err) < 0 ||
        evict(bench, &bench->latest, false, err) < 0)
        return -1;
    if (measure_starts(bench, BENCH_FIRST, &bench->version, request, err) < 0 ||
        measure_starts(bench, BENCH_THAW, &bench->version, request, err) < 0 ||
        measure_warm(bench, request, err) < 0)
        return -1;
    if (bench->concurrency > 0 && measure_concurrent(bench, request, err) < 0)
        return -1;
    return evict(bench, &bench->version, false, err);
}

int bench_measure(struct bench *bench, struct error *err)
{
    struct bench_request request = {0}, cold_request = {0};
    bench_request_invoke(&request, bench->options->endpoint, &bench->version, bench->payload);
    bench_request_invoke(&cold_request, bench->options->endpoint, &bench->latest, bench->payload);
    int result = measure_all(bench, &request, &cold_request, err);
    bench_progress(NULL, 0, 0);
    buffer_free(&request.wire);
    buffer_free(&cold_request.wire);
    return result;
}
