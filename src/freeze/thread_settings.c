/* Settings that the kernel keeps for each thread and that few programs touch. A new thread of a clone has those of the
 * template process, which are this process's; where the function's thread has other ones they are set again, or the
 * freeze is refused. */
#include "freeze/parts.h"

#include "base/fd.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SCHED_CORE_SCOPE_THREAD
#define PR_SCHED_CORE_SCOPE_THREAD 0
#endif
#define STATUS_BYTES_MAX 65536
#define GDT_TLS_FIRST 12
#define GDT_TLS_COUNT 3

static int ask(
    struct freeze *f, size_t index, long *result, struct error *err, long number, uint64_t a, uint64_t b)
{
    const uint64_t args[] = {a, b, 0, 0, 0};
    return tracee_syscall(&f->tracee, index, result, err, number, 5, args);
}

static void set(struct freeze *f, size_t index, uint64_t option, uint64_t a, uint64_t b)
{
    plan_call(&f->process->threads[index].plan, SYS_prctl, plan_literal(option), plan_literal(a),
        plan_literal(b), plan_literal(0), plan_literal(0));
}

/* Whether the time stamp counter and CPUID fault. */
static int plan_faulting(struct freeze *f, size_t index, struct error *err)
{
    int counter = PR_TSC_ENABLE;
    long cpuid;
    if (tracee_query(&f->tracee, index, &counter, sizeof counter, err, SYS_prctl, 1,
            (const uint64_t[4]){PR_GET_TSC, 0, 0, 0}) < 0 ||
        ask(f, index, &cpuid, err, SYS_arch_prctl, ARCH_GET_CPUID, 0) < 0)
        return -1;
    if (counter != PR_TSC_ENABLE)
        set(f, index, PR_SET_TSC, (uint64_t)counter, 0);
    if (cpuid == 0)
        plan_call(
            &f->process->threads[index].plan, SYS_arch_prctl, plan_literal(ARCH_SET_CPUID), plan_literal(0));
    return 0;
}

/* Mitigations that a thread has asked for: store bypass, indirect branches, flushing of the first cache. Where this process
 * may not choose, no thread may. */
static int plan_speculation(struct freeze *f, size_t index, struct error *err)
{
    for (uint64_t which = 0; which < 3; which++) {
        long ours = prctl(PR_GET_SPECULATION_CTRL, which, 0, 0, 0), theirs;
        if (ours < 0 || !(ours & PR_SPEC_PRCTL))
            continue;
        if (ask(f, index, &theirs, err, SYS_prctl, PR_GET_SPECULATION_CTRL, which) < 0)
            return -1;
        if (theirs > 0 && theirs & PR_SPEC_PRCTL && theirs != ours)
            set(f, index, PR_SET_SPECULATION_CTRL, which, (uint64_t)theirs & ~(uint64_t)PR_SPEC_PRCTL);
    }
    return 0;
}

/* The first thread's slack is what the others start with. */
static int plan_timer_slack(struct freeze *f, size_t index, struct error *err)
{
    long slack;
    if (ask(f, index, &slack, err, SYS_prctl, PR_GET_TIMERSLACK, 0) < 0)
        return -1;
    if (index == 0)
        f->first_timer_slack = slack;
    else if (slack > 0 && slack != f->first_timer_slack)
        set(f, index, PR_SET_TIMERSLACK, (uint64_t)slack, 0);
    return 0;
}

/* What to do about broken memory; the death signal of another thread than the first (whose own is set last of all). */
static int plan_signals(struct freeze *f, size_t index, struct error *err)
{
    long policy;
    int death_signal = 0;
    if (ask(f, index, &policy, err, SYS_prctl, PR_MCE_KILL_GET, 0) < 0)
        return -1;
    if (policy >= 0 && policy != prctl(PR_MCE_KILL_GET, 0, 0, 0, 0))
        set(f, index, PR_MCE_KILL, PR_MCE_KILL_SET, (uint64_t)policy);
    if (index == 0)
        return 0;
    if (tracee_query(&f->tracee, index, &death_signal, sizeof death_signal, err, SYS_prctl, 1,
            (const uint64_t[4]){PR_GET_PDEATHSIG, 0, 0, 0}) < 0)
        return -1;
    if (death_signal != 0)
        set(f, index, PR_SET_PDEATHSIG, (uint64_t)death_signal, 0);
    return 0;
}

/* A file of one line about a thread. */
static int read_line(
    const struct freeze *f, size_t index, const char *name, struct buffer *out, struct error *err)
{
    char path[64];
    snprintf(path, sizeof path, "task/%d/%s", f->tracee.threads[index].tid, name);
    return file_read(f->tracee.proc_fd, path, out, STATUS_BYTES_MAX, err);
}

