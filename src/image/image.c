#include "image/image.h"

#include "image/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void process_free(struct image_process *process)
{
    for (uint32_t i = 0; i < process->thread_count; i++)
        free(process->threads[i].plan.ops);
    for (uint32_t i = 0; i < process->mapping_count; i++)
        free(process->mappings[i].name);
    for (uint32_t i = 0; i < process->descriptor_count; i++) {
        free(process->descriptors[i].kind);
        free(process->descriptors[i].detail);
    }
    free(process->threads);
    free(process->mappings);
    free(process->descriptors);
    free(process->template_plan.ops);
    free(process->process_plan.ops);
    free(process->release_plan.ops);
}

void image_free(struct image *image)
{
    for (uint32_t i = 0; i < image->process_count; i++)
        process_free(&image->processes[i]);
    for (uint32_t i = 0; i < image->file_count; i++)
        free(image->files[i].path);
    free(image->processes);
    free(image->files);
    buffer_free(&image->data);
    *image = (struct image){0};
}

struct plan_op *plan_append(
    struct plan *plan, enum plan_op_kind kind, long number, const struct plan_arg *args, size_t arg_count)
{
    if (plan->count == plan->capacity) {
        plan->capacity = plan->capacity ? 2 * plan->capacity : 16;
        plan->ops = xrealloc(plan->ops, plan->capacity * sizeof *plan->ops);
    }
    struct plan_op *op = &plan->ops[plan->count++];
    *op = (struct plan_op){.kind = (uint16_t)kind, .number = (uint16_t)number, .subject = PLAN_NO_SUBJECT};
    for (size_t i = 0; i < arg_count && i < PLAN_ARGS; i++) {
        op->arg_kind[i] = (uint8_t)args[i].kind;
        op->arg[i] = args[i].value;
    }
    return op;
}

uint64_t image_put_aligned(struct image *image, const void *data, size_t len, size_t alignment)
{
    buffer_align(&image->data, alignment);
    uint64_t offset = image->data.len;
    buffer_append(&image->data, data, len);
    return offset;
}

uint64_t image_put(struct image *image, const void *data, size_t len)
{
    return image_put_aligned(image, data, len, 8);
}

uint64_t image_put_string(struct image *image, const char *s)
{
    return image_put_aligned(image, s, strlen(s) + 1, 1);
}

void image_note_descriptor(struct image_process *process, int fd, const char *kind, const char *format, ...)
{
    char detail[MANIFEST_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    process->descriptors =
        xrealloc(process->descriptors, (process->descriptor_count + 1) * sizeof *process->descriptors);
    process->descriptors[process->descriptor_count++] =
        (struct image_descriptor){.fd = fd, .kind = xstrdup(kind), .detail = xstrdup(detail)};
}

void image_note_file(struct image *image, const char *path, uint64_t bytes, int64_t modified_ns)
{
    for (uint32_t i = 0; i < image->file_count; i++)
        if (strcmp(image->files[i].path, path) == 0)
            return;
    image->files = xrealloc(image->files, (image->file_count + 1) * sizeof *image->files);
    image->files[image->file_count++] =
        (struct image_file){.path = xstrdup(path), .bytes = bytes, .modified_ns = modified_ns};
}

/* The encoding: fixed order, little-endian, every list with its count before it. docs/SNAPSHOT.md tells it in
 * prose. */

static void encode_plan(struct buffer *out, const struct plan *plan)
{
    buffer_append_u32(out, plan->count);
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct plan_op *op = &plan->ops[i];
        buffer_append_u16(out, op->kind);
        buffer_append_u16(out, op->number);
        buffer_append_u8(out, op->expect);
        buffer_append_u8(out, op->save);
        buffer_append_u16(out, op->subject);
        buffer_append(out, op->arg_kind, PLAN_ARGS);
        buffer_append_u64(out, (uint64_t)op->expected);
        for (size_t a = 0; a < PLAN_ARGS; a++)
            buffer_append_u64(out, op->arg[a]);
    }
}

