/* Inside catalog/ only: the open database, its prepared statements, and the cache of versions. */
#pragma once

#include "catalog/catalog.h"

#include <sqlite3.h>

#define CATALOG_STATEMENTS 64       /* distinct SQL texts */
#define CATALOG_CACHE_BUCKETS 1024  /* power of two */
#define CATALOG_CACHE_LIMIT 8192    /* versions kept in memory; then the cache starts anew */
#define CATALOG_CONFIG_BYTES 262144 /* a stored configuration in JSON */

struct cached_version {
    const struct catalog_function *function;
    struct cached_version *next;
};

struct prepared {
    const char *sql; /* compared by address: every text is a literal used in one place */
    sqlite3_stmt *statement;
};

struct catalog {
    sqlite3 *db;
    char *path, *region, *account_id;
    struct prepared prepared[CATALOG_STATEMENTS];
    struct cached_version *cache[CATALOG_CACHE_BUCKETS];
    size_t cached;
    int64_t event_count, event_bytes; /* what is in the queue, to keep its limits */
};

/* db.c. A statement that was prepared before comes back reset. Binds: 's' const char *, 'i' int64_t,
 * 'b' struct bytes. */
sqlite3_stmt *db_statement(
    struct catalog *catalog, const char *sql, struct error *err, const char *binds, ...);
/* 1: a row, 0: done (and reset), -1. */
int db_step(struct catalog *catalog, sqlite3_stmt *statement, struct error *err);
int db_fail(struct catalog *catalog, struct error *err);
void db_reset(sqlite3_stmt **statement);
#define CLEANUP_STATEMENT __attribute__((cleanup(db_reset)))
/* Run one statement to its end. */
int db_run(struct catalog *catalog, const char *sql, struct error *err, const char *binds, ...);
int db_begin(struct catalog *catalog, struct error *err);
/* Commit when `result` is 0, else roll back; the result of both. */
int db_end(struct catalog *catalog, int result, struct error *err);
/* What `bind...` selects as one integer. */
int db_integer(
    struct catalog *catalog, int64_t *out, const char *sql, struct error *err, const char *binds, ...);

/* config.c */
char *config_encode(const struct catalog_config *config);
int config_decode(struct catalog_config *config, const char *text, struct error *err);
char *map_encode(const struct catalog_map *map);
int map_decode(struct catalog_map *map, const char *text, struct error *err);

/* cache.c */
const struct catalog_function *cache_find(
    const struct catalog *catalog, const char *name, uint64_t number);            /* borrowed, or NULL */
void cache_add(struct catalog *catalog, const struct catalog_function *function); /* takes a reference */
void cache_forget(struct catalog *catalog, const char *name);                     /* all versions of it */
void cache_clear(struct catalog *catalog);

/* functions.c. The columns that version_from_row reads, in this order. */
#define VERSION_COLUMNS \
    "function, number, generation, config, code_id, code_sha256, code_size, state, state_reason," \
    " state_reason_code, last_update, last_update_reason, last_update_reason_code, revision_id," \
    " last_modified, snapshot_id, optimized"
#define VERSION_COLUMN_COUNT 17
/* The cached structure where there is one, so that holders share it. A reference, or NULL. */
const struct catalog_function *version_from_row(
    struct catalog *catalog, sqlite3_stmt *row, struct error *err);
/* A draft is a version that nobody sees yet. */
struct catalog_function *draft_copy(
    struct catalog *catalog, const struct catalog_function *from, uint64_t number);
void draft_set_text(char **slot, const char *text); /* NULL becomes "" */
/* Inside a transaction that ends with `result`: then show the draft, or drop it. Takes the draft over. */
int draft_finish(struct catalog *catalog, struct catalog_function *draft, int result,
    const struct catalog_function **out, struct error *err);

/* snapshots.c: inside a transaction. */
int snapshot_write(struct catalog *catalog, const struct catalog_function *version,
    const struct catalog_snapshot *snapshot, struct error *err);
int snapshot_forget(struct catalog *catalog, const struct catalog_function *version, struct error *err);

/* events.c */
int events_count(struct catalog *catalog, struct error *err);
