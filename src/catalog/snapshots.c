/* What is kept about each version's snapshot beside its name, when versions were last used, and the clock that
 * these times are of. */
#include "catalog/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void catalog_snapshot_free(struct catalog_snapshot *snapshot)
{
    free(snapshot->kernel);
    free(snapshot->machine);
    free(snapshot->format);
    free(snapshot->files);
    *snapshot = (struct catalog_snapshot){0};
}

/* It counts as used when it is first frozen; freezing it anew is no use of it. */
int snapshot_write(struct catalog *catalog, const struct catalog_function *version,
    const struct catalog_snapshot *snapshot, struct error *err)
{
    if (db_run(catalog,
            "INSERT OR REPLACE INTO snapshots(of_function, of_number, id, kernel, machine, format, files,"
            " memory_bytes, stored_bytes, frozen_ms) VALUES(?,?,?,?,?,?,?,?,?,?)",
            err, "sisssssiii", version->name, (int64_t)version->number, snapshot->id, snapshot->kernel,
            snapshot->machine, snapshot->format, snapshot->files, (int64_t)snapshot->memory_bytes,
            (int64_t)snapshot->stored_bytes, (int64_t)snapshot->frozen_ms) != 0)
        return -1;
    return db_run(catalog, "INSERT OR IGNORE INTO uses(of_function, of_number, used_ms) VALUES(?,?,?)", err,
        "sii", version->name, (int64_t)version->number, (int64_t)snapshot->frozen_ms);
}

int snapshot_forget(struct catalog *catalog, const struct catalog_function *version, struct error *err)
{
    return db_run(catalog, "DELETE FROM snapshots WHERE of_function = ? AND of_number = ?", err, "si",
        version->name, (int64_t)version->number);
}

/* ---- lists ---- */

static char *column_copy(sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    return xstrdup(text != NULL ? text : "");
}

static int item_from_row(
    struct catalog *catalog, sqlite3_stmt *row, struct catalog_snapshot_item *item, struct error *err)
{
    int at = VERSION_COLUMN_COUNT;
    *item = (struct catalog_snapshot_item){.function = version_from_row(catalog, row, err)};
    if (item->function == NULL)
        return -1;
    struct catalog_snapshot *s = &item->snapshot;
    const char *id = (const char *)sqlite3_column_text(row, at);
    snprintf(s->id, sizeof s->id, "%s", id != NULL ? id : "");
    s->kernel = column_copy(row, at + 1);
    s->machine = column_copy(row, at + 2);
    s->format = column_copy(row, at + 3);
    s->files = column_copy(row, at + 4);
    s->memory_bytes = (uint64_t)sqlite3_column_int64(row, at + 5);
    s->stored_bytes = (uint64_t)sqlite3_column_int64(row, at + 6);
    s->frozen_ms = (uint64_t)sqlite3_column_int64(row, at + 7);
    item->used_ms = (uint64_t)sqlite3_column_int64(row, at + 8);
    return 0;
}

int catalog_list_snapshots(struct catalog *catalog, const char *marker_name, uint64_t marker_number,
    size_t max, struct catalog_snapshot_list *out, struct error *err)
{
    *out = (struct catalog_snapshot_list){0};
    CLEANUP_STATEMENT sqlite3_stmt *statement = db_statement(catalog,
        "SELECT " VERSION_COLUMNS
        ", id, kernel, machine, format, files, memory_bytes, stored_bytes, frozen_ms, used_ms"
        " FROM versions LEFT JOIN snapshots ON snapshots.of_function = function AND snapshots.of_number = "
        "number"
        " LEFT JOIN uses ON uses.of_function = function AND uses.of_number = number"
        " WHERE number > 0 AND (function, number) > (?, ?) ORDER BY function, number LIMIT ?",
        err, "sii", marker_name, (int64_t)marker_number, (int64_t)max);
    if (statement == NULL)
        return -1;
    out->items = xcalloc(max, sizeof *out->items);
    int step;
    while ((step = db_step(catalog, statement, err)) > 0 && out->count < max)
        if (item_from_row(catalog, statement, &out->items[out->count++], err) < 0)
            break;
    if (step == 0)
        return 0;
    catalog_snapshot_list_free(out);
    return -1;
}

void catalog_snapshot_list_free(struct catalog_snapshot_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        catalog_function_unref(&list->items[i].function);
        catalog_snapshot_free(&list->items[i].snapshot);
    }
    free(list->items);
    *list = (struct catalog_snapshot_list){0};
}