static int plan_personality(struct freeze *f, size_t index, struct error *err)
{
    CLEANUP_BUFFER struct buffer first = {0}, own = {0};
    if (index == 0)
        return 0;
    if (read_line(f, 0, "personality", &first, err) < 0 || read_line(f, index, "personality", &own, err) < 0)
        return -1;
    if (first.len == own.len && memcmp(first.data, own.data, own.len) == 0)
        return 0;
    buffer_append_u8(&own, 0);
    plan_call(&f->process->threads[index].plan, SYS_personality,
        plan_literal(strtoul((const char *)own.data, NULL, 16) & ~f->request->given_personality));
    return 0;
}

static int refuse_memory_policy(struct freeze *f, size_t index, struct error *err)
{
    int mode = 0;
    /* A kernel without NUMA has no such call, and then no such policy. */
    if (syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) < 0 && errno == ENOSYS)
        return 0;
    if (tracee_query(
            &f->tracee, index, &mode, sizeof mode, err, SYS_get_mempolicy, 0, (const uint64_t[4]){0}) < 0)
        return -1;
    if (mode == 0)
        return 0;
    return tracee_refuse(&f->tracee, err,
        "thread %d has set a NUMA memory policy, which cannot be frozen yet",
        f->tracee.threads[index].inner_tid);
}

static int refuse_own_filters(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    CLEANUP_BUFFER struct buffer status = {0};
    char path[64];
    snprintf(path, sizeof path, "task/%d/status", thread->tid);
    if (file_read(f->tracee.proc_fd, path, &status, STATUS_BYTES_MAX, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    const char *at = strstr((const char *)status.data, "\nSeccomp_filters:");
    unsigned long count =
        at == NULL ? f->request->filter_count : strtoul(at + strlen("\nSeccomp_filters:"), NULL, 10);
    if (count == f->request->filter_count)
        return 0;
    return tracee_refuse(&f->tracee, err,
        "thread %d has attached system call filters of its own, which cannot be frozen yet",
        thread->inner_tid);
}

/* Entries of the GDT that a thread may set. */
static int refuse_thread_areas(struct freeze *f, size_t index, struct error *err)
{
    uint64_t scratch;
    struct user_desc own = {.entry_number = GDT_TLS_FIRST};
    if (syscall(SYS_get_thread_area, &own) < 0 && errno == ENOSYS)
        return 0;
    if (tracee_get_scratch(&f->tracee, &scratch, err) < 0)
        return -1;
    for (unsigned entry = GDT_TLS_FIRST; entry < GDT_TLS_FIRST + GDT_TLS_COUNT; entry++) {
        struct user_desc area = {.entry_number = entry};
        long result;
        if (tracee_write(&f->tracee, scratch, &area, sizeof area, err) < 0 ||
            ask(f, index, &result, err, SYS_get_thread_area, scratch, 0) < 0 ||
            tracee_read(&f->tracee, scratch, &area, sizeof area, err) < 0)
            return -1;
        if (result == 0 && (area.base_addr != 0 || area.limit != 0))
            return tracee_refuse(&f->tracee, err,
                "thread %d has segments of its own (set_thread_area), which cannot be frozen",
                f->tracee.threads[index].inner_tid);
    }
    return 0;
}

/* Which threads may share a processor's core with it: a cookie, which a clone's threads have from the warden. */
static int refuse_core_scheduling(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    uint64_t ours = 0, theirs = 0;
    if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, 0, PR_SCHED_CORE_SCOPE_THREAD, &ours) < 0)
        return 0; /* the kernel or the processor has no such thing */
    if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, thread->tid, PR_SCHED_CORE_SCOPE_THREAD, &theirs) < 0)
        return error_system(err, "cannot read the core scheduling of thread %d", thread->inner_tid);
    if (theirs == ours)
        return 0;
    return tracee_refuse(
        &f->tracee, err, "thread %d uses core scheduling, which cannot be frozen", thread->inner_tid);
}

int freeze_thread_settings(struct freeze *f, size_t index, struct error *err)
{
    if (refuse_own_filters(f, index, err) < 0 || refuse_thread_areas(f, index, err) < 0 ||
        refuse_core_scheduling(f, index, err) < 0 || refuse_memory_policy(f, index, err) < 0 ||
        plan_faulting(f, index, err) < 0 || plan_speculation(f, index, err) < 0 ||
        plan_timer_slack(f, index, err) < 0 || plan_signals(f, index, err) < 0)
        return -1;
    return plan_personality(f, index, err);
}
