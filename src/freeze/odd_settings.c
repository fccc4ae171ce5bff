/* Settings that few programs touch. Each is compared with what this process (which the sandbox's processes
 * descend from) has; where the function has chosen otherwise it is set again, or the freeze is refused: never
 * dropped. */
#include "freeze/parts.h"

#include "base/fd.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SETTING_BYTES 64
#define LDT_BYTES_ASKED 64
#ifndef ARCH_GET_XCOMP_PERM
#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_REQ_XCOMP_PERM 0x1023
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

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

/* Segments of the process's own. Only to be asked from inside. */
static int refuse_local_descriptors(struct freeze *f, struct error *err)
{
    long bytes;
    uint64_t scratch;
    if (tracee_get_scratch(&f->tracee, &scratch, err) < 0 ||
        tracee_call(&f->tracee, &bytes, err, SYS_modify_ldt, 0, scratch, LDT_BYTES_ASKED) < 0)
        return -1;
    if (bytes <= 0)
        return 0;
    return tracee_refuse(&f->tracee, err, "it has segments of its own (modify_ldt), which cannot be frozen");
}

/* That no memory may become executable: kept by forks, but it would be in the way of making the clone. */
static int freeze_write_execute(struct freeze *f, struct error *err)
{
    long denied;
    if (tracee_ask(&f->tracee, &denied, err, SYS_prctl, PR_GET_MDWE, 0) < 0)
        return -1;
    if (denied > 0)
        plan_call(
            &f->process->release_plan, SYS_prctl, plan_literal(PR_SET_MDWE), plan_literal((uint64_t)denied));
    return 0;
}

/* What the program may use of the processor's extended registers beside those that all may: AMX tiles. */
static int freeze_extended_permission(struct freeze *f, struct error *err)
{
    uint64_t scratch, ours = 0, theirs = 0;
    long result;
    if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &ours) < 0)
        return 0; /* neither kernel nor processor has such */
    if (tracee_get_scratch(&f->tracee, &scratch, err) < 0 ||
        tracee_call(&f->tracee, &result, err, SYS_arch_prctl, ARCH_GET_XCOMP_PERM, scratch) < 0 ||
        tracee_read(&f->tracee, scratch, &theirs, sizeof theirs, err) < 0)
        return -1;
    for (uint64_t feature = 0; feature < 64 && result == 0; feature++)
        if ((theirs & ~ours) >> feature & 1)
            plan_call(f->settings, SYS_arch_prctl, plan_literal(ARCH_REQ_XCOMP_PERM), plan_literal(feature));
    return 0;
}

int freeze_odd_settings(struct freeze *f, struct error *err)
{
    if (freeze_proc_setting(f, "oom_score_adj", "", err) < 0 ||
        freeze_proc_setting(f, "coredump_filter", "0x", err) < 0 || refuse_local_descriptors(f, err) < 0)
        return -1;
    if (freeze_extended_permission(f, err) < 0)
        return -1;
    return freeze_write_execute(f, err);
}
