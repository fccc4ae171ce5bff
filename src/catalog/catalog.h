/* The catalog: every function, version, state and tag, and the durable queue of Event invocations, in one
 * SQLite file (WAL, synchronous=FULL, one transaction for each change, one process at a time). When a call
 * returns 0 its change has reached the disk. Single-threaded.
 *
 * Reading is cheap: versions are handed out as reference-counted, immutable structures from a cache, so a
 * warm invocation does not touch SQLite. A change makes a new structure; holders of the old one keep it. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "base/lasting_clock.h"
#include "base/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CATALOG_LATEST "$LATEST"
#define CATALOG_SCHEMA_VERSION 2
#define CATALOG_EVENT_LIMIT 100000               /* queued Event invocations */
#define CATALOG_EVENT_BYTES_LIMIT (1024LL << 20) /* and their payloads together */
#define CATALOG_FUNCTION_CODE_HEX 64             /* code ids: SHA-256 of the zip, in hex */
#define CATALOG_SNAPSHOT_HEX 32                  /* snapshot ids: 16 random bytes in hex */

struct catalog; /* an open catalog */

/* A sorted list of string pairs: environment variables, tags. Start from {0}. */
struct catalog_pair {
    char *key, *value;
};
struct catalog_map {
    struct catalog_pair *pairs;
    size_t count;
};
void catalog_map_set(struct catalog_map *map, const char *key, const char *value); /* copies both */
bool catalog_map_remove(struct catalog_map *map, const char *key);
const char *catalog_map_get(const struct catalog_map *map, const char *key);   /* NULL when absent */
void catalog_map_copy(struct catalog_map *to, const struct catalog_map *from); /* `to` must be empty */
void catalog_map_free(struct catalog_map *map);

/* What the user may set. Strings are never NULL once inside the catalog ("" when not set). */
struct catalog_config {
    char *runtime, *handler, *role, *description;
    uint32_t timeout_s, memory_mb, tmp_mb;
    struct catalog_map environment;
    char *architecture;     /* "x86_64" or "arm64" */
    bool snap_start;        /* SnapStart.ApplyOn is PublishedVersions */
    char *tracing_mode;     /* PassThrough or Active */
    char *log_format;       /* Text or JSON */
    char *log_level_app;    /* "" with Text */
    char *log_level_system; /* "" with Text */
    char *log_group;        /* /aws/lambda/NAME unless set */
};
void catalog_config_copy(struct catalog_config *to, const struct catalog_config *from); /* NULL becomes "" */
void catalog_config_free(struct catalog_config *config);

/* The package a version runs. DATA/code/<id>/ holds it unpacked, DATA/code/<id>.zip as it was uploaded. */
struct catalog_code {
    char id[CATALOG_FUNCTION_CODE_HEX + 1]; /* hex SHA-256 of the zip: the folder's name */
    char sha256[48];                        /* the same in base64, as the API shows it */
    uint64_t size;                          /* of the zip, in bytes */
};

enum catalog_state { CATALOG_PENDING = 1, CATALOG_ACTIVE, CATALOG_INACTIVE, CATALOG_FAILED };
#define CATALOG_CODE_RESTORING "Restoring" /* StateReasonCode of a version that is Pending and was Inactive */
const char *catalog_state_name(enum catalog_state state); /* "Pending", "Active"... */

enum catalog_update { CATALOG_UPDATE_SUCCESSFUL = 1, CATALOG_UPDATE_IN_PROGRESS, CATALOG_UPDATE_FAILED };
const char *catalog_update_name(enum catalog_update status); /* "Successful", "InProgress"... */

/* One version, complete and immutable; hold it with catalog_function_ref. */
struct catalog_function {
    char name[LIMIT_FUNCTION_NAME + 1];
    uint64_t number;     /* 0: $LATEST */
    char version[24];    /* "$LATEST" or "1", "2"... */
    char *arn;           /* arn:aws:lambda:REGION:ACCOUNT:function:NAME */
    char *qualified_arn; /* the same with :VERSION */
    /* Names what runs: a new number whenever this version's code or configuration becomes another, and never
     * one that was used before (also not after a deletion). Changes of state keep it. Environments of another
     * generation must not serve this version. */
    uint64_t generation;
    struct catalog_config config;
    struct catalog_code code;
    enum catalog_state state;
    char *state_reason, *state_reason_code; /* "" when there is none */
    enum catalog_update last_update;
    char *last_update_reason, *last_update_reason_code;
    char revision_id[37];
    char last_modified[40];                     /* 2026-01-01T00:00:00.000+0000 */
    char snapshot_id[CATALOG_SNAPSHOT_HEX + 1]; /* "" until it is frozen */
    bool optimized;                             /* SnapStart.OptimizationStatus is On */
    size_t references;                          /* the catalog's own business */
};
const struct catalog_function *catalog_function_ref(const struct catalog_function *function);
void catalog_function_unref(const struct catalog_function **function); /* NULL is fine; sets to NULL */
#define CLEANUP_FUNCTION __attribute__((cleanup(catalog_function_unref)))

