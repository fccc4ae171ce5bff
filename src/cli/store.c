/* thaw store: what the snapshots take on disk, whether they are as they were written, and what nobody needs. */
#include "cli/report.h"
#include "cli/table.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BAR_COLUMNS 40

/* What is to be shown at the end is kept. */
struct answer {
    struct report report;
    json_t *snapshots, *damaged; /* arrays */
    bool shows_progress;
};

static void answer_free(struct answer *answer)
{
    json_decref(answer->snapshots);
    json_decref(answer->damaged);
    json_decref(answer->report.totals);
}
#define CLEANUP_ANSWER __attribute__((cleanup(answer_free)))

static double number_of(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void clear_progress(void *context)
{
    const struct answer *answer = context;
    if (answer->shows_progress)
        fputs("\r\033[K", stderr);
}

static void show_progress(const struct answer *answer, const json_t *progress)
{
    double done = number_of(progress, "done"), total = number_of(progress, "total");
    char done_text[SIZE_TEXT], total_text[SIZE_TEXT], bar[BAR_COLUMNS + 1];
    if (!answer->shows_progress || total <= 0)
        return;
    int filled = (int)(BAR_COLUMNS * (done < total ? done / total : 1));
    for (int i = 0; i < BAR_COLUMNS; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR_COLUMNS] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3.0f%%  %s of %s", bar, 100 * (done < total ? done / total : 1),
        size_text(done_text, done), size_text(total_text, total));
    fflush(stderr);
}

static void tell_damage(struct answer *answer, const json_t *line)
{
    const json_t *damaged = json_object_get(line, "damaged");
    clear_progress(answer);
    fprintf(stderr, "damaged: ");
    if (*report_text(line, "function"))
        fprintf(stderr, "%s:%s, ", report_text(line, "function"), report_text(line, "version"));
    if (*report_text(damaged, "snapshot"))
        fprintf(stderr, "snapshot %s, ", report_text(damaged, "snapshot"));
    fprintf(stderr, "%s: %s%s\n", report_text(damaged, "file"), report_text(damaged, "reason"),
        json_is_true(json_object_get(damaged, "repaired")) ? " (fetched anew from the origin)" : "");
}

static void take_line(void *context, json_t *line)
{
    struct answer *answer = context;
    if (json_object_get(line, "progress")) {
        show_progress(answer, json_object_get(line, "progress"));
    } else if (json_object_get(line, "damaged")) {
        tell_damage(answer, line);
        json_array_append(answer->damaged, line);
    } else if (json_object_get(line, "snapshot")) {
        json_array_append(answer->snapshots, line);
    }
}

static int ask(const struct cli_options *options, const char *method, const char *path, struct answer *answer,
    struct error *err)
{
    answer->snapshots = json_array();
    answer->damaged = json_array();
    answer->report.line = take_line;
    answer->report.ended = clear_progress;
    answer->report.context = answer;
    return report_ask(options, method, path, &answer->report, err);
}

/* ---- stats ---- */

static void add_size(struct table *table, const json_t *object, const char *key)
{
    char text[SIZE_TEXT];
    table_add(table, "%s", size_text(text, number_of(object, key)));
}

static int compare_snapshots(const void *a, const void *b)
{
    const json_t *left = *(json_t *const *)a, *right = *(json_t *const *)b;
    int order = strcmp(report_text(left, "function"), report_text(right, "function"));
    if (order != 0)
        return order;
    long left_number = strtol(report_text(left, "version"), NULL, 10),
         right_number = strtol(report_text(right, "version"), NULL, 10);
    return left_number < right_number ? -1 : left_number > right_number;
}

/* By function and version. The items stay the array's. */
static json_t **sorted_items(const json_t *array)
{
    size_t count = json_array_size(array);
    json_t **items = xcalloc(count + 1, sizeof(json_t *));
    for (size_t i = 0; i < count; i++)
        items[i] = json_array_get(array, i);
    qsort(items, count, sizeof(json_t *), compare_snapshots);
    return items;
}

struct function_sum {
    double logical, own, versions;
};

static void add_sum(struct table *table, const char *name, const struct function_sum *sum)
{
    char text[SIZE_TEXT];
    table_add(table, "%s", name);
    table_add(table, "all %.0f", sum->versions);
    table_add(table, "%s", size_text(text, sum->logical));
    table_add(table, " ");
    table_add(table, "%s", size_text(text, sum->own));
    table_add(table, " ");
    table_add(table, " ");
}

