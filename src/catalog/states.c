/* What becomes of a version: its state, its snapshot, and who has which. */
#include "catalog/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* A draft of the version as it is now, if it is still the one that `version` was. */
static struct catalog_function *draft_of_same(
    struct catalog *catalog, const struct catalog_function *version, struct error *err)
{
    CLEANUP_FUNCTION const struct catalog_function *current = NULL;
    if (catalog_get(catalog, version->name, version->version, &current, err) != 0)
        return NULL;
    if (current->generation != version->generation) {
        error_set(err, ERROR_NOT_FOUND, "%s was changed meanwhile", version->qualified_arn);
        return NULL;
    }
    return draft_copy(catalog, current, current->number);
}

/* What write_changed does besides, in the same transaction; either may be NULL. */
struct state_change {
    const struct catalog_snapshot *frozen; /* its new snapshot */
    bool forget;                           /* it has none any more */
};

static int write_snapshot(struct catalog *catalog, const struct catalog_function *draft,
    const struct state_change *change, struct error *err)
{
    if (change->frozen != NULL)
        return snapshot_write(catalog, draft, change->frozen, err);
    return change->forget ? snapshot_forget(catalog, draft, err) : 0;
}

/* Takes the draft over. */
static int write_state(struct catalog *catalog, struct catalog_function *draft,
    const struct state_change *change, const struct catalog_function **out, struct error *err)
{
    int result = db_begin(catalog, err);
    if (result == 0)
        result = db_run(catalog,
            "UPDATE versions SET state = ?, state_reason = ?, state_reason_code = ?, snapshot_id = ?,"
            " optimized = ?, last_update = ?, last_update_reason = ?, last_update_reason_code = ?"
            " WHERE function = ? AND number = ?",
            err, "isssiisssi", (int64_t)draft->state, draft->state_reason, draft->state_reason_code,
            draft->snapshot_id, (int64_t)draft->optimized, (int64_t)draft->last_update,
            draft->last_update_reason, draft->last_update_reason_code, draft->name, (int64_t)draft->number);
    if (result == 0)
        result = write_snapshot(catalog, draft, change, err);
    return draft_finish(catalog, draft, result, out, err);
}

static void set_state(
    struct catalog_function *draft, enum catalog_state state, const char *reason, const char *reason_code)
{
    draft->state = state;
    draft->optimized = draft->optimized && state == CATALOG_ACTIVE;
    draft_set_text(&draft->state_reason, reason);
    draft_set_text(&draft->state_reason_code, reason_code);
}

static void set_update(
    struct catalog_function *draft, enum catalog_update status, const char *reason, const char *reason_code)
{
    draft->last_update = status;
    draft_set_text(&draft->last_update_reason, reason);
    draft_set_text(&draft->last_update_reason_code, reason_code);
}

int catalog_set_state(struct catalog *catalog, const struct catalog_function *version,
    enum catalog_state state, const char *reason, const char *reason_code,
    const struct catalog_function **out, struct error *err)
{
    struct catalog_function *draft = draft_of_same(catalog, version, err);
    if (draft == NULL)
        return -1;
    set_state(draft, state, reason, reason_code);
    return write_state(catalog, draft, &(struct state_change){0}, out, err);
}

int catalog_set_update(struct catalog *catalog, const struct catalog_function *version,
    enum catalog_update status, const char *reason, const char *reason_code,
    const struct catalog_function **out, struct error *err)
{
    struct catalog_function *draft = draft_of_same(catalog, version, err);
    if (draft == NULL)
        return -1;
    set_update(draft, status, reason, reason_code);
    return write_state(catalog, draft, &(struct state_change){0}, out, err);
}

int catalog_set_snapshot(struct catalog *catalog, const struct catalog_function *version,
    const struct catalog_snapshot *snapshot, const struct catalog_function **out, struct error *err)
{
    struct catalog_function *draft = draft_of_same(catalog, version, err);
    if (draft == NULL)
        return -1;
    set_state(draft, CATALOG_ACTIVE, NULL, NULL);
    set_update(draft, CATALOG_UPDATE_SUCCESSFUL, NULL, NULL);
    draft->optimized = true;
    snprintf(draft->snapshot_id, sizeof draft->snapshot_id, "%s", snapshot->id);
    return write_state(catalog, draft, &(struct state_change){.frozen = snapshot}, out, err);
}

int catalog_set_inactive(struct catalog *catalog, const struct catalog_function *version, const char *reason,
    const char *reason_code, const struct catalog_function **out, struct error *err)
{
    struct catalog_function *draft = draft_of_same(catalog, version, err);
    if (draft == NULL)
        return -1;
    set_state(draft, CATALOG_INACTIVE, reason, reason_code);
    set_update(draft, CATALOG_UPDATE_SUCCESSFUL, NULL, NULL);
    draft->snapshot_id[0] = '\0';
    return write_state(catalog, draft, &(struct state_change){.forget = true}, out, err);
}

static int each(
    struct catalog *catalog, sqlite3_stmt *rows, catalog_callback *callback, void *context, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *statement = rows;
    struct catalog_list list = {0};
    int step = statement != NULL ? 0 : -1;
    while (statement != NULL && (step = db_step(catalog, statement, err)) > 0) {
        const struct catalog_function *f = version_from_row(catalog, statement, err);
        if (f == NULL) {
            step = -1;
            break;
        }
        list.items = xrealloc(list.items, (list.count + 1) * sizeof(*list.items));
        list.items[list.count++] = f;
    }
    for (size_t i = 0; i < list.count && step == 0; i++)
        callback(context, list.items[i]);
    catalog_list_free(&list);
    return step;
}

int catalog_each_pending(
    struct catalog *catalog, catalog_callback *callback, void *context, struct error *err)
{
    sqlite3_stmt *rows =
        db_statement(catalog, "SELECT " VERSION_COLUMNS " FROM versions WHERE state = ? ORDER BY generation",
            err, "i", (int64_t)CATALOG_PENDING);
    return each(catalog, rows, callback, context, err);
}

int catalog_each_snapshot(
    struct catalog *catalog, catalog_callback *callback, void *context, struct error *err)
{
    sqlite3_stmt *rows = db_statement(catalog,
        "SELECT " VERSION_COLUMNS " FROM versions WHERE snapshot_id <> '' ORDER BY generation", err, "");
    return each(catalog, rows, callback, context, err);
}