/* Open or create DATA/catalog.sqlite. `data_path` is a folder's path. A file that is damaged, of a newer
 * schema, read-only, or held by another process gives an error that says so, and is left as it is. */
struct catalog_options {
    const char *data_path, *region, *account_id; /* copied */
};
MUST_CHECK struct catalog *catalog_open(const struct catalog_options *options, struct error *err);
void catalog_close(struct catalog *catalog);
const char *catalog_region(const struct catalog *catalog);
const char *catalog_account_id(const struct catalog *catalog);

/* All calls below: `*out` (where it may be NULL, it may) receives a reference of the caller's.
 * Errors: ERROR_NOT_FOUND no such function or version; ERROR_CONFLICT exists, or the revision id is another;
 * ERROR_LIMIT a queue is full; ERROR_CORRUPT, ERROR_SYSTEM the file cannot be read or written (full disk).
 * After an error nothing has changed. */

/* `qualifier`: NULL or "" or "$LATEST", or a version number in digits. */
MUST_CHECK int catalog_get(struct catalog *catalog, const char *name, const char *qualifier,
    const struct catalog_function **out, struct error *err);
/* $LATEST, Active at once. */
MUST_CHECK int catalog_create_function(struct catalog *catalog, const char *name,
    const struct catalog_config *config, const struct catalog_code *code, const struct catalog_map *tags,
    const struct catalog_function **out, struct error *err);
/* `architecture` NULL: as it is. `revision_id` NULL: whatever it is. */
MUST_CHECK int catalog_update_code(struct catalog *catalog, const char *name, const struct catalog_code *code,
    const char *architecture, const char *revision_id, const struct catalog_function **out,
    struct error *err);
MUST_CHECK int catalog_update_configuration(struct catalog *catalog, const char *name,
    const struct catalog_config *config, const char *revision_id, const struct catalog_function **out,
    struct error *err);
/* Publish $LATEST. When neither code nor configuration changed since the newest version (and that did not
 * fail), that version is returned and *is_new is false. A version with SnapStart starts Pending, any other
 * Active. `description` NULL: $LATEST's. */
MUST_CHECK int catalog_publish(struct catalog *catalog, const char *name, const char *description,
    const char *revision_id, bool *is_new, const struct catalog_function **out, struct error *err);
/* One version, or (qualifier NULL) the function with all versions, tags and queued events. */
MUST_CHECK int catalog_delete(
    struct catalog *catalog, const char *name, const char *qualifier, struct error *err);

/* Versions in order of (name, number). `name` NULL: of all functions, else of that one; `all_versions` false:
 * $LATEST only. Starts after (marker_name, marker_number) when marker_name is not NULL; gives at most `max`
 * references in *out (free each, then the array: catalog_list_free) and says whether there are more. */
struct catalog_list {
    const struct catalog_function **items;
    size_t count;
    bool more;
};
MUST_CHECK int catalog_list(struct catalog *catalog, const char *name, bool all_versions,
    const char *marker_name, uint64_t marker_number, size_t max, struct catalog_list *out, struct error *err);
void catalog_list_free(struct catalog_list *list);

/* The outcome of initialising a version. `reason` and `reason_code` may be NULL. They are named by the
 * version as it was (name, number, generation): when it was deleted or changed meanwhile, ERROR_NOT_FOUND. */
MUST_CHECK int catalog_set_state(struct catalog *catalog, const struct catalog_function *version,
    enum catalog_state state, const char *reason, const char *reason_code,
    const struct catalog_function **out, struct error *err);
/* How a version that stays as it is fares: LastUpdateStatus. */
MUST_CHECK int catalog_set_update(struct catalog *catalog, const struct catalog_function *version,
    enum catalog_update status, const char *reason, const char *reason_code,
    const struct catalog_function **out, struct error *err);

/* A version's snapshot, and the stamp of what it was frozen on and relies on: it is frozen anew when that is
 * no longer so. Texts are the front's; NULL is "" when it is written, and they are never NULL when it is read. */
struct catalog_snapshot {
    char id[CATALOG_SNAPSHOT_HEX + 1];
    char *kernel, *machine, *format;
    char *files; /* a line for each: "BYTES MODIFIED_NS PATH" */
    uint64_t memory_bytes, stored_bytes;
    uint64_t frozen_ms; /* of the lasting clock */
};
void catalog_snapshot_free(struct catalog_snapshot *snapshot); /* its texts */
/* The version is frozen: Active, OptimizationStatus On, with this snapshot, in one change. When it is its
 * first, the version counts as used at that time. */
MUST_CHECK int catalog_set_snapshot(struct catalog *catalog, const struct catalog_function *version,
    const struct catalog_snapshot *snapshot, const struct catalog_function **out, struct error *err);
/* The version is Inactive, and has no snapshot any more, in one change. */
MUST_CHECK int catalog_set_inactive(struct catalog *catalog, const struct catalog_function *version,
    const char *reason, const char *reason_code, const struct catalog_function **out, struct error *err);

