/* What a process has beside memory, threads and descriptors. A fork inherits signal handlers, limits, umask
 * and the fields of the mm: these are set once, in the template. Timers, the session, membarrier
 * registrations and pending signals are not inherited: each clone makes them anew. */
#include "freeze/parts.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/membarrier.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SIGNAL_COUNT 64
#define LIMIT_COUNT 16
#define TIMER_ID_MAX 4096
#ifndef MEMBARRIER_CMD_GET_REGISTRATIONS
#define MEMBARRIER_CMD_GET_REGISTRATIONS (1 << 9)
#endif

/* Run a call in the process that must succeed, with a pointer argument to the scratch page, and read what it
 * wrote. */
static int query(struct freeze *f, void *out, size_t len, struct error *err, long number, uint64_t a,
    uint64_t b, uint64_t c, uint64_t d, int scratch_at)
{
    long result;
    uint64_t args[4] = {a, b, c, d};
    if (tracee_get_scratch(&f->tracee, &args[scratch_at], err) < 0 ||
        tracee_syscall(&f->tracee, 0, &result, err, number, 4, args) < 0)
        return -1;
    if (result < 0)
        return error_set(err, ERROR_SYSTEM, "system call %ld in process %d: %s", number, f->tracee.inner_pid,
            strerror((int)-result));
    return tracee_read(&f->tracee, args[scratch_at], out, len, err);
}

/* A call without pointers; its result. */
static int ask(struct freeze *f, long *result, struct error *err, long number, uint64_t a, uint64_t b)
{
    const uint64_t args[] = {a, b, 0, 0, 0};
    return tracee_syscall(&f->tracee, 0, result, err, number, 5, args);
}

struct kernel_sigaction {
    uint64_t handler, flags, restorer, mask;
};

static int freeze_signal_handlers(struct freeze *f, struct error *err)
{
    for (uint64_t signal = 1; signal <= SIGNAL_COUNT; signal++) {
        struct kernel_sigaction action;
        if (signal == SIGKILL || signal == SIGSTOP)
            continue;
        if (query(f, &action, sizeof action, err, SYS_rt_sigaction, signal, 0, 0, 8, 2) < 0)
            return -1;
        if (action.handler == 0 && action.flags == 0)
            continue;
        plan_call(&f->image->template_plan, SYS_rt_sigaction, plan_literal(signal),
            plan_data(image_put(f->image, &action, sizeof action)), plan_literal(0), plan_literal(8));
    }
    return 0;
}

/* Limits that could stop the restoring itself are set at the very end, in each clone. */
static bool limit_is_set_last(int resource)
{
    return resource == RLIMIT_NOFILE || resource == RLIMIT_AS || resource == RLIMIT_DATA ||
           resource == RLIMIT_FSIZE || resource == RLIMIT_MEMLOCK || resource == RLIMIT_SIGPENDING ||
           resource == RLIMIT_NPROC;
}

static int freeze_limits(struct freeze *f, struct error *err)
{
    for (int resource = 0; resource < LIMIT_COUNT; resource++) {
        struct rlimit limit;
        /* Asked from inside: from outside it takes CAP_SYS_RESOURCE, which not every host lets us have. */
        if (query(f, &limit, sizeof limit, err, SYS_prlimit64, 0, (uint64_t)resource, 0, 0, 3) < 0)
            return -1;
        struct plan *plan = limit_is_set_last(resource) ? &f->image->release_plan : &f->image->template_plan;
        plan_call(plan, SYS_prlimit64, plan_literal(0), plan_literal((uint64_t)resource),
            plan_data(image_put(f->image, &limit, sizeof limit)), plan_literal(0));
    }
    return 0;
}

/* The numbered fields of /proc/PID/stat from 3 on (proc_pid_stat(5)); the name before them may hold anything.
 */
