#include "freeze/descriptors.h"
#include "freeze/family.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The first whose `is` says yes. */
static const struct descriptor_kind *const kinds[] = {&descriptor_kind_stream, &descriptor_kind_log,
    &descriptor_kind_pipe, &descriptor_kind_eventfd, &descriptor_kind_epoll, &descriptor_kind_timerfd,
    &descriptor_kind_signalfd, &descriptor_kind_inotify, &descriptor_kind_unix, &descriptor_kind_tcp,
    &descriptor_kind_udp, &descriptor_kind_netlink, &descriptor_kind_memfd, &descriptor_kind_path,
    &descriptor_kind_device, &descriptor_kind_fifo, &descriptor_kind_folder, &descriptor_kind_deleted,
    &descriptor_kind_pidfd, &descriptor_kind_file};

/* What is never frozen, by what its link begins with. */
static const struct {
    const char *link, *name, *why;
} refused[] = {
    {"anon_inode:[io_uring]", "an io_uring instance", "the kernel works on its rings by itself"},
    {"anon_inode:[userfaultfd]", "a userfaultfd", "its faults belong to an address space that is made anew"},
    {"anon_inode:[fanotify]", "a fanotify group", "it watches files that are made anew"},
    {"anon_inode:[perf_event]", "a perf event", "it counts on a task that is made anew"},
    {"anon_inode:bpf", "a BPF object", "it lives in the kernel only"},
    {"anon_inode:seccomp notify", "a seccomp listener", "it belongs to a filter that is made anew"},
    {"anon_inode:[landlock-ruleset]", "a landlock ruleset", "the kernel does not show its rules"},
    {"anon_inode:[fscontext]", "a file system context", "the kernel does not show its state"},
    {"anon_inode:kvm", "a virtual machine", "it lives in the kernel only"},
    {"mnt:[", "a namespace", "every clone has its own"},
    {"net:[", "a namespace", "every clone has its own"},
    {"pid:[", "a namespace", "every clone has its own"},
    {"user:[", "a namespace", "every clone has its own"},
    {"/dmabuf:", "a DMA buffer", "it belongs to a device"},
    {"/secretmem", "secret memory", "it must not be written anywhere"},
    {"/dev/pts/", "a terminal", "its other end is outside"},
    {"/dev/tty", "a terminal", "its other end is outside"},
    {"/dev/ptmx", "a terminal", "its other end is outside"},
};

/* ---- what each process of a tree takes of it ---- */

/* At the number that stands for it: the lowest free one may be one that another descriptor is still to have. */
static void open_for_itself(struct plan *plan, const struct description *o)
{
    struct plan_arg number = plan_literal((uint64_t)o->fds[0]);
    plan_save(
        plan_call(plan, SYS_pidfd_open, plan_literal((uint64_t)o->opened_pid), plan_literal(o->opened_flags)),
        0);
    plan_call(plan, SYS_dup3, plan_register(0), number, plan_literal(O_CLOEXEC));
    plan_call(plan, SYS_close, plan_register(0));
}

void freeze_take_descriptors(struct freeze *f)
{
    const struct descriptors *d = f->family->freezes[0].descriptors;
    for (size_t i = 0; i < d->count; i++)
        for (size_t k = 0; k < d->list[i].holding_count; k++) {
            const struct holding *h = &d->list[i].holdings[k];
            if (h->who != f)
                continue;
            if (d->list[i].opened_by_each)
                open_for_itself(&f->process->process_plan, &d->list[i]);
            struct plan_op *op =
                plan_call(&f->process->process_plan, SYS_dup3, plan_literal((uint64_t)d->list[i].fds[0]),
                    plan_literal((uint64_t)h->fd), plan_literal(h->close_on_exec ? O_CLOEXEC : 0));
            op->subject = (uint16_t)h->fd;
            plan_expect_value(op, h->fd);
        }
}

void freeze_close_descriptors(struct freeze *f)
{
    const struct descriptors *d = f->family->freezes[0].descriptors;
    plan_call(&f->process->process_plan, SYS_close_range, plan_literal((uint64_t)d->base),
        plan_literal((uint64_t)f->image->descriptor_floor - 1), plan_literal(0));
}

/* ---- what any description may have ---- */

#define release_call(h, number, ...) \
    (plan_call(&(h)->who->process->release_plan, number, __VA_ARGS__)->subject = (uint16_t)(h)->fd)

/* As those who are frozen know it; 0: it is none of them. */
static int32_t inner_number(const struct family *family, pid_t tid)
{
    for (size_t i = 0; i < family->live_count; i++) {
        const struct tracee *t = &family->freezes[i].tracee;
        for (size_t k = 0; k < t->thread_count; k++)
            if (t->threads[k].tid == tid)
                return t->threads[k].inner_tid;
    }
    return 0;
}

