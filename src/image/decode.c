/* Reading a manifest. */
#include "image/check.h"
#include "image/manifest.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096ull
#define USER_ADDRESS_END 0x7ffffffff000ull
#define FRAME_BYTES 440 /* of a signal frame, without what it points to */

/* A count read from the manifest, trusted only when that many items of `item_bytes` can still follow. */
static uint32_t decode_count(struct cursor *in, uint32_t max, size_t item_bytes)
{
    uint32_t count = cursor_u32(in);
    if (count > max || count > in->left / item_bytes)
        in->failed = true;
    return in->failed ? 0 : count;
}

static bool valid_arg(const struct plan_op *op, size_t a, const struct image *image)
{
    switch (op->arg_kind[a]) {
    case PLAN_LITERAL:
        return true;
    case PLAN_DATA:
        return op->arg[a] <= image->data.len;
    case PLAN_BULK:
        return op->arg[a] <= image->bulk_bytes;
    case PLAN_SLOT:
        return op->arg[a] < PLAN_SLOT_COUNT;
    case PLAN_REGISTER:
        return op->arg[a] < PLAN_REGISTERS;
    default:
        return false;
    }
}

static bool within_data(const struct image *image, const struct plan_op *op, size_t a, uint64_t len)
{
    return op->arg_kind[a] == PLAN_DATA && len <= image->data.len && op->arg[a] <= image->data.len - len;
}

static bool valid_width(const struct plan_op *op, size_t a)
{
    return op->arg_kind[a] == PLAN_LITERAL && (op->arg[a] == 4 || op->arg[a] == 8);
}

static bool all_literal(const struct plan_op *op)
{
    for (size_t a = 0; a < PLAN_ARGS; a++)
        if (op->arg_kind[a] != PLAN_LITERAL)
            return false;
    return true;
}

static bool valid_op(const struct plan_op *op, const struct image *image)
{
    if (op->save > PLAN_REGISTERS || op->expect > PLAN_EXPECT_ANYTHING)
        return false;
    for (size_t a = 0; a < PLAN_ARGS; a++)
        if (!valid_arg(op, a, image))
            return false;
    switch (op->kind) {
    case PLAN_SYSCALL:
        return true;
    case PLAN_READ_PAGES:
    case PLAN_LAZY_PAGES:
        return op->arg_kind[0] == PLAN_LITERAL && op->arg_kind[1] == PLAN_LITERAL;
    case PLAN_STORE:
        return valid_width(op, 2) && within_data(image, op, 0, op->arg[2]);
    case PLAN_LOAD:
        return valid_width(op, 1) && within_data(image, op, 0, op->arg[1]);
    case PLAN_WRITE_ALL:
    case PLAN_COPY:
        return op->arg_kind[2] == PLAN_LITERAL && within_data(image, op, 1, op->arg[2]);
    case PLAN_FORK:
        return all_literal(op) && op->arg[0] > 0 && op->arg[0] < image->process_count;
    case PLAN_BECOME:
        return true;
    case PLAN_BARRIER:
        return all_literal(op) && op->arg[0] < PLAN_BARRIERS && op->arg[1] <= image->process_count;
    default:
        return false;
    }
}

#define ENCODED_OP_BYTES (8 + PLAN_ARGS + 8 + 8 * PLAN_ARGS)

static void decode_plan(struct cursor *in, struct plan *plan, const struct image *image)
{
    uint32_t count = decode_count(in, IMAGE_OPS_MAX, ENCODED_OP_BYTES);
    plan->ops = xcalloc(count, sizeof *plan->ops);
    plan->count = plan->capacity = count;
    for (uint32_t i = 0; i < count; i++) {
        struct plan_op *op = &plan->ops[i];
        op->kind = cursor_u16(in);
        op->number = cursor_u16(in);
        op->expect = cursor_u8(in);
        op->save = cursor_u8(in);
        op->subject = cursor_u16(in);
        struct bytes kinds = cursor_bytes(in, PLAN_ARGS);
        if (kinds.len != 0)
            memcpy(op->arg_kind, kinds.data, PLAN_ARGS);
        op->expected = (int64_t)cursor_u64(in);
        for (size_t a = 0; a < PLAN_ARGS; a++)
            op->arg[a] = cursor_u64(in);
        if (!valid_op(op, image))
            in->failed = true;
    }
}

