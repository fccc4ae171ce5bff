/* A snapshot for people (and as JSON for scripts): what it holds, and its plans as strace would print a
 * trace. */
#include "image/image.h"
#include "image/syscall_names.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define MEGABYTE 1048576.0
#define TEXT_SHOWN 60

static const char *const slot_names[PLAN_SLOT_COUNT] = {"<sandbox init>", "<report>", "<log>", "<code mount>",
    "<cgroup 0>", "<cgroup 1>", "<cgroup 2>", "<stdin>", "<stdout>", "<stderr>"};

static void print_json_string(struct buffer *out, const char *s)
{
    buffer_append_u8(out, '"');
    for (; *s != '\0'; s++) {
        if (*s == '"' || *s == '\\')
            buffer_printf(out, "\\%c", *s);
        else if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
            buffer_printf(out, "\\u%04x", (unsigned char)*s);
        else
            buffer_append_u8(out, (uint8_t)*s);
    }
    buffer_append_u8(out, '"');
}

/* A data argument that reads as text is shown as text. */
static bool print_as_text(struct buffer *out, const struct image *image, uint64_t offset)
{
    const uint8_t *at = image->data.data + offset;
    size_t left = image->data.len - offset, len = 0;
    while (len < left && isprint(at[len]))
        len++;
    if (len == 0 || len == left || at[len] != '\0')
        return false;
    buffer_printf(
        out, "\"%.*s\"%s", (int)(len < TEXT_SHOWN ? len : TEXT_SHOWN), at, len > TEXT_SHOWN ? "..." : "");
    return true;
}

static void print_arg(struct buffer *out, const struct image *image, const struct plan_op *op, size_t a)
{
    uint64_t value = op->arg[a];
    switch (op->arg_kind[a]) {
    case PLAN_DATA:
        if (value >= image->data.len || !print_as_text(out, image, value))
            buffer_printf(out, "data+%#lx", value);
        break;
    case PLAN_BULK:
        buffer_printf(out, "bulk+%#lx", value);
        break;
    case PLAN_SLOT:
        buffer_printf(out, "%s", slot_names[value]);
        break;
    case PLAN_REGISTER:
        buffer_printf(out, "r%lu", value);
        break;
    default:
        buffer_printf(out,
            (int64_t)value < 0 && (int64_t)value > -4096 ? "%ld"
            : value < 65536                              ? "%lu"
                                                         : "%#lx",
            value);
    }
}

static const char *op_name(const struct plan_op *op, char number[24])
{
    static const char *const kinds[] = {[PLAN_READ_PAGES] = "*read pages*",
        [PLAN_LAZY_PAGES] = "*lazy pages*",
        [PLAN_STORE] = "*store*",
        [PLAN_LOAD] = "*load*",
        [PLAN_WRITE_ALL] = "*write all*",
        [PLAN_COPY] = "*copy*",
        [PLAN_FORK] = "*fork*",
        [PLAN_BECOME] = "*become*",
        [PLAN_BARRIER] = "*barrier*"};
    if (op->kind != PLAN_SYSCALL)
        return kinds[op->kind];
    const char *name = syscall_name(op->number);
    snprintf(number, 24, "syscall_%u", op->number);
    return name != NULL ? name : number;
}

static void print_op(struct buffer *out, const struct image *image, const struct plan_op *op)
{
    char number[24];
    size_t args = PLAN_ARGS;
    while (args > 0 && op->arg_kind[args - 1] == PLAN_LITERAL && op->arg[args - 1] == 0)
        args--;
    buffer_printf(out, "%s(", op_name(op, number));
    for (size_t a = 0; a < args; a++) {
        if (a > 0)
            buffer_printf(out, ", ");
        print_arg(out, image, op, a);
    }
    buffer_printf(out, ")");
    if (op->save != 0)
        buffer_printf(out, " -> r%d", op->save - 1);
    if (op->expect == PLAN_EXPECT_VALUE)
        buffer_printf(out, (uint64_t)op->expected < 65536 ? " = %ld" : " = %#lx", op->expected);
}

static void print_plan(
    struct buffer *out, const struct image *image, const struct plan *plan, const char *title)
{
    buffer_printf(out, "\n%s (%u operations)\n", title, plan->count);
    for (uint32_t i = 0; i < plan->count; i++) {
        buffer_printf(out, "%5u  ", i);
        print_op(out, image, &plan->ops[i]);
        if (plan->ops[i].subject != PLAN_NO_SUBJECT)
            buffer_printf(out, "   # descriptor %u", plan->ops[i].subject);
        buffer_printf(out, "\n");
    }
}

static void protection_text(char text[4], uint32_t protection)
{
    snprintf(text, 4, "%c%c%c", protection & PROT_READ ? 'r' : '-', protection & PROT_WRITE ? 'w' : '-',
        protection & PROT_EXEC ? 'x' : '-');
}

