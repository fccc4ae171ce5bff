/* Published versions with SnapStart and their snapshots, for people: what `thaw snapshots` shows. Runs in the front. */
#include "daemon/front_private.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROWS_AT_ONCE 64

static void put_time(json_t *object, const char *key, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;
    char text[32];
    gmtime_r(&seconds, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_object_set_new(object, key, json_string(text));
}

/* A moment of the lasting clock: how long ago, and when that was by the wall clock. */
static void put_moment(json_t *object, const char *key, const char *age_key, uint64_t at_ms, uint64_t now_ms)
{
    uint64_t ago_ms = now_ms > at_ms ? now_ms - at_ms : 0;
    uint64_t wall_ms = clock_wall_ms();
    put_time(object, key, wall_ms > ago_ms ? wall_ms - ago_ms : 0);
    json_object_set_new(object, age_key, json_integer((json_int_t)(ago_ms / 1000)));
}

static void put_text(json_t *object, const char *key, const char *text)
{
    if (text && text[0])
        json_object_set_new(object, key, json_stringn_nocheck(text, strlen(text)));
}

static void put_background(json_t *object, const struct front_version *version)
{
    if (!version)
        return;
    if (version->build || version->build_waits)
        put_text(object, "building", version->build ? "now" : "soon");
    put_text(object, "stale", version->stale);
    put_text(object, "failure", version->failure);
    if (version->failures > 0)
        json_object_set_new(object, "failures", json_integer(version->failures));
}

static json_t *describe(struct front *front, const struct catalog_snapshot_item *item, uint64_t now_ms)
{
    const struct catalog_function *function = item->function;
    const struct catalog_snapshot *snapshot = &item->snapshot;
    const struct front_version *version = front_version_find(front, function->generation);
    uint64_t used_ms = version && version->used_ms > item->used_ms ? version->used_ms : item->used_ms;
    uint64_t after_ms = front->options->inactive_after_s * 1000u;
    json_t *object = json_pack("{s:s, s:s, s:s}", "function", function->name, "version", function->version,
        "state", catalog_state_name(function->state));
    put_text(object, "state_reason", function->state_reason);
    put_text(object, "snapshot", function->snapshot_id);
    if (function->snapshot_id[0] && strcmp(snapshot->id, function->snapshot_id) == 0) {
        put_moment(object, "frozen", "age_seconds", snapshot->frozen_ms, now_ms);
        json_object_set_new(object, "memory_bytes", json_integer((json_int_t)snapshot->memory_bytes));
        json_object_set_new(object, "stored_bytes", json_integer((json_int_t)snapshot->stored_bytes));
    }
    if (used_ms > 0)
        put_moment(object, "last_used", "idle_seconds", used_ms, now_ms);
    if (used_ms > 0 && after_ms > 0 && function->snapshot_id[0])
        json_object_set_new(object, "inactive_in_seconds",
            json_integer(
                used_ms + after_ms > now_ms ? (json_int_t)((used_ms + after_ms - now_ms) / 1000) : 0));
    put_background(object, version);
    return object;
}

json_t *front_snapshots_describe(struct front *front, const char *name, struct error *err)
{
    char marker[LIMIT_FUNCTION_NAME + 1] = "";
    uint64_t number = 0, now_ms = front_now_ms(front);
    json_t *all = json_array();
    for (bool more = true; more;) {
        struct catalog_snapshot_list list;
        if (catalog_list_snapshots(front->catalog, marker, number, ROWS_AT_ONCE, &list, err) < 0) {
            json_decref(all);
            return NULL;
        }
        for (size_t i = 0; i < list.count; i++) {
            const struct catalog_function *function = list.items[i].function;
            if (function->config.snap_start && (!name || strcmp(function->name, name) == 0))
                json_array_append_new(all, describe(front, &list.items[i], now_ms));
            snprintf(marker, sizeof marker, "%s", function->name);
            number = function->number;
        }
        more = list.count == ROWS_AT_ONCE;
        catalog_snapshot_list_free(&list);
    }
    return all;
}