static void decode_threads(struct cursor *in, struct image_process *process, const struct image *image)
{
    process->thread_count = decode_count(in, IMAGE_THREADS_MAX, 48);
    process->threads = xcalloc(process->thread_count, sizeof *process->threads);
    for (uint32_t i = 0; i < process->thread_count; i++) {
        struct image_thread *thread = &process->threads[i];
        thread->tid = (int32_t)cursor_u32(in);
        struct bytes name = cursor_bytes(in, sizeof thread->name);
        if (name.len != 0)
            memcpy(thread->name, name.data, sizeof thread->name - 1);
        thread->frame = cursor_u64(in);
        thread->stop_address = cursor_u64(in);
        thread->stop_syscall = (int64_t)cursor_u64(in);
        decode_plan(in, &thread->plan, image);
        if (thread->tid <= 1 || thread->frame % 64 != 0 || image->data.len < FRAME_BYTES ||
            thread->frame > image->data.len - FRAME_BYTES)
            in->failed = true;
    }
}

static void decode_mappings(struct cursor *in, struct image_process *process)
{
    process->mapping_count = decode_count(in, IMAGE_MAPPINGS_MAX, 52);
    process->mappings = xcalloc(process->mapping_count, sizeof *process->mappings);
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        struct image_mapping *mapping = &process->mappings[i];
        mapping->start = cursor_u64(in);
        mapping->end = cursor_u64(in);
        mapping->offset = cursor_u64(in);
        mapping->protection = cursor_u32(in);
        mapping->kind = cursor_u32(in);
        mapping->page_count = cursor_u64(in);
        mapping->stash = cursor_u64(in);
        mapping->name = cursor_string(in, MANIFEST_TEXT_MAX);
        /* In order and apart, as the kernel lists them; [vsyscall] alone is beyond a program's addresses. */
        uint64_t lowest = i == 0 ? 0 : process->mappings[i - 1].end;
        uint64_t highest = mapping->kind == IMAGE_SPECIAL ? UINT64_MAX : USER_ADDRESS_END;
        if (mapping->start < lowest || mapping->start >= mapping->end || mapping->end > highest ||
            mapping->start % PAGE != 0 || mapping->end % PAGE != 0 || mapping->kind < IMAGE_ANONYMOUS ||
            mapping->kind > IMAGE_SPECIAL || mapping->page_count > (mapping->end - mapping->start) / PAGE)
            in->failed = true;
    }
}

static void decode_descriptors(struct cursor *in, struct image_process *process)
{
    process->descriptor_count = decode_count(in, IMAGE_DESCRIPTORS_MAX, 12);
    process->descriptors = xcalloc(process->descriptor_count, sizeof *process->descriptors);
    for (uint32_t i = 0; i < process->descriptor_count; i++) {
        process->descriptors[i].fd = (int32_t)cursor_u32(in);
        process->descriptors[i].kind = cursor_string(in, MANIFEST_TEXT_MAX);
        process->descriptors[i].detail = cursor_string(in, MANIFEST_TEXT_MAX);
    }
}

/* Operations of trees run only where the interpreter is ready for them. */
static bool plan_is_in_place(const struct plan *plan, const struct image *image, bool may_fork)
{
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (op->kind < PLAN_FORK)
            continue;
        if (!may_fork || image->process_count == 1)
            return false;
    }
    return true;
}

