/* What a process has beside memory, threads and descriptors. A fork inherits signal handlers, limits, umask
 * and the fields of the mm: these are set once, in the template (in a tree, by each process: there they would be
 * inherited by the others). Timers, the session, membarrier registrations and pending signals are not
 * inherited: each clone makes them anew. */
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
#include <unistd.h>

#define SIGNAL_COUNT 64
#define LIMIT_COUNT 16
#ifndef MEMBARRIER_CMD_GET_REGISTRATIONS
#define MEMBARRIER_CMD_GET_REGISTRATIONS (1 << 9)
#endif

struct kernel_sigaction {
    uint64_t handler, flags, restorer, mask;
};

static int freeze_signal_handlers(struct freeze *f, struct error *err)
{
    for (uint64_t signal = 1; signal <= SIGNAL_COUNT; signal++) {
        struct kernel_sigaction action;
        if (signal == SIGKILL || signal == SIGSTOP)
            continue;
        if (tracee_query(&f->tracee, 0, &action, sizeof action, err, SYS_rt_sigaction, 2,
                (const uint64_t[4]){signal, 0, 0, 8}) < 0)
            return -1;
        if (action.handler == 0 && action.flags == 0)
            continue;
        plan_call(f->settings, SYS_rt_sigaction, plan_literal(signal),
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
        if (tracee_query(&f->tracee, 0, &limit, sizeof limit, err, SYS_prlimit64, 3,
                (const uint64_t[4]){0, (uint64_t)resource, 0, 0}) < 0)
            return -1;
        struct plan *plan = limit_is_set_last(resource) ? &f->process->release_plan : f->settings;
        plan_call(plan, SYS_prlimit64, plan_literal(0), plan_literal((uint64_t)resource),
            plan_data(image_put(f->image, &limit, sizeof limit)), plan_literal(0));
    }
    return 0;
}

/* The numbered fields of /proc/PID/stat from 3 on (proc_pid_stat(5)); the name before them may hold anything.
 */
int freeze_read_stat(const struct freeze *f, uint64_t fields[53], struct error *err)
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
    if (freeze_read_stat(f, stat, err) < 0 || tracee_ask(&f->tracee, &brk, err, SYS_brk, 0, 0) < 0 ||
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
    struct plan *plan = f->settings;
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

static int freeze_status(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    if (tracee_proc_file(&f->tracee, "status", &status, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    unsigned long mask = strtoul(status_line((char *)status.data, "\nUmask:"), NULL, 8);
    plan_call(f->settings, SYS_umask, plan_literal(mask));
    return 0;
}

/* Small settings of the mm or the process that prctl tells and sets. */
static int freeze_prctl_settings(struct freeze *f, struct error *err)
{
    long thp_disabled, dumpable, timer_slack, personality_bits;
    int subreaper = 0, death_signal = 0;
    if (tracee_ask(&f->tracee, &thp_disabled, err, SYS_prctl, PR_GET_THP_DISABLE, 0) < 0 ||
        tracee_ask(&f->tracee, &dumpable, err, SYS_prctl, PR_GET_DUMPABLE, 0) < 0 ||
        tracee_ask(&f->tracee, &timer_slack, err, SYS_prctl, PR_GET_TIMERSLACK, 0) < 0 ||
        tracee_ask(&f->tracee, &personality_bits, err, SYS_personality, 0xffffffff, 0) < 0 ||
        tracee_query(&f->tracee, 0, &subreaper, sizeof subreaper, err, SYS_prctl, 1,
            (const uint64_t[4]){PR_GET_CHILD_SUBREAPER, 0, 0, 0}) < 0 ||
        tracee_query(&f->tracee, 0, &death_signal, sizeof death_signal, err, SYS_prctl, 1,
            (const uint64_t[4]){PR_GET_PDEATHSIG, 0, 0, 0}) < 0)
        return -1;
    struct image_process *process = f->process;
    if (thp_disabled > 0)
        plan_call(f->settings, SYS_prctl, plan_literal(PR_SET_THP_DISABLE), plan_literal(1),
            plan_literal((uint64_t)thp_disabled & ~1ull)); /* flags, since Linux 6.18 */
    if (timer_slack > 0 && timer_slack != 50000)
        plan_call(&process->process_plan, SYS_prctl, plan_literal(PR_SET_TIMERSLACK),
            plan_literal((uint64_t)timer_slack));
    personality_bits &= ~(long)f->request->given_personality;
    if (personality_bits > 0)
        plan_call(f->settings, SYS_personality, plan_literal((uint64_t)personality_bits));
    if (subreaper != 0)
        plan_call(&process->process_plan, SYS_prctl, plan_literal(PR_SET_CHILD_SUBREAPER), plan_literal(1));
    if (death_signal != 0)
        plan_call(&process->release_plan, SYS_prctl, plan_literal(PR_SET_PDEATHSIG),
            plan_literal((uint64_t)death_signal));
    /* Entering a sandbox as another user made the mm undumpable; back to what it was, when the rights are
     * gone. */
    plan_call(&process->release_plan, SYS_prctl, plan_literal(PR_SET_DUMPABLE), plan_literal(dumpable == 1));
    return 0;
}

/* .NET and others stop when a membarrier command that they registered for is refused. */
static int freeze_membarrier(struct freeze *f, struct error *err)
{
    static const uint64_t commands[] = {MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ};
    long registered;
    if (tracee_ask(&f->tracee, &registered, err, SYS_membarrier, MEMBARRIER_CMD_GET_REGISTRATIONS, 0) < 0)
        return -1;
    for (size_t i = 0; registered > 0 && i < countof(commands); i++)
        if ((uint64_t)registered & commands[i])
            plan_call(&f->process->process_plan, SYS_membarrier, plan_literal(commands[i]));
    return 0;
}

static int freeze_session(struct freeze *f, struct error *err)
{
    uint64_t stat[53];
    char cwd[PATH_MAX], root[PATH_MAX];
    if (freeze_read_stat(f, stat, err) < 0 || read_link(f, "cwd", cwd, err) < 0 ||
        read_link(f, "root", root, err) < 0)
        return -1;
    if (strcmp(root, "/") != 0)
        return tracee_refuse(&f->tracee, err, "its root folder was changed to %s", root);
    if (strstr(cwd, " (deleted)") != NULL)
        return tracee_refuse(&f->tracee, err, "its working folder %s was deleted", cwd);
    if (!f->in_tree && stat[5] == (uint64_t)f->tracee.pid && stat[6] != stat[5])
        plan_call(&f->process->process_plan, SYS_setpgid, plan_literal(0), plan_literal(0));
    if (!f->in_tree && stat[6] == (uint64_t)f->tracee.pid)
        plan_call(&f->process->process_plan, SYS_setsid, plan_literal(0));
    plan_call(&f->process->process_plan, SYS_chdir, plan_data(image_put_string(f->image, cwd)));
    return 0;
}

int freeze_process_state(struct freeze *f, struct error *err)
{
    if (freeze_memory_settings(f, err) < 0 || freeze_status(f, err) < 0 ||
        freeze_signal_handlers(f, err) < 0 || freeze_mm_fields(f, err) < 0 || freeze_limits(f, err) < 0 ||
        freeze_prctl_settings(f, err) < 0 || freeze_membarrier(f, err) < 0 || freeze_session(f, err) < 0 ||
        freeze_odd_settings(f, err) < 0 || freeze_timers(f, err) < 0)
        return -1;
    return freeze_pending_signals(f, 0, true, &f->process->release_plan, err);
}
