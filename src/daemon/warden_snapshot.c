/* Snapshots: frozen, deleted and inspected by children, so that the loop goes on meanwhile. */
#include "base/log.h"
#include "daemon/warden_private.h"
#include "freeze/freeze.h"
#include "image/image.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <unistd.h>

#define NOBODY 65534
#define KEPT_MAX 1000000 /* snapshots that a catalog may have */

static int compare_ids(const void *a, const void *b)
{
    return strcmp(a, b);
}

struct freeze_job {
    STAILQ_ENTRY(freeze_job) entry;
    struct warden *warden;
    uint64_t env_id;
    char snapshot_id[WIRE_ID_HEX + 1], domain[WIRE_DOMAIN_MAX + 1];
    pid_t pid;
    int log_fd; /* the environment's */
    bool fixed_layout;
    int files_fd;
    size_t replay_count;
    struct freeze_replay replays[WIRE_REPLAY_MAX];
    uint8_t requests[WIRE_REPLAY_MAX][WIRE_REPLAY_BYTES];
};

/* In the child. */
static int put_pages(
    void *context, uint64_t space, uint64_t address, const void *data, size_t len, struct error *err)
{
    return store_writer_pages(context, space, address, data, len, err);
}

static int freeze_and_store(const struct freeze_job *job, struct store_writer **writer,
    struct worker_result *result, struct error *err)
{
    const struct warden_options *o = job->warden->options;
    struct image image = {0};
    CLEANUP_BUFFER struct buffer manifest = {0};
    const struct freeze_request request = {
        .pid = job->pid,
        .api_port = SANDBOX_API_PORT,
        .replays = job->replays,
        .replay_count = job->replay_count,
        .code_path = SANDBOX_CODE_PATH,
        .uid = o->sandbox_uid,
        .gid = o->sandbox_gid,
        .given_personality = job->fixed_layout ? ADDR_NO_RANDOMIZE : 0,
        .filter_count = 1, /* sandbox_filter_full */
        .log_fd = job->log_fd,
        .put_pages = put_pages,
        .put_context = *writer,
    };
    if (freeze_process(&request, &image, err) < 0 || image_stamp_machine(&image, err) < 0)
        return -1;
    result->memory_bytes = image.page_bytes;
    files_tell(job->files_fd, &image);
    image_encode(&manifest, &image);
    image_free(&image);
    struct store_written written = {0};
    int stored = store_writer_commit(steal_pointer(*writer), manifest.data, manifest.len, &written, err);
    result->stored_bytes = written.stored_bytes;
    return stored;
}

static void freeze_body(void *context, struct worker_result *result)
{
    struct freeze_job *job = context;
    struct store_writer *writer =
        store_writer_begin(job->warden->options->store, job->snapshot_id, job->domain, &result->error);
    if (writer == NULL)
        return;
    if (freeze_and_store(job, &writer, result, &result->error) < 0)
        store_writer_abort(writer);
}

/* In the warden. */
static void start_freezes(struct warden *w);

static void freeze_ended(struct warden *w, void *context, const struct worker_result *result)
{
    CLEANUP_FREE struct freeze_job *job = context;
    CLEANUP_FD int files_fd = job->files_fd;
    CLEANUP_BUFFER struct buffer files = {0};
    files_take(files_fd, &files);
    struct wire_message m = {.type = WIRE_ENV_FROZEN,
        .env_frozen = {.env_id = job->env_id,
            .memory_bytes = result->memory_bytes,
            .stored_bytes = result->stored_bytes,
            .files = {files.data, files.len},
            .error = result->error}};
    memcpy(m.env_frozen.snapshot_id, job->snapshot_id, sizeof job->snapshot_id);
    w->freezes_running--;
    if (result->error.kind != ERROR_NONE)
        store_discard_unfinished(w->options->store, job->snapshot_id);
    warden_send(w, &m, NULL, 0);
    struct env *env = env_find(w, job->env_id);
    if (env != NULL)
        env_freeze_done(env);
    start_freezes(w);
}

static void start_freezes(struct warden *w)
{
    while (w->freezes_running < WARDEN_FREEZES_MAX && !STAILQ_EMPTY(&w->freezes)) {
        struct freeze_job *job = STAILQ_FIRST(&w->freezes);
        struct worker_result failure = {0};
        STAILQ_REMOVE_HEAD(&w->freezes, entry);
        const struct worker_job work = {.body = freeze_body, .done = freeze_ended, .context = job};
        w->freezes_running++;
        if (worker_start(w, &work, &failure.error) < 0)
            freeze_ended(w, job, &failure);
    }
}