static void print_snapshots(const json_t *snapshots)
{
    CLEANUP_TABLE struct table *table =
        table_new("FUNCTION|>VERSION|>LOGICAL|>CHUNKS|>ITS OWN|>SHARED|>MANIFEST AND HOT SET");
    CLEANUP_FREE json_t **items = sorted_items(snapshots);
    struct function_sum sum = {0};
    for (size_t i = 0; items[i] != NULL; i++) {
        const char *name = report_text(items[i], "function");
        table_add(table, "%s", *name ? name : report_text(items[i], "snapshot"));
        table_add(table, "%s", *name ? report_text(items[i], "version") : "-");
        add_size(table, items[i], "logical_bytes");
        table_add(table, "%.0f", number_of(items[i], "chunks"));
        add_size(table, items[i], "own_bytes");
        add_size(table, items[i], "shared_bytes");
        add_size(table, items[i], "file_bytes");
        sum.versions++;
        sum.logical += number_of(items[i], "logical_bytes");
        sum.own += number_of(items[i], "own_bytes") + number_of(items[i], "file_bytes");
        if (items[i + 1] != NULL && strcmp(report_text(items[i + 1], "function"), name) == 0)
            continue;
        if (sum.versions > 1 && *name)
            add_sum(table, name, &sum);
        sum = (struct function_sum){0};
    }
    table_print(table, stdout);
}

static void print_row(const char *what, const json_t *totals, const char *key, const char *more)
{
    char text[SIZE_TEXT];
    printf("%-22s %10s%s\n", what, size_text(text, number_of(totals, key)), more);
}

static void print_totals(const json_t *t)
{
    double logical = number_of(t, "logical_bytes"), plain = number_of(t, "plain_bytes"),
           sealed = number_of(t, "chunk_bytes"), stored = number_of(t, "stored_bytes");
    CLEANUP_FREE char *logical_more = xasprintf("   in %.0f snapshots", number_of(t, "snapshots"));
    CLEANUP_FREE char *plain_more = xasprintf("   deduplicated: %.2f to 1, in %.0f chunks",
        plain > 0 ? logical / plain : 1, number_of(t, "chunks"));
    CLEANUP_FREE char *sealed_more =
        xasprintf("   compressed: %.2f to 1", sealed > 0 ? number_of(t, "local_plain_bytes") / sealed : 1);
    CLEANUP_FREE char *stored_more =
        xasprintf("   %.1f %% of the logical bytes", logical > 0 ? 100 * stored / logical : 0);
    CLEANUP_FREE char *loose_more = xasprintf("   in %.0f chunks", number_of(t, "unreferenced_chunks"));
    CLEANUP_FREE char *absent_more =
        xasprintf("   in %.0f chunks, which the origin has to have", number_of(t, "absent_chunks"));
    print_row("logical", t, "logical_bytes", logical_more);
    print_row("different", t, "plain_bytes", plain_more);
    print_row("chunks here (L1)", t, "chunk_bytes", sealed_more);
    print_row("manifests, hot sets", t, "file_bytes", "");
    print_row("stored here", t, "stored_bytes", stored_more);
    if (number_of(t, "absent_chunks") > 0)
        print_row("not here", t, "absent_bytes", absent_more);
    if (number_of(t, "unreferenced_chunks") > 0)
        print_row("referenced by nobody", t, "unreferenced_bytes", loose_more);
    CLEANUP_FREE char *templates_more = xasprintf("   of %.0f snapshots", number_of(t, "templates"));
    print_row("in memory (L0)", t, "template_bytes", templates_more);
}

static int stats(const struct cli_options *options, bool json, struct error *err)
{
    CLEANUP_ANSWER struct answer answer = {0};
    if (ask(options, "GET", "/thaw/v1/store/stats", &answer, err) < 0)
        return -1;
    if (json) {
        json_t *all = json_pack("{s:O, s:O}", "snapshots", answer.snapshots, "totals", answer.report.totals);
        cli_print_json(all);
        json_decref(all);
        return 0;
    }
    if (json_array_size(answer.snapshots) > 0)
        print_snapshots(answer.snapshots);
    print_totals(answer.report.totals);
    return 0;
}

/* ---- verify and gc ---- */

