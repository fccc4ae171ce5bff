/* Environments: from the front's wish to a running process, and to its end. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

static struct env_list_head *bucket_of(struct warden *w, uint64_t id)
{
    return &w->envs[id % WARDEN_ENV_BUCKETS];
}

struct env *env_find(struct warden *w, uint64_t id)
{
    struct env *env;
    LIST_FOREACH (env, bucket_of(w, id), in_bucket)
        if (env->id == id)
            return env;
    return NULL;
}

static void env_free(struct env *env)
{
    struct warden *w = env->warden;
    if (env->state == ENV_WAITING)
        TAILQ_REMOVE(&w->waiting, env, in_waiting);
    LIST_REMOVE(env, in_bucket);
    w->env_count--;
    template_release(&env->template);
    template_release_server(&env->server);
    loop_unwatch(&env->exit_watch);
    blank_kit_free(w, &env->kit);
    fd_close(&env->pidfd);
    free(env->strings);
    free(env);
}

void env_refuse(struct env *env, const struct error *why)
{
    struct wire_message m = {.type = WIRE_ENV_STARTED, .env_started = {.env_id = env->id, .error = *why}};
    memcpy(m.env_started.stamp_ns, env->stamp_ns, sizeof env->stamp_ns);
    struct warden *w = env->warden;
    env_free(env);
    warden_send(w, &m, NULL, 0);
}

static void tell_exit(struct env *env)
{
    struct wire_message m = {.type = WIRE_ENV_EXITED};
    m.env_exited = (struct wire_env_exited){.env_id = env->id,
        .wait_status = env->wait_status,
        .out_of_memory = sandbox_oom_killed(env->kit.sandbox),
        .pages_lost = env->lost.kind != ERROR_NONE,
        .error = env->lost};
    struct warden *w = env->warden;
    env_free(env);
    warden_send(w, &m, NULL, 0);
}

static void process_ended(void *context, uint32_t events)
{
    (void)events;
    struct env *env = context;
    pid_t reaped = waitpid(env->pid, &env->wait_status, WNOHANG);
    if (reaped == 0) {
        /* It is being traced: ours to reap when the freeze's process has let go of it. */
        if (env->freezing)
            loop_unwatch(&env->exit_watch);
        return;
    }
    env->exited = true;
    loop_unwatch(&env->exit_watch);
    if (!env->freezing)
        tell_exit(env);
}

static int watch_process(struct env *env, struct error *err)
{
    env->exit_watch = loop_watch_fd(env->warden->loop, env->pidfd, EPOLLIN, process_ended, env, err);
    return env->exit_watch == NULL ? -1 : 0;
}

/* All of its processes: its first one alone might not get to die, while those that it left behind take all the time that
 * its cgroup may have. */
static void kill_all(struct env *env)
{
    if (env->exited)
        return;
    pidfd_send_signal(env->pidfd, SIGKILL, NULL, 0);
    sandbox_kill(env->kit.sandbox);
}

void env_freeze_done(struct env *env)
{
    struct error err = {0};
    env->freezing = false;
    kill_all(env);
    if (env->exited)
        tell_exit(env);
    else if (env->exit_watch == NULL && watch_process(env, &err) < 0)
        warden_fail(env->warden, "%s", err.text);
}

/* Its page faults can be counted through this. A process that is gone already has none: then -1. */
static int open_stat(const struct env *env)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", env->pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* It runs: hand its descriptors over. */
static void tell_started(struct env *env)
{
    struct wire_message m = {.type = WIRE_ENV_STARTED, .env_started = {.env_id = env->id}};
    struct error err = {0};
    env->state = ENV_RUNNING;
    if (watch_process(env, &err) < 0) {
        warden_fail(env->warden, "%s", err.text);
        return;
    }
    if (env->template != NULL) {
        m.env_started.shared_memory_bytes = template_memory_bytes(env->template->template);
        m.env_started.tell_served =
            env->server == NULL ? working_set_is_wanted(env->template) : env->is_first;
        env->template_pid = template_pid(env->template->template);
    }
    env->stamp_ns[WIRE_STAMP_SENT] = clock_monotonic_ns();
    memcpy(m.env_started.stamp_ns, env->stamp_ns, sizeof env->stamp_ns);
    CLEANUP_FD int stat = open_stat(env);
    const int fds[WIRE_ENV_FD_COUNT] = {[WIRE_FD_LISTENER] = sandbox_listener_fd(env->kit.sandbox),
        [WIRE_FD_LOG] = env->kit.log_read,
        [WIRE_FD_REPORT] = env->kit.report_read,
        [WIRE_FD_MEMORY] = env->kit.memory_fd,
        [WIRE_FD_STAT] = stat};
    warden_send(env->warden, &m, fds, stat < 0 ? WIRE_FD_STAT : WIRE_ENV_FD_COUNT);
    fd_close(&env->kit.memory_fd);
    fd_close(&env->kit.report_read);
    if (env->mode == WIRE_THAW)
        fd_close(&env->kit.log_read); /* a cold one keeps it: it names the pipe when it is frozen */
    template_release(&env->template);
}

