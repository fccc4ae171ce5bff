#include "freeze/freeze.h"

#include "base/clock.h"
#include "freeze/parts.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define SANDBOX_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define MOVE_FROM_EMPTY_PATH 0x4 /* MOVE_MOUNT_F_EMPTY_PATH of linux/mount.h */

/* The descriptors below the floor were only place holders, so that those of the slots lie above it. */
static void plan_sandbox_entry(struct freeze *f)
{
    struct image *image = f->image;
    struct plan *plan = &f->process->process_plan;
    struct plan_arg self = plan_data(image_put_string(image, "0"));
    for (enum plan_slot slot = PLAN_SLOT_CGROUP_0; slot <= PLAN_SLOT_CGROUP_2; slot++)
        plan_call(plan, SYS_write, plan_slot(slot), self, plan_literal(1));
    plan_call(plan, SYS_setns, plan_slot(PLAN_SLOT_INIT_PIDFD), plan_literal(SANDBOX_NAMESPACES));
    if (f->request->code_path != NULL)
        plan_call(plan, SYS_move_mount, plan_slot(PLAN_SLOT_CODE), plan_data(image_put_string(image, "")),
            plan_literal((uint64_t)AT_FDCWD), plan_data(image_put_string(image, f->request->code_path)),
            plan_literal(MOVE_FROM_EMPTY_PATH));
    image->sandbox_ops_end = plan->count;
}

static void note_clocks(struct image *image)
{
    image->monotonic_ns = clock_monotonic_ns();
    image->boottime_ns = clock_read_ns(CLOCK_BOOTTIME);
    image->wall_ms = clock_wall_ms();
}

/* What a decoder would not take back is refused now, while somebody can be told. */
static int check_sizes(const struct freeze *f, struct error *err)
{
    const struct image *image = f->image;
    if (image->data.len > IMAGE_DATA_MAX)
        return tracee_refuse(&f->tracee, err,
            "what waits in its pipes and sockets is more than %u MiB in all", IMAGE_DATA_MAX >> 20);
    if (f->process->template_plan.count > IMAGE_OPS_MAX || f->process->process_plan.count > IMAGE_OPS_MAX)
        return tracee_refuse(
            &f->tracee, err, "it takes more than %u operations to make it again", IMAGE_OPS_MAX);
    return 0;
}

/* The order matters: mappings are read before a scratch page is added to them, the sandbox is entered before
 * anything is opened in it, pages come before the contents of files in the stream, /tmp is filled before the
 * working folder or a descriptor may be in it, and shared memory may be of descriptors. */
static int freeze_parts(struct freeze *f, struct error *err)
{
    if (mappings_read(&f->mappings, &f->tracee, err) < 0)
        return -1;
    f->process->pid = f->tracee.inner_pid;
    plan_sandbox_entry(f);
    if (freeze_credentials(f, err) < 0 || freeze_memory(f, err) < 0 || freeze_tmp_files(f, err) < 0 ||
        freeze_process_state(f, err) < 0 || freeze_descriptors(f, err) < 0 ||
        freeze_shared_memory(f, err) < 0 || freeze_threads(f, err) < 0 || check_sizes(f, err) < 0)
        return -1;
    note_clocks(f->image);
    return 0;
}

int freeze_process(const struct freeze_request *request, struct image *image, struct error *err)
{
    struct freeze f = {.request = request, .image = image};
    *image = (struct image){.processes = xcalloc(1, sizeof *image->processes), .process_count = 1};
    f.process = image->processes;
    int result = image_stamp_machine(image, err);
    if (result == 0)
        result = tracee_stop(&f.tracee, request->pid, request->spare == FREEZE_SPARE_NEVER, err);
    if (result < 0) {
        image_free(image);
        return -1;
    }
    result = freeze_parts(&f, err);
    free(f.credentials);
    freeze_forget_files(&f);
    mappings_free(&f.mappings);
    if (request->spare == FREEZE_SPARE_ALWAYS || (request->spare == FREEZE_SPARE_ON_FAILURE && result < 0))
        tracee_release(&f.tracee);
    else if (request->spare != FREEZE_SPARE_NEVER)
        tracee_kill(&f.tracee);
    tracee_close(&f.tracee);
    if (result < 0)
        image_free(image);
    return result;
}