/* Damage is CLI_FAILED unless all of it was mended. */
static enum cli_exit verify(const struct cli_options *options, bool json, bool repair, struct error *err)
{
    CLEANUP_ANSWER struct answer answer = {.shows_progress = !json && isatty(STDERR_FILENO)};
    char size[SIZE_TEXT];
    if (ask(options, "POST", repair ? "/thaw/v1/store/verify?repair=1" : "/thaw/v1/store/verify", &answer,
            err) < 0)
        return cli_fail(err);
    size_t i, damaged = json_array_size(answer.damaged), mended = 0, made_anew = 0;
    json_t *line;
    json_array_foreach (answer.damaged, i, line) {
        bool repaired = json_is_true(json_object_get(json_object_get(line, "damaged"), "repaired"));
        mended += repaired;
        made_anew += repair && !repaired && *report_text(line, "function");
    }
    if (json) {
        json_t *all = json_pack("{s:O, s:O}", "damaged", answer.damaged, "totals", answer.report.totals);
        cli_print_json(all);
        json_decref(all);
    } else {
        printf("verified %.0f snapshots, %.0f chunks, %s: ", number_of(answer.report.totals, "snapshots"),
            number_of(answer.report.totals, "chunks"),
            size_text(size, number_of(answer.report.totals, "bytes")));
        if (damaged == 0)
            puts("all is as it was written");
        else if (repair)
            printf("%zu damaged, %zu fetched anew, %zu left to versions that are initialised anew\n", damaged,
                mended, made_anew);
        else
            printf(
                "%zu damaged; --repair fetches them anew, or has their versions initialised anew\n", damaged);
    }
    return damaged == mended + made_anew ? CLI_OK : CLI_FAILED;
}

static int gc(const struct cli_options *options, bool json, struct error *err)
{
    CLEANUP_ANSWER struct answer answer = {0};
    char size[SIZE_TEXT];
    if (ask(options, "POST", "/thaw/v1/store/gc", &answer, err) < 0)
        return -1;
    if (json) {
        cli_print_json(answer.report.totals);
        return 0;
    }
    printf("removed %.0f chunks, %s; kept %.0f that snapshots need",
        number_of(answer.report.totals, "removed_chunks"),
        size_text(size, number_of(answer.report.totals, "removed_bytes")),
        number_of(answer.report.totals, "kept_chunks"));
    if (number_of(answer.report.totals, "young_chunks") > 0)
        printf(" and %.0f of publishes that run", number_of(answer.report.totals, "young_chunks"));
    if (number_of(answer.report.totals, "evicted_chunks") > 0)
        printf("; evicted %.0f that the origin has, %s", number_of(answer.report.totals, "evicted_chunks"),
            size_text(size, number_of(answer.report.totals, "evicted_bytes")));
    putchar('\n');
    if (json_object_get(answer.report.totals, "origin_kept_chunks") != NULL)
        printf("in the origin: removed %.0f chunks, %s; kept %.0f that %.0f snapshots need "
               "and %.0f that are too young\n",
            number_of(answer.report.totals, "origin_removed_chunks"),
            size_text(size, number_of(answer.report.totals, "origin_removed_bytes")),
            number_of(answer.report.totals, "origin_kept_chunks"),
            number_of(answer.report.totals, "origin_snapshots"),
            number_of(answer.report.totals, "origin_young_chunks"));
    if (number_of(answer.report.totals, "origin_removed_files") > 0)
        printf("in the origin: removed %.0f files of snapshots that are not there\n",
            number_of(answer.report.totals, "origin_removed_files"));
    return 0;
}

static enum cli_exit run(const struct cli_options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"json", no_argument, NULL, 'j'}, {"repair", no_argument, NULL, 'r'}, {0}};
    bool json = false, repair = false;
    struct error err = {0};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'j')
            json = true;
        else if (option == 'r')
            repair = true;
        else
            return cli_usage_error(&command_store, "that option is not known");
    }
    const char *verb = optind == argc - 1 ? argv[optind] : "";
    if (repair && strcmp(verb, "verify") != 0)
        return cli_usage_error(&command_store, "--repair belongs to verify");
    if (strcmp(verb, "verify") == 0)
        return verify(options, json, repair, &err);
    if (strcmp(verb, "stats") == 0)
        return stats(options, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
    if (strcmp(verb, "gc") == 0)
        return gc(options, json, &err) < 0 ? cli_fail(&err) : CLI_OK;
    return cli_usage_error(&command_store, "say stats, verify or gc");
}

const struct cli_command command_store = {
    .name = "store",
    .arguments = "stats|verify|gc [--repair] [--json]",
    .summary = "Look after the snapshot store: sizes, a check of every byte, a collection",
    .details = "  stats    logical and stored bytes of each version, what versions share, and the ratios\n"
               "  verify   reads and authenticates everything; exit status 1 when something is damaged\n"
               "  gc       removes chunks that no snapshot needs; safe at any time\n"
               "\n"
               "  --repair  with verify: fetch what is damaged from the origin again; what that cannot mend\n"
               "            has its version initialised and frozen anew\n"
               "  --json    as one JSON object\n"
               "\n"
               "examples:\n"
               "  thaw store stats\n"
               "  thaw store verify --repair\n",
    .run = run,
};
