/* The check of every operation, against the rules and against the rest of the image. */
#include "image/check.h"

#include "image/rules.h"
#include "image/syscall_names.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PAGE 4096ull
#define CAP_HEADER_BYTES 8
#define CAP_SETS_BYTES 24
#define NEVER UINT32_MAX
#define MAP_FIXED_NO_REPLACE 0x100000
#define MAP_DROP 8 /* MAP_DROPPABLE */
#define MAP_ALLOWED \
    (MAP_SHARED | MAP_PRIVATE | MAP_DROP | MAP_FIXED | MAP_FIXED_NO_REPLACE | MAP_ANONYMOUS | \
        MAP_NORESERVE | MAP_GROWSDOWN)

/* Bytes of the data area that say which rights a thread keeps: nothing may write to them. */
struct kept {
    uint64_t start, end;
};

/* The rules of a system call, or of another operation, as chains: a big snapshot has a hundred thousand operations. */
#define CALLS_MAX 512
struct rule_index {
    uint16_t first_of_call[CALLS_MAX], first_of_kind[PLAN_BARRIER + 1]; /* 1 + the rule's place; 0: none */
    uint16_t next[RULES_MAX];
};

struct check {
    const struct image *image;
    struct rule_index rules;
    struct kept *kept; /* sorted */
    size_t kept_count;
    uint64_t pages_read; /* by the template plans so far */
    /* Of the plan that is being checked: */
    const struct image_process *process;
    uint8_t plans; /* enum rule_plan */
    bool saved[PLAN_REGISTERS], holds_fd[PLAN_REGISTERS];
    const char *why;
};

/* ---- the rights that threads keep ---- */

static bool is_capset(const struct plan_op *op)
{
    return op->kind == PLAN_SYSCALL && op->number == SYS_capset;
}

static bool is_ambient(const struct plan_op *op)
{
    return op->kind == PLAN_SYSCALL && op->number == SYS_prctl && op->arg[0] == PR_CAP_AMBIENT;
}

static const char *check_last_ops(const struct plan *plan, const struct image *image, uint32_t *settled)
{
    uint32_t last = plan->count;
    while (last > 0 && is_ambient(&plan->ops[last - 1]))
        last--;
    *settled = last == 0 ? NEVER : last - 1;
    if (*settled == NEVER || !is_capset(&plan->ops[*settled]))
        return "does not end with settling the thread's rights";
    const struct plan_op *op = &plan->ops[*settled];
    struct __user_cap_header_struct header;
    if (op->expect != PLAN_EXPECT_SUCCESS || op->arg_kind[0] != PLAN_DATA || op->arg_kind[1] != PLAN_DATA ||
        image->data.len < CAP_SETS_BYTES || op->arg[0] > image->data.len - CAP_HEADER_BYTES ||
        op->arg[1] > image->data.len - CAP_SETS_BYTES)
        return "settles the thread's rights with bytes that are not there";
    memcpy(&header, image->data.data + op->arg[0], sizeof header);
    if (header.version != _LINUX_CAPABILITY_VERSION_3 || header.pid != 0)
        return "settles the rights of somebody else";
    return NULL;
}

static void keep(struct check *c, uint64_t start, uint64_t bytes)
{
    c->kept[c->kept_count++] = (struct kept){start, start + bytes};
}

static int compare_kept(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static int check_rights(struct check *c, struct error *err)
{
    size_t threads = 0;
    for (uint32_t p = 0; p < c->image->process_count; p++)
        threads += c->image->processes[p].thread_count;
    c->kept = xcalloc(2 * threads + 1, sizeof *c->kept);
    for (uint32_t p = 0; p < c->image->process_count; p++) {
        const struct image_process *process = &c->image->processes[p];
        for (uint32_t i = 0; i < process->thread_count; i++) {
            const struct plan *plan = &process->threads[i].plan;
            uint32_t settled;
            const char *why = check_last_ops(plan, c->image, &settled);
            if (why != NULL)
                return error_set(err, ERROR_CORRUPT, "process %u, plan of thread %u: it %s", p, i, why);
            keep(c, plan->ops[settled].arg[0], CAP_HEADER_BYTES);
            keep(c, plan->ops[settled].arg[1], CAP_SETS_BYTES);
        }
    }
    qsort(c->kept, c->kept_count, sizeof *c->kept, compare_kept);
    return 0;
}

/* Ranges are short and may overlap, so those that begin a little before are looked at, too. */
static bool overlaps_kept(const struct check *c, uint64_t start, uint64_t bytes)
{
    size_t low = 0, high = c->kept_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->kept[middle].start + CAP_SETS_BYTES <= start)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < c->kept_count && c->kept[low].start < start + bytes; low++)
        if (c->kept[low].end > start)
            return true;
    return false;
}

