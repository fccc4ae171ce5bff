/* Templates: which exist, which are being built, which must go. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"
#include "image/image.h"
#include "sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void template_event(void *context, uint32_t events);

static void add_zombie(struct warden *w, pid_t pid, const char *snapshot_id)
{
    struct zombie *zombie = xcalloc(1, sizeof *zombie);
    zombie->pid = pid;
    memcpy(zombie->snapshot_id, snapshot_id, strlen(snapshot_id) + 1);
    LIST_INSERT_HEAD(&w->zombies, zombie, entry);
    warden_tick_soon(w);
}

static void tell_dropped(struct warden *w, const char *snapshot_id)
{
    struct wire_message m = {.type = WIRE_TEMPLATE_DROPPED};
    memcpy(m.snapshot_id, snapshot_id, sizeof m.snapshot_id);
    warden_send(w, &m, NULL, 0);
}

void template_reap(struct warden *w)
{
    struct zombie *next;
    for (struct zombie *zombie = LIST_FIRST(&w->zombies); zombie != NULL; zombie = next) {
        next = LIST_NEXT(zombie, entry);
        if (waitpid(zombie->pid, NULL, WNOHANG) == 0)
            continue;
        if (zombie->snapshot_id[0] != '\0')
            tell_dropped(w, zombie->snapshot_id);
        LIST_REMOVE(zombie, entry);
        free(zombie);
    }
}

bool template_has_pid(struct warden *w, pid_t pid)
{
    const struct template_entry *t;
    const struct zombie *zombie;
    LIST_FOREACH (zombie, &w->zombies, entry)
        if (zombie->pid == pid)
            return true;
    TAILQ_FOREACH (t, &w->templates, entry)
        if (t->state == TEMPLATE_BUILDING || (t->template != NULL && template_pid(t->template) == pid))
            return true;
    return false;
}

/* No new users; it goes when the last one is served. From here on it counts no more. */
static void stop_offering(struct template_entry *t, bool evicted)
{
    if (t->item != NULL)
        budget_let_go(t->warden->budget, steal_pointer(t->item), evicted);
    t->dropping = true;
}

/* It must have no users. */
static void template_entry_free(struct template_entry *t)
{
    struct warden *w = t->warden;
    TAILQ_REMOVE(&w->templates, t, entry);
    stop_offering(t, false);
    w->building -= t->state == TEMPLATE_BUILDING;
    loop_unwatch(&t->watch);
    if (t->template != NULL) {
        pid_t pid = template_pid(t->template);
        template_free(&t->template);
        add_zombie(w, pid, t->report_drop ? t->snapshot_id : "");
    } else if (t->report_drop) {
        tell_dropped(w, t->snapshot_id);
    }
    blank_kit_free(w, &t->kit);
    fd_close(&t->spare_code_tree);
    working_set_free(&t->usual);
    if (t->stream_error != NULL)
        munmap(t->stream_error, sizeof *t->stream_error);
    free(t);
}

void template_release(struct template_entry **slot)
{
    struct template_entry *t = steal_pointer(*slot);
    if (t == NULL)
        return;
    t->users--;
    if (t->users == 0 && t->dropping)
        template_entry_free(t);
}

bool template_takes_clone(const struct template_entry *t)
{
    return t->state == TEMPLATE_PARKED && t->cloning < WARDEN_CLONES_PER_TEMPLATE;
}

struct template_entry *template_find(struct warden *w, const char *snapshot_id)
{
    struct budget_item *item = budget_find(w->budget, snapshot_id);
    return item == NULL ? NULL : item->user;
}

struct template_entry *template_for(struct warden *w, const struct env *env)
{
    struct template_entry *t = template_find(w, env->snapshot_id);
    if (t == NULL) {
        t = xcalloc(1, sizeof *t);
        t->warden = w;
        t->state = TEMPLATE_WAITS_FOR_BLANK;
        t->kit = BLANK_KIT_NONE;
        t->spare_code_tree = -1;
        t->memory_mb = env->memory_mb;
        t->tmp_mb = env->tmp_mb;
        memcpy(t->snapshot_id, env->snapshot_id, sizeof t->snapshot_id);
        memcpy(t->code_id, env->code_id, sizeof t->code_id);
        TAILQ_INSERT_HEAD(&w->templates, t, entry);
    }
    t->item = budget_use(w->budget, env->snapshot_id, clock_monotonic_ns(), t);
    t->users++;
    return t;
}

int template_take_code_tree(struct template_entry *t, struct error *err)
{
    if (t->spare_code_tree >= 0)
        return fd_steal(&t->spare_code_tree);
    return env_open_code_tree(t->warden, t->code_id, err);
}

