/* Settings that few programs touch. Each is compared with what this process (which the sandbox's processes
 * descend from) has; where the function has chosen otherwise it is set again, or the freeze is refused: never
 * dropped. */
#include "freeze/parts.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SETTING_BYTES 64

/* A file of /proc/PID that a process may write for itself, such as its OOM score. `prefix` tells the number's
 * base, which the kernel prints without it. */
static int freeze_proc_setting(struct freeze *f, const char *name, const char *prefix, struct error *err)
{
    CLEANUP_BUFFER struct buffer theirs = {0}, ours = {0}, value = {0};
    CLEANUP_FREE char *own_path = xasprintf("/proc/self/%s", name);
    if (tracee_proc_file(&f->tracee, name, &theirs, err) < 0 ||
        file_read(AT_FDCWD, own_path, &ours, SETTING_BYTES, err) < 0)
        return -1;
    if (theirs.len == ours.len && memcmp(theirs.data, ours.data, ours.len) == 0)
        return 0;
    /* In each clone: inside its sandbox /proc shows it. */
    struct plan *plan = &f->process->process_plan;
    buffer_append(&value, prefix, strlen(prefix));
    buffer_append(&value, theirs.data, theirs.len);
    /* These files are root's while the process is not dumpable, as entering the sandbox has made it; what it
     * is in the end the release plan says. */
    plan_call(plan, SYS_prctl, plan_literal(PR_SET_DUMPABLE), plan_literal(1));
    plan_save(plan_call(plan, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                  plan_data(image_put_string(f->image, own_path)), plan_literal(O_WRONLY)),
        0);
    plan_do(plan, PLAN_WRITE_ALL, plan_register(0), plan_data(image_put(f->image, value.data, value.len)),
        plan_literal(value.len));
    plan_call(plan, SYS_close, plan_register(0));
    return 0;
}

static int refuse_memory_policy(struct freeze *f, struct error *err)
{
    int mode = 0;
    long without_pointers;
    /* A kernel without NUMA has no such call, and then no such policy. */
    if (tracee_ask(&f->tracee, &without_pointers, err, SYS_get_mempolicy, 0, 0) < 0)
        return -1;
    if (without_pointers == -ENOSYS)
        return 0;
    if (tracee_query(&f->tracee, 0, &mode, sizeof mode, err, SYS_get_mempolicy, 0, (const uint64_t[4]){0}) <
        0)
        return -1;
    if (mode == 0)
        return 0;
    return tracee_refuse(&f->tracee, err, "it has set a NUMA memory policy, which cannot be frozen yet");
}

static int refuse_own_filters(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    if (tracee_proc_file(&f->tracee, "status", &status, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    const char *at = strstr((const char *)status.data, "\nSeccomp_filters:");
    unsigned long count =
        at == NULL ? f->request->filter_count : strtoul(at + strlen("\nSeccomp_filters:"), NULL, 10);
    if (count == f->request->filter_count)
        return 0;
    return tracee_refuse(
        &f->tracee, err, "it has attached system call filters of its own, which cannot be frozen yet");
}

int freeze_odd_settings(struct freeze *f, struct error *err)
{
    if (freeze_proc_setting(f, "oom_score_adj", "", err) < 0 ||
        freeze_proc_setting(f, "coredump_filter", "0x", err) < 0 || refuse_memory_policy(f, err) < 0)
        return -1;
    return refuse_own_filters(f, err);
}