static int read_stat(const struct freeze *f, uint64_t fields[53], struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    if (tracee_proc_file(&f->tracee, "stat", &text, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    char *at = strrchr((char *)text.data, ')');
    memset(fields, 0, 53 * sizeof *fields);
    if (at == NULL || strlen(at) < 4)
        return error_set(err, ERROR_INTERNAL, "cannot understand /proc/PID/stat");
    at += 3; /* behind the state letter, which is field 3 */
    for (int i = 4; i <= 52 && *at != '\0'; i++)
        fields[i] = strtoull(at, &at, 10);
    return 0;
}

static int read_link(const struct freeze *f, const char *name, char path[PATH_MAX], struct error *err)
{
    ssize_t n = readlinkat(f->tracee.proc_fd, name, path, PATH_MAX - 1);
    if (n < 0)
        return error_system(err, "cannot read the link %s of process %d", name, f->tracee.inner_pid);
    path[n] = '\0';
    return 0;
}

/* prctl(PR_SET_MM_MAP): where /proc shows code, data, heap, stack, arguments, environment; the auxiliary
 * vector; and what /proc/self/exe is. */
static int freeze_mm_fields(struct freeze *f, struct error *err)
{
    uint64_t stat[53];
    long brk;
    CLEANUP_BUFFER struct buffer auxv = {0};
    char exe[PATH_MAX];
    if (read_stat(f, stat, err) < 0 || ask(f, &brk, err, SYS_brk, 0, 0) < 0 ||
        tracee_proc_file(&f->tracee, "auxv", &auxv, err) < 0 || read_link(f, "exe", exe, err) < 0)
        return -1;
    struct prctl_mm_map map = {
        .start_code = stat[26],
        .end_code = stat[27],
        .start_data = stat[45],
        .end_data = stat[46],
        .start_brk = stat[47],
        .brk = (uint64_t)brk,
        .start_stack = stat[28],
        .arg_start = stat[48],
        .arg_end = stat[49],
        .env_start = stat[50],
        .env_end = stat[51],
        .auxv_size = (uint32_t)auxv.len,
    };
    struct plan *plan = &f->image->template_plan;
    uint64_t map_at = image_put(f->image, &map, sizeof map);
    uint64_t auxv_at = image_put(f->image, auxv.data, auxv.len);
    plan_do(plan, PLAN_STORE, plan_data(map_at + offsetof(struct prctl_mm_map, auxv)), plan_data(auxv_at),
        plan_literal(8));
    plan_save(plan_call(plan, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                  plan_data(image_put_string(f->image, exe)), plan_literal(O_RDONLY)),
        0);
    plan_do(plan, PLAN_STORE, plan_data(map_at + offsetof(struct prctl_mm_map, exe_fd)), plan_register(0),
        plan_literal(4));
    plan_call(plan, SYS_prctl, plan_literal(PR_SET_MM), plan_literal(PR_SET_MM_MAP), plan_data(map_at),
        plan_literal(sizeof map));
    plan_call(plan, SYS_close, plan_register(0));
    return 0;
}

static const char *status_line(const char *status, const char *key)
{
    const char *at = strstr(status, key);
    return at == NULL ? "" : at + strlen(key);
}

/* The function runs as the sandbox's user without any rights: a process that does not is not ours to freeze.
 */
static int check_credentials(const struct freeze *f, const char *status, struct error *err)
{
    unsigned long id[8];
    const char *uid = status_line(status, "\nUid:"), *gid = status_line(status, "\nGid:");
    if (sscanf(uid, "%lu %lu %lu %lu", &id[0], &id[1], &id[2], &id[3]) != 4 ||
        sscanf(gid, "%lu %lu %lu %lu", &id[4], &id[5], &id[6], &id[7]) != 4)
        return error_set(err, ERROR_INTERNAL, "cannot understand /proc/PID/status");
    for (size_t i = 0; i < 8; i++)
        if (id[i] != (i < 4 ? f->request->uid : f->request->gid))
            return tracee_refuse(
                &f->tracee, err, "it runs as user or group %lu, not as the sandbox's user", id[i]);
    if (strtoull(status_line(status, "\nCapEff:"), NULL, 16) != 0 ||
        strtoull(status_line(status, "\nCapPrm:"), NULL, 16) != 0)
        return tracee_refuse(&f->tracee, err, "it holds capabilities");
    return 0;
}

static int freeze_status(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    if (tracee_proc_file(&f->tracee, "status", &status, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    if (check_credentials(f, (char *)status.data, err) < 0)
        return -1;
    unsigned long mask = strtoul(status_line((char *)status.data, "\nUmask:"), NULL, 8);
    plan_call(&f->image->template_plan, SYS_umask, plan_literal(mask));
    return 0;
}

/* Small settings of the mm or the process that prctl tells and sets. */
static int freeze_prctl_settings(struct freeze *f, struct error *err)
{
    long thp_disabled, dumpable, timer_slack, personality_bits;
    int subreaper = 0, death_signal = 0;
    if (ask(f, &thp_disabled, err, SYS_prctl, PR_GET_THP_DISABLE, 0) < 0 ||
        ask(f, &dumpable, err, SYS_prctl, PR_GET_DUMPABLE, 0) < 0 ||
        ask(f, &timer_slack, err, SYS_prctl, PR_GET_TIMERSLACK, 0) < 0 ||
        ask(f, &personality_bits, err, SYS_personality, 0xffffffff, 0) < 0 ||
        query(f, &subreaper, sizeof subreaper, err, SYS_prctl, PR_GET_CHILD_SUBREAPER, 0, 0, 0, 1) < 0 ||
        query(f, &death_signal, sizeof death_signal, err, SYS_prctl, PR_GET_PDEATHSIG, 0, 0, 0, 1) < 0)
        return -1;
    struct image *image = f->image;
    if (thp_disabled > 0)
        plan_call(&image->template_plan, SYS_prctl, plan_literal(PR_SET_THP_DISABLE), plan_literal(1));
    if (timer_slack > 0 && timer_slack != 50000)
        plan_call(&image->process_plan, SYS_prctl, plan_literal(PR_SET_TIMERSLACK),
            plan_literal((uint64_t)timer_slack));
    if (personality_bits > 0)
        plan_call(&image->template_plan, SYS_personality, plan_literal((uint64_t)personality_bits));
    if (subreaper != 0)
        plan_call(&image->process_plan, SYS_prctl, plan_literal(PR_SET_CHILD_SUBREAPER), plan_literal(1));
    if (death_signal != 0)
        plan_call(&image->release_plan, SYS_prctl, plan_literal(PR_SET_PDEATHSIG),
            plan_literal((uint64_t)death_signal));
    /* Entering a sandbox as another user made the mm undumpable; back to what it was, when the rights are
     * gone. */
    plan_call(&image->release_plan, SYS_prctl, plan_literal(PR_SET_DUMPABLE), plan_literal(dumpable == 1));
    return 0;
}

/* .NET and others stop when a membarrier command that they registered for is refused. */
static int freeze_membarrier(struct freeze *f, struct error *err)
{
    static const uint64_t commands[] = {MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ};
    long registered;
    if (ask(f, &registered, err, SYS_membarrier, MEMBARRIER_CMD_GET_REGISTRATIONS, 0) < 0)
        return -1;
    for (size_t i = 0; registered > 0 && i < countof(commands); i++)
        if ((uint64_t)registered & commands[i])
            plan_call(&f->image->process_plan, SYS_membarrier, plan_literal(commands[i]));
    return 0;
}

static int freeze_session(struct freeze *f, struct error *err)
{
    uint64_t stat[53];
    char cwd[PATH_MAX], root[PATH_MAX];
    if (read_stat(f, stat, err) < 0 || read_link(f, "cwd", cwd, err) < 0 ||
        read_link(f, "root", root, err) < 0)
        return -1;
    if (strcmp(root, "/") != 0)
        return tracee_refuse(&f->tracee, err, "its root folder was changed to %s", root);
    if (strstr(cwd, " (deleted)") != NULL)
        return tracee_refuse(&f->tracee, err, "its working folder %s was deleted", cwd);
    if (stat[6] == (uint64_t)f->tracee.pid)
        plan_call(&f->image->process_plan, SYS_setsid, plan_literal(0));
    plan_call(&f->image->process_plan, SYS_chdir, plan_data(image_put_string(f->image, cwd)));
    return 0;
}

static int freeze_interval_timers(struct freeze *f, struct error *err)
{
    for (uint64_t which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
        struct itimerval timer;
        if (query(f, &timer, sizeof timer, err, SYS_getitimer, which, 0, 0, 0, 1) < 0)
            return -1;
        if (timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0)
            continue;
        plan_call(&f->image->release_plan, SYS_setitimer, plan_literal(which),
            plan_data(image_put(f->image, &timer, sizeof timer)), plan_literal(0));
    }
    return 0;
}

/* One entry of /proc/PID/timers. */
struct posix_timer {
    int id, signal, clock, thread; /* thread: as we see it, or 0 */
    uint64_t value;                /* sival */
    bool none, to_thread;
};

static int inner_thread_id(const struct freeze *f, int tid)
{
    for (size_t i = 0; i < f->tracee.thread_count; i++)
        if (f->tracee.threads[i].tid == tid)
            return f->tracee.threads[i].inner_tid;
    return 0;
}

/* Timer ids are given in order from 0, so that a timer gets its number when those before it exist; what was
 * deleted in between is created and deleted again. */
static void plan_posix_timer(
    struct freeze *f, const struct posix_timer *timer, const struct itimerspec *state, int *next_id)
{
    struct plan *plan = &f->image->release_plan;
    struct sigevent event = {.sigev_value.sival_ptr = (void *)timer->value, .sigev_signo = timer->signal};
    event.sigev_notify = timer->none ? SIGEV_NONE : timer->to_thread ? SIGEV_THREAD_ID : SIGEV_SIGNAL;
    if (timer->to_thread)
        event._sigev_un._tid = inner_thread_id(f, timer->thread);
    struct sigevent nothing = {.sigev_notify = SIGEV_NONE};
    uint64_t id_at = image_put(f->image, &(uint64_t){0}, 8),
             event_at = image_put(f->image, &event, sizeof event);
    uint64_t nothing_at = image_put(f->image, &nothing, sizeof nothing),
             state_at = image_put(f->image, state, sizeof *state);
    for (; *next_id < timer->id; ++*next_id) {
        plan_call(
            plan, SYS_timer_create, plan_literal(CLOCK_MONOTONIC), plan_data(nothing_at), plan_data(id_at));
        plan_call(plan, SYS_timer_delete, plan_literal((uint64_t)*next_id));
    }
    plan_call(
        plan, SYS_timer_create, plan_literal((uint64_t)timer->clock), plan_data(event_at), plan_data(id_at));
    plan_expect_value(plan_do(plan, PLAN_LOAD, plan_data(id_at), plan_literal(4)), timer->id);
    ++*next_id;
    if (state->it_value.tv_sec != 0 || state->it_value.tv_nsec != 0)
        plan_call(
            plan, SYS_timer_settime, plan_literal((uint64_t)timer->id), plan_literal(0), plan_data(state_at));
}

static bool parse_posix_timer(struct posix_timer *timer, const char *text)
{
    char how[16], whom[8];
    if (sscanf(text, "ID: %d signal: %d/%lx notify: %15[^/]/%7[^.].%d ClockID: %d", &timer->id,
            &timer->signal, &timer->value, how, whom, &timer->thread, &timer->clock) != 7)
        return false;
    timer->none = strcmp(how, "none") == 0;
    timer->to_thread = strcmp(whom, "tid") == 0;
    return true;
}

static int freeze_posix_timers(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    if (tracee_proc_file(&f->tracee, "timers", &text, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    /* The list is the newest first or in hash order: find each id in turn. */
    for (int id = 0, next_id = 0; id < TIMER_ID_MAX; id++) {
        char key[32];
        snprintf(key, sizeof key, "ID: %d\n", id);
        const char *at = strstr((char *)text.data, key);
        if (at == NULL || (at != (char *)text.data && at[-1] != '\n'))
            continue;
        struct posix_timer timer;
        struct itimerspec state;
        if (!parse_posix_timer(&timer, at))
            return error_set(err, ERROR_INTERNAL, "cannot understand /proc/PID/timers");
        if (query(f, &state, sizeof state, err, SYS_timer_gettime, (uint64_t)id, 0, 0, 0, 1) < 0)
            return -1;
        plan_posix_timer(f, &timer, &state, &next_id);
    }
    return 0;
}

int freeze_process_state(struct freeze *f, struct error *err)
{
    if (freeze_status(f, err) < 0 || freeze_signal_handlers(f, err) < 0 || freeze_mm_fields(f, err) < 0 ||
        freeze_limits(f, err) < 0 || freeze_prctl_settings(f, err) < 0 || freeze_membarrier(f, err) < 0 ||
        freeze_session(f, err) < 0 || freeze_interval_timers(f, err) < 0 || freeze_posix_timers(f, err) < 0)
        return -1;
    return freeze_pending_signals(f, 0, true, &f->image->release_plan, err);
}