static void make_spare_code_tree(struct template_entry *t)
{
    struct error ignored; /* the next clone tries again, and reports it */
    if (t->spare_code_tree < 0 && t->state == TEMPLATE_PARKED && !t->dropping)
        t->spare_code_tree = env_open_code_tree(t->warden, t->code_id, &ignored);
}

/* Building. */

struct page_stream {
    struct store_reader *reader;
    struct error *error; /* shared memory */
};

static int stream_pages(void *context, int fd, struct error *err)
{
    struct page_stream *stream = context;
    if (store_reader_stream(stream->reader, fd, err) == 0)
        return 0;
    *stream->error = *err;
    return -1;
}

static int start_process(
    struct template_entry *t, const struct image *image, struct page_stream *stream, struct error *err)
{
    CLEANUP_FD int code_tree = env_open_code_tree(t->warden, t->code_id, err);
    if (code_tree < 0)
        return -1;
    struct template_options options = {
        .image = image,
        .stream_pages = stream_pages,
        .stream_context = stream,
        .init_pidfd = sandbox_init_pidfd(t->kit.sandbox),
        .code_tree_fd = code_tree,
        .code_path = SANDBOX_CODE_PATH,
        .uid = t->warden->options->sandbox_uid,
        .gid = t->warden->options->sandbox_gid,
        .template_filter = sandbox_filter_template(err),
        .clone_filter = sandbox_filter_clone(),
    };
    if (options.template_filter == NULL)
        return -1;
    t->template = template_start(&options, err);
    return t->template == NULL ? -1 : 0;
}

/* No function has any, so a snapshot that would give some was not made by our freeze. */
static int check_rights(const struct image *image, struct error *err)
{
    return image_gives_rights(image) ? error_set(err, ERROR_CORRUPT,
                                           "the snapshot's threads would keep rights that no function has")
                                     : 0;
}

static int build_from(
    struct template_entry *t, struct store_reader *reader, struct bytes manifest, struct error *err)
{
    struct image image = {0};
    struct page_stream stream = {.reader = reader, .error = t->stream_error};
    int result = -1;
    if (image_decode(&image, manifest, err) == 0 && check_rights(&image, err) == 0 &&
        image_check_machine(&image, err) == 0)
        result = start_process(t, &image, &stream, err);
    t->is_single = result == 0 && image.process_count == 1;
    if (t->item != NULL) /* all that it is going to hold */
        budget_set_bytes(t->warden->budget, t->item, image.page_bytes);
    image_free(&image);
    return result;
}

static int build(struct template_entry *t, struct error *err)
{
    struct warden *w = t->warden;
    CLEANUP_BUFFER struct buffer manifest = {0};
    t->begin_ns = clock_monotonic_ns();
    if (sandbox_assign(t->kit.sandbox, t->memory_mb, t->tmp_mb, err) < 0)
        return -1;
    t->stream_error =
        mmap(NULL, sizeof *t->stream_error, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t->stream_error == MAP_FAILED) {
        t->stream_error = NULL;
        return error_system(err, "cannot map shared memory");
    }
    struct store_reader *reader = store_reader_open(w->options->store, t->snapshot_id, &manifest, err);
    if (reader == NULL)
        return -1;
    int result = build_from(t, reader, (struct bytes){manifest.data, manifest.len}, err);
    store_reader_close(reader);
    if (result < 0)
        return -1;
    t->watch = loop_watch_fd(w->loop, template_fd(t->template), EPOLLIN, template_event, t, err);
    return t->watch == NULL ? -1 : 0;
}

static struct env *find_user(struct warden *w, const struct template_entry *t)
{
    struct env *env;
    for (size_t i = 0; i < WARDEN_ENV_BUCKETS; i++)
        LIST_FOREACH (env, &w->envs[i], in_bucket)
            if (env->template == t)
                return env;
    return NULL;
}

/* It could not be built, or died. Those that only wait for one that once worked get another. The caller
 * counts as a user, so that it is not freed under our hands. */
void template_failed(struct template_entry *t, const struct error *why)
{
    struct warden *w = t->warden;
    bool worked = t->state == TEMPLATE_PARKED;
    struct env *env;
    stop_offering(t, false);
    while ((env = find_user(w, t)) != NULL) {
        if (worked)
            env_template_died(env, why);
        else
            env_refuse(env, why);
    }
}

static bool may_go(const struct budget_item *item)
{
    const struct template_entry *t = item->user;
    return t->users == 0 && t->state == TEMPLATE_PARKED;
}

/* Evict what is worth least, but nothing that is in use. */
static void keep_to_budget(struct warden *w)
{
    struct budget_item *item;
    while ((item = budget_victim(w->budget, may_go, clock_monotonic_ns())) != NULL) {
        struct template_entry *t = item->user;
        log_debug("evicting the template of snapshot %s to save memory", t->snapshot_id);
        stop_offering(t, true);
        template_entry_free(t);
    }
}

