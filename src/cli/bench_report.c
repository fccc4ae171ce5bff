/* What thaw bench prints. */
#include "cli/bench.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static const struct {
    const char *name;
    unsigned percent;
} columns[] = {{"median", 50}, {"p90", 90}, {"p99", 99}, {"min", 0}, {"max", 100}};

void bench_progress(const char *what, size_t done, size_t all)
{
    enum { WIDTH = 24 };
    if (!isatty(STDERR_FILENO))
        return;
    if (!what) {
        fputs("\r\033[K", stderr);
        return;
    }
    static const char full[] = "########################", empty[] = "........................";
    int filled = all ? (int)(done * WIDTH / all) : 0;
    fprintf(stderr, "\r\033[K[%.*s%.*s] %s %zu/%zu", filled, full, WIDTH - filled, empty, what, done, all);
}

static void add_row(struct table *table, const char *title, struct bench_samples *samples)
{
    table_add(table, "%s", title);
    table_add(table, "%zu", samples->count);
    for (size_t i = 0; i < countof(columns); i++)
        table_add(table, "%.3f", bench_percentile(samples, columns[i].percent) / 1e3);
}

static void print_totals(struct bench *bench)
{
    CLEANUP_TABLE struct table *table = table_new("end to end, ms|>runs|>median|>p90|>p99|>min|>max");
    for (int kind = 0; kind < BENCH_KINDS; kind++)
        if (bench->series[kind].total.count > 0)
            add_row(table, bench->series[kind].title, &bench->series[kind].total);
    table_print(table, stdout);
}

/* The phases of all series in one list: those of the thaw first, in their order, then what others add. */
static size_t list_phases(const struct bench *bench, const char *names[BENCH_PHASES_MAX])
{
    static const enum bench_kind order[] = {
        BENCH_FIRST, BENCH_THAW, BENCH_CONCURRENT, BENCH_COLD, BENCH_WARM};
    size_t count = 0;
    for (size_t k = 0; k < countof(order); k++) {
        const struct bench_series *series = &bench->series[order[k]];
        for (size_t i = 0; i < series->phase_count; i++) {
            size_t at = 0;
            while (at < count && strcmp(names[at], series->phase[i].name) != 0)
                at++;
            if (at == count && count < BENCH_PHASES_MAX)
                names[count++] = series->phase[i].name;
        }
    }
    return count;
}

static void add_phase_cell(
    struct table *table, struct bench_series *series, const char *name, unsigned percent)
{
    for (size_t i = 0; i < series->phase_count; i++)
        if (strcmp(series->phase[i].name, name) == 0) {
            double value = bench_percentile(&series->phase[i].samples, percent);
            if (strcmp(name, BENCH_FAULTS) == 0) /* the only one that is no time */
                table_add(table, "%.0f", value);
            else
                table_add(table, "%.3f", value / 1e3);
            return;
        }
    table_add(table, "-");
}

static void print_phases(struct bench *bench)
{
    const char *names[BENCH_PHASES_MAX];
    size_t count = list_phases(bench, names);
    if (count == 0)
        return;
    CLEANUP_TABLE struct table *table =
        table_new("by phase, median ms|>cold start|>first thaw|>thaw|>thaw p99|>warm|>at once");
    for (size_t i = 0; i < count; i++) {
        table_add(table, "%s", strcmp(names[i], BENCH_FAULTS) == 0 ? "page faults" : names[i]);
        add_phase_cell(table, &bench->series[BENCH_COLD], names[i], 50);
        add_phase_cell(table, &bench->series[BENCH_FIRST], names[i], 50);
        add_phase_cell(table, &bench->series[BENCH_THAW], names[i], 50);
        add_phase_cell(table, &bench->series[BENCH_THAW], names[i], 99);
        add_phase_cell(table, &bench->series[BENCH_WARM], names[i], 50);
        add_phase_cell(table, &bench->series[BENCH_CONCURRENT], names[i], 50);
    }
    putchar('\n');
    table_print(table, stdout);
}

static void print_ratio(struct bench *bench)
{
    double cold = bench_percentile(&bench->series[BENCH_COLD].total, 50);
    double thaw = bench_percentile(&bench->series[BENCH_THAW].total, 50);
    if (thaw > 0)
        printf("\na thaw is %.0f times as fast as a cold start (%.1f ms / %.2f ms, medians)\n", cold / thaw,
            cold / 1e3, thaw / 1e3);
}

static void print_others(const struct bench *bench)
{
    for (int kind = 0; kind < BENCH_KINDS; kind++)
        if (bench->series[kind].others > 0)
            printf("note: %zu of '%s' were served by an environment that was started in another way\n",
                bench->series[kind].others, bench->series[kind].title);
}

void bench_print(struct bench *bench)
{
    struct utsname machine;
    uname(&machine);
    printf("%s:%s on %ld processors, kernel %s\n\n", bench->version.name, bench->version.version,
        sysconf(_SC_NPROCESSORS_ONLN), machine.release);
    print_totals(bench);
    print_phases(bench);
    print_ratio(bench);
    print_others(bench);
}

static json_t *samples_json(struct bench_samples *samples)
{
    json_t *out = json_object();
    json_object_set_new(out, "runs", json_integer((json_int_t)samples->count));
    for (size_t i = 0; i < countof(columns); i++)
        json_object_set_new(out, columns[i].name, json_real(bench_percentile(samples, columns[i].percent)));
    return out;
}

void bench_print_json(struct bench *bench)
{
    json_t *out = json_object();
    json_object_set_new(out, "function", json_string(bench->version.name));
    json_object_set_new(out, "version", json_string(bench->version.version));
    for (int kind = 0; kind < BENCH_KINDS; kind++) {
        struct bench_series *series = &bench->series[kind];
        if (series->total.count == 0)
            continue;
        json_t *one = json_object(), *phases = json_object();
        json_object_set_new(one, "total_us", samples_json(&series->total));
        for (size_t i = 0; i < series->phase_count; i++) {
            const char *name = series->phase[i].name;
            bool faults = strcmp(name, BENCH_FAULTS) == 0;
            json_object_set_new(faults ? one : phases, faults ? "page_faults" : name,
                samples_json(&series->phase[i].samples));
        }
        json_object_set_new(one, "phases_us", phases);
        json_object_set_new(one, "started_otherwise", json_integer((json_int_t)series->others));
        json_object_set_new(out, series->key, one);
    }
    double thaw = bench_percentile(&bench->series[BENCH_THAW].total, 50);
    double cold = bench_percentile(&bench->series[BENCH_COLD].total, 50);
    json_object_set_new(out, "cold_over_thaw", thaw > 0 ? json_real(cold / thaw) : json_null());
    json_dumpf(out, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(out);
}