static void refuse_freeze(struct warden *w, const struct wire_env_freeze *request, const char *why)
{
    struct wire_message m = {.type = WIRE_ENV_FROZEN, .env_frozen = {.env_id = request->env_id}};
    memcpy(m.env_frozen.snapshot_id, request->snapshot_id, sizeof m.env_frozen.snapshot_id);
    error_set(&m.env_frozen.error, ERROR_CONFLICT, "%s", why);
    warden_send(w, &m, NULL, 0);
}

void snapshot_freeze(struct warden *w, const struct wire_env_freeze *request)
{
    struct env *env = env_find(w, request->env_id);
    if (env == NULL)
        return; /* its exit, which is the last word on it, is on its way to the front */
    if (env->state != ENV_RUNNING || env->mode != WIRE_COLD || env->freezing) {
        refuse_freeze(w, request, "only a running environment that was started cold can be frozen, and once");
        return;
    }
    struct freeze_job *job = xcalloc(1, sizeof *job);
    *job = (struct freeze_job){.warden = w,
        .env_id = env->id,
        .pid = env->pid,
        .log_fd = env->kit.log_read,
        .fixed_layout = env->fixed_layout,
        .files_fd = files_open(),
        .replay_count = request->replay_count};
    memcpy(job->snapshot_id, request->snapshot_id, sizeof job->snapshot_id);
    memcpy(job->domain, request->domain, sizeof job->domain);
    for (size_t i = 0; i < job->replay_count; i++) {
        struct bytes bytes = request->replays[i].request;
        if (bytes.len > 0)
            memcpy(job->requests[i], bytes.data, bytes.len);
        job->replays[i] = (struct freeze_replay){request->replays[i].port, {job->requests[i], bytes.len}};
    }
    env->freezing = true;
    STAILQ_INSERT_TAIL(&w->freezes, job, entry);
    start_freezes(w);
}

/* Then a deletion takes as long as the network does, and is finished at the next start if need be. */
static bool uses_origin(const struct warden *w)
{
    return store_origin_control(w->options->store) >= 0;
}

struct delete_job {
    struct store *store;
    bool here_only;
    char snapshot_id[WIRE_ID_HEX + 1];
};

static void delete_body(void *context, struct worker_result *result)
{
    struct delete_job *job = context;
    if (job->here_only)
        (void)!store_delete_here(job->store, job->snapshot_id, &result->error);
    else if (store_delete(job->store, job->snapshot_id, &result->error) == 0)
        (void)!store_finish_removals(job->store, &result->error); /* that failed before */
}

static void delete_ended(struct warden *w, void *context, const struct worker_result *result)
{
    CLEANUP_FREE struct delete_job *job = context;
    /* A start that was quicker than the deletion may have had a template built meanwhile. */
    template_drop(w, job->snapshot_id, false);
    if (result->error.kind != ERROR_NONE && result->error.kind != ERROR_NOT_FOUND)
        log_warning("%s", result->error.text);
    store_collect_later(w);
}

static void remove_snapshot(struct warden *w, const char *snapshot_id, bool here_only)
{
    struct error err = {0};
    struct delete_job *job = xcalloc(1, sizeof *job);
    const struct worker_job work = {
        .body = delete_body, .done = delete_ended, .context = job, .finish = !uses_origin(w)};
    job->store = w->options->store;
    job->here_only = here_only;
    memcpy(job->snapshot_id, snapshot_id, sizeof job->snapshot_id);
    template_drop(w, snapshot_id, false);
    if (worker_start(w, &work, &err) == 0)
        return;
    log_warning("cannot delete snapshot %s: %s", snapshot_id, err.text);
    free(job);
}

void snapshot_delete(struct warden *w, const char *snapshot_id)
{
    remove_snapshot(w, snapshot_id, false);
}

static void removals_body(void *context, struct worker_result *result)
{
    (void)!store_finish_removals(context, &result->error);
}

static void removals_ended(struct warden *w, void *context, const struct worker_result *result)
{
    (void)w, (void)context;
    if (result->error.kind != ERROR_NONE)
        log_warning("%s", result->error.text);
}

/* Deletions that the origin does not know of yet. */
static void finish_removals(struct warden *w)
{
    struct error err = {0};
    const struct worker_job work = {
        .body = removals_body, .done = removals_ended, .context = w->options->store};
    if (uses_origin(w) && worker_start(w, &work, &err) < 0)
        log_warning("%s", err.text);
}