/* Published versions in order of (name, number), at most `max`, from after the marker ("", 0 to begin with). */
struct catalog_snapshot_item {
    const struct catalog_function *function; /* a reference */
    struct catalog_snapshot snapshot;        /* id "" when it has none, or none with a stamp */
    uint64_t used_ms;                        /* of the lasting clock; 0: not known */
};
struct catalog_snapshot_list {
    struct catalog_snapshot_item *items;
    size_t count;
};
MUST_CHECK int catalog_list_snapshots(struct catalog *catalog, const char *marker_name,
    uint64_t marker_number, size_t max, struct catalog_snapshot_list *out, struct error *err);
void catalog_snapshot_list_free(struct catalog_snapshot_list *list);

/* When versions were last used. Saved many at a time, and not before other changes are: what is lost when the
 * power fails is a minute's worth. */
struct catalog_use {
    const struct catalog_function *function;
    uint64_t used_ms; /* of the lasting clock */
};
MUST_CHECK int catalog_clock_read(struct catalog *catalog, struct lasting_clock *clock, struct error *err);
MUST_CHECK int catalog_uses_save(struct catalog *catalog, const struct lasting_clock *clock,
    const struct catalog_use *uses, size_t count, struct error *err);
/* At start-up: versions with a snapshot and without a known use count as used now. */
MUST_CHECK int catalog_uses_begin(struct catalog *catalog, uint64_t now_ms, struct error *err);
/* Active versions with a snapshot that were not used since, the longest unused first, at most `max`. */
MUST_CHECK int catalog_list_unused(struct catalog *catalog, uint64_t used_before_ms, size_t max,
    struct catalog_list *out, struct error *err);

/* At start-up: every version that is Pending, for the backend to initialise; and every version that has a
 * snapshot, so that snapshots of no version can be removed. The callback must not change the catalog. */
typedef void catalog_callback(void *context, const struct catalog_function *function);
MUST_CHECK int catalog_each_pending(
    struct catalog *catalog, catalog_callback *callback, void *context, struct error *err);
MUST_CHECK int catalog_each_snapshot(
    struct catalog *catalog, catalog_callback *callback, void *context, struct error *err);

MUST_CHECK int catalog_tags(
    struct catalog *catalog, const char *name, struct catalog_map *out, struct error *err);
MUST_CHECK int catalog_set_tags(
    struct catalog *catalog, const char *name, const struct catalog_map *tags, struct error *err);

/* Sum of all versions' code sizes, and the number of functions. */
MUST_CHECK int catalog_account_usage(
    struct catalog *catalog, uint64_t *code_bytes, uint64_t *functions, struct error *err);
/* Whether any version runs this package. */
MUST_CHECK int catalog_code_used(struct catalog *catalog, const char *code_id, bool *used, struct error *err);

/* The queue of Event invocations. An event is claimed by at most one caller; a claim that is neither removed
 * nor retried becomes free when the catalog is opened again, with its attempts counted. */
struct catalog_event {
    int64_t id; /* set by catalog_event_enqueue */
    char request_id[37];
    char *function_name, *qualifier;               /* "$LATEST" or digits */
    char *invoked_arn, *client_context, *trace_id; /* "" when there is none */
    struct buffer payload;
    uint32_t attempts;                   /* how often it was claimed, this time included */
    uint64_t enqueued_ms, not_before_ms; /* wall clock, see clock_wall_ms */
};
void catalog_event_free(struct catalog_event *event); /* its contents */
/* On the disk when this returns 0. Fills `id`. ERROR_LIMIT when the queue is full,
 * ERROR_NOT_FOUND when the function is not there. */
MUST_CHECK int catalog_event_enqueue(struct catalog *catalog, struct catalog_event *event, struct error *err);
/* The oldest event that is due and free, if any: *found. The claim and its attempt are on the disk. */
MUST_CHECK int catalog_event_claim(
    struct catalog *catalog, uint64_t now_ms, struct catalog_event *out, bool *found, struct error *err);
/* Give the claim back, to be due at `not_before_ms`. `attempted` false (throttled, say): as if it had not
 * been claimed. ERROR_NOT_FOUND when its function is gone meanwhile. */
MUST_CHECK int catalog_event_retry(
    struct catalog *catalog, int64_t id, uint64_t not_before_ms, bool attempted, struct error *err);
/* Those of this version that are free and were never tried are due at `not_before_ms`, all in one change. */
MUST_CHECK int catalog_event_postpone(struct catalog *catalog, const char *name, const char *qualifier,
    uint64_t not_before_ms, struct error *err);
MUST_CHECK int catalog_event_remove(struct catalog *catalog, int64_t id, struct error *err);
/* When the next free event is due (wall clock ms): *found false when the queue is empty or all are claimed.
 */
MUST_CHECK int catalog_event_next_due(
    struct catalog *catalog, uint64_t *due_ms, bool *found, struct error *err);
