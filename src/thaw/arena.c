#include "thaw/arena.h"
#include "thaw/huge_pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGE 4096ull
#define ARENA_FIRST_ADDRESS 0x200000000000ull
#define ARENA_STEP 0x1000000000ull
#define ARENA_TRIES 400
#define LOWEST_ADDRESS 0x10000ull
#define USER_END 0x7ffffffff000ull
#define PARKING_BYTES (64 * PAGE)

extern const uint8_t thaw_blob_start[], thaw_blob_end[];

static uint64_t page_align(uint64_t bytes)
{
    return (bytes + PAGE - 1) & ~(PAGE - 1);
}

/* Where each part of the arena begins, as offsets; in this order. */
struct layout {
    uint64_t code, control, stack, thread_stacks, threads, ops, data, bulk, parking, end;
};

/* Moving the vDSO away and back, two calls of munmap, reading the bulk area. */
#define MOVING_OPS (2 * ARENA_SPECIAL_MAX + 3)

static uint64_t op_count(const struct image *image)
{
    struct plan huge = {0};
    huge_pages_plan(&huge, image);
    free(huge.ops);
    uint64_t count = MOVING_OPS + huge.count + image->processes[0].template_plan.count +
                     image->processes[0].process_plan.count + image->processes[0].release_plan.count;
    for (uint32_t i = 0; i < image->processes[0].thread_count; i++)
        count += image->processes[0].threads[i].plan.count;
    return count;
}

static struct layout lay_out(const struct image *image)
{
    struct layout at = {.control = page_align((uint64_t)(thaw_blob_end - thaw_blob_start))};
    at.stack = at.control + page_align(sizeof(struct blob_control));
    at.thread_stacks = at.stack + BLOB_STACK_BYTES;
    at.threads = page_align(at.thread_stacks + image->processes[0].thread_count * BLOB_THREAD_STACK_BYTES);
    at.ops = page_align(at.threads + image->processes[0].thread_count * sizeof(struct blob_thread));
    at.data = page_align(at.ops + op_count(image) * sizeof(struct plan_op));
    at.bulk = page_align(at.data + image->data.len);
    at.parking = page_align(at.bulk + image->bulk_bytes);
    at.end = at.parking + PARKING_BYTES;
    return at;
}

static bool free_in_image(const struct image *image, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < image->processes[0].mapping_count; i++)
        if (image->processes[0].mappings[i].start < end && start < image->processes[0].mappings[i].end)
            return false;
    return true;
}