/* The strings of a block, as an array that execve takes; `list` has room for all and a NULL. */
static void point_at_strings(const char **list, struct bytes block)
{
    size_t count = 0;
    for (size_t at = 0; at < block.len; at += strlen((const char *)block.data + at) + 1)
        list[count++] = (const char *)block.data + at;
    list[count] = NULL;
}

int env_open_code_tree(struct warden *w, const char *code_id, struct error *err)
{
    CLEANUP_FD int folder =
        openat(w->options->code_fd, code_id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0)
        return error_system(err, "cannot open the code %s", code_id);
    return sandbox_code_tree(w->options->host, folder, err);
}

static int begin_cold(struct env *env, struct error *err)
{
    const char *argv[WIRE_ARGV_MAX + 1], *environment[WIRE_ENV_MAX + 1];
    CLEANUP_FD int code_tree = env_open_code_tree(env->warden, env->code_id, err);
    if (code_tree < 0)
        return -1;
    point_at_strings(argv, env->argv);
    point_at_strings(environment, env->env);
    const struct sandbox_command command = {.argv = argv,
        .env = environment,
        .code_tree_fd = code_tree,
        .log_fd = env->kit.log_write,
        .fixed_layout = env->fixed_layout};
    if (sandbox_spawn(env->kit.sandbox, &command, &env->pid, &env->pidfd, err) < 0)
        return -1;
    env->stamp_ns[WIRE_STAMP_FORKED] = clock_monotonic_ns();
    tell_started(env);
    return 0;
}

static void fill_slots(const struct env *env, int code_tree, int slots[PLAN_SLOT_COUNT])
{
    int procs[SANDBOX_CGROUP_MAX];
    sandbox_cgroup_procs_fds(env->kit.sandbox, procs);
    for (int i = 0; i < PLAN_SLOT_COUNT; i++)
        slots[i] = -1;
    slots[PLAN_SLOT_INIT_PIDFD] = sandbox_init_pidfd(env->kit.sandbox);
    slots[PLAN_SLOT_REPORT] = env->kit.report_write;
    slots[PLAN_SLOT_LOG] = env->kit.log_write;
    slots[PLAN_SLOT_CODE] = code_tree;
    for (int i = 0; i < SANDBOX_CGROUP_MAX; i++)
        slots[PLAN_SLOT_CGROUP_0 + i] = procs[i];
}

static int begin_thaw(struct env *env, struct error *err)
{
    struct template_entry *t = env->template;
    struct template_clone_args args = {.cookie = env->id};
    CLEANUP_FD int code_tree = template_take_code_tree(t, err);
    if (code_tree < 0)
        return -1;
    fill_slots(env, code_tree, args.slots);
    if (t->ready_ns > env->stamp_ns[WIRE_STAMP_RECEIVED]) {
        env->stamp_ns[WIRE_STAMP_TEMPLATE_BEGIN] = t->begin_ns;
        env->stamp_ns[WIRE_STAMP_TEMPLATE_FORKED] = t->forked_ns;
        env->stamp_ns[WIRE_STAMP_TEMPLATE_MAPPED] = t->mapped_ns;
        env->stamp_ns[WIRE_STAMP_TEMPLATE_READY] = t->ready_ns;
    }
    if (template_clone(t->template, &args, err) < 0)
        return -1;
    env->state = ENV_CLONING;
    t->cloning++;
    env->is_first = !t->has_first;
    t->has_first = true;
    return 0;
}

static int begin(struct env *env, struct error *err)
{
    if (sandbox_assign(env->kit.sandbox, env->memory_mb, env->tmp_mb, err) < 0)
        return -1;
    if (env->mode == WIRE_THAW ? begin_thaw(env, err) < 0 : begin_cold(env, err) < 0)
        return -1;
    /* Only the process has these ends now, so that their readers see its end. */
    fd_close(&env->kit.log_write);
    fd_close(&env->kit.report_write);
    return 0;
}

void env_advance_waiting(struct warden *w)
{
    struct env *next;
    template_build_waiting(w);
    for (struct env *env = TAILQ_FIRST(&w->waiting); env != NULL; env = next) {
        next = TAILQ_NEXT(env, in_waiting);
        if (env->mode == WIRE_THAW && !template_takes_clone(env->template))
            continue;
        if (!pool_take(w, &env->kit))
            return;
        TAILQ_REMOVE(&w->waiting, env, in_waiting);
        env->state = ENV_CLONING; /* out of the queue; begin goes on from here */
        env->stamp_ns[WIRE_STAMP_SANDBOX] = clock_monotonic_ns();
        struct error err = {0};
        if (begin(env, &err) < 0)
            env_refuse(env, &err);
    }
}