bool image_gives_rights(const struct image *image)
{
    for (uint32_t p = 0; p < image->process_count; p++)
        for (uint32_t i = 0; i < image->processes[p].thread_count; i++) {
            const struct plan *plan = &image->processes[p].threads[i].plan;
            uint32_t settled;
            if (check_last_ops(plan, image, &settled) != NULL || settled != plan->count - 1)
                return true;
            const uint8_t *sets = image->data.data + plan->ops[settled].arg[1];
            for (size_t b = 0; b < CAP_SETS_BYTES; b++)
                if (sets[b] != 0)
                    return true;
        }
    return false;
}

/* ---- memory ---- */

bool image_is_mapped(const struct image_process *process, uint64_t start, uint64_t bytes)
{
    uint32_t low = 0, high = process->mapping_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (process->mappings[middle].end <= start)
            low = middle + 1;
        else
            high = middle;
    }
    if (bytes == 0 || start + bytes < start)
        return false;
    for (uint64_t at = start; low < process->mapping_count; low++) {
        const struct image_mapping *m = &process->mappings[low];
        if (m->start > at || m->kind == IMAGE_SPECIAL)
            return false;
        if (m->end >= start + bytes)
            return true;
        at = m->end;
    }
    return false;
}

static bool is_memory(const struct check *c, const struct plan_op *op, size_t a, int64_t length_at)
{
    return op->arg_kind[a] == PLAN_LITERAL && op->arg_kind[length_at] == PLAN_LITERAL &&
           op->arg[a] % PAGE == 0 && op->arg[length_at] % PAGE == 0 &&
           image_is_mapped(c->process, op->arg[a], op->arg[length_at]);
}

/* ---- arguments ---- */

static bool is_data(const struct check *c, const struct plan_op *op, size_t a, uint64_t bytes)
{
    uint64_t len = c->image->data.len;
    return op->arg_kind[a] == PLAN_DATA && bytes <= len && op->arg[a] <= len - bytes;
}

static bool is_text(const struct check *c, const struct plan_op *op, size_t a)
{
    if (!is_data(c, op, a, 1))
        return false;
    const struct buffer *data = &c->image->data;
    return memchr(data->data + op->arg[a], '\0', data->len - op->arg[a]) != NULL;
}

/* Not a way to another process, which the template's rights could open. */
static bool is_path(const struct check *c, const struct plan_op *op, size_t a)
{
    if (!is_text(c, op, a))
        return false;
    const char *path = (const char *)c->image->data.data + op->arg[a];
    if (strncmp(path, "/proc/", 6) != 0)
        return true;
    char *end;
    long pid = strtol(path + 6, &end, 10);
    if (strncmp(path + 6, "self/", 5) != 0 && strncmp(path + 6, "thread-self/", 12) != 0 && end == path + 6)
        return strstr(path, "..") == NULL;
    return (end == path + 6 || pid == c->process->pid) && strstr(path, "..") == NULL;
}

static bool is_fd_register(const struct check *c, const struct plan_op *op, size_t a)
{
    return op->arg_kind[a] == PLAN_REGISTER && c->holds_fd[op->arg[a]];
}

static bool is_listed(const int16_t *list, uint64_t value)
{
    for (; *list >= 0; list++)
        if ((uint64_t)*list == value)
            return true;
    return false;
}

static bool has_length(const struct plan_op *op, const struct rule_arg *rule)
{
    return op->arg_kind[rule->n] == PLAN_LITERAL;
}

static bool is_literal_kind(enum rule_arg_kind kind)
{
    return kind <= RULE_PID || kind == RULE_POINTER;
}

static bool literal_fits(const struct check *c, const struct rule_arg *rule, uint64_t value)
{
    switch (rule->kind) {
    case RULE_ZERO:
        return value == 0;
    case RULE_IS:
        return value == (uint64_t)rule->n;
    case RULE_MAX:
        return value <= (uint64_t)rule->n;
    case RULE_BITS:
        return (value & ~(uint64_t)rule->n) == 0;
    case RULE_LIST:
        return is_listed(rule->list, value);
    case RULE_PID:
        return value == (uint64_t)c->process->pid;
    default:
        return true;
    }
}

