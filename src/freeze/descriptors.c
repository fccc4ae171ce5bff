#include "freeze/descriptors.h"
#include "freeze/family.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INFO_MAX (8u << 20) /* fdinfo of an epoll with very many members */

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

/* ---- the plan's numbers ---- */

struct plan_op *descriptors_mark(struct descriptors *d, struct plan_op *op)
{
    op->subject = d->subject < 0 ? PLAN_NO_SUBJECT : (uint16_t)d->subject;
    return op;
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

/* ---- reading ---- */

const char *descriptors_info_line(const struct description *o, const char *key, size_t n)
{
    return descriptors_text_line(&o->info, key, n);
}

const char *descriptors_text_line(const struct buffer *info, const char *key, size_t n)
{
    size_t len = strlen(key);
    const char *line = (const char *)info->data;
    while (line && *line) {
        if (strncmp(line, key, len) == 0 && n-- == 0)
            return line + len;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

bool descriptors_info_number(const struct description *o, const char *key, int base, uint64_t *value)
{
    const char *text = descriptors_info_line(o, key, 0);
    if (!text)
        return false;
    *value = strtoull(text, NULL, base);
    return true;
}

struct description *descriptors_find_fd(struct descriptors *d, const struct freeze *who, int fd)
{
    for (size_t i = 0; i < d->count; i++)
        for (size_t k = 0; k < d->list[i].holding_count; k++)
            if (d->list[i].holdings[k].fd == fd && d->list[i].holdings[k].who == who)
                return &d->list[i];
    return NULL;
}

int descriptors_shown_fd(const struct description *o)
{
    return o->holding_count > 0 ? o->holdings[0].fd : -1;
}

struct description *descriptors_find_copy(struct descriptors *d, int copy)
{
    struct stat st;
    if (fstat(copy, &st) < 0)
        return NULL;
    for (size_t i = 0; i < d->count; i++)
        if (d->list[i].st.st_dev == st.st_dev && d->list[i].st.st_ino == st.st_ino && d->list[i].copy >= 0 &&
            syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, copy, d->list[i].copy) == 0)
            return &d->list[i];
    return NULL;
}

int descriptors_refuse(
    const struct descriptors *d, const struct description *o, struct error *err, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct freeze *who = o->holding_count > 0 ? o->holdings[0].who : d->f;
    return tracee_refuse(&who->tracee, err, "descriptor %d (%s) %s", descriptors_shown_fd(o), o->link, text);
}

void descriptors_note(struct descriptors *d, const struct description *o, const char *format, ...)
{
    (void)d;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct holding *first = o->holdings;
    for (size_t i = 0; i < o->holding_count; i++) {
        const struct holding *h = &o->holdings[i];
        struct image_process *process = h->who->process;
        if (i == 0)
            image_note_descriptor(process, h->fd, o->kind->name, "%s", text);
        else if (h->who == first->who)
            image_note_descriptor(process, h->fd, o->kind->name, "the same as %d", first->fd);
        else
            image_note_descriptor(process, h->fd, o->kind->name, "the same as %d of process %d", first->fd,
                first->who->process->pid);
    }
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The process's descriptor numbers, ascending. */
static int list_numbers(const struct freeze *f, int **numbers, size_t *count, struct error *err)
{
    int fd = openat(f->tracee.proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder)
        return error_system(err, "cannot list the descriptors of process %d", f->tracee.pid);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        *numbers = xrealloc(*numbers, (*count + 1) * sizeof **numbers);
        (*numbers)[(*count)++] = atoi(entry->d_name);
    }
    closedir(folder);
    if (*count > 0)
        qsort(*numbers, *count, sizeof **numbers, compare_numbers);
    return 0;
}

static int read_one(struct freeze *f, int fd, struct description *o, bool *close_on_exec, struct error *err)
{
    char name[32], link[4096];
    uint64_t flags = 0;
    snprintf(name, sizeof name, "fd/%d", fd);
    ssize_t len = readlinkat(f->tracee.proc_fd, name, link, sizeof link - 1);
    if (len < 0)
        return error_system(err, "cannot read what descriptor %d is", fd);
    link[len] = 0;
    o->link = xstrdup(link);
    snprintf(name, sizeof name, "fdinfo/%d", fd);
    if (file_read(f->tracee.proc_fd, name, &o->info, INFO_MAX, err) < 0)
        return -1;
    buffer_append_u8(&o->info, 0);
    if (!descriptors_info_number(o, "flags:", 8, &flags) ||
        !descriptors_info_number(o, "pos:", 10, &o->position))
        return error_set(err, ERROR_SYSTEM, "fdinfo of descriptor %d is not understood", fd);
    *close_on_exec = flags & O_CLOEXEC;
    o->flags = (int)(flags & ~(uint64_t)O_CLOEXEC);
    o->copy = tracee_get_fd(&f->tracee, fd, err);
    if (o->copy < 0)
        return -1;
    if (fstat(o->copy, &o->st) < 0)
        return error_system(err, "cannot look at descriptor %d", fd);
    return 0;
}

static void description_free(struct description *o)
{
    for (size_t i = 0; i < o->holding_count; i++)
        buffer_free(&o->holdings[i].info);
    free(o->holdings);
    free(o->fds);
    free(o->close_on_exec);
    fd_close(&o->copy);
    free(o->link);
    buffer_free(&o->info);
    free(o->detail);
}

static void add_number(struct description *o, int fd, bool close_on_exec)
{
    o->fds = xrealloc(o->fds, (o->fd_count + 1) * sizeof *o->fds);
    o->close_on_exec = xrealloc(o->close_on_exec, (o->fd_count + 1) * sizeof *o->close_on_exec);
    o->fds[o->fd_count] = fd;
    o->close_on_exec[o->fd_count++] = close_on_exec;
}

/* `info` is taken. */
static void add_holding(
    struct description *o, struct freeze *who, int fd, bool close_on_exec, struct buffer *info)
{
    o->holdings = xrealloc(o->holdings, (o->holding_count + 1) * sizeof *o->holdings);
    o->holdings[o->holding_count++] =
        (struct holding){.who = who, .fd = fd, .close_on_exec = close_on_exec, .info = *info};
    *info = (struct buffer){0};
    if (!who->in_tree)
        add_number(o, fd, close_on_exec);
}

/* The description among those read already that `o` is one more descriptor of; or NULL. */
static struct description *find_same(
    struct descriptors *d, const struct description *o, const struct freeze *who, int fd)
{
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        if (other->st.st_dev == o->st.st_dev && other->st.st_ino == o->st.st_ino &&
            other->flags == o->flags && other->position == o->position && strcmp(other->link, o->link) == 0 &&
            syscall(SYS_kcmp, other->holdings[0].who->tracee.pid, who->tracee.pid, KCMP_FILE,
                other->holdings[0].fd, fd) == 0)
            return other;
    }
    return NULL;
}

static int read_number(struct descriptors *d, struct freeze *who, int fd, struct error *err)
{
    struct description o = {.copy = -1};
    struct buffer info = {0};
    bool close_on_exec = false;
    if (read_one(who, fd, &o, &close_on_exec, err) < 0) {
        description_free(&o);
        return -1;
    }
    struct description *same = find_same(d, &o, who, fd);
    if (same) {
        info = o.info;
        o.info = (struct buffer){0};
        description_free(&o);
    } else {
        buffer_append(&info, o.info.data, o.info.len);
        same = &d->list[d->count++];
        *same = o;
    }
    add_holding(same, who, fd, close_on_exec, &info);
    if (fd > d->max_fd)
        d->max_fd = fd;
    return 0;
}

static int make_room(struct descriptors *d, size_t numbers, struct error *err)
{
    if (d->capacity != 0)
        return 0;
    /* Room for descriptions without numbers (connections that nobody has accepted yet) beside the others:
     * pointers into the list must stay valid. */
    d->capacity = d->f->in_tree ? IMAGE_DESCRIPTORS_MAX : numbers + 1024;
    d->list = xcalloc(d->capacity, sizeof *d->list);
    return numbers < d->capacity
               ? 0
               : tracee_refuse(&d->f->tracee, err, "it has more than %zu descriptors", d->capacity);
}

static int read_process(struct descriptors *d, struct freeze *who, struct error *err)
{
    CLEANUP_FREE int *numbers = NULL;
    size_t count = 0;
    if (list_numbers(who, &numbers, &count, err) < 0 || make_room(d, count, err) < 0)
        return -1;
    if (d->count + count + 1024 > d->capacity && d->f->in_tree)
        return tracee_refuse(&who->tracee, err, "all processes have more than %zu descriptors", d->capacity);
    for (size_t i = 0; i < count; i++)
        if (read_number(d, who, numbers[i], err) < 0)
            return -1;
    return 0;
}

/* Above all numbers that the processes have, so that none is in the way of another. */
static void number_for_all(struct descriptors *d)
{
    d->base = d->max_fd + 1;
    for (size_t i = 0; i < d->count; i++)
        add_number(&d->list[i], ++d->max_fd, true);
}

static int read_all(struct descriptors *d, struct error *err)
{
    struct family *family = d->f->family;
    for (size_t i = 0; i < family->live_count; i++)
        if (read_process(d, &family->freezes[i], err) < 0)
            return -1;
    if (d->f->in_tree)
        number_for_all(d);
    if (d->max_fd + DESCRIPTORS_PARKED_MAX >= IMAGE_DESCRIPTORS_MAX)
        return tracee_refuse(&d->f->tracee, err, "it has a descriptor %d, and no more than %d can be frozen",
            d->max_fd, IMAGE_DESCRIPTORS_MAX);
    return 0;
}

int descriptors_keep_for_all(struct descriptors *d, int at)
{
    int to = ++d->max_fd;
    duplicate(d, at, to, true);
    descriptors_close(d, at);
    return to;
}

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
    if (read_all(d, err) < 0 || for_each(d, choose_kind, err) < 0 || for_each(d, read_kind, err) < 0 ||
        for_each(d, restore_kind, err) < 0 || for_each(d, finish_kind, err) < 0 ||
        for_each(d, descriptors_restore_locks, err) < 0 || for_each(d, restore_owner, err) < 0 ||
        for_each(d, finish_epoll, err) < 0)
        return -1;
    for (uint32_t i = 0; i < f->image->process_count; i++) {
        struct image_process *process = &f->image->processes[i];
        if (process->descriptor_count > 0)
            qsort(
                process->descriptors, process->descriptor_count, sizeof *process->descriptors, compare_notes);
    }
    return 0;
}

void descriptors_append_plan(struct plan *to, const struct plan *from)
{
    for (uint32_t i = 0; i < from->count; i++)
        *plan_append(to, (enum plan_op_kind)from->ops[i].kind, from->ops[i].number, NULL, 0) = from->ops[i];
}

void freeze_forget_descriptors(struct freeze *f)
{
    struct descriptors *d = f->descriptors;
    if (!d)
        return;
    for (size_t i = 0; i < d->count; i++)
        description_free(&d->list[i]);
    free(d->list);
    free(d->used);
    fd_close(&d->root_fd);
    free(d->late.ops);
    free(d->last.ops);
    socket_forget_table(d->sockets);
    free(d);
    f->descriptors = NULL;
}
