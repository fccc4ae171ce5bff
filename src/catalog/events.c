#include "catalog/internal.h"

#include <stdlib.h>
#include <string.h>

int events_count(struct catalog *catalog, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *statement =
        db_statement(catalog, "SELECT count(*), ifnull(sum(length(payload)), 0) FROM events", err, "");
    if (statement == NULL || db_step(catalog, statement, err) < 0)
        return -1;
    catalog->event_count = sqlite3_column_int64(statement, 0);
    catalog->event_bytes = sqlite3_column_int64(statement, 1);
    return 0;
}

void catalog_event_free(struct catalog_event *event)
{
    free(event->function_name);
    free(event->qualifier);
    free(event->invoked_arn);
    free(event->client_context);
    free(event->trace_id);
    buffer_free(&event->payload);
    *event = (struct catalog_event){0};
}

int catalog_event_enqueue(struct catalog *catalog, struct catalog_event *event, struct error *err)
{
    if (catalog->event_count >= CATALOG_EVENT_LIMIT ||
        catalog->event_bytes + (int64_t)event->payload.len > CATALOG_EVENT_BYTES_LIMIT)
        return error_set(err, ERROR_LIMIT, "the queue of Event invocations is full (%lld waiting)",
            (long long)catalog->event_count);
    struct bytes payload = {event->payload.data, event->payload.len};
    int result = db_run(catalog,
        "INSERT INTO events(function, qualifier, request_id, invoked_arn, client_context, trace_id,"
        " attempts, claimed, enqueued_ms, not_before_ms, payload) VALUES(?,?,?,?,?,?,0,0,?,?,?)",
        err, "ssssssiib", event->function_name, event->qualifier, event->request_id, event->invoked_arn,
        event->client_context, event->trace_id, (int64_t)event->enqueued_ms, (int64_t)event->not_before_ms,
        payload);
    if (result != 0 && sqlite3_extended_errcode(catalog->db) == SQLITE_CONSTRAINT_FOREIGNKEY)
        return error_set(err, ERROR_NOT_FOUND, "Function not found: %s", event->function_name);
    if (result != 0)
        return -1;
    event->id = sqlite3_last_insert_rowid(catalog->db);
    catalog->event_count++;
    catalog->event_bytes += (int64_t)event->payload.len;
    return 0;
}

static char *column_copy(sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return xstrdup(text != NULL ? text : "");
}

static void event_from_row(struct catalog_event *event, sqlite3_stmt *row)
{
    *event = (struct catalog_event){0};
    event->id = sqlite3_column_int64(row, 0);
    event->function_name = column_copy(row, 1);
    event->qualifier = column_copy(row, 2);
    const char *request_id = (const char *)sqlite3_column_text(row, 3);
    strncpy(event->request_id, request_id != NULL ? request_id : "", sizeof event->request_id - 1);
    event->invoked_arn = column_copy(row, 4);
    event->client_context = column_copy(row, 5);
    event->trace_id = column_copy(row, 6);
    event->attempts = (uint32_t)sqlite3_column_int64(row, 7);
    event->enqueued_ms = (uint64_t)sqlite3_column_int64(row, 8);
    event->not_before_ms = (uint64_t)sqlite3_column_int64(row, 9);
    const void *payload = sqlite3_column_blob(row, 10);
    if (payload != NULL)
        buffer_append(&event->payload, payload, (size_t)sqlite3_column_bytes(row, 10));
}

int catalog_event_claim(
    struct catalog *catalog, uint64_t now_ms, struct catalog_event *out, bool *found, struct error *err)
{
    *found = false;
    CLEANUP_STATEMENT sqlite3_stmt *statement = db_statement(catalog,
        "UPDATE events SET claimed = 1, attempts = attempts + 1 WHERE id ="
        " (SELECT id FROM events WHERE claimed = 0 AND not_before_ms <= ?"
        "  ORDER BY not_before_ms, id LIMIT 1)"
        " RETURNING id, function, qualifier, request_id, invoked_arn, client_context, trace_id, attempts,"
        " enqueued_ms, not_before_ms, payload",
        err, "i", (int64_t)now_ms);
    if (statement == NULL)
        return -1;
    int step = db_step(catalog, statement, err);
    if (step <= 0)
        return step;
    event_from_row(out, statement);
    /* The change is committed only by the step that ends the statement. */
    if (db_step(catalog, statement, err) != 0) {
        catalog_event_free(out);
        return -1;
    }
    *found = true;
    return 0;
}

int catalog_event_retry(
    struct catalog *catalog, int64_t id, uint64_t not_before_ms, bool attempted, struct error *err)
{
    if (db_run(catalog,
            "UPDATE events SET claimed = 0, not_before_ms = ?, attempts = max(attempts - ?, 0) WHERE id = ?",
            err, "iii", (int64_t)not_before_ms, (int64_t)(attempted ? 0 : 1), id) != 0)
        return -1;
    if (sqlite3_changes(catalog->db) == 0)
        return error_set(err, ERROR_NOT_FOUND, "event %lld is not in the queue", (long long)id);
    return 0;
}

int catalog_event_postpone(struct catalog *catalog, const char *name, const char *qualifier,
    uint64_t not_before_ms, struct error *err)
{
    return db_run(catalog,
        "UPDATE events SET not_before_ms = ? WHERE function = ? AND qualifier = ? AND claimed = 0"
        " AND attempts = 0",
        err, "iss", (int64_t)not_before_ms, name, qualifier);
}

int catalog_event_remove(struct catalog *catalog, int64_t id, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *statement =
        db_statement(catalog, "DELETE FROM events WHERE id = ? RETURNING length(payload)", err, "i", id);
    if (statement == NULL)
        return -1;
    int step = db_step(catalog, statement, err);
    if (step <= 0) /* its function was deleted meanwhile: it is gone, as wanted */
        return step;
    int64_t size = sqlite3_column_int64(statement, 0);
    if (db_step(catalog, statement, err) != 0)
        return -1;
    catalog->event_count--;
    catalog->event_bytes -= size;
    return 0;
}

int catalog_event_next_due(struct catalog *catalog, uint64_t *due_ms, bool *found, struct error *err)
{
    *found = false;
    CLEANUP_STATEMENT sqlite3_stmt *statement = db_statement(catalog,
        "SELECT not_before_ms FROM events WHERE claimed = 0 ORDER BY not_before_ms, id LIMIT 1", err, "");
    if (statement == NULL)
        return -1;
    int step = db_step(catalog, statement, err);
    if (step <= 0)
        return step;
    *due_ms = (uint64_t)sqlite3_column_int64(statement, 0);
    *found = true;
    return 0;
}