static bool arg_fits(const struct check *c, const struct plan_op *op, size_t a, const struct rule_arg *rule)
{
    if (is_literal_kind((enum rule_arg_kind)rule->kind))
        return op->arg_kind[a] == PLAN_LITERAL && literal_fits(c, rule, op->arg[a]);
    switch (rule->kind) {
    case RULE_FD:
        return op->arg_kind[a] == PLAN_LITERAL || is_fd_register(c, op, a);
    case RULE_MADE:
        return is_fd_register(c, op, a);
    case RULE_SLOTS:
        return op->arg_kind[a] == PLAN_SLOT && (rule->n >> op->arg[a] & 1) != 0;
    case RULE_TEXT:
        return is_text(c, op, a);
    case RULE_PATH:
        return is_path(c, op, a);
    case RULE_IN:
        return is_data(c, op, a, (uint64_t)rule->n);
    case RULE_IN_LEN:
        return has_length(op, rule) && is_data(c, op, a, op->arg[rule->n]);
    case RULE_FILE_LEN:
        return has_length(op, rule) && op->arg_kind[a] == PLAN_BULK &&
               op->arg[rule->n] <= c->image->bulk_bytes &&
               op->arg[a] <= c->image->bulk_bytes - op->arg[rule->n];
    case RULE_OUT:
        return is_data(c, op, a, (uint64_t)rule->n) && !overlaps_kept(c, op->arg[a], (uint64_t)rule->n);
    case RULE_OUT_LEN:
        return has_length(op, rule) && is_data(c, op, a, op->arg[rule->n]) &&
               !overlaps_kept(c, op->arg[a], op->arg[rule->n]);
    case RULE_MEMORY:
        return is_memory(c, op, a, rule->n);
    case RULE_VALUE:
        return true;
    default:
        return false;
    }
}

static bool rule_fits(const struct check *c, const struct plan_op *op, const struct rule *rule)
{
    for (size_t a = 0; a < PLAN_ARGS; a++)
        if (!arg_fits(c, op, a, &rule->args[a]))
            return false;
    return true;
}

/* ---- what the rules cannot say ---- */

static bool map_is_sound(const struct plan_op *op)
{
    bool anonymous = (op->arg[3] & MAP_ANONYMOUS) != 0;
    return (op->arg[3] & ~(uint64_t)MAP_ALLOWED) == 0 &&
           (op->arg[3] & (MAP_FIXED | MAP_FIXED_NO_REPLACE)) != 0 &&
           anonymous == (op->arg_kind[4] == PLAN_LITERAL && op->arg[4] == UINT64_MAX) &&
           op->expect == PLAN_EXPECT_VALUE && (uint64_t)op->expected == op->arg[0];
}

/* Programs in the kernel are none of a function's. */
static bool option_is_plain(const struct plan_op *op)
{
    static const int programs[] = {
        SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF};
    for (size_t i = 0; i < countof(programs); i++)
        if (op->arg[1] == SOL_SOCKET && op->arg[2] == (uint64_t)programs[i])
            return false;
    return true;
}

static bool node_is_plain(const struct plan_op *op)
{
    return (op->arg[2] & S_IFMT) == S_IFIFO || (op->arg[2] & S_IFMT) == S_IFSOCK;
}

static const char *look_closer(struct check *c, const struct plan_op *op)
{
    if (op->kind == PLAN_READ_PAGES || op->kind == PLAN_LAZY_PAGES) {
        if (op->arg[1] > c->image->page_bytes - c->pages_read)
            return "reads more pages than there are";
        c->pages_read += op->arg[1];
    }
    if (op->kind != PLAN_SYSCALL)
        return NULL;
    if (op->number == SYS_mmap && !map_is_sound(op))
        return "maps in a way that no snapshot needs";
    if (op->number == SYS_setsockopt && !option_is_plain(op))
        return "gives a program to the kernel";
    if (op->number == SYS_mknodat && !node_is_plain(op))
        return "makes a device";
    if (op->number == SYS_setgroups && !is_data(c, op, 1, 4 * op->arg[0]))
        return "names more groups than there are";
    return NULL;
}

static bool makes_fd(const struct plan_op *op)
{
    static const uint16_t makers[] = {SYS_openat, SYS_memfd_create, SYS_socket, SYS_accept4, SYS_dup3,
        SYS_eventfd2, SYS_epoll_create1, SYS_signalfd4, SYS_timerfd_create, SYS_inotify_init1, SYS_pidfd_open,
        SYS_fcntl};
    if (op->kind == PLAN_LOAD) /* of what pipe2 or socketpair has left */
        return op->arg[1] == 4;
    if (op->kind != PLAN_SYSCALL || op->expect == PLAN_EXPECT_ANYTHING)
        return false;
    for (size_t i = 0; i < countof(makers); i++)
        if (op->number == makers[i])
            return true;
    return false;
}

/* What is read from a register must have been put there, by the same plan. */
static bool registers_are_set(const struct check *c, const struct plan_op *op)
{
    for (size_t a = 0; a < PLAN_ARGS; a++)
        if (op->arg_kind[a] == PLAN_REGISTER && !c->saved[op->arg[a]])
            return false;
    return true;
}

