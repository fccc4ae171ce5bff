/* The numbers that descriptors have in the plan while they are made. */
#include "freeze/descriptors.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

struct plan_op *descriptors_mark(struct descriptors *d, struct plan_op *op)
{
    op->subject = d->subject < 0 ? PLAN_NO_SUBJECT : (uint16_t)d->subject;
    return op;
}

int descriptors_highest(void)
{
    struct rlimit limit;
    int most = IMAGE_DESCRIPTORS_MAX - 1;
    /* The template, which has the limits that this process has, needs some of its own above all of them. */
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < (rlim_t)most + DESCRIPTORS_TEMPLATE_MAX)
        most = (int)limit.rlim_max - 1 - DESCRIPTORS_TEMPLATE_MAX;
    return most - DESCRIPTORS_PARKED_MAX;
}

int descriptors_next(const struct descriptors *d)
{
    size_t fd = 0;
    while (fd < d->used_size && d->used[fd])
        fd++;
    return (int)fd;
}

static void mark_used(struct descriptors *d, int fd, bool used)
{
    if ((size_t)fd >= d->used_size) {
        size_t size = (size_t)fd + 64;
        d->used = xrealloc(d->used, size);
        memset(d->used + d->used_size, 0, size - d->used_size);
        d->used_size = size;
    }
    d->used[fd] = used;
}

static bool is_used(const struct descriptors *d, int fd)
{
    return (size_t)fd < d->used_size && d->used[fd];
}

void descriptors_occupy(struct descriptors *d, int fd)
{
    mark_used(d, fd, true);
}

int descriptors_take(struct descriptors *d)
{
    int fd = descriptors_next(d);
    mark_used(d, fd, true);
    return fd;
}

int descriptors_expect(struct descriptors *d, struct plan_op *op)
{
    int fd = descriptors_take(d);
    plan_expect_value(op, fd);
    return fd;
}

void descriptors_close(struct descriptors *d, int fd)
{
    descriptors_call(d, SYS_close, plan_literal((uint64_t)fd));
    mark_used(d, fd, false);
}

bool descriptors_cloexec_for(const struct description *o, int at)
{
    for (size_t i = 0; i < o->fd_count; i++)
        if (o->fds[i] == at)
            return o->close_on_exec[i];
    return o->fd_count > 0 && o->close_on_exec[0];
}

static void duplicate(struct descriptors *d, int from, int to, bool close_on_exec)
{
    struct plan_op *op = descriptors_call(d, SYS_dup3, plan_literal((uint64_t)from),
        plan_literal((uint64_t)to), plan_literal(close_on_exec ? O_CLOEXEC : 0));
    plan_expect_value(op, to);
    mark_used(d, to, true);
}

int descriptors_park(struct descriptors *d, int at, struct error *err)
{
    int to = d->max_fd + 1;
    while (is_used(d, to))
        to++;
    if (to > d->max_fd + DESCRIPTORS_PARKED_MAX)
        return error_set(
            err, ERROR_INTERNAL, "more than %d helper descriptors at once", DESCRIPTORS_PARKED_MAX);
    duplicate(d, at, to, true);
    descriptors_close(d, at);
    return to;
}

/* Whether one of its numbers is taken by something that has still to move away. */
static bool place_is_blocked(const struct descriptors *d, const struct descriptor_made *m)
{
    for (size_t i = 0; m->of && i < m->of->fd_count; i++)
        if (m->of->fds[i] != m->at && is_used(d, m->of->fds[i]))
            return true;
    return false;
}

static void place(struct descriptors *d, const struct descriptor_made *m)
{
    bool stays = false;
    for (size_t i = 0; m->of && i < m->of->fd_count; i++) {
        bool close_on_exec = m->of->close_on_exec[i];
        if (m->of->fds[i] != m->at) {
            duplicate(d, m->at, m->of->fds[i], close_on_exec);
            continue;
        }
        stays = true;
        if (close_on_exec != m->close_on_exec)
            descriptors_call(d, SYS_fcntl, plan_literal((uint64_t)m->at), plan_literal(F_SETFD),
                plan_literal(close_on_exec ? FD_CLOEXEC : 0));
    }
    if (m->of)
        m->of->restored = true;
    if (!stays)
        descriptors_close(d, m->at);
}

int descriptors_place(struct descriptors *d, struct descriptor_made *made, size_t count, struct error *err)
{
    size_t left = count;
    bool placed[8] = {false};
    if (count > countof(placed))
        return error_set(err, ERROR_INTERNAL, "too many descriptors to place at once");
    while (left > 0) {
        size_t before = left;
        for (size_t i = 0; i < count; i++) {
            if (placed[i] || place_is_blocked(d, &made[i]))
                continue;
            place(d, &made[i]);
            placed[i] = true;
            left--;
        }
        /* They stand in each other's way: one steps aside. */
        for (size_t i = 0; left == before && i < count; i++) {
            if (placed[i] || made[i].at > d->max_fd)
                continue;
            made[i].at = descriptors_park(d, made[i].at, err);
            made[i].close_on_exec = true;
            if (made[i].at < 0)
                return -1;
            before++;
        }
        if (left == before)
            return error_set(err, ERROR_INTERNAL, "descriptors cannot be placed");
    }
    return 0;
}

int descriptors_place_one(
    struct descriptors *d, struct description *o, int at, bool close_on_exec, struct error *err)
{
    struct descriptor_made made = {o, at, close_on_exec};
    return descriptors_place(d, &made, 1, err);
}

void descriptors_set_flags(struct descriptors *d, const struct description *o, int created_with)
{
    const int settable = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;
    if (o->fd_count > 0 && ((o->flags ^ created_with) & settable))
        descriptors_call(d, SYS_fcntl, plan_literal((uint64_t)o->fds[0]), plan_literal(F_SETFL),
            plan_literal((uint64_t)(o->flags & settable)));
}

int descriptors_keep_for_all(struct descriptors *d, int at)
{
    int to = ++d->max_fd;
    duplicate(d, at, to, true);
    descriptors_close(d, at);
    return to;
}

void descriptors_append_plan(struct plan *to, const struct plan *from)
{
    for (uint32_t i = 0; i < from->count; i++)
        *plan_append(to, (enum plan_op_kind)from->ops[i].kind, from->ops[i].number, NULL, 0) = from->ops[i];
}
