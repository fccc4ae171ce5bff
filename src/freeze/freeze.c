#include "freeze/freeze.h"

#include "base/clock.h"
#include "freeze/descriptors.h"
#include "freeze/family.h"

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
    if (f->image->data.len > IMAGE_DATA_MAX)
        return tracee_refuse(&f->tracee, err,
            "what waits in its pipes and sockets is more than %u MiB in all", IMAGE_DATA_MAX >> 20);
    if (f->process->template_plan.count > IMAGE_OPS_MAX || f->process->process_plan.count > IMAGE_OPS_MAX)
        return tracee_refuse(
            &f->tracee, err, "it takes more than %u operations to make it again", IMAGE_OPS_MAX);
    return 0;
}

static void append_to_process(struct freeze *f, const struct plan *plan)
{
    descriptors_append_plan(&f->process->process_plan, plan);
}

/* The order matters: mappings are read before a scratch page is added to them, the sandbox is entered before
 * anything is opened in it, pages come before the contents of files in the stream, /tmp is filled before the
 * working folder or a descriptor may be in it, and shared memory may be of descriptors. */
static int freeze_single(struct freeze *f, struct error *err)
{
    f->settings = &f->process->template_plan;
    if (mappings_read(&f->mappings, &f->tracee, err) < 0)
        return -1;
    plan_sandbox_entry(f);
    if (freeze_credentials(f, err) < 0 || freeze_memory(f, err) < 0)
        return -1;
    append_to_process(f, &f->on_memory);
    if (freeze_tmp_files(f, err) < 0 || freeze_process_state(f, err) < 0 || freeze_descriptors(f, err) < 0 ||
        freeze_shared_memory(f, err) < 0)
        return -1;
    freeze_finish_files(f);
    return freeze_threads(f, err) < 0 ? -1 : check_sizes(f, err);
}

/* ---- trees ---- */

/* The template builds the others first, and moves them aside; the root stays. */
static int freeze_memories(struct family *family, struct error *err)
{
    for (size_t i = 0; i < family->live_count; i++)
        if (mappings_read(&family->freezes[i].mappings, &family->freezes[i].tracee, err) < 0)
            return -1;
    plan_sandbox_entry(&family->freezes[0]);
    for (size_t i = 0; i < family->live_count; i++)
        if (freeze_credentials(&family->freezes[i], err) < 0)
            return -1;
    for (size_t i = 1; i < family->count; i++) {
        struct freeze *f = family->order[i]->freeze;
        if (f != NULL && freeze_memory(f, err) < 0)
            return -1;
    }
    if (freeze_memory(&family->freezes[0], err) < 0)
        return -1;
    return family_choose_stash(family, family->freezes[0].image, err);
}

/* What each process does when all are born, or (the root) before it finishes what is for all. */
static int plan_one_of_all(struct freeze *f, struct error *err)
{
    struct plan *plan = &f->process->process_plan;
    bool is_root = f == &f->family->freezes[0];
    if (!is_root)
        plan_do(plan, PLAN_BECOME, plan_literal(0));
    append_to_process(f, &f->on_memory);
    if (freeze_process_state(f, err) < 0)
        return -1;
    freeze_take_descriptors(f);
    append_to_process(f, &f->maps);
    append_to_process(f, &f->watches);
    if (freeze_files_wait(&f->family->freezes[0]))
        plan_do(plan, PLAN_BARRIER, plan_literal(PLAN_BARRIER_MAPPED), plan_literal(f->family->live_count));
    if (is_root)
        freeze_finish_files(f);
    freeze_close_descriptors(f);
    append_to_process(f, &f->locks);
    return 0;
}

/* The root makes what is for all: /tmp, the descriptions that descriptors of any process refer to, the objects
 * of shared memory. Then it forks the others, who inherit these, and take what is theirs. */
static int freeze_tree(struct family *family, struct error *err)
{
    struct freeze *root = &family->freezes[0];
    for (size_t i = 0; i < family->live_count; i++)
        if (descriptors_refuse_events(&family->freezes[i], err) < 0)
            return -1;
    if (freeze_memories(family, err) < 0 || freeze_tmp_files(root, err) < 0 ||
        freeze_descriptors(root, err) < 0 || freeze_shared_memory(root, err) < 0)
        return -1;
    family_plan_births(family, root->image);
    for (size_t i = 0; i < family->live_count; i++)
        if (plan_one_of_all(&family->freezes[i], err) < 0)
            return -1;
    for (size_t i = 0; i < family->live_count; i++)
        if (freeze_threads(&family->freezes[i], err) < 0 || check_sizes(&family->freezes[i], err) < 0)
            return -1;
    return 0;
}

/* A place in the image for every relative. */
static void make_processes(struct family *family, struct image *image)
{
    image->process_count = (uint32_t)family->count;
    image->processes = xcalloc(family->count, sizeof *image->processes);
    for (size_t i = 0; i < family->count; i++) {
        const struct relative *r = &family->list[i];
        struct image_process *process = &image->processes[r->index];
        process->kind = r->kind;
        process->pid = r->inner;
        process->parent = r->parent == NULL ? 0 : r->parent->index;
        process->session = r->session;
        process->group = r->group;
        if (r->freeze == NULL)
            continue;
        r->freeze->image = image;
        r->freeze->process = process;
        r->freeze->in_tree = family->count > 1;
        r->freeze->settings = &process->process_plan;
    }
}

static int freeze_family(struct family *family, struct image *image, struct error *err)
{
    family->order[0] = &family->list[0];
    if (family->count > 1 && family_arrange(family, err) < 0)
        return -1;
    make_processes(family, image);
    if ((family->count > 1 ? freeze_tree(family, err) : freeze_single(&family->freezes[0], err)) < 0)
        return -1;
    note_clocks(image);
    return 0;
}

int freeze_process(const struct freeze_request *request, struct image *image, struct error *err)
{
    struct family family = {0};
    *image = (struct image){0};
    if (image_stamp_machine(image, err) < 0)
        return -1;
    int result = family_stop(&family, request, err);
    if (result == 0)
        result = freeze_family(&family, image, err);
    if (family.live_count > 0)
        freeze_forget_files(&family.freezes[0]);
    family_free(&family, result == 0);
    if (result < 0)
        image_free(image);
    return result;
}