static const char *mapping_kind_name(uint32_t kind)
{
    static const char *const names[] = {"?", "anonymous", "file", "shared", "special"};
    return names[kind < countof(names) ? kind : 0];
}

/* Sums over all processes. */
struct totals {
    uint32_t threads, mappings, descriptors, template_ops, process_ops, release_ops;
};

static struct totals count_totals(const struct image *image)
{
    struct totals sum = {0};
    for (uint32_t i = 0; i < image->process_count; i++) {
        const struct image_process *process = &image->processes[i];
        sum.threads += process->thread_count;
        sum.mappings += process->mapping_count;
        sum.descriptors += process->descriptor_count;
        sum.template_ops += process->template_plan.count;
        sum.process_ops += process->process_plan.count;
        sum.release_ops += process->release_plan.count;
    }
    return sum;
}

static void print_head(struct buffer *out, const struct image *image)
{
    uint64_t own_pages = image->page_bytes / 4096;
    struct totals sum = count_totals(image);
    if (image->process_count > 1)
        buffer_printf(out, "processes    %u, %u threads\n", image->process_count, sum.threads);
    else
        buffer_printf(out, "process      %d, %u thread%s\n", image->processes[0].pid, sum.threads,
            sum.threads == 1 ? "" : "s");
    buffer_printf(out, "memory       %.1f MB in %lu pages, %u mappings\n",
        (double)image->page_bytes / MEGABYTE, own_pages, sum.mappings);
    buffer_printf(out, "descriptors  %u\n", sum.descriptors);
    buffer_printf(out, "relies on    %u files\n", image->file_count);
    buffer_printf(out,
        "plan         %u operations for the template; %u for the process and %u to release it in each "
        "clone\n",
        sum.template_ops, sum.process_ops, sum.release_ops);
    buffer_printf(out, "data         %.1f KB, and %.1f MB of files' contents\n",
        (double)image->data.len / 1024, (double)image->bulk_bytes / MEGABYTE);
    buffer_printf(out, "kernel       %s\n", image->kernel_release);
}

static void print_lists(struct buffer *out, const struct image_process *process)
{
    buffer_printf(out, "\nThreads\n%7s  %-16s %-18s %s\n", "tid", "name", "at", "in");
    for (uint32_t i = 0; i < process->thread_count; i++) {
        const struct image_thread *t = &process->threads[i];
        const char *name = t->stop_syscall < 0 ? "its own code" : syscall_name((uint16_t)t->stop_syscall);
        buffer_printf(out, "%7d  %-16s %#-18lx ", t->tid, t->name, t->stop_address);
        if (name != NULL)
            buffer_printf(out, "%s\n", name);
        else
            buffer_printf(out, "system call %ld\n", t->stop_syscall);
    }
    buffer_printf(out, "\nDescriptors\n%7s  %-14s %s\n", "fd", "kind", "detail");
    for (uint32_t i = 0; i < process->descriptor_count; i++)
        buffer_printf(out, "%7d  %-14s %s\n", process->descriptors[i].fd, process->descriptors[i].kind,
            process->descriptors[i].detail);
    buffer_printf(
        out, "\nMappings\n%-14s %-14s %-4s %-9s %8s  %s\n", "start", "end", "prot", "kind", "pages", "name");
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        char protection[4];
        protection_text(protection, m->protection);
        buffer_printf(out, "%-14lx %-14lx %-4s %-9s %8lu  %s\n", m->start, m->end, protection,
            mapping_kind_name(m->kind), m->page_count, m->name);
    }
}

static void print_plans(struct buffer *out, const struct image *image, const struct image_process *process)
{
    print_plan(out, image, &process->template_plan, "Plan: template, once");
    print_plan(out, image, &process->process_plan, "Plan: process, in each clone");
    for (uint32_t i = 0; i < process->thread_count; i++) {
        char title[64];
        snprintf(title, sizeof title, "Plan: thread %d", process->threads[i].tid);
        print_plan(out, image, &process->threads[i].plan, title);
    }
    print_plan(out, image, &process->release_plan, "Plan: release, last in each clone");
}

/* One line for each process, each below its parent and further to the right. */
static void print_tree(struct buffer *out, const struct image *image, uint32_t index, int depth)
{
    const struct image_process *process = &image->processes[index];
    static const char *const kinds[] = {"", "(has ended)", "(helper)"};
    buffer_printf(out, "%7d %7d %7d  %*s%s\n", process->pid, process->group, process->session, 2 * depth, "",
        process->thread_count > 0 ? process->threads[0].name : kinds[process->kind]);
    for (uint32_t i = index + 1; i < image->process_count; i++)
        if (image->processes[i].parent == index)
            print_tree(out, image, i, depth + 1);
}