static bool process_fits_together(const struct image *image, uint32_t index)
{
    const struct image_process *process = &image->processes[index];
    bool has_own_plans = process->template_plan.count + process->release_plan.count > 0;
    if (process->kind > IMAGE_HELPER || process->pid <= 1 ||
        (index == 0 ? process->parent != 0 || process->kind != IMAGE_LIVE : process->parent >= index))
        return false;
    if (process->kind == IMAGE_LIVE ? process->thread_count == 0 || process->threads[0].tid != process->pid
                                    : process->thread_count > 0 || has_own_plans)
        return false;
    for (uint32_t i = 0; i < process->thread_count; i++)
        if (!plan_is_in_place(&process->threads[i].plan, image, false))
            return false;
    return plan_is_in_place(&process->template_plan, image, false) &&
           plan_is_in_place(&process->release_plan, image, false) &&
           plan_is_in_place(&process->process_plan, image, true);
}

/* Where the kernel's own mappings go, which the interpreter moves there. */
static bool special_is_listed(const struct image_process *process, uint64_t start, uint64_t bytes)
{
    if (bytes == 0)
        return true;
    uint64_t at = start;
    for (uint32_t i = 0; i < process->mapping_count; i++)
        if (process->mappings[i].kind == IMAGE_SPECIAL && process->mappings[i].start == at &&
            process->mappings[i].end - at <= bytes - (at - start) &&
            (at = process->mappings[i].end) == start + bytes)
            return true;
    return false;
}

static void decode_process(struct cursor *in, struct image *image, uint32_t index)
{
    struct image_process *process = &image->processes[index];
    process->kind = cursor_u32(in);
    process->pid = (int32_t)cursor_u32(in);
    process->parent = cursor_u32(in);
    process->session = (int32_t)cursor_u32(in);
    process->group = (int32_t)cursor_u32(in);
    uint64_t *const numbers[] = {
        &process->vdso_start, &process->vdso_bytes, &process->vvar_start, &process->vvar_bytes};
    for (size_t i = 0; i < countof(numbers); i++)
        *numbers[i] = cursor_u64(in);
    decode_plan(in, &process->template_plan, image);
    decode_plan(in, &process->process_plan, image);
    decode_plan(in, &process->release_plan, image);
    decode_threads(in, process, image);
    decode_mappings(in, process);
    decode_descriptors(in, process);
    if (!process_fits_together(image, index) ||
        !special_is_listed(process, process->vdso_start, process->vdso_bytes) ||
        !special_is_listed(process, process->vvar_start, process->vvar_bytes))
        in->failed = true;
}

#define ENCODED_PROCESS_BYTES (5 * 4 + 4 * 8 + 6 * 4)

static void decode_processes(struct cursor *in, struct image *image)
{
    image->process_count = decode_count(in, IMAGE_PROCESSES_MAX, ENCODED_PROCESS_BYTES);
    image->processes = xcalloc(image->process_count, sizeof *image->processes);
    for (uint32_t i = 0; i < image->process_count && cursor_ok(in); i++)
        decode_process(in, image, i);
}

static void decode_files(struct cursor *in, struct image *image)
{
    image->file_count = decode_count(in, IMAGE_FILES_MAX, 20);
    image->files = xcalloc(image->file_count, sizeof *image->files);
    for (uint32_t i = 0; i < image->file_count; i++) {
        image->files[i].path = cursor_string(in, MANIFEST_TEXT_MAX);
        image->files[i].bytes = cursor_u64(in);
        image->files[i].modified_ns = (int64_t)cursor_u64(in);
    }
}

static void decode_head(struct cursor *in, struct image *image)
{
    struct bytes release = cursor_blob(in);
    if (release.len >= sizeof image->kernel_release)
        in->failed = true;
    else if (release.len != 0)
        memcpy(image->kernel_release, release.data, release.len);
    struct bytes features = cursor_bytes(in, sizeof image->cpu_features);
    if (features.len != 0)
        memcpy(image->cpu_features, features.data, features.len);
    uint64_t *const numbers[] = {&image->monotonic_ns, &image->boottime_ns, &image->wall_ms,
        &image->page_bytes, &image->bulk_bytes, &image->stash_start, &image->stash_end};
    for (size_t i = 0; i < countof(numbers); i++)
        *numbers[i] = cursor_u64(in);
    image->descriptor_floor = cursor_u32(in);
    image->sandbox_ops_end = cursor_u32(in);
    struct bytes data = cursor_blob(in);
    if (data.len > IMAGE_DATA_MAX || image->bulk_bytes > IMAGE_BULK_MAX ||
        image->descriptor_floor > IMAGE_DESCRIPTORS_MAX)
        in->failed = true;
    else
        buffer_append(&image->data, data.data, data.len);
}

