/* When versions were last used, and what becomes of those that are not: after a time without an invocation a version
 * is Inactive and has no snapshot. The next invocation has a new one made, and is told to come again. Runs in the
 * front.
 *
 * A use costs a warm invocation a stamp in memory; all of them are written now and then, and at the end. Times are of
 * a clock that nobody can set (base/lasting_clock.h); while the machine is off it counts for half of the time that a
 * version may be unused, so that a clock that is wrong at the start makes nothing Inactive that was in use. */
#include "daemon/front_private.h"

#include <stdlib.h>
#include <string.h>

#define SAVE_LONGEST_MS 60000u
#define SAVE_SHORTEST_MS 200u
#define CLOCK_SAVE_MS 3600000u /* also when nothing was used */
#define ENDED_AT_ONCE 64       /* versions that become Inactive in one go */

static void on_lifecycle(void *context);

/* ---- time ---- */

static struct lasting_clock read_clock(const struct front *front)
{
    struct lasting_clock now = lasting_clock_sample(front->options->boot_id);
    now.lasting_ms = front->clock.lasting_ms + now.boot_ms - front->clock.boot_ms;
    return now;
}

uint64_t front_now_ms(const struct front *front)
{
    return front->clock.lasting_ms + clock_read_ns(CLOCK_BOOTTIME) / 1000000u - front->clock.boot_ms;
}

static uint64_t period_ms(const struct front *front)
{
    uint64_t part = front->options->inactive_after_s * 1000u / 8;
    if (part == 0 || part > SAVE_LONGEST_MS)
        return SAVE_LONGEST_MS;
    return part < SAVE_SHORTEST_MS ? SAVE_SHORTEST_MS : part;
}

static void set_timer(struct front *front, uint64_t wait_ms)
{
    loop_timer_cancel(&front->lifecycle_timer);
    loop_timer_set(
        front->loop, &front->lifecycle_timer, clock_monotonic_ns() + wait_ms * 1000000u, on_lifecycle, front);
}

/* ---- uses ---- */

void front_use_mark(struct front_version *version)
{
    struct front *front = version->front;
    if (version->function->number == 0 || !version->function->config.snap_start)
        return;
    version->used_ms = front_now_ms(front);
    if (version->use_is_new)
        return;
    version->use_is_new = true;
    TAILQ_INSERT_TAIL(&front->uses, version, in_uses);
    front->use_count++;
}

void front_use_forget(struct front_version *version)
{
    if (!version->use_is_new)
        return;
    version->use_is_new = false;
    TAILQ_REMOVE(&version->front->uses, version, in_uses);
    version->front->use_count--;
}

static void save_uses(struct front *front, bool at_the_end)
{
    struct lasting_clock now = read_clock(front);
    struct error err;
    if (front->use_count == 0 && !at_the_end && now.lasting_ms < front->clock_saved_ms + CLOCK_SAVE_MS)
        return;
    CLEANUP_FREE struct catalog_use *uses = xcalloc(front->use_count + 1, sizeof *uses);
    size_t count = 0;
    struct front_version *version;
    TAILQ_FOREACH (version, &front->uses, in_uses)
        uses[count++] = (struct catalog_use){version->function, version->used_ms};
    if (catalog_uses_save(front->catalog, &now, uses, count, &err) < 0) {
        log_error("when versions were used cannot be saved: %s", err.text);
        return; /* they are tried again with the next ones */
    }
    front->clock_saved_ms = now.lasting_ms;
    while ((version = TAILQ_FIRST(&front->uses)) != NULL)
        front_use_forget(version);
}

/* ---- the end of what is not used ---- */

static bool is_at_work(const struct front_version *version)
{
    if (version->build || version->build_waits || !version->pool || dispatch_pool_is_held(version->pool))
        return true;
    struct dispatch_pool_counts counts = dispatch_pool_count(version->pool);
    return counts.busy > 0 || counts.waiting > 0 || counts.starting > 0;
}

static void deactivate(struct front *front, const struct catalog_function *function)
{
    const struct catalog_function *now = NULL;
    struct error err;
    struct front_version *version = front_version_find(front, function->generation);
    if (version && is_at_work(version)) {
        front_use_mark(version);
        return;
    }
    if (catalog_set_inactive(
            front->catalog, function, "The function is currently idle.", "Idle", &now, &err) < 0) {
        log_error("%s:%s could not be made inactive: %s", function->name, function->version, err.text);
        return;
    }
    log_info("%s:%s was not invoked for a long time: it is inactive, and its snapshot is deleted",
        function->name, function->version);
    if (version) {
        front_version_update(version, now);
        front_refreeze_forget(version);
        dispatch_pool_evict(version->pool);
    }
    catalog_function_unref(&now);
    front_snapshot_discard(front, function->snapshot_id);
}

