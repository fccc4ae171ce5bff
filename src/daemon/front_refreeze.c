/* Snapshots are frozen anew when what they were frozen on is no longer what there is: found by going through all
 * stamps at the start and then once an hour, or when a version could not be thawed. Runs in the front.
 *
 *   stale --> queue --(nothing else is being built)--> an environment that builds, as for a publish
 *               ^                                          |
 *               |  later, and later each time              |--> frozen: the catalog names the new snapshot and no
 *               '------------------- failed ---------------'    longer the old one, which is then deleted
 *
 * One at a time. Calls use the old snapshot meanwhile; only when that cannot be thawed do they wait (front_snapshot.c
 * holds them), and then its build is no longer one for the background. Invariants:
 *  1. `stale` is set exactly while the version is in the queue or is being built from it.
 *  2. The catalog names a snapshot that is complete on the disk, at every moment: the new one from the change on. */
#include "daemon/front_private.h"

#include <stdlib.h>
#include <string.h>

#define RESCAN_NS (3600 * 1000000000ull)
#define SCAN_ROWS 4 /* versions looked at in one go */
#define SCAN_PAUSE_NS 10000000u
#define RETRY_FIRST_NS (2 * 1000000000ull)
#define RETRY_LONGEST_NS (3600 * 1000000000ull)
#define DEMAND_LONGEST_NS (15 * 1000000000ull) /* when somebody asks for it */

/* ---- the queue ---- */

static void on_queue_due(void *context)
{
    front_refreeze_next(context);
}

static struct front_version *first_due(struct front *front, uint64_t now_ns, uint64_t *next_ns)
{
    struct front_version *version;
    *next_ns = UINT64_MAX;
    TAILQ_FOREACH (version, &front->refreezes, in_refreezes) {
        if (version->retry_ns <= now_ns)
            return version;
        if (version->retry_ns < *next_ns)
            *next_ns = version->retry_ns;
    }
    return NULL;
}

void front_refreeze_next(struct front *front)
{
    uint64_t next_ns;
    if (front->builds_running > 0 || front->draining || front->failed || TAILQ_EMPTY(&front->refreezes))
        return; /* the end of a build comes back here */
    struct front_version *version = first_due(front, clock_monotonic_ns(), &next_ns);
    loop_timer_cancel(&front->refreeze_timer);
    if (!version) {
        loop_timer_set(front->loop, &front->refreeze_timer, next_ns, on_queue_due, front);
        return;
    }
    front_refreeze_unqueue(version);
    log_info("%s:%s is frozen anew: %s", version->function->name, version->function->version, version->stale);
    front_build_start(version);
}

void front_refreeze_unqueue(struct front_version *version)
{
    if (!version->refreeze_waits)
        return;
    version->refreeze_waits = false;
    TAILQ_REMOVE(&version->front->refreezes, version, in_refreezes);
}

static void refreeze_queue(struct front_version *version, const char *why)
{
    if (version->retired || version->refreeze_waits)
        return;
    free(version->stale);
    version->stale = xstrdup(why);
    version->refreeze_waits = true;
    TAILQ_INSERT_TAIL(&version->front->refreezes, version, in_refreezes);
}

void front_refreeze_forget(struct front_version *version)
{
    front_refreeze_unqueue(version);
    free_pointer(&version->stale);
    free_pointer(&version->failure);
    version->failures = 0;
    version->retry_ns = version->demand_ns = 0;
}

/* ---- outcomes ---- */

void front_build_put_off(struct front_version *version, const char *reason)
{
    uint64_t wait_ns = RETRY_FIRST_NS;
    for (uint32_t i = 0; i < version->failures && wait_ns < RETRY_LONGEST_NS; i++)
        wait_ns *= 2;
    if (wait_ns > RETRY_LONGEST_NS)
        wait_ns = RETRY_LONGEST_NS;
    version->failures++;
    version->retry_ns = clock_monotonic_ns() + wait_ns;
    version->demand_ns = clock_monotonic_ns() + (wait_ns < DEMAND_LONGEST_NS ? wait_ns : DEMAND_LONGEST_NS);
    free(version->failure);
    version->failure = xstrdup(reason);
    version->remakes = 0;
}

void front_refreeze_failed(struct front_version *version, const char *reason, const char *reason_code)
{
    struct front *front = version->front;
    const struct catalog_function *now = NULL;
    struct error err;
    front->refreezes_failed++;
    front_build_put_off(version, reason);
    CLEANUP_FREE char *why = version->stale ? xstrdup(version->stale) : xstrdup("it could not be thawed");
    CLEANUP_FREE char *told = xasprintf("The snapshot could not be frozen anew: %s", reason);
    if (catalog_set_update(
            front->catalog, version->function, CATALOG_UPDATE_FAILED, told, reason_code, &now, &err) == 0)
        front_version_update(version, now);
    else if (err.kind != ERROR_NOT_FOUND)
        log_error("%s:%s: %s", version->function->name, version->function->version, err.text);
    catalog_function_unref(&now);
    refreeze_queue(version, why);
    front_refreeze_next(front);
}

/* ---- looking for work ---- */

static void on_scan(void *context);

static void scan_after(struct front *front, uint64_t wait_ns)
{
    loop_timer_cancel(&front->scan_timer);
    loop_timer_set(front->loop, &front->scan_timer, clock_monotonic_ns() + wait_ns, on_scan, front);
}

static void scan_one(struct front *front, const struct catalog_snapshot_item *item)
{
    const struct catalog_function *function = item->function;
    if (!function->snapshot_id[0])
        return;
    CLEANUP_FREE char *why = front_stamp_differs(front, function, &item->snapshot);
    if (!why)
        return;
    struct front_version *version = front_version_of(front, function);
    if (version->stale || version->build || version->build_waits)
        return;
    log_info("%s:%s is to be frozen anew: %s", function->name, function->version, why);
    refreeze_queue(version, why);
}

static void on_scan(void *context)
{
    struct front *front = context;
    struct catalog_snapshot_list list;
    struct error err;
    if (front->draining)
        return;
    if (catalog_list_snapshots(front->catalog, front->scan_name, front->scan_number, SCAN_ROWS, &list, &err) <
        0) {
        log_error("the stamps of snapshots cannot be read: %s", err.text);
        list.count = 0;
    }
    for (size_t i = 0; i < list.count; i++)
        scan_one(front, &list.items[i]);
    bool more = list.count == SCAN_ROWS;
    const struct catalog_function *last = more ? list.items[list.count - 1].function : NULL;
    snprintf(front->scan_name, sizeof front->scan_name, "%s", last ? last->name : "");
    front->scan_number = last ? last->number : 0;
    catalog_snapshot_list_free(&list);
    scan_after(front, more ? SCAN_PAUSE_NS : RESCAN_NS);
    front_refreeze_next(front);
}

size_t front_refreeze_count(const struct front *front)
{
    size_t count = 0;
    for (size_t i = 0; i < FRONT_BUCKETS; i++)
        for (const struct front_version *at = front->versions[i]; at; at = at->next_in_bucket)
            count += at->stale != NULL;
    return count;
}

void front_refreeze_open(struct front *front)
{
    scan_after(front, SCAN_PAUSE_NS);
}