static struct env *env_new(struct warden *w, const struct wire_env_start *request)
{
    struct env *env = xcalloc(1, sizeof *env);
    *env = (struct env){.warden = w,
        .id = request->env_id,
        .state = ENV_WAITING,
        .mode = request->mode,
        .memory_mb = request->memory_mb,
        .tmp_mb = request->tmp_mb,
        .fixed_layout = request->fixed_layout,
        .kit = BLANK_KIT_NONE,
        .pidfd = -1};
    memcpy(env->code_id, request->code_id, sizeof env->code_id);
    memcpy(env->snapshot_id, request->snapshot_id, sizeof env->snapshot_id);
    if (request->mode == WIRE_COLD) {
        env->strings = xrealloc(NULL, request->argv.len + request->env.len + 1);
        env->argv = (struct bytes){env->strings, request->argv.len};
        env->env = (struct bytes){env->strings + request->argv.len, request->env.len};
        memcpy(env->strings, request->argv.data, request->argv.len);
        if (request->env.len > 0)
            memcpy(env->strings + request->argv.len, request->env.data, request->env.len);
    }
    LIST_INSERT_HEAD(bucket_of(w, env->id), env, in_bucket);
    TAILQ_INSERT_TAIL(&w->waiting, env, in_waiting);
    w->env_count++;
    return env;
}

void env_start(struct warden *w, const struct wire_env_start *request, uint64_t received_ns)
{
    if (env_find(w, request->env_id) != NULL) {
        warden_fail(w, "the front misbehaves: environment %lu is there already", request->env_id);
        return;
    }
    struct env *env = env_new(w, request);
    env->stamp_ns[WIRE_STAMP_RECEIVED] = received_ns;
    if (w->env_count > w->options->environments) {
        struct error err = {0};
        error_set(&err, ERROR_LIMIT, "there are %u environments already", w->options->environments);
        env_refuse(env, &err);
        return;
    }
    struct error damage;
    if (env->mode == WIRE_THAW && template_refuses(w, env->snapshot_id, &damage)) {
        env_refuse(env, &damage);
        return;
    }
    if (env->mode == WIRE_THAW)
        env->template = template_for(w, env);
    env_advance_waiting(w);
}

void env_clone_answered(struct warden *w, const struct template_event *event)
{
    struct env *env = env_find(w, event->cookie);
    if (env == NULL || env->state != ENV_CLONING) {
        warden_fail(w, "a template answers for environment %lu, which did not ask", event->cookie);
        return;
    }
    env->template->cloning--;
    if (event->kind == TEMPLATE_CLONE_FAILED) {
        env_refuse(env, &event->error);
        return;
    }
    env->pid = event->pid;
    env->pidfd = event->pidfd;
    if (event->served) {
        env->server = env->template;
        env->server->served++;
    }
    env->stamp_ns[WIRE_STAMP_FORKED] = event->forked_ns;
    bool killed = env->killed;
    tell_started(env);
    if (killed)
        kill_all(env);
}

/* It did not answer, so the clone may or may not exist, in a sandbox that is thrown away; once more, then. */
void env_template_died(struct env *env, const struct error *why)
{
    struct warden *w = env->warden;
    if (env->retried || env->killed) {
        env_refuse(env, why);
        return;
    }
    env->retried = true;
    if (env->state == ENV_CLONING) {
        blank_kit_free(w, &env->kit);
        env->state = ENV_WAITING;
        TAILQ_INSERT_HEAD(&w->waiting, env, in_waiting);
    }
    template_release(&env->template);
    env->template = template_for(w, env);
}

void env_lose_pages(struct warden *w, const struct template_entry *t, const struct error *why)
{
    struct env *env;
    for (size_t i = 0; i < WARDEN_ENV_BUCKETS; i++)
        LIST_FOREACH (env, &w->envs[i], in_bucket) {
            struct pollfd process = {.fd = env->pidfd, .events = POLLIN};
            if (env->server != t || env->exited || poll(&process, 1, 0) != 0)
                continue;
            env->lost = *why;
            kill_all(env);
        }
}

bool env_has_pid(struct warden *w, pid_t pid)
{
    const struct env *env;
    for (size_t i = 0; i < WARDEN_ENV_BUCKETS; i++)
        LIST_FOREACH (env, &w->envs[i], in_bucket)
            if (env->pid == pid)
                return true;
    return false;
}

void env_kill(struct warden *w, uint64_t id)
{
    struct env *env = env_find(w, id);
    if (env == NULL)
        return; /* its exit is on its way to the front */
    if (env->state == ENV_RUNNING) {
        kill_all(env);
    } else if (env->state == ENV_CLONING) {
        env->killed = true;
    } else {
        struct error err = {0};
        error_set(&err, ERROR_BUSY, "it was ended before it had started");
        env_refuse(env, &err);
    }
}

void env_free_all(struct warden *w, uint64_t deadline_ns)
{
    struct env *env;
    for (int reap = 0; reap < 2; reap++) {
        for (size_t i = 0; i < WARDEN_ENV_BUCKETS; i++) {
            LIST_FOREACH (env, &w->envs[i], in_bucket) {
                if (env->pid <= 0 || env->exited)
                    continue;
                kill_all(env);
                if (reap)
                    warden_reap_killed(env->pid, "an environment", deadline_ns);
            }
        }
    }
    for (size_t i = 0; i < WARDEN_ENV_BUCKETS; i++)
        while (!LIST_EMPTY(&w->envs[i]))
            env_free(LIST_FIRST(&w->envs[i]));
}