/* Far from where the kernel and the usual runtimes put things, so that heaps and stacks can grow. */
static int map_arena(struct arena *arena, const struct image *image, struct error *err)
{
    for (uint64_t i = 0; i < ARENA_TRIES; i++) {
        uint64_t start = ARENA_FIRST_ADDRESS + i * ARENA_STEP;
        if (!free_in_image(image, start - ARENA_STEP / 2, start + arena->bytes + ARENA_STEP / 2))
            continue;
        void *mapped = mmap((void *)start, arena->bytes, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
        if (mapped != MAP_FAILED) {
            arena->start = start;
            return 0;
        }
    }
    return error_set(err, ERROR_UNSUPPORTED, "the snapshot leaves no free range of %lu bytes", arena->bytes);
}

static int find_special(struct arena_special found[ARENA_SPECIAL_MAX], size_t *count, struct error *err)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    *count = 0;
    if (maps == NULL)
        return error_system(err, "cannot read /proc/self/maps");
    while (fgets(line, sizeof line, maps) != NULL && *count < ARENA_SPECIAL_MAX) {
        unsigned long start, end;
        bool vvar = strstr(line, "[vvar") != NULL, vdso = strstr(line, "[vdso]") != NULL;
        if ((vvar || vdso) && sscanf(line, "%lx-%lx", &start, &end) == 2)
            found[(*count)++] = (struct arena_special){start, end - start, vdso};
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

static void plan_move(struct plan *plan, uint64_t from, uint64_t bytes, uint64_t to)
{
    plan_expect_value(plan_call(plan, SYS_mremap, plan_literal(from), plan_literal(bytes),
                          plan_literal(bytes), plan_literal(MREMAP_MAYMOVE | MREMAP_FIXED), plan_literal(to)),
        (int64_t)to);
}

/* The vDSO and its data pages keep their order and distances; each is a mapping of its own and is moved
 * alone. */
static int check_special(
    const struct image *image, const struct arena_special *special, size_t count, struct error *err)
{
    uint64_t vvar = 0, vdso = 0;
    for (size_t i = 0; i < count; i++)
        *(special[i].is_vdso ? &vdso : &vvar) += special[i].bytes;
    if (vvar != image->processes[0].vvar_bytes || vdso != image->processes[0].vdso_bytes)
        return error_set(
            err, ERROR_UNSUPPORTED, "the vDSO of this process is laid out differently from the snapshot's");
    return 0;
}

static int put_own_plans(struct arena *arena, const struct layout *at, struct op_writer *w,
    const struct image *image, struct error *err)
{
    struct arena_special special[ARENA_SPECIAL_MAX];
    size_t count;
    if (find_special(special, &count, err) < 0 || check_special(image, special, count, err) < 0)
        return -1;
    struct plan clear = {0}, settle = {0}, advice = {0};
    uint64_t parking = arena->start + at->parking, vvar_to = image->processes[0].vvar_start;
    for (size_t i = 0; i < count; i++) {
        uint64_t to = special[i].is_vdso ? image->processes[0].vdso_start : vvar_to;
        plan_move(&clear, special[i].start, special[i].bytes, parking);
        plan_move(&settle, parking, special[i].bytes, to);
        vvar_to += special[i].is_vdso ? 0 : special[i].bytes;
        parking += special[i].bytes;
    }
    if (image->bulk_bytes > 0)
        plan_do(
            &settle, PLAN_READ_PAGES, plan_literal(arena->control->bulk), plan_literal(image->bulk_bytes));
    huge_pages_plan(&advice, image);
    uint64_t arena_end = arena->start + arena->bytes;
    plan_call(&clear, SYS_munmap, plan_literal(LOWEST_ADDRESS), plan_literal(arena->start - LOWEST_ADDRESS));
    plan_call(&clear, SYS_munmap, plan_literal(arena_end), plan_literal(USER_END - arena_end));
    arena->control->clear = put_plan(w, &clear, BLOB_CLEAR);
    arena->control->settle = put_plan(w, &settle, BLOB_SETTLE);
    arena->control->advice = put_plan(w, &advice, BLOB_ADVICE);
    free(clear.ops);
    free(advice.ops);
    free(settle.ops);
    return 0;
}

static void put_threads(
    struct arena *arena, const struct layout *at, struct op_writer *w, const struct image *image)
{
    struct blob_control *control = arena->control;
    struct blob_thread *threads = (struct blob_thread *)(arena->start + at->threads);
    for (uint32_t i = 0; i < image->processes[0].thread_count; i++)
        threads[i] = (struct blob_thread){
            .plan = put_plan(w, &image->processes[0].threads[i].plan, PLAN_THREAD),
            .frame = control->data + image->processes[0].threads[i].frame,
            .tid = image->processes[0].threads[i].tid,
        };
    control->threads = threads;
    control->thread_count = image->processes[0].thread_count;
    control->thread_stacks = arena->start + at->thread_stacks;
}

int arena_build(struct arena *arena, const struct image *image, struct error *err)
{
    struct layout at = lay_out(image);
    *arena = (struct arena){.bytes = at.end};
    if (map_arena(arena, image, err) < 0)
        return -1;
    size_t code_bytes = (size_t)(thaw_blob_end - thaw_blob_start);
    memcpy((void *)arena->start, thaw_blob_start, code_bytes);
    if (mprotect((void *)arena->start, page_align(code_bytes), PROT_READ | PROT_EXEC) < 0)
        return error_system(err, "cannot make the blob executable");
    arena->entry = (blob_entry_function *)arena->start;
    arena->control = (struct blob_control *)(arena->start + at.control);
    *arena->control = (struct blob_control){
        .data = arena->start + at.data, .bulk = arena->start + at.bulk, .pid = image->processes[0].pid};
    if (image->data.len > 0)
        memcpy((void *)arena->control->data, image->data.data, image->data.len);
    struct op_writer writer = {(struct plan_op *)(arena->start + at.ops)};
    arena->control->template = put_plan(&writer, &image->processes[0].template_plan, PLAN_TEMPLATE);
    arena->control->process = put_plan(&writer, &image->processes[0].process_plan, PLAN_PROCESS);
    arena->control->release = put_plan(&writer, &image->processes[0].release_plan, PLAN_RELEASE);
    arena->control->sandbox_ops_end = image->sandbox_ops_end;
    put_threads(arena, &at, &writer, image);
    arena->stack_top = arena->start + at.stack + BLOB_STACK_BYTES;
    return put_own_plans(arena, &at, &writer, image, err);
}