/* The order of a walk through the tree: a process comes directly behind its parent, or behind the last
 * descendant of the child before it. So those of one family, and what is stashed of them, lie together. */
static bool families_lie_together(const struct image *image)
{
    for (uint32_t i = 1; i < image->process_count; i++) {
        uint32_t before = i - 1;
        while (before != image->processes[i].parent && before != 0)
            before = image->processes[before].parent;
        if (before != image->processes[i].parent)
            return false;
    }
    return true;
}

/* The private memory of all processes but the root is stashed inside one range that no process uses, in the
 * order of the processes and their mappings. */
static bool stashes_fit(const struct image *image)
{
    uint64_t end = image->stash_start;
    if (image->stash_start % 4096 != 0 || image->stash_end % 4096 != 0 || image->stash_end < end)
        return false;
    for (uint32_t p = 0; p < image->process_count; p++) {
        const struct image_process *process = &image->processes[p];
        for (uint32_t i = 0; i < process->mapping_count; i++) {
            const struct image_mapping *m = &process->mappings[i];
            if (m->start < image->stash_end && image->stash_start < m->end)
                return false;
            if (m->stash == 0)
                continue;
            if (p == 0 || m->stash % 4096 != 0 || m->stash < end || m->stash > image->stash_end ||
                m->end - m->start > image->stash_end - m->stash)
                return false;
            end = m->stash + (m->end - m->start);
        }
    }
    return true;
}

/* Every process but the root is forked once, by its parent. */
static bool forks_fit(const struct image *image)
{
    bool forked[IMAGE_PROCESSES_MAX] = {true};
    for (uint32_t p = 0; p < image->process_count; p++) {
        const struct plan *plan = &image->processes[p].process_plan;
        for (uint32_t i = 0; i < plan->count; i++) {
            uint64_t index = plan->ops[i].arg[0];
            if (plan->ops[i].kind != PLAN_FORK)
                continue;
            if (image->processes[index].parent != p || forked[index])
                return false;
            forked[index] = true;
        }
    }
    for (uint32_t p = 0; p < image->process_count; p++)
        if (!forked[p])
            return false;
    return true;
}

static int whole_image_fits_together(const struct image *image, struct error *err)
{
    if (image->process_count == 0 || image->sandbox_ops_end > image->processes[0].process_plan.count)
        return error_set(err, ERROR_CORRUPT, "it has no process, or no end of the sandbox part");
    if (!families_lie_together(image) || !forks_fit(image))
        return error_set(err, ERROR_CORRUPT, "its processes are no tree");
    if (!stashes_fit(image))
        return error_set(err, ERROR_CORRUPT, "its stash lies in somebody's way");
    return 0;
}

int image_decode(struct image *image, struct bytes manifest, struct error *err)
{
    *image = (struct image){0};
    struct cursor in = cursor_over(manifest.data, manifest.len);
    if (cursor_u64(&in) != MANIFEST_MAGIC || !cursor_ok(&in))
        return error_set(err, ERROR_CORRUPT, "this is not a snapshot's manifest");
    uint32_t version = cursor_u32(&in);
    if (version != MANIFEST_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "the manifest is of version %u; this thaw reads version %d",
            version, MANIFEST_VERSION);
    decode_head(&in, image);
    decode_processes(&in, image);
    decode_files(&in, image);
    int result = -1;
    if (!cursor_done(&in))
        error_set(err, ERROR_CORRUPT, "the manifest is damaged near byte %zu", manifest.len - in.left);
    else if (whole_image_fits_together(image, err) == 0)
        result = image_check(image, err);
    if (result < 0)
        image_free(image);
    return result < 0 ? error_prefix(err, "the snapshot's plans are refused") : 0;
}