static void index_rules(struct rule_index *index)
{
    for (size_t i = image_rule_count; i-- > 0;) {
        const struct rule *rule = &image_rules[i];
        uint16_t *first = rule->kind == PLAN_SYSCALL ? &index->first_of_call[rule->number]
                                                     : &index->first_of_kind[rule->kind];
        index->next[i] = *first;
        *first = (uint16_t)(i + 1);
    }
}

static uint16_t first_rule(const struct rule_index *index, const struct plan_op *op)
{
    if (op->kind != PLAN_SYSCALL)
        return index->first_of_kind[op->kind];
    return op->number < CALLS_MAX ? index->first_of_call[op->number] : 0;
}

static const char *check_op(struct check *c, const struct plan_op *op)
{
    const char *why = "is not one that this plan may have";
    if (!registers_are_set(c, op))
        return "reads a register that nothing was put into";
    for (uint16_t i = first_rule(&c->rules, op); i != 0; i = c->rules.next[i - 1]) {
        const struct rule *rule = &image_rules[i - 1];
        if ((rule->plans & c->plans) == 0)
            continue;
        if (rule_fits(c, op, rule))
            return look_closer(c, op);
        why = "has arguments that this plan may not give it";
    }
    return why;
}

static const char *op_name(const struct plan_op *op, char text[32])
{
    static const char *const kinds[] = {[PLAN_READ_PAGES] = "read pages",
        [PLAN_LAZY_PAGES] = "pages on demand",
        [PLAN_STORE] = "store",
        [PLAN_LOAD] = "load",
        [PLAN_WRITE_ALL] = "write all",
        [PLAN_COPY] = "copy",
        [PLAN_FORK] = "fork",
        [PLAN_BECOME] = "become",
        [PLAN_BARRIER] = "barrier"};
    if (op->kind != PLAN_SYSCALL)
        return op->kind < countof(kinds) ? kinds[op->kind] : "?";
    const char *name = syscall_name(op->number);
    if (name != NULL)
        return name;
    snprintf(text, 32, "system call %u", op->number);
    return text;
}

/* ---- plans ---- */

struct whereabouts {
    uint32_t process;
    const char *plan;
    uint32_t thread; /* or NEVER */
};

static int check_plan(struct check *c, const struct plan *plan, uint8_t plans, uint32_t sandbox_ops,
    const struct whereabouts *where, struct error *err)
{
    memset(c->saved, 0, sizeof c->saved);
    memset(c->holds_fd, 0, sizeof c->holds_fd);
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct plan_op *op = &plan->ops[i];
        c->plans = i < sandbox_ops ? RULE_SANDBOX : plans;
        const char *why = check_op(c, op);
        if (why != NULL) {
            char text[32], thread[32] = "";
            if (where->thread != NEVER)
                snprintf(thread, sizeof thread, " of thread %u", where->thread);
            return error_set(err, ERROR_CORRUPT, "process %u, %s plan%s, operation %u (%s): it %s",
                where->process, where->plan, thread, i, op_name(op, text), why);
        }
        if (op->save != 0) {
            c->saved[op->save - 1] = true;
            c->holds_fd[op->save - 1] = makes_fd(op);
        }
    }
    return 0;
}

static int check_process(struct check *c, uint32_t index, struct error *err)
{
    const struct image_process *process = &c->image->processes[index];
    struct whereabouts where = {.process = index, .thread = NEVER};
    uint32_t sandbox_ops = index == 0 ? c->image->sandbox_ops_end : 0;
    c->process = process;
    where.plan = "template";
    if (check_plan(c, &process->template_plan, RULE_TEMPLATE, 0, &where, err) < 0)
        return -1;
    where.plan = "process";
    if (check_plan(c, &process->process_plan, RULE_PROCESS, sandbox_ops, &where, err) < 0)
        return -1;
    where.plan = "release";
    if (check_plan(c, &process->release_plan, RULE_RELEASE, 0, &where, err) < 0)
        return -1;
    where.plan = "thread";
    for (uint32_t i = 0; i < process->thread_count; i++) {
        where.thread = i;
        if (check_plan(c, &process->threads[i].plan, RULE_THREAD, 0, &where, err) < 0)
            return -1;
    }
    return 0;
}

int image_check(const struct image *image, struct error *err)
{
    struct check c = {.image = image};
    index_rules(&c.rules);
    int result = check_rights(&c, err);
    for (uint32_t i = 0; i < image->process_count && result == 0; i++)
        result = check_process(&c, i, err);
    free(c.kept);
    if (result == 0 && c.pages_read != image->page_bytes)
        return error_set(
            err, ERROR_CORRUPT, "the template plans read %lu bytes of %lu", c.pages_read, image->page_bytes);
    return result;
}