/* ---- uses ---- */

static int counter_read(struct catalog *catalog, const char *name, uint64_t *out, struct error *err)
{
    int64_t value;
    if (db_integer(catalog, &value, "SELECT ifnull(max(value), 0) FROM counters WHERE name = ?", err, "s",
            name) != 0)
        return -1;
    *out = (uint64_t)value;
    return 0;
}

int catalog_clock_read(struct catalog *catalog, struct lasting_clock *clock, struct error *err)
{
    if (counter_read(catalog, "clock_lasting_ms", &clock->lasting_ms, err) != 0 ||
        counter_read(catalog, "clock_wall_ms", &clock->wall_ms, err) != 0 ||
        counter_read(catalog, "clock_boot_ms", &clock->boot_ms, err) != 0 ||
        counter_read(catalog, "clock_boot_id", &clock->boot_id, err) != 0)
        return -1;
    return 0;
}

static int counter_write(struct catalog *catalog, const char *name, uint64_t value, struct error *err)
{
    return db_run(
        catalog, "INSERT OR REPLACE INTO counters(name, value) VALUES(?,?)", err, "si", name, (int64_t)value);
}

static int clock_write(struct catalog *catalog, const struct lasting_clock *clock, struct error *err)
{
    if (counter_write(catalog, "clock_lasting_ms", clock->lasting_ms, err) != 0 ||
        counter_write(catalog, "clock_wall_ms", clock->wall_ms, err) != 0 ||
        counter_write(catalog, "clock_boot_ms", clock->boot_ms, err) != 0 ||
        counter_write(catalog, "clock_boot_id", clock->boot_id, err) != 0)
        return -1;
    return 0;
}

static int use_write(struct catalog *catalog, const struct catalog_use *use, struct error *err)
{
    return db_run(catalog,
        "INSERT OR REPLACE INTO uses(of_function, of_number, used_ms)"
        " SELECT function, number, ? FROM versions WHERE function = ? AND number = ?",
        err, "isi", (int64_t)use->used_ms, use->function->name, (int64_t)use->function->number);
}

int catalog_uses_save(struct catalog *catalog, const struct lasting_clock *clock,
    const struct catalog_use *uses, size_t count, struct error *err)
{
    /* Nothing is lost when this is: the disk need not have it before we go on, only before what comes later. */
    sqlite3_exec(catalog->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
    int result = db_begin(catalog, err);
    if (result == 0)
        result = clock_write(catalog, clock, err);
    for (size_t i = 0; i < count && result == 0; i++)
        result = use_write(catalog, &uses[i], err);
    result = db_end(catalog, result, err);
    sqlite3_exec(catalog->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
    return result;
}

int catalog_uses_begin(struct catalog *catalog, uint64_t now_ms, struct error *err)
{
    return db_run(catalog,
        "INSERT OR IGNORE INTO uses(of_function, of_number, used_ms)"
        " SELECT function, number, ? FROM versions WHERE number > 0 AND snapshot_id <> ''",
        err, "i", (int64_t)now_ms);
}

static int list_add(struct catalog *catalog, sqlite3_stmt *row, struct catalog_list *list, struct error *err)
{
    const struct catalog_function *f = version_from_row(catalog, row, err);
    if (f == NULL)
        return -1;
    list->items = xrealloc(list->items, (list->count + 1) * sizeof *list->items);
    list->items[list->count++] = f;
    return 0;
}

int catalog_list_unused(
    struct catalog *catalog, uint64_t used_before_ms, size_t max, struct catalog_list *out, struct error *err)
{
    *out = (struct catalog_list){0};
    CLEANUP_STATEMENT sqlite3_stmt *statement = db_statement(catalog,
        "SELECT " VERSION_COLUMNS " FROM uses JOIN versions ON of_function = function AND of_number = number"
        " WHERE used_ms < ? AND state = ? AND snapshot_id <> '' ORDER BY used_ms LIMIT ?",
        err, "iii", (int64_t)used_before_ms, (int64_t)CATALOG_ACTIVE, (int64_t)max);
    if (statement == NULL)
        return -1;
    int step;
    while ((step = db_step(catalog, statement, err)) > 0)
        if (list_add(catalog, statement, out, err) < 0) {
            step = -1;
            break;
        }
    if (step < 0)
        catalog_list_free(out);
    return step;
}