static void end_unused(struct front *front)
{
    struct catalog_list list;
    struct error err;
    uint64_t after_ms = front->options->inactive_after_s * 1000u, now_ms = front_now_ms(front);
    if (after_ms == 0 || now_ms < after_ms)
        return;
    if (catalog_list_unused(front->catalog, now_ms - after_ms, ENDED_AT_ONCE, &list, &err) < 0) {
        log_error("unused versions cannot be looked for: %s", err.text);
        return;
    }
    for (size_t i = 0; i < list.count; i++)
        deactivate(front, list.items[i]);
    catalog_list_free(&list);
}

static void on_lifecycle(void *context)
{
    struct front *front = context;
    if (front->draining)
        return;
    save_uses(front, false);
    end_unused(front);
    set_timer(front, period_ms(front));
}

/* ---- waking up ---- */

static void refuse_for(
    struct front_failure *failure, const char *type, const char *format, const char *detail)
{
    *failure = (struct front_failure){.type = type, .http_status = 409};
    snprintf(failure->message, sizeof failure->message, format, detail);
}

void front_refuse_not_ready(struct front_failure *failure)
{
    refuse_for(failure, "SnapStartNotReadyException", "%s", LAMBDA_NOT_READY);
}

void front_refuse_regeneration(struct front_failure *failure, const char *reason)
{
    refuse_for(
        failure, "SnapStartRegenerationFailureException", "The snapshot could not be made anew: %s", reason);
}

void front_wake(struct front_version *version, struct front_failure *failure)
{
    struct front *front = version->front;
    const struct catalog_function *now = NULL;
    struct error err;
    if (clock_monotonic_ns() < version->demand_ns) {
        front_refuse_regeneration(failure, version->failure);
        return;
    }
    front_refuse_not_ready(failure);
    if (catalog_set_state(front->catalog, version->function, CATALOG_PENDING,
            "The function is being restored.", CATALOG_CODE_RESTORING, &now, &err) < 0) {
        *failure = (struct front_failure){.type = "ServiceException", .http_status = 500};
        snprintf(failure->message, sizeof failure->message, "%s", err.text);
        return;
    }
    log_info("%s:%s was inactive and is frozen anew", now->name, now->version);
    front_version_update(version, now);
    catalog_function_unref(&now);
    front_snapshot(front, version->function);
}

/* It stays Inactive when that fails, and says why; the next invocation tries it again, after a pause. */
void front_wake_failed(struct front_version *version, const char *reason, const char *reason_code)
{
    const struct catalog_function *now = NULL;
    struct error err;
    front_build_put_off(version, reason);
    if (catalog_set_inactive(version->front->catalog, version->function, reason, reason_code, &now, &err) ==
        0)
        front_version_update(version, now);
    else if (err.kind != ERROR_NOT_FOUND)
        log_error("%s:%s: its failure could not be recorded: %s", version->function->name,
            version->function->version, err.text);
    catalog_function_unref(&now);
}

bool front_is_waking(const struct catalog_function *function)
{
    return function->state == CATALOG_PENDING &&
           strcmp(function->state_reason_code, CATALOG_CODE_RESTORING) == 0;
}

/* ---- beginning and end ---- */

int front_lifecycle_open(struct front *front, struct error *err)
{
    struct lasting_clock kept, now = lasting_clock_sample(front->options->boot_id);
    uint64_t gap_max_ms = front->options->inactive_after_s * 1000u / 2;
    if (catalog_clock_read(front->catalog, &kept, err) < 0)
        return -1;
    front->clock = lasting_clock_resume(&kept, &now, gap_max_ms ? gap_max_ms : UINT64_MAX / 4);
    /* A full disk is no reason not to serve: what is not known is not unused. */
    if (catalog_uses_begin(front->catalog, front->clock.lasting_ms, err) < 0)
        log_error("when versions were used cannot be saved: %s", err->text);
    set_timer(front, SAVE_SHORTEST_MS);
    return 0;
}

void front_lifecycle_close(struct front *front)
{
    if (front->catalog && front->clock.lasting_ms)
        save_uses(front, true);
}