/* Who gets SIGIO for it, and whether: at the very end, when every thread is there. */
static int restore_owner(struct descriptors *d, struct description *o, struct error *err)
{
    struct f_owner_ex owner = {0};
    if (o->holding_count == 0 || (o->flags & O_PATH) || fcntl(o->copy, F_GETOWN_EX, &owner) < 0)
        return 0;
    const struct holding *h = &o->holdings[0];
    uint64_t fd = (uint64_t)h->fd;
    int signal_number = fcntl(o->copy, F_GETSIG);
    /* A folder gets an owner by F_NOTIFY only, of which the kernel shows nothing. */
    if (owner.pid != 0 && S_ISDIR(o->st.st_mode))
        return descriptors_refuse(
            d, o, err, "is a folder that sends signals (F_NOTIFY), which cannot be frozen");
    if (owner.pid != 0) {
        struct f_owner_ex inner = {owner.type, inner_number(d->f->family, owner.pid)};
        if (inner.pid == 0)
            return descriptors_refuse(d, o, err, "sends its signals to another process");
        uint64_t data = image_put(d->image, &inner, sizeof inner);
        release_call(h, SYS_fcntl, plan_literal(fd), plan_literal(F_SETOWN_EX), plan_data(data));
    }
    if (signal_number > 0)
        release_call(
            h, SYS_fcntl, plan_literal(fd), plan_literal(F_SETSIG), plan_literal((uint64_t)signal_number));
    if (o->flags & O_ASYNC)
        release_call(h, SYS_fcntl, plan_literal(fd), plan_literal(F_SETFL),
            plan_literal((uint64_t)(o->flags & (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC))));
    return 0;
}

static int choose_kind(struct descriptors *d, struct description *o, struct error *err)
{
    for (size_t i = 0; !descriptor_kind_stream.is(d, o) && i < countof(refused); i++)
        if (strncmp(o->link, refused[i].link, strlen(refused[i].link)) == 0)
            return descriptors_refuse(
                d, o, err, "is %s, which cannot be frozen: %s", refused[i].name, refused[i].why);
    for (size_t i = 0; i < countof(kinds) && !o->kind; i++)
        if (kinds[i]->is(d, o))
            o->kind = kinds[i];
    int family = 0;
    socklen_t len = sizeof family;
    if (!o->kind && getsockopt(o->copy, SOL_SOCKET, SO_DOMAIN, &family, &len) == 0)
        return descriptors_refuse(
            d, o, err, "is a socket of address family %d that cannot be frozen", family);
    if (!o->kind)
        return descriptors_refuse(d, o, err, "is of a kind that cannot be frozen");
    return 0;
}

static int for_each(struct descriptors *d,
    int (*what)(struct descriptors *, struct description *, struct error *), struct error *err)
{
    for (size_t i = 0; i < d->count; i++) {
        d->subject = descriptors_shown_fd(&d->list[i]);
        if (what(d, &d->list[i], err) < 0)
            return -1;
    }
    d->subject = -1;
    return 0;
}

static int read_kind(struct descriptors *d, struct description *o, struct error *err)
{
    return o->kind->read ? o->kind->read(d, o, err) : 0;
}

static int restore_kind(struct descriptors *d, struct description *o, struct error *err)
{
    return o->restored ? 0 : o->kind->restore(d, o, err);
}

static int finish_kind(struct descriptors *d, struct description *o, struct error *err)
{
    return o->kind->finish && o->kind != &descriptor_kind_epoll ? o->kind->finish(d, o, err) : 0;
}

/* Last, so that what finishing the others writes and reads does not become stale readiness. */
static int finish_epoll(struct descriptors *d, struct description *o, struct error *err)
{
    return o->kind == &descriptor_kind_epoll ? o->kind->finish(d, o, err) : 0;
}

/* The copies of all its descriptors are open at once: this process needs as many as that one may have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int compare_notes(const void *a, const void *b)
{
    return ((const struct image_descriptor *)a)->fd - ((const struct image_descriptor *)b)->fd;
}

int freeze_descriptors(struct freeze *f, struct error *err)
{
    struct descriptors *d = xcalloc(1, sizeof *d);
    f->descriptors = d;
    *d = (struct descriptors){
        .f = f, .image = f->image, .max_fd = -1, .root_fd = -1, .subject = -1, .log_at = -1};
    d->content_bytes = tmp_files_bytes(f->tmp_files);
    raise_descriptor_limit();
    d->root_fd = openat(f->tracee.proc_fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (d->root_fd < 0)
        return error_system(err, "cannot open the root of process %d", f->tracee.pid);
    if (f->request->log_fd >= 0 && fstat(f->request->log_fd, &d->log) < 0)
        return error_system(err, "cannot look at the log pipe");
    if (descriptors_read_all(d, err) < 0 || for_each(d, choose_kind, err) < 0 ||
        for_each(d, read_kind, err) < 0 || for_each(d, restore_kind, err) < 0 ||
        for_each(d, finish_kind, err) < 0 || for_each(d, descriptors_restore_locks, err) < 0 ||
        for_each(d, restore_owner, err) < 0 || for_each(d, finish_epoll, err) < 0)
        return -1;
    for (uint32_t i = 0; i < f->image->process_count; i++) {
        struct image_process *process = &f->image->processes[i];
        if (process->descriptor_count > 0)
            qsort(
                process->descriptors, process->descriptor_count, sizeof *process->descriptors, compare_notes);
    }
    return 0;
}

void freeze_forget_descriptors(struct freeze *f)
{
    struct descriptors *d = f->descriptors;
    if (!d)
        return;
    for (size_t i = 0; i < d->count; i++)
        descriptors_free_description(&d->list[i]);
    free(d->list);
    free(d->used);
    fd_close(&d->root_fd);
    free(d->late.ops);
    free(d->last.ops);
    socket_forget_table(d->sockets);
    free(d);
    f->descriptors = NULL;
}
