#include "base/fault.h"
#include "catalog/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char schema[] =
    "CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO counters VALUES('generation', 0);"
    "CREATE TABLE functions("
    "  name TEXT PRIMARY KEY, next_version INTEGER NOT NULL, tags TEXT NOT NULL) WITHOUT ROWID;"
    /* number 0 is $LATEST; `content` is the digest of the code and configuration it was published from */
    "CREATE TABLE versions("
    "  function TEXT NOT NULL REFERENCES functions(name) ON DELETE CASCADE, number INTEGER NOT NULL,"
    "  generation INTEGER NOT NULL, content TEXT NOT NULL, config TEXT NOT NULL,"
    "  code_id TEXT NOT NULL, code_sha256 TEXT NOT NULL, code_size INTEGER NOT NULL,"
    "  state INTEGER NOT NULL, state_reason TEXT NOT NULL, state_reason_code TEXT NOT NULL,"
    "  last_update INTEGER NOT NULL, last_update_reason TEXT NOT NULL, last_update_reason_code TEXT NOT NULL,"
    "  revision_id TEXT NOT NULL, last_modified TEXT NOT NULL,"
    "  snapshot_id TEXT NOT NULL, optimized INTEGER NOT NULL, PRIMARY KEY(function, number)) WITHOUT ROWID;"
    "CREATE INDEX versions_code ON versions(code_id);"
    "CREATE TABLE events("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  function TEXT NOT NULL REFERENCES functions(name) ON DELETE CASCADE, qualifier TEXT NOT NULL,"
    "  request_id TEXT NOT NULL, invoked_arn TEXT NOT NULL, client_context TEXT NOT NULL,"
    "  trace_id TEXT NOT NULL, attempts INTEGER NOT NULL, claimed INTEGER NOT NULL,"
    "  enqueued_ms INTEGER NOT NULL, not_before_ms INTEGER NOT NULL, payload BLOB NOT NULL);"
    "CREATE INDEX events_due ON events(claimed, not_before_ms, id);"
    "CREATE INDEX events_function ON events(function);";

/* What version 2 has besides. Times are of the lasting clock, which is among the counters; `files` are lines. */
static const char schema_2[] =
    "CREATE TABLE snapshots("
    "  of_function TEXT NOT NULL, of_number INTEGER NOT NULL, id TEXT NOT NULL, kernel TEXT NOT NULL,"
    "  machine TEXT NOT NULL, format TEXT NOT NULL, files TEXT NOT NULL, memory_bytes INTEGER NOT NULL,"
    "  stored_bytes INTEGER NOT NULL, frozen_ms INTEGER NOT NULL, PRIMARY KEY(of_function, of_number),"
    "  FOREIGN KEY(of_function, of_number) REFERENCES versions(function, number) ON DELETE CASCADE)"
    "  WITHOUT ROWID;"
    "CREATE TABLE uses("
    "  of_function TEXT NOT NULL, of_number INTEGER NOT NULL, used_ms INTEGER NOT NULL,"
    "  PRIMARY KEY(of_function, of_number),"
    "  FOREIGN KEY(of_function, of_number) REFERENCES versions(function, number) ON DELETE CASCADE)"
    "  WITHOUT ROWID;";

int db_fail(struct catalog *catalog, struct error *err)
{
    const char *why = sqlite3_errmsg(catalog->db);
    switch (sqlite3_errcode(catalog->db) & 0xff) {
    case SQLITE_FULL:
        return error_set(err, ERROR_SYSTEM, "%s cannot be written: the disk is full", catalog->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(err, ERROR_CORRUPT, "%s is damaged: %s", catalog->path, why);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, ERROR_BUSY, "%s is in use by another process", catalog->path);
    case SQLITE_CONSTRAINT:
        return error_set(err, ERROR_CONFLICT, "%s: %s", catalog->path, why);
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return error_set(err, ERROR_SYSTEM, "%s cannot be written: %s", catalog->path, why);
    default:
        return error_set(err, ERROR_SYSTEM, "%s: %s", catalog->path, why);
    }
}

static struct prepared *prepared_slot(struct catalog *catalog, const char *sql)
{
    for (size_t i = 0; i < CATALOG_STATEMENTS; i++)
        if (catalog->prepared[i].sql == sql || catalog->prepared[i].sql == NULL)
            return &catalog->prepared[i];
    abort(); /* a fixed number of literals: the limit is raised with them */
}

