#include "thaw/arena.h"
#include "thaw/family.h"
#include "thaw/huge_pages.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define PAGE 4096ull
#define ARENA_FIRST_ADDRESS 0x200000000000ull
#define ARENA_STEP 0x1000000000ull
#define ARENA_TRIES 400
#define ARENA_WAITING_ADDRESS (ARENA_FIRST_ADDRESS - ARENA_STEP)
#define PARKING_BYTES (64 * PAGE)

#define MOVE_FROM_EMPTY_PATH 0x4 /* MOVE_MOUNT_F_EMPTY_PATH of linux/mount.h */
#define SANDBOX_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define TEMPLATE_NAME "thaw-template"

extern const uint8_t thaw_blob_start[], thaw_blob_end[];

static uint64_t page_align(uint64_t bytes)
{
    return (bytes + PAGE - 1) & ~(PAGE - 1);
}

/* Where each part of the arena begins, as offsets; in this order. */
struct layout {
    uint64_t code, control, shared, stack, thread_stacks, processes, threads, ops, data, files, texts, bulk,
        ranges, parking, hold, end;
};

/* Moving the vDSO away and back, two calls of munmap, four to enter the sandbox, reading the bulk area. */
#define OWN_OPS (2 * ARENA_SPECIAL_MAX + 7)

static uint64_t op_count(const struct image *image)
{
    struct plan huge = {0};
    huge_pages_plan(&huge, image);
    free(huge.ops);
    uint64_t count = OWN_OPS + huge.count;
    for (uint32_t p = 0; p < image->process_count; p++) {
        const struct image_process *process = &image->processes[p];
        count += process->template_plan.count + process->process_plan.count + process->release_plan.count;
        count += image->process_count > 1 ? family_ops_max(process) : 0;
        for (uint32_t i = 0; i < process->thread_count; i++)
            count += process->threads[i].plan.count;
    }
    return count;
}

static uint64_t text_bytes(const struct image *image, const char *code_path)
{
    uint64_t bytes = sizeof TEMPLATE_NAME + strlen(code_path) + 1;
    for (uint32_t i = 0; i < image->file_count; i++)
        bytes += strlen(image->files[i].path) + 1;
    return bytes;
}

static struct layout lay_out(const struct image *image, const char *code_path)
{
    uint32_t threads = 0, most_threads = 0;
    for (uint32_t i = 0; i < image->process_count; i++) {
        uint32_t count = image->processes[i].thread_count;
        threads += count;
        most_threads = count > most_threads ? count : most_threads;
    }
    struct layout at = {.control = page_align((uint64_t)(thaw_blob_end - thaw_blob_start))};
    at.shared = at.control + page_align(sizeof(struct blob_control));
    at.stack = at.shared + (image->process_count > 1 ? PAGE : 0);
    at.thread_stacks = at.stack + BLOB_STACK_BYTES;
    at.processes = page_align(at.thread_stacks + most_threads * BLOB_THREAD_STACK_BYTES);
    at.threads = at.processes + image->process_count * sizeof(struct blob_process);
    at.ops = page_align(at.threads + threads * sizeof(struct blob_thread));
    at.data = page_align(at.ops + op_count(image) * sizeof(struct plan_op));
    at.files = page_align(at.data + image->data.len);
    at.texts = at.files + image->file_count * sizeof(struct blob_file);
    at.bulk = page_align(at.texts + text_bytes(image, code_path));
    at.ranges = page_align(at.bulk + image->bulk_bytes);
    at.parking = at.ranges + page_align(BLOB_RANGES_MAX * sizeof(struct blob_range));
    at.hold = at.parking + PARKING_BYTES;
    at.end = at.hold + PAGE;
    return at;
}

static bool free_in_image(const struct image *image, uint64_t start, uint64_t end)
{
    if (image->stash_start < end && start < image->stash_end)
        return false;
    for (uint32_t p = 0; p < image->process_count; p++) {
        const struct image_process *process = &image->processes[p];
        for (uint32_t i = 0; i < process->mapping_count; i++)
            if (process->mappings[i].start < end && start < process->mappings[i].end)
                return false;
    }
    return true;
}