bool template_may_build(const struct warden *w)
{
    /* Where the templates in use alone fill the budget, one is built after the other. */
    return w->building < WARDEN_BUILDS_MAX && (w->building == 0 || !budget_is_exceeded(w->budget));
}

static struct template_entry *next_to_build(struct warden *w)
{
    struct template_entry *t;
    keep_to_budget(w);
    if (!template_may_build(w))
        return NULL;
    TAILQ_FOREACH_REVERSE(t, &w->templates, template_list, entry) /* the oldest first */
    if (t->state == TEMPLATE_WAITS_FOR_BLANK)
        return t;
    return NULL;
}

void template_build_waiting(struct warden *w)
{
    struct template_entry *t;
    while ((t = next_to_build(w)) != NULL) {
        if (template_bring(t, NULL))
            continue;
        if (!pool_take(w, &t->kit))
            return;
        struct error err = {0};
        t->users++;
        t->state = TEMPLATE_BUILDING;
        w->building++;
        if (build(t, &err) < 0 && !template_bring(t, &err))
            template_failed(t, &err);
        template_release(&t);
    }
}

/* What a process holds that no file could give back, in bytes; 0 when it is gone (proc_pid_statm(5)). */
static uint64_t memory_held(pid_t pid)
{
    char path[32], text[128];
    unsigned long resident = 0, shared = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%*u %lu %lu", &resident, &shared) != 2 || resident < shared)
        return 0;
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void template_tell_status(struct warden *w, uint64_t request_id)
{
    struct budget_counts counts = budget_count(w->budget);
    struct wire_message m = {.type = WIRE_STATUS_TOLD};
    const struct template_entry *t;
    m.status_told = (struct wire_status_told){.request_id = request_id,
        .templates = counts.templates,
        .budget_bytes = counts.budget_bytes,
        .hits = counts.hits,
        .misses = counts.misses,
        .builds = counts.builds,
        .evictions = counts.evictions};
    TAILQ_FOREACH (t, &w->templates, entry)
        m.status_told.bytes += t->template == NULL ? 0 : memory_held(template_pid(t->template));
    warden_send(w, &m, NULL, 0);
}

static void template_is_ready(struct template_entry *t)
{
    struct warden *w = t->warden;
    t->state = TEMPLATE_PARKED;
    w->building--;
    t->ready_ns = clock_monotonic_ns();
    blank_kit_free(w, &t->kit);
    if (t->item == NULL)
        return;
    budget_is_ready(w->budget, t->item, t->ready_ns - t->begin_ns);
    budget_set_bytes(w->budget, t->item, memory_held(template_pid(t->template)));
}

static void template_is_gone(struct template_entry *t, const struct template_event *event)
{
    /* What the reader of the pages found says more than what the builder saw of it, unless it found only that the
     * builder was gone. */
    bool reader_knows = t->stream_error->kind != ERROR_NONE && t->stream_error->errno_value != EPIPE;
    struct error why = reader_knows ? *t->stream_error : event->error;
    error_prefix(&why, "cannot thaw from snapshot %s", t->snapshot_id);
    log_warning("%s", why.text);
    template_failed(t, &why);
}

static void template_event(void *context, uint32_t events)
{
    (void)events;
    struct template_entry *t = context;
    struct warden *w = t->warden;
    t->users++; /* an answer may end its last use */
    for (;;) {
        struct template_event event = template_next(t->template);
        if (event.kind == TEMPLATE_NOTHING)
            break;
        if (event.kind == TEMPLATE_READY) {
            template_is_ready(t);
        } else if (event.kind == TEMPLATE_GONE) {
            template_is_gone(t, &event);
            break;
        } else {
            env_clone_answered(w, &event);
            make_spare_code_tree(t);
        }
    }
    template_release(&t);
    env_advance_waiting(w);
}

void template_drop(struct warden *w, const char *snapshot_id, bool report)
{
    struct template_entry *t = template_find(w, snapshot_id);
    if (t == NULL) {
        if (report)
            tell_dropped(w, snapshot_id);
        return;
    }
    stop_offering(t, false);
    t->report_drop = report;
    t->users++;
    template_release(&t);
}

void template_free_all(struct warden *w, uint64_t deadline_ns)
{
    struct template_entry *next_template;
    for (struct template_entry *t = TAILQ_FIRST(&w->templates); t != NULL; t = next_template) {
        next_template = TAILQ_NEXT(t, entry);
        template_entry_free(t);
    }
    struct zombie *next_zombie;
    for (struct zombie *zombie = LIST_FIRST(&w->zombies); zombie != NULL; zombie = next_zombie) {
        next_zombie = LIST_NEXT(zombie, entry);
        warden_reap_killed(zombie->pid, "a template", deadline_ns);
        free(zombie);
    }
    LIST_INIT(&w->zombies);
}