static int bind_all(sqlite3_stmt *statement, const char *binds, va_list args)
{
    int result = SQLITE_OK;
    for (int i = 0; binds[i] != '\0' && result == SQLITE_OK; i++) {
        if (binds[i] == 's') {
            const char *text = va_arg(args, const char *);
            result = sqlite3_bind_text(statement, i + 1, text != NULL ? text : "", -1, SQLITE_TRANSIENT);
        } else if (binds[i] == 'i') {
            result = sqlite3_bind_int64(statement, i + 1, va_arg(args, int64_t));
        } else {
            struct bytes blob = va_arg(args, struct bytes);
            /* The caller's bytes outlive the one step that uses them. */
            result = sqlite3_bind_blob64(
                statement, i + 1, blob.len > 0 ? (const void *)blob.data : "", blob.len, SQLITE_STATIC);
        }
    }
    return result;
}

static sqlite3_stmt *statement_for(
    struct catalog *catalog, const char *sql, struct error *err, const char *binds, va_list args)
{
    struct prepared *slot = prepared_slot(catalog, sql);
    if (slot->sql == NULL) {
        if (sqlite3_prepare_v3(catalog->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &slot->statement, NULL) !=
            SQLITE_OK) {
            db_fail(catalog, err);
            return NULL;
        }
        slot->sql = sql;
    }
    sqlite3_reset(slot->statement);
    if (bind_all(slot->statement, binds, args) != SQLITE_OK) {
        db_fail(catalog, err);
        return NULL;
    }
    return slot->statement;
}

sqlite3_stmt *db_statement(
    struct catalog *catalog, const char *sql, struct error *err, const char *binds, ...)
{
    va_list args;
    va_start(args, binds);
    sqlite3_stmt *statement = statement_for(catalog, sql, err, binds, args);
    va_end(args);
    return statement;
}

void db_reset(sqlite3_stmt **statement)
{
    if (*statement != NULL) {
        sqlite3_reset(*statement);
        sqlite3_clear_bindings(*statement);
    }
    *statement = NULL;
}

int db_step(struct catalog *catalog, sqlite3_stmt *statement, struct error *err)
{
    switch (sqlite3_step(statement)) {
    case SQLITE_ROW:
        return 1;
    case SQLITE_DONE:
        sqlite3_reset(statement);
        return 0;
    default:
        return db_fail(catalog, err);
    }
}

int db_run(struct catalog *catalog, const char *sql, struct error *err, const char *binds, ...)
{
    va_list args;
    va_start(args, binds);
    CLEANUP_STATEMENT sqlite3_stmt *statement = statement_for(catalog, sql, err, binds, args);
    va_end(args);
    if (statement == NULL)
        return -1;
    int result;
    while ((result = db_step(catalog, statement, err)) > 0)
        ;
    return result;
}

int db_integer(
    struct catalog *catalog, int64_t *out, const char *sql, struct error *err, const char *binds, ...)
{
    va_list args;
    va_start(args, binds);
    CLEANUP_STATEMENT sqlite3_stmt *statement = statement_for(catalog, sql, err, binds, args);
    va_end(args);
    if (statement == NULL)
        return -1;
    int result = db_step(catalog, statement, err);
    if (result == 0)
        return error_set(err, ERROR_NOT_FOUND, "%s holds no such row", catalog->path);
    if (result > 0)
        *out = sqlite3_column_int64(statement, 0);
    return result > 0 ? 0 : -1;
}

int db_begin(struct catalog *catalog, struct error *err)
{
    return db_run(catalog, "BEGIN IMMEDIATE", err, "");
}

int db_end(struct catalog *catalog, int result, struct error *err)
{
    if (result == 0 && fault_fails("catalog.commit"))
        result = error_system(err, "%s cannot be written", catalog->path);
    if (result == 0)
        result = db_run(catalog, "COMMIT", err, "");
    if (result == 0)
        fault_point("catalog.committed");
    if (result != 0 && !sqlite3_get_autocommit(catalog->db))
        sqlite3_exec(catalog->db, "ROLLBACK", NULL, NULL, NULL); /* the first error is the one to tell */
    return result;
}

