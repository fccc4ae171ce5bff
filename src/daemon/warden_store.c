/* What is done to the whole store, by children: sizes, verification, collection. They say how it goes in lines of JSON, over
 * a pipe that the front reads (front_store.c tells what they look like). A collection also runs by itself, some time
 * after snapshots were deleted or a daemon was killed. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"
#include "store/rotate.h"
#include "store/upkeep.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORE_JOBS_MAX 4
#define COLLECT_AFTER_NS (5 * 1000000000ull)  /* the last deletion: more may follow */
#define COLLECT_EVERY_NS (60 * 1000000000ull) /* at most, by itself */
#define BUDGET_EVERY_NS \
    (30 * 1000000000ull) /* what is read comes from the origin, so that the folder grows */

struct store_job {
    struct warden *warden;
    struct wire_store_run request;
    int lines_fd; /* -1: nobody listens */
    uint64_t progress_ns;
    uint64_t templates, template_bytes; /* in memory when it began */
};

/* ---- in the child ---- */

/* A reader that has gone away ends us by SIGPIPE. */
static void say(const struct store_job *job, json_t *line)
{
    if (job->lines_fd >= 0 && json_dumpfd(line, job->lines_fd, JSON_COMPACT | JSON_PRESERVE_ORDER) == 0)
        (void)!write(job->lines_fd, "\n", 1);
    json_decref(line);
}

static void say_sizes(void *context, const struct store_snapshot_sizes *s)
{
    say(context, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "snapshot", s->id, "logical_bytes",
                     (json_int_t)s->logical_bytes, "chunks", (json_int_t)s->chunks, "own_bytes",
                     (json_int_t)s->own_bytes, "shared_bytes", (json_int_t)s->shared_bytes, "file_bytes",
                     (json_int_t)s->file_bytes));
}

static int run_stats(struct store_job *job, struct error *err)
{
    struct store_totals t;
    if (store_measure(job->warden->options->store, say_sizes, job, &t, err) < 0)
        return -1;
    json_t *totals = json_object();
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"snapshots", t.snapshots},
        {"unreadable_snapshots", t.unreadable_snapshots},
        {"chunks", t.chunks},
        {"logical_bytes", t.logical_bytes},
        {"plain_bytes", t.plain_bytes},
        {"chunk_bytes", t.chunk_bytes},
        {"local_plain_bytes", t.local_plain_bytes},
        {"file_bytes", t.file_bytes},
        {"absent_chunks", t.absent_chunks},
        {"absent_bytes", t.absent_bytes},
        {"unreferenced_chunks", t.unreferenced_chunks},
        {"unreferenced_bytes", t.unreferenced_bytes},
        {"stored_bytes", t.stored_bytes},
        {"templates", job->templates},
        {"template_bytes", job->template_bytes},
    };
    for (size_t i = 0; i < countof(members); i++)
        json_object_set_new(totals, members[i].name, json_integer((json_int_t)members[i].value));
    if (t.plain_bytes > 0)
        json_object_set_new(
            totals, "dedup_ratio", json_real((double)t.logical_bytes / (double)t.plain_bytes));
    if (t.chunk_bytes > 0)
        json_object_set_new(
            totals, "compression_ratio", json_real((double)t.local_plain_bytes / (double)t.chunk_bytes));
    say(job, json_pack("{s:o}", "totals", totals));
    return 0;
}

json_t *warden_progress_line(uint64_t *last_ns, uint64_t done, uint64_t total)
{
    uint64_t now_ns = clock_monotonic_ns();
    if (now_ns < *last_ns + WARDEN_PROGRESS_EVERY_NS)
        return NULL;
    *last_ns = now_ns;
    return json_pack("{s:{s:I, s:I}}", "progress", "done", (json_int_t)done, "total", (json_int_t)total);
}

static void say_damage(void *context, const struct store_damage *d)
{
    say(context, json_pack("{s:{s:s, s:s, s:s, s:b}}", "damaged", "snapshot", d->snapshot_id, "file", d->file,
                     "reason", d->reason->text, "repaired", (int)d->repaired));
}

static void say_progress(void *context, uint64_t done, uint64_t total)
{
    struct store_job *job = context;
    json_t *line = warden_progress_line(&job->progress_ns, done, total);
    if (line != NULL)
        say(job, line);
}

static int run_verify(struct store_job *job, struct error *err)
{
    const struct store_verify_callbacks callbacks = {say_damage, say_progress, job};
    struct store_verified v;
    struct store *store = job->warden->options->store;
    if (store_verify(store, job->request.repair, &callbacks, &v, err) < 0)
        return -1;
    say(job, json_pack("{s:{s:I, s:I, s:I, s:I, s:I}}", "totals", "snapshots", (json_int_t)v.snapshots,
                 "chunks", (json_int_t)v.chunks, "bytes", (json_int_t)v.bytes, "damaged",
                 (json_int_t)v.damaged, "repaired", (json_int_t)v.repaired));
    return 0;
}

static void add_origin_totals(json_t *totals, const struct store_origin_collected *o)
{
    json_object_set_new(totals, "origin_removed_chunks", json_integer((json_int_t)o->removed_chunks));
    json_object_set_new(totals, "origin_removed_files", json_integer((json_int_t)o->removed_files));
    json_object_set_new(totals, "origin_removed_bytes", json_integer((json_int_t)o->removed_bytes));
    json_object_set_new(totals, "origin_kept_chunks", json_integer((json_int_t)o->kept_chunks));
    json_object_set_new(totals, "origin_young_chunks", json_integer((json_int_t)o->young_chunks));
    json_object_set_new(totals, "origin_snapshots", json_integer((json_int_t)o->snapshots));
}