static void print_text(struct buffer *out, const struct image *image, bool plan)
{
    print_head(out, image);
    if (image->process_count > 1) {
        buffer_printf(out, "\nProcesses\n%7s %7s %7s  %s\n", "pid", "group", "session", "name");
        print_tree(out, image, 0, 0);
    }
    for (uint32_t i = 0; i < image->process_count; i++) {
        const struct image_process *process = &image->processes[i];
        if (image->process_count > 1)
            buffer_printf(out, "\n==== process %d\n", process->pid);
        print_lists(out, process);
        if (plan)
            print_plans(out, image, process);
    }
}

static void print_json_plan(struct buffer *out, const struct image *image, const struct plan *plan)
{
    buffer_printf(out, "[");
    for (uint32_t i = 0; i < plan->count; i++) {
        CLEANUP_BUFFER struct buffer line = {0};
        print_op(&line, image, &plan->ops[i]);
        buffer_append_u8(&line, 0);
        buffer_printf(out, "%s", i ? "," : "");
        print_json_string(out, (char *)line.data);
    }
    buffer_printf(out, "]");
}

static void print_json_lists(struct buffer *out, const struct image_process *process)
{
    buffer_printf(out, ",\"threads\":[");
    for (uint32_t i = 0; i < process->thread_count; i++) {
        buffer_printf(out, "%s{\"tid\":%d,\"name\":", i ? "," : "", process->threads[i].tid);
        print_json_string(out, process->threads[i].name);
        buffer_printf(out, ",\"system_call\":%ld}", process->threads[i].stop_syscall);
    }
    buffer_printf(out, "],\"descriptors\":[");
    for (uint32_t i = 0; i < process->descriptor_count; i++) {
        buffer_printf(out, "%s{\"fd\":%d,\"kind\":", i ? "," : "", process->descriptors[i].fd);
        print_json_string(out, process->descriptors[i].kind);
        buffer_printf(out, ",\"detail\":");
        print_json_string(out, process->descriptors[i].detail);
        buffer_printf(out, "}");
    }
    buffer_printf(out, "],\"mappings\":[");
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        char protection[4];
        protection_text(protection, m->protection);
        buffer_printf(out,
            "%s{\"start\":\"%#lx\",\"end\":\"%#lx\",\"protection\":\"%s\",\"kind\":\"%s\",\"pages\":%lu,"
            "\"name\":",
            i ? "," : "", m->start, m->end, protection, mapping_kind_name(m->kind), m->page_count);
        print_json_string(out, m->name);
        buffer_printf(out, "}");
    }
    buffer_printf(out, "]");
}

static void print_json_plans(
    struct buffer *out, const struct image *image, const struct image_process *process)
{
    buffer_printf(out, ",\"plan\":{\"template\":");
    print_json_plan(out, image, &process->template_plan);
    buffer_printf(out, ",\"process\":");
    print_json_plan(out, image, &process->process_plan);
    buffer_printf(out, ",\"threads\":[");
    for (uint32_t i = 0; i < process->thread_count; i++) {
        buffer_printf(out, "%s", i ? "," : "");
        print_json_plan(out, image, &process->threads[i].plan);
    }
    buffer_printf(out, "],\"release\":");
    print_json_plan(out, image, &process->release_plan);
    buffer_printf(out, "}");
}

/* The root's members stand beside those of the whole snapshot; "children" are the other processes. */
static void print_json(struct buffer *out, const struct image *image, bool plan)
{
    const struct image_process *root = &image->processes[0];
    buffer_printf(out, "{\"pid\":%d,\"page_bytes\":%lu,\"data_bytes\":%zu,\"kernel\":", root->pid,
        image->page_bytes, image->data.len);
    print_json_string(out, image->kernel_release);
    buffer_printf(out, ",\"operations\":{\"template\":%u,\"process\":%u,\"release\":%u}",
        root->template_plan.count, root->process_plan.count, root->release_plan.count);
    print_json_lists(out, root);
    if (plan)
        print_json_plans(out, image, root);
    buffer_printf(out, ",\"children\":[");
    for (uint32_t i = 1; i < image->process_count; i++) {
        const struct image_process *process = &image->processes[i];
        static const char *const kinds[] = {"live", "zombie", "helper"};
        buffer_printf(out, "%s{\"pid\":%d,\"parent\":%d,\"kind\":\"%s\",\"group\":%d,\"session\":%d",
            i > 1 ? "," : "", process->pid, image->processes[process->parent].pid, kinds[process->kind],
            process->group, process->session);
        print_json_lists(out, process);
        if (plan)
            print_json_plans(out, image, process);
        buffer_printf(out, "}");
    }
    buffer_printf(out, "]}\n");
}

void image_print(struct buffer *out, const struct image *image, bool plan, bool json)
{
    if (json)
        print_json(out, image, plan);
    else
        print_text(out, image, plan);
}