int snapshot_keep(struct warden *w, const char *snapshot_id, struct error *err)
{
    if (w->swept || w->kept_count == KEPT_MAX)
        return error_set(err, ERROR_INVALID, "it names a snapshot to keep, too late or one too many");
    if (w->kept_count == w->kept_capacity) {
        w->kept_capacity = w->kept_capacity ? 2 * w->kept_capacity : 64;
        w->kept = xrealloc(w->kept, w->kept_capacity * sizeof *w->kept);
    }
    memcpy(w->kept[w->kept_count++], snapshot_id, sizeof *w->kept);
    return 0;
}

static bool is_kept(void *warden, const char *snapshot_id)
{
    const struct warden *w = warden;
    return w->kept_count > 0 &&
           bsearch(snapshot_id, w->kept, w->kept_count, sizeof *w->kept, compare_ids) != NULL;
}

void snapshot_sweep(struct warden *w)
{
    struct error err = {0};
    CLEANUP_FREE struct store_entry *entries = NULL;
    size_t count = 0;
    if (w->swept)
        return;
    w->swept = true;
    if (w->kept_count > 0)
        qsort(w->kept, w->kept_count, sizeof *w->kept, compare_ids);
    if (store_list(w->options->store, &entries, &count, &err) < 0)
        log_warning("%s", err.text);
    for (size_t i = 0; i < count; i++) {
        if (is_kept(w, entries[i].id))
            continue;
        log_info("snapshot %s belongs to no version and is removed", entries[i].id);
        remove_snapshot(w, entries[i].id, true); /* the origin's may be another machine's */
    }
    if (store_settle_publishes(w->options->store, is_kept, w, &err) < 0)
        log_warning("%s", err.text);
    free(steal_pointer(w->kept));
    store_collect_later(w); /* of publishes that a crash cut off */
    finish_removals(w);
}

struct inspect_job {
    struct store *store;
    struct wire_snapshot_inspect request;
    int memfd;
};

/* The manifest is decoded and printed without any right, and without the key. */
static int become_nobody(struct error *err)
{
    if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
        setresuid(NOBODY, NOBODY, NOBODY) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_system(err, "cannot become nobody");
    return 0;
}

static int inspect(const struct inspect_job *job, struct error *err)
{
    CLEANUP_BUFFER struct buffer manifest = {0};
    CLEANUP_BUFFER struct buffer text = {0};
    struct image image = {0};
    struct store_reader *reader =
        store_reader_open_or_bring(job->store, job->request.snapshot_id, &manifest, err);
    if (reader == NULL)
        return -1;
    store_reader_close(reader);
    store_close(job->store);
    if (become_nobody(err) < 0 || image_decode(&image, (struct bytes){manifest.data, manifest.len}, err) < 0)
        return -1;
    image_print(&text, &image, job->request.plan, job->request.json);
    image_free(&image);
    return fd_write_all(job->memfd, text.data, text.len, err);
}

static void inspect_body(void *context, struct worker_result *result)
{
    (void)!inspect(context, &result->error);
}

static void inspect_ended(struct warden *w, void *context, const struct worker_result *result)
{
    CLEANUP_FREE struct inspect_job *job = context;
    struct wire_message m = {.type = WIRE_SNAPSHOT_INSPECTED};
    m.snapshot_inspected = (struct wire_snapshot_inspected){job->request.request_id, result->error};
    if (job->memfd >= 0)
        lseek(job->memfd, 0, SEEK_SET);
    warden_send(w, &m, &job->memfd, result->error.kind == ERROR_NONE ? 1 : 0);
    fd_close(&job->memfd);
}

void snapshot_inspect(struct warden *w, const struct wire_snapshot_inspect *request)
{
    struct worker_result failure = {0};
    struct inspect_job *job = xcalloc(1, sizeof *job);
    *job = (struct inspect_job){.store = w->options->store, .request = *request};
    const struct worker_job work = {.body = inspect_body, .done = inspect_ended, .context = job};
    job->memfd = memfd_create("inspection", MFD_CLOEXEC);
    if (job->memfd < 0)
        error_system(&failure.error, "cannot make a memfd");
    else if (worker_start(w, &work, &failure.error) == 0)
        return;
    inspect_ended(w, job, &failure);
}

void snapshot_free_all(struct warden *w)
{
    free(steal_pointer(w->kept));
    while (!STAILQ_EMPTY(&w->freezes)) {
        struct freeze_job *job = STAILQ_FIRST(&w->freezes);
        STAILQ_REMOVE_HEAD(&w->freezes, entry);
        fd_close(&job->files_fd);
        free(job);
    }
}