static void encode_threads(struct buffer *out, const struct image_process *process)
{
    buffer_append_u32(out, process->thread_count);
    for (uint32_t i = 0; i < process->thread_count; i++) {
        const struct image_thread *thread = &process->threads[i];
        buffer_append_u32(out, (uint32_t)thread->tid);
        buffer_append(out, thread->name, sizeof thread->name);
        buffer_append_u64(out, thread->frame);
        buffer_append_u64(out, thread->stop_address);
        buffer_append_u64(out, (uint64_t)thread->stop_syscall);
        encode_plan(out, &thread->plan);
    }
}

static void encode_mappings(struct buffer *out, const struct image_process *process)
{
    buffer_append_u32(out, process->mapping_count);
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *mapping = &process->mappings[i];
        buffer_append_u64(out, mapping->start);
        buffer_append_u64(out, mapping->end);
        buffer_append_u64(out, mapping->offset);
        buffer_append_u32(out, mapping->protection);
        buffer_append_u32(out, mapping->kind);
        buffer_append_u64(out, mapping->page_count);
        buffer_append_u64(out, mapping->stash);
        buffer_append_string(out, mapping->name);
    }
}

static void encode_descriptors(struct buffer *out, const struct image_process *process)
{
    buffer_append_u32(out, process->descriptor_count);
    for (uint32_t i = 0; i < process->descriptor_count; i++) {
        buffer_append_u32(out, (uint32_t)process->descriptors[i].fd);
        buffer_append_string(out, process->descriptors[i].kind);
        buffer_append_string(out, process->descriptors[i].detail);
    }
}

static void encode_process(struct buffer *out, const struct image_process *process)
{
    buffer_append_u32(out, process->kind);
    buffer_append_u32(out, (uint32_t)process->pid);
    buffer_append_u32(out, process->parent);
    buffer_append_u32(out, (uint32_t)process->session);
    buffer_append_u32(out, (uint32_t)process->group);
    const uint64_t numbers[] = {
        process->vdso_start, process->vdso_bytes, process->vvar_start, process->vvar_bytes};
    for (size_t i = 0; i < countof(numbers); i++)
        buffer_append_u64(out, numbers[i]);
    encode_plan(out, &process->template_plan);
    encode_plan(out, &process->process_plan);
    encode_plan(out, &process->release_plan);
    encode_threads(out, process);
    encode_mappings(out, process);
    encode_descriptors(out, process);
}

static void encode_files(struct buffer *out, const struct image *image)
{
    buffer_append_u32(out, image->file_count);
    for (uint32_t i = 0; i < image->file_count; i++) {
        buffer_append_string(out, image->files[i].path);
        buffer_append_u64(out, image->files[i].bytes);
        buffer_append_u64(out, (uint64_t)image->files[i].modified_ns);
    }
}

void image_encode(struct buffer *out, const struct image *image)
{
    buffer_append_u64(out, MANIFEST_MAGIC);
    buffer_append_u32(out, MANIFEST_VERSION);
    buffer_append_string(out, image->kernel_release);
    buffer_append(out, image->cpu_features, sizeof image->cpu_features);
    const uint64_t numbers[] = {image->monotonic_ns, image->boottime_ns, image->wall_ms, image->page_bytes,
        image->bulk_bytes, image->stash_start, image->stash_end};
    for (size_t i = 0; i < countof(numbers); i++)
        buffer_append_u64(out, numbers[i]);
    buffer_append_u32(out, image->descriptor_floor);
    buffer_append_u32(out, image->sandbox_ops_end);
    buffer_append_blob(out, image->data.data, (uint32_t)image->data.len);
    buffer_append_u32(out, image->process_count);
    for (uint32_t i = 0; i < image->process_count; i++)
        encode_process(out, &image->processes[i]);
    encode_files(out, image);
}

uint32_t image_format_version(void)
{
    return MANIFEST_VERSION;
}