static int execute(struct catalog *catalog, const char *sql, struct error *err)
{
    return sqlite3_exec(catalog->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_fail(catalog, err);
}

static int check_schema(struct catalog *catalog, struct error *err)
{
    int64_t version, tables;
    if (db_integer(catalog, &version, "PRAGMA user_version", err, "") != 0 ||
        db_integer(catalog, &tables, "SELECT count(*) FROM sqlite_schema", err, "") != 0)
        return -1;
    if (version >= 1 && version <= CATALOG_SCHEMA_VERSION)
        return 0;
    if (version == 0 && tables == 0)
        return 0;
    if (version > CATALOG_SCHEMA_VERSION)
        return error_set(err, ERROR_UNSUPPORTED,
            "%s was written by a newer thaw (schema %lld, this one knows %d)", catalog->path,
            (long long)version, CATALOG_SCHEMA_VERSION);
    return error_set(err, ERROR_CORRUPT, "%s is not a catalog of thaw", catalog->path);
}

static int check_pages(struct catalog *catalog, struct error *err)
{
    CLEANUP_STATEMENT sqlite3_stmt *statement = db_statement(catalog, "PRAGMA quick_check(1)", err, "");
    if (statement == NULL || db_step(catalog, statement, err) < 0)
        return -1;
    const char *verdict = (const char *)sqlite3_column_text(statement, 0);
    if (verdict == NULL || strcmp(verdict, "ok") != 0)
        return error_set(err, ERROR_CORRUPT, "%s is damaged: %s", catalog->path,
            verdict != NULL ? verdict : "its pages cannot be read");
    return 0;
}

static int create_schema(struct catalog *catalog, struct error *err)
{
    int64_t version;
    if (db_integer(catalog, &version, "PRAGMA user_version", err, "") != 0)
        return -1;
    if (version == CATALOG_SCHEMA_VERSION)
        return 0;
    CLEANUP_FREE char *mark = xasprintf("PRAGMA user_version = %d", CATALOG_SCHEMA_VERSION);
    if (db_begin(catalog, err) != 0)
        return -1;
    int result = version < 1 ? execute(catalog, schema, err) : 0;
    if (result == 0)
        result = execute(catalog, schema_2, err);
    if (result == 0)
        result = execute(catalog, mark, err);
    return db_end(catalog, result, err);
}

static int open_file(struct catalog *catalog, struct error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(catalog->path, &catalog->db, flags, NULL) != SQLITE_OK)
        return db_fail(catalog, err);
    if (sqlite3_db_readonly(catalog->db, "main") == 1)
        return error_set(err, ERROR_SYSTEM, "%s cannot be written", catalog->path);
    sqlite3_extended_result_codes(catalog->db, 1);
    /* Exclusive: one server for each folder, also after a crash of the other. Look before anything is
     * written. */
    if (execute(catalog, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA trusted_schema=OFF;", err) != 0 ||
        check_schema(catalog, err) != 0 || check_pages(catalog, err) != 0)
        return -1;
    if (execute(catalog,
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
            "PRAGMA journal_size_limit=16777216;",
            err) != 0)
        return -1;
    chmod(catalog->path, 0600);
    return create_schema(catalog, err);
}

struct catalog *catalog_open(const struct catalog_options *options, struct error *err)
{
    struct catalog *catalog = xcalloc(1, sizeof *catalog);
    catalog->path = xasprintf("%s/catalog.sqlite", options->data_path);
    catalog->region = xstrdup(options->region);
    catalog->account_id = xstrdup(options->account_id);
    if (open_file(catalog, err) != 0 ||
        db_run(catalog, "UPDATE events SET claimed = 0 WHERE claimed = 1", err, "") != 0 ||
        events_count(catalog, err) != 0) {
        catalog_close(catalog);
        return NULL;
    }
    return catalog;
}

void catalog_close(struct catalog *catalog)
{
    if (catalog == NULL)
        return;
    cache_clear(catalog);
    for (size_t i = 0; i < CATALOG_STATEMENTS; i++)
        sqlite3_finalize(catalog->prepared[i].statement);
    sqlite3_close(catalog->db);
    free(catalog->path);
    free(catalog->region);
    free(catalog->account_id);
    free(catalog);
}

const char *catalog_region(const struct catalog *catalog)
{
    return catalog->region;
}

const char *catalog_account_id(const struct catalog *catalog)
{
    return catalog->account_id;
}