static bool map_at(struct arena *arena, uint64_t start)
{
    arena->start = start;
    return mmap((void *)start, arena->bytes, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

/* Far from where the kernel and the usual runtimes put things, so that heaps and stacks can grow. */
static int map_arena(struct arena *arena, const struct image *image, struct error *err)
{
    for (uint64_t i = 0; i < ARENA_TRIES; i++) {
        uint64_t start = ARENA_FIRST_ADDRESS + i * ARENA_STEP;
        if (!free_in_image(image, start - ARENA_STEP / 2, start + arena->bytes + ARENA_STEP / 2))
            continue;
        if (map_at(arena, start))
            return 0;
    }
    return error_set(err, ERROR_UNSUPPORTED, "the snapshot leaves no free range of %lu bytes", arena->bytes);
}

/* Where the vDSO and its data are in this process. Reading it takes a tenth of a template's building, and every fork has
 * them at the same places. */
static struct arena_special_list special_here;

int arena_prepare(struct error *err)
{
    struct arena_special_list *special = &special_here;
    if (special->count > 0)
        return 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    if (maps == NULL)
        return error_system(err, "cannot read /proc/self/maps");
    while (fgets(line, sizeof line, maps) != NULL && special->count < ARENA_SPECIAL_MAX) {
        unsigned long start, end;
        bool vvar = strstr(line, "[vvar") != NULL, vdso = strstr(line, "[vdso]") != NULL;
        if ((vvar || vdso) && sscanf(line, "%lx-%lx", &start, &end) == 2)
            special->list[special->count++] = (struct arena_special){start, end - start, vdso};
    }
    fclose(maps);
    return 0;
}

/* Writes plans one after the other into the arena. */
struct op_writer {
    struct plan_op *next;
};

static struct blob_plan put_plan(struct op_writer *w, const struct plan *plan, uint32_t which)
{
    struct blob_plan out = {.ops = w->next, .count = plan->count, .which = which};
    if (plan->count > 0)
        memcpy(w->next, plan->ops, plan->count * sizeof *plan->ops);
    w->next += plan->count;
    return out;
}

/* A freeze cuts long stretches of pages; in one piece they can become huge pages when they are filled. */
static bool continues(const struct plan_op *op, const struct plan_op *next)
{
    return (op->kind == PLAN_READ_PAGES || op->kind == PLAN_LAZY_PAGES) && next->kind == op->kind &&
           op->arg_kind[0] == PLAN_LITERAL && next->arg_kind[0] == PLAN_LITERAL &&
           op->arg_kind[1] == PLAN_LITERAL && next->arg_kind[1] == PLAN_LITERAL &&
           next->arg[0] == op->arg[0] + op->arg[1];
}

static struct blob_plan put_template_plan(struct op_writer *w, const struct plan *plan)
{
    struct blob_plan out = {.ops = w->next, .which = PLAN_TEMPLATE};
    for (uint32_t i = 0; i < plan->count; i++) {
        if (out.count > 0 && continues(w->next - 1, &plan->ops[i])) {
            w->next[-1].arg[1] += plan->ops[i].arg[1];
        } else {
            *w->next++ = plan->ops[i];
            out.count++;
        }
    }
    return out;
}

/* As put_plan, and forgets the plan. */
static struct blob_plan take_plan(struct op_writer *w, struct plan *plan, uint32_t which)
{
    struct blob_plan out = put_plan(w, plan, which);
    free(plan->ops);
    return out;
}

/* The vDSO and its data pages keep their order and distances; each is a mapping of its own and is moved
 * alone. */
static int check_special(
    const struct image *image, const struct arena_special_list *special, struct error *err)
{
    uint64_t vvar = 0, vdso = 0;
    for (size_t i = 0; i < special->count; i++)
        *(special->list[i].is_vdso ? &vdso : &vvar) += special->list[i].bytes;
    for (uint32_t i = 0; i < image->process_count; i++) {
        const struct image_process *process = &image->processes[i];
        if (process->kind == IMAGE_LIVE && (vvar != process->vvar_bytes || vdso != process->vdso_bytes))
            return error_set(err, ERROR_UNSUPPORTED,
                "the vDSO of this process is laid out differently from the snapshot's");
    }
    return 0;
}

/* The vDSO goes into the arena, and nothing else stays. */
static void put_clear_plan(struct arena *arena, const struct layout *at, struct op_writer *w,
    const struct arena_special_list *special)
{
    struct plan clear = {0};
    uint64_t parking = arena->start + at->parking, arena_end = arena->start + arena->bytes;
    for (size_t i = 0; i < special->count; i++) {
        family_plan_move(&clear, special->list[i].start, special->list[i].bytes, parking);
        parking += special->list[i].bytes;
    }
    plan_call(&clear, SYS_munmap, plan_literal(ARENA_LOWEST_ADDRESS),
        plan_literal(arena->start - ARENA_LOWEST_ADDRESS));
    plan_call(&clear, SYS_munmap, plan_literal(arena_end), plan_literal(ARENA_USER_END - arena_end));
    arena->control->clear = take_plan(w, &clear, BLOB_CLEAR);
}

static uint64_t put_text(char **next, const char *text)
{
    uint64_t at = (uint64_t)*next;
    *next = stpcpy(*next, text) + 1;
    return at;
}

/* setns also goes to the root folder of the sandbox's files. */
static void put_entering(struct arena *arena, const struct layout *at, struct op_writer *w,
    const struct image *image, const char *code_path)
{
    struct plan enter = {0};
    struct blob_file *files = (struct blob_file *)(arena->start + at->files);
    char *text = (char *)(arena->start + at->texts);
    uint64_t name = put_text(&text, TEMPLATE_NAME), folder = put_text(&text, code_path);
    uint64_t nothing = folder + strlen(code_path);
    plan_call(&enter, SYS_setns, plan_slot(PLAN_SLOT_INIT_PIDFD), plan_literal(SANDBOX_NAMESPACES));
    plan_call(&enter, SYS_move_mount, plan_slot(PLAN_SLOT_CODE), plan_literal(nothing),
        plan_literal((uint64_t)AT_FDCWD), plan_literal(folder), plan_literal(MOVE_FROM_EMPTY_PATH));
    plan_call(&enter, SYS_prctl, plan_literal(PR_SET_NAME), plan_literal(name));
    arena->control->enter = take_plan(w, &enter, BLOB_ENTER);
    for (uint32_t i = 0; i < image->file_count; i++)
        files[i] = (struct blob_file){
            .path = put_text(&text, image->files[i].path),
            .bytes = image->files[i].bytes,
            .modified_ns = image->files[i].modified_ns,
        };
    arena->control->files = files;
    arena->control->file_count = image->file_count;
}

static void put_own_plans(struct arena *arena, const struct layout *at, struct op_writer *w,
    const struct image *image, const struct arena_special_list *special)
{
    struct plan settle = {0}, advice = {0};
    family_plan_vdso(&settle, special, arena->start + at->parking, &image->processes[0]);
    if (image->bulk_bytes > 0)
        plan_do(
            &settle, PLAN_LAZY_PAGES, plan_literal(arena->control->bulk), plan_literal(image->bulk_bytes));
    huge_pages_plan(&advice, image);
    arena->control->settle = take_plan(w, &settle, BLOB_SETTLE);
    arena->control->advice = take_plan(w, &advice, BLOB_ADVICE);
}

/* Returns where the next process's threads go. */
static struct blob_thread *put_threads(struct arena *arena, struct op_writer *w,
    const struct image_process *process, struct blob_thread *threads)
{
    for (uint32_t i = 0; i < process->thread_count; i++)
        threads[i] = (struct blob_thread){
            .plan = put_plan(w, &process->threads[i].plan, PLAN_THREAD),
            .frame = arena->control->data + process->threads[i].frame,
            .tid = process->threads[i].tid,
        };
    return threads + process->thread_count;
}

static void put_processes(struct arena *arena, const struct layout *at, struct op_writer *w,
    const struct image *image, const struct arena_special_list *special)
{
    struct blob_control *control = arena->control;
    struct blob_process *out = (struct blob_process *)(arena->start + at->processes);
    struct blob_thread *threads = (struct blob_thread *)(arena->start + at->threads);
    const struct family_place place = {.arena_start = arena->start,
        .arena_end = arena->start + arena->bytes,
        .parking = arena->start + at->parking,
        .special = special};
    for (uint32_t i = 0; i < image->process_count; i++) {
        const struct image_process *process = &image->processes[i];
        struct family_plans family = {0};
        family_plan(&family, image, i, &place);
        out[i] = (struct blob_process){
            .template = put_template_plan(w, &process->template_plan),
            .process = put_plan(w, &process->process_plan, PLAN_PROCESS),
            .release = put_plan(w, &process->release_plan, PLAN_RELEASE),
            .stash = take_plan(w, &family.stash, BLOB_STASH),
            .hide = take_plan(w, &family.hide, BLOB_HIDE),
            .show = take_plan(w, &family.show, BLOB_SHOW),
            .become = take_plan(w, &family.become, BLOB_BECOME),
            .threads = threads,
            .thread_count = process->thread_count,
            .pid = process->pid,
        };
        threads = put_threads(arena, w, process, threads);
        control->live_count += process->kind == IMAGE_LIVE;
    }
    control->processes = out;
    control->process_count = image->process_count;
}

/* Code, and a control that knows its places. */
static int put_blob(struct arena *arena, const struct layout *at, struct error *err)
{
    size_t code_bytes = (size_t)(thaw_blob_end - thaw_blob_start);
    arena->code_bytes = page_align(code_bytes);
    memcpy((void *)arena->start, thaw_blob_start, code_bytes);
    if (mprotect((void *)arena->start, arena->code_bytes, PROT_READ | PROT_EXEC) < 0)
        return error_system(err, "cannot make the blob executable");
    arena->entry = (blob_entry_function *)arena->start;
    arena->stack_top = arena->start + at->stack + BLOB_STACK_BYTES;
    arena->control = (struct blob_control *)(arena->start + at->control);
    *arena->control = (struct blob_control){.data = arena->start + at->data,
        .bulk = arena->start + at->bulk,
        .shared = (struct blob_shared *)(arena->start + at->shared),
        .stack = arena->start + at->stack,
        .thread_stacks = arena->start + at->thread_stacks,
        .ranges = (struct blob_range *)(arena->start + at->ranges),
        .hold = arena->start + at->hold,
        .control_fd = -1,
        .pages_fd = -1,
        .ring_fd = -1,
        .paging_fd = -1,
        .memory_fd = -1};
    return 0;
}

int arena_build_waiting(struct arena *arena, struct error *err)
{
    static const struct image nothing;
    const struct layout at = lay_out(&nothing, "");
    *arena = (struct arena){.bytes = at.end};
    if (!map_at(arena, ARENA_WAITING_ADDRESS))
        return error_system(err, "cannot map a builder's memory");
    if (put_blob(arena, &at, err) < 0)
        return -1;
    struct op_writer writer = {(struct plan_op *)(arena->start + at.ops)};
    put_clear_plan(arena, &at, &writer, &special_here);
    arena->control->waits = 1;
    return 0;
}

/* Where a builder that waits has what is special in this process. */
static struct arena_special_list special_of_builder(void)
{
    static const struct image nothing;
    struct arena_special_list special = special_here;
    uint64_t parking = ARENA_WAITING_ADDRESS + lay_out(&nothing, "").parking;
    for (size_t i = 0; i < special.count; i++) {
        special.list[i].start = parking;
        parking += special.list[i].bytes;
    }
    return special;
}

static int fill_arena(struct arena *arena, const struct layout *at, const struct image *image,
    const char *code_path, struct error *err)
{
    const struct arena_special_list special = special_of_builder();
    if (check_special(image, &special, err) < 0 || put_blob(arena, at, err) < 0)
        return -1;
    arena->filled = at->bulk;
    arena->control->sandbox_ops_end = image->sandbox_ops_end;
    arena->control->descriptor_floor = (int32_t)image->descriptor_floor;
    if (image->data.len > 0)
        memcpy((void *)arena->control->data, image->data.data, image->data.len);
    struct op_writer writer = {(struct plan_op *)(arena->start + at->ops)};
    put_processes(arena, at, &writer, image, &special);
    put_clear_plan(arena, at, &writer, &special);
    put_entering(arena, at, &writer, image, code_path);
    put_own_plans(arena, at, &writer, image, &special);
    return 0;
}

int arena_build(struct arena *arena, const struct image *image, const char *code_path, struct error *err)
{
    const char *folder = code_path == NULL ? "" : code_path;
    const struct layout at = lay_out(image, folder);
    *arena = (struct arena){.bytes = at.end};
    if (map_arena(arena, image, err) < 0)
        return -1;
    if (fill_arena(arena, &at, image, folder, err) == 0)
        return 0;
    arena_unmap(arena);
    return -1;
}

void arena_unmap(const struct arena *arena)
{
    munmap((void *)arena->start, arena->bytes);
}
