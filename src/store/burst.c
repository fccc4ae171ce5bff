#include "store/burst.h"

#include "base/clock.h"
#include "base/fd.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FOLDER "collections/"
#define RUN FOLDER "run-"
#define OVER FOLDER "over-"
#define NAME_BYTES 16
#define POLL_US 200000
#define ENTRIES_MAX 16384
#define NS_PER_S 1000000000ull

static int put(struct origin *o, const char *name, struct error *err)
{
    static const char why[] = "a collection of chunks\n";
    CLEANUP_FD int fd = memfd_create("burst", MFD_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot make a memfd");
    if (fd_write_all(fd, why, sizeof why - 1, err) < 0)
        return -1;
    return origin_store(o, name, 0, fd, err);
}

static int make_names(struct burst *b, struct error *err)
{
    uint8_t raw[NAME_BYTES];
    char hex[2 * NAME_BYTES + 1];
    if (RAND_bytes(raw, sizeof raw) != 1)
        return error_set(err, ERROR_SYSTEM, "there are no random bytes");
    hex_encode(hex, raw, sizeof raw);
    snprintf(b->name, sizeof b->name, RUN "%s", hex);
    snprintf(b->over, sizeof b->over, OVER "%s", hex);
    return 0;
}

int burst_begin(struct burst *b, struct origin *o, struct error *err)
{
    b->begun_ns = clock_boot_ns();
    if (make_names(b, err) < 0)
        return -1;
    return put(o, b->name, err);
}

bool burst_may_remove(const struct burst *b)
{
    return clock_boot_ns() < b->begun_ns + BURST_SEND_S * NS_PER_S;
}

uint64_t burst_last_try_ns(const struct burst *b)
{
    return b->begun_ns + BURST_TRY_S * NS_PER_S;
}

int burst_end(const struct burst *b, struct origin *o, struct error *err)
{
    if (put(o, b->over, err) < 0)
        return -1;
    return origin_remove(o, b->name, err);
}

/* When has it just stored something? */
int burst_ask_time(struct origin *o, uint64_t *now_s, struct error *err)
{
    struct burst b;
    struct origin_reply reply = {0};
    if (make_names(&b, err) < 0 || put(o, b.over, err) < 0)
        return -1;
    const struct origin_request request = {.verb = ORIGIN_LOOK, .name = b.over, .fd = -1};
    if (origin_begin(o, &request, err) < 0 || origin_wait(o, &reply, err) < 0)
        return -1;
    *now_s = reply.modified_s;
    if (reply.error.kind != ERROR_NONE) {
        *err = reply.error;
        return -1;
    }
    return origin_remove(o, b.over, err);
}

/* ---- lists ---- */

static int note_entry(void *context, const struct origin_entry *entry, struct error *err)
{
    struct burst_watch *w = context;
    if (w->count == ENTRIES_MAX)
        return error_set(
            err, ERROR_LIMIT, "more than %d objects are in " FOLDER " of the origin", ENTRIES_MAX);
    w->entries = xrealloc(w->entries, (w->count + 1) * sizeof *w->entries);
    w->entries[w->count++] = *entry;
    return 0;
}

int burst_watch_begin(struct burst_watch *w, struct origin *o, struct error *err)
{
    burst_watch_free(w);
    return origin_list(o, FOLDER, note_entry, w, err);
}

void burst_watch_free(struct burst_watch *w)
{
    free(w->entries);
    *w = (struct burst_watch){0};
}

static bool has(const struct burst_watch *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->entries[i].name, name) == 0)
            return true;
    return false;
}

static bool is_running(const struct origin_entry *entry)
{
    return strncmp(entry->name, RUN, strlen(RUN)) == 0;
}

static bool is_any_running(const struct burst_watch *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (is_running(&w->entries[i]))
            return true;
    return false;
}

static bool is_any_new(const struct burst_watch *before, const struct burst_watch *now)
{
    for (size_t i = 0; i < now->count; i++)
        if (!has(before, now->entries[i].name))
            return true;
    return false;
}

/* Some that ran then run still. */
static bool is_any_left(const struct burst_watch *then, const struct burst_watch *now)
{
    for (size_t i = 0; i < then->count; i++)
        if (is_running(&then->entries[i]) && has(now, then->entries[i].name))
            return true;
    return false;
}

static int declare_over(const struct burst_watch *w, struct origin *o, struct error *err)
{
    for (size_t i = 0; i < w->count; i++) {
        struct burst b;
        if (!is_running(&w->entries[i]))
            continue;
        memcpy(b.name, w->entries[i].name, sizeof b.name);
        snprintf(b.over, sizeof b.over, OVER "%s", b.name + strlen(RUN));
        if (burst_end(&b, o, err) < 0)
            return -1;
    }
    return 0;
}

static int wait_for(const struct burst_watch *then, struct origin *o, uint64_t wait_s, struct error *err)
{
    CLEANUP_BURST_WATCH struct burst_watch now = {0};
    uint64_t until_ns = clock_monotonic_ns() + wait_s * NS_PER_S;
    bool waits = is_any_running(then);
    while (waits && clock_monotonic_ns() < until_ns) {
        usleep(POLL_US);
        if (burst_watch_begin(&now, o, err) < 0)
            return -1;
        waits = is_any_left(then, &now);
    }
    return waits ? declare_over(then, o, err) : 0;
}

int burst_watch_end(
    const struct burst_watch *before, struct origin *o, uint64_t wait_s, bool *any, struct error *err)
{
    CLEANUP_BURST_WATCH struct burst_watch now = {0};
    if (burst_watch_begin(&now, o, err) < 0)
        return -1;
    *any = is_any_running(before) || is_any_new(before, &now);
    return *any ? wait_for(&now, o, wait_s, err) : 0;
}

int burst_sweep_stale(struct origin *o, uint64_t now_s, struct error *err)
{
    CLEANUP_BURST_WATCH struct burst_watch w = {0};
    if (burst_watch_begin(&w, o, err) < 0)
        return -1;
    for (size_t i = 0; i < w.count; i++)
        if (w.entries[i].modified_s + BURST_STALE_S < now_s && origin_remove(o, w.entries[i].name, err) < 0)
            return -1;
    return 0;
}