static int run_gc(struct store_job *job, struct error *err)
{
    struct store_collected c;
    struct store_origin_collected o = {0};
    struct store *store = job->warden->options->store;
    signal(SIGPIPE, SIG_IGN); /* it goes on when nobody listens any more */
    if (store_collect(store, &c, err) < 0)
        return -1;
    struct store_evicted e = {0};
    uint64_t budget = job->warden->options->store_budget;
    if (budget > 0 && store_evict(store, budget, &e, err) < 0)
        return -1;
    bool has_origin =
        store_origin_control(store) >= 0 && (job->lines_fd >= 0 || store_collect_origin_is_due(store));
    if (has_origin && store_collect_origin(store, &o, err) < 0)
        return -1;
    json_t *totals = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "removed_chunks",
        (json_int_t)c.removed_chunks, "removed_bytes", (json_int_t)c.removed_bytes, "kept_chunks",
        (json_int_t)c.kept_chunks, "young_chunks", (json_int_t)c.young_chunks, "evicted_chunks",
        (json_int_t)e.chunks, "evicted_bytes", (json_int_t)e.bytes);
    if (has_origin)
        add_origin_totals(totals, &o);
    say(job, json_pack("{s:o}", "totals", totals));
    return 0;
}

static int run_key(struct store_job *job)
{
    struct store_key_state state;
    store_key_state(job->warden->options->store, &state);
    say(job, json_pack("{s:o}", "totals", key_describe(&state)));
    return 0;
}

static void store_body(void *context, struct worker_result *result)
{
    struct store_job *job = context;
    int failed = -1;
    signal(SIGPIPE, SIG_DFL);
    if (job->lines_fd >= 0)
        fcntl(job->lines_fd, F_SETFL, 0);
    if (job->request.verb == WIRE_STORE_STATS)
        failed = run_stats(job, &result->error);
    else if (job->request.verb == WIRE_STORE_VERIFY)
        failed = run_verify(job, &result->error);
    else if (job->request.verb == WIRE_STORE_GC)
        failed = run_gc(job, &result->error);
    else if (job->request.verb == WIRE_STORE_KEY)
        failed = run_key(job);
    if (failed < 0)
        say(job, json_pack("{s:s}", "error", result->error.text));
    else
        result->error = (struct error){0};
}

/* ---- in the warden ---- */

static void store_ended(struct warden *w, void *context, const struct worker_result *result)
{
    CLEANUP_FREE struct store_job *job = context;
    w->store_jobs--;
    if (job->lines_fd < 0 && result->error.kind != ERROR_NONE && result->error.kind != ERROR_BUSY)
        log_warning("the collection of chunks that nobody needs failed: %s", result->error.text);
}

static int start_job(struct warden *w, const struct wire_store_run *request, int lines_fd, struct error *err)
{
    const struct template_entry *t;
    if (w->store_jobs == STORE_JOBS_MAX)
        return error_set(err, ERROR_BUSY, "%u other jobs look at the store already", w->store_jobs);
    struct store_job *job = xcalloc(1, sizeof *job);
    *job = (struct store_job){.warden = w, .request = *request, .lines_fd = lines_fd};
    TAILQ_FOREACH (t, &w->templates, entry) {
        if (t->state != TEMPLATE_PARKED)
            continue;
        job->templates++;
        job->template_bytes += template_memory_bytes(t->template);
    }
    const struct worker_job work = {
        .body = store_body, .done = store_ended, .context = job, .background = true};
    if (worker_start(w, &work, err) < 0) {
        free(job);
        return -1;
    }
    w->store_jobs++;
    return 0;
}

void store_run(struct warden *w, const struct wire_store_run *request)
{
    struct wire_message m = {
        .type = WIRE_STORE_RUNNING, .store_running = {.request_id = request->request_id}};
    struct error *err = &m.store_running.error;
    int pipe_fds[2] = {-1, -1};
    if (request->verb == WIRE_STORE_ROTATE) {
        key_rotate(w, request);
        return;
    }
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
        error_system(err, "cannot make a pipe");
    else
        (void)!start_job(w, request, pipe_fds[1], err);
    fd_close(&pipe_fds[1]);
    warden_send(w, &m, &pipe_fds[0], err->kind == ERROR_NONE ? 1 : 0);
    fd_close(&pipe_fds[0]);
}

static void collect_now(void *context)
{
    struct warden *w = context;
    struct error err = {0};
    const struct wire_store_run request = {.verb = WIRE_STORE_GC};
    w->collected_ns = clock_monotonic_ns();
    if (start_job(w, &request, -1, &err) == 0) {
        if (w->options->store_budget > 0)
            loop_timer_set(
                w->loop, &w->collect_timer, clock_monotonic_ns() + BUDGET_EVERY_NS, collect_now, w);
        return;
    }
    if (err.kind != ERROR_BUSY)
        log_warning("cannot collect chunks: %s", err.text);
    store_collect_later(w);
}

void store_collect_later(struct warden *w)
{
    uint64_t now_ns = clock_monotonic_ns(), at_ns = now_ns + COLLECT_AFTER_NS;
    if (w->collected_ns != 0 && at_ns < w->collected_ns + COLLECT_EVERY_NS)
        at_ns = w->collected_ns + COLLECT_EVERY_NS;
    if (w->collect_timer == NULL)
        loop_timer_set(w->loop, &w->collect_timer, at_ns, collect_now, w);
}
