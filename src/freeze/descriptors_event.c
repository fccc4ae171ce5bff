/* eventfd, timerfd, signalfd, epoll, inotify: what the kernel describes in fdinfo. */
#include "freeze/descriptors.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TIMER_INFO_MAX 4096
#define TIMERFD_SET_TICKS _IOW('T', 0, uint64_t) /* TFD_IOC_SET_TICKS of linux/timerfd.h */

static bool has_link(const struct description *o, const char *link)
{
    return strcmp(o->link, link) == 0;
}

static int not_understood(const struct descriptors *d, const struct description *o, struct error *err)
{
    return descriptors_refuse(d, o, err, "is described by fdinfo in a way that is not understood");
}

/* The flags that a creating call takes, with close-on-exec as its place wants it. All of them call the
 * flags by the values of O_NONBLOCK and O_CLOEXEC. */
static uint64_t creation_flags(const struct description *o, bool close_on_exec)
{
    return (uint64_t)((o->flags & O_NONBLOCK) | (close_on_exec ? O_CLOEXEC : 0));
}

/* ---- eventfd ---- */

static bool eventfd_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return has_link(o, "anon_inode:[eventfd]");
}

static int eventfd_restore(struct descriptors *d, struct description *o, struct error *err)
{
    uint64_t value, semaphore = 0;
    if (!descriptors_info_number(o, "eventfd-count:", 16, &value))
        return not_understood(d, o, err);
    if (!descriptors_info_number(o, "eventfd-semaphore:", 10, &semaphore))
        return not_understood(d, o, err);
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    uint64_t first = value <= UINT32_MAX ? value : 0;
    descriptors_expect(
        d, descriptors_call(d, SYS_eventfd2, plan_literal(first),
               plan_literal(creation_flags(o, close_on_exec) | (semaphore ? EFD_SEMAPHORE : 0))));
    if (value != first)
        descriptors_call(d, SYS_write, plan_literal((uint64_t)at), plan_data(image_put(d->image, &value, 8)),
            plan_literal(8));
    descriptors_note(d, o, "count %" PRIu64 "%s", value, semaphore ? ", semaphore" : "");
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

const struct descriptor_kind descriptor_kind_eventfd = {"eventfd", eventfd_is, NULL, eventfd_restore, NULL};

/* ---- timerfd ---- */

static bool timerfd_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return has_link(o, "anon_inode:[timerfd]");
}

struct timer_state {
    uint64_t clock, ticks, settime_flags;
    struct itimerspec value;
};

static bool read_time(const struct description *o, const char *key, struct timespec *time)
{
    const char *text = descriptors_info_line(o, key, 0);
    long long seconds, nanoseconds;
    if (!text || sscanf(text, " (%lld, %lld)", &seconds, &nanoseconds) != 2)
        return false;
    *time = (struct timespec){seconds, nanoseconds};
    return true;
}

/* What the process reads from its clock now: its time namespace may shift it. */
static uint64_t process_clock_ns(struct descriptors *d, uint64_t clock)
{
    CLEANUP_BUFFER struct buffer offsets = {0};
    struct error ignored;
    const char *name = clock == CLOCK_MONOTONIC ? "monotonic" : "boottime";
    uint64_t now = clock_read_ns((clockid_t)clock);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM)
        return clock_read_ns(CLOCK_REALTIME);
    if (tracee_proc_file(&d->f->tracee, "timens_offsets", &offsets, &ignored) < 0)
        return now; /* this kernel has no time namespaces */
    buffer_append_u8(&offsets, 0);
    const char *line = strstr((const char *)offsets.data, name);
    long long seconds, nanoseconds;
    if (line && sscanf(line + strlen(name), " %lld %lld", &seconds, &nanoseconds) == 2)
        now += (uint64_t)(seconds * 1000000000 + nanoseconds);
    return now;
}

static bool is_set(const struct timespec *time)
{
    return time->tv_sec != 0 || time->tv_nsec != 0;
}

/* A timer that was set to a moment fires at that moment; fdinfo tells how far it was away. */
static int read_timer(
    struct descriptors *d, const struct description *o, struct timer_state *s, struct error *err)
{
    if (!descriptors_info_number(o, "clockid:", 10, &s->clock) ||
        !descriptors_info_number(o, "ticks:", 10, &s->ticks) ||
        !descriptors_info_number(o, "settime flags:", 8, &s->settime_flags) ||
        !read_time(o, "it_value:", &s->value.it_value) ||
        !read_time(o, "it_interval:", &s->value.it_interval))
        return not_understood(d, o, err);
    /* A periodic one that has fired again since it was asked (wake_timer) has a whole period before it. */
    if (s->ticks > 0 && is_set(&s->value.it_interval) && !is_set(&s->value.it_value))
        s->value.it_value = s->value.it_interval;
    if (!is_set(&s->value.it_value))
        s->settime_flags = 0;
    if (!(s->settime_flags & TFD_TIMER_ABSTIME))
        return 0;
    uint64_t now = process_clock_ns(d, s->clock);
    uint64_t left = (uint64_t)s->value.it_value.tv_sec * 1000000000 + (uint64_t)s->value.it_value.tv_nsec;
    s->value.it_value.tv_sec = (time_t)((now + left) / 1000000000);
    s->value.it_value.tv_nsec = (long)((now + left) % 1000000000);
    return 0;
}

/* A periodic timer that has fired and was not read stands still, and fdinfo says nothing of its next moment: to
 * ask it for the time left sets it going again, and counts what it has missed. The process never runs again. */
static int wake_timer(struct description *o, struct error *err)
{
    struct itimerspec left;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", o->copy);
    buffer_free(&o->info);
    if (timerfd_gettime(o->copy, &left) < 0 || file_read(AT_FDCWD, path, &o->info, TIMER_INFO_MAX, err) < 0)
        return error_system(err, "cannot ask a timer for the time left");
    buffer_append_u8(&o->info, 0);
    return 0;
}

static int timerfd_restore(struct descriptors *d, struct description *o, struct error *err)
{
    struct timer_state s = {0};
    if (wake_timer(o, err) < 0 || read_timer(d, o, &s, err) < 0)
        return -1;
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    descriptors_expect(d, descriptors_call(d, SYS_timerfd_create, plan_literal(s.clock),
                              plan_literal(creation_flags(o, close_on_exec))));
    if (s.value.it_value.tv_sec != 0 || s.value.it_value.tv_nsec != 0)
        descriptors_call(d, SYS_timerfd_settime, plan_literal((uint64_t)at), plan_literal(s.settime_flags),
            plan_data(image_put(d->image, &s.value, sizeof s.value)), plan_literal(0));
    if (s.ticks > 0)
        descriptors_call(d, SYS_ioctl, plan_literal((uint64_t)at), plan_literal(TIMERFD_SET_TICKS),
            plan_data(image_put(d->image, &s.ticks, 8)));
    descriptors_note(d, o, "clock %" PRIu64 ", %" PRIu64 " ticks unread, %s", s.clock, s.ticks,
        s.value.it_value.tv_sec || s.value.it_value.tv_nsec ? "armed" : "disarmed");
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

const struct descriptor_kind descriptor_kind_timerfd = {"timerfd", timerfd_is, NULL, timerfd_restore, NULL};

/* ---- signalfd ---- */

static bool signalfd_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return has_link(o, "anon_inode:[signalfd]");
}

static int signalfd_restore(struct descriptors *d, struct description *o, struct error *err)
{
    uint64_t mask;
    if (!descriptors_info_number(o, "sigmask:", 16, &mask))
        return not_understood(d, o, err);
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    descriptors_expect(d, descriptors_call(d, SYS_signalfd4, plan_literal((uint64_t)-1),
                              plan_data(image_put(d->image, &mask, 8)), plan_literal(8),
                              plan_literal(creation_flags(o, close_on_exec))));
    descriptors_note(d, o, "mask %016" PRIx64, mask);
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

const struct descriptor_kind descriptor_kind_signalfd = {
    "signalfd", signalfd_is, NULL, signalfd_restore, NULL};

/* ---- inotify ---- */

#define INOTIFY_GAP_MAX 4096 /* watch descriptors that were given back below the highest in use */

static bool inotify_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return has_link(o, "anon_inode:inotify");
}

struct inotify_watch {
    unsigned wd, device, mask;
    unsigned long long inode;
    struct file_handle *handle;
    char path[4096];
};

/* Before anything else is read: our own looking at files makes events. */
int descriptors_refuse_events(const struct freeze *f, struct error *err)
{
    int fd = openat(f->tracee.proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    int result = 0;
    if (!folder)
        return error_system(err, "cannot list the descriptors of process %d", f->tracee.pid);
    struct dirent *entry = NULL;
    while (result == 0 && (errno = 0, entry = readdir(folder)) != NULL) {
        char link[32] = {0};
        int waiting = 0;
        if (readlinkat(fd, entry->d_name, link, sizeof link - 1) < 0 ||
            strcmp(link, "anon_inode:inotify") != 0)
            continue;
        CLEANUP_FD int copy = tracee_get_fd(&f->tracee, atoi(entry->d_name), err);
        if (copy < 0)
            result = -1;
        else if (ioctl(copy, FIONREAD, &waiting) < 0 || waiting > 0)
            result = tracee_refuse(&f->tracee, err,
                "descriptor %s has %d bytes of inotify events waiting, which cannot be frozen", entry->d_name,
                waiting);
    }
    if (result == 0 && errno != 0)
        result = error_system(err, "cannot list all descriptors of process %d", f->tracee.pid);
    closedir(folder);
    return result;
}

static int inotify_restore(struct descriptors *d, struct description *o, struct error *err)
{
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    descriptors_expect(
        d, descriptors_call(d, SYS_inotify_init1, plan_literal(creation_flags(o, close_on_exec))));
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

/* fdinfo: "inotify wd:1 ino:2 sdev:1a mask:3 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:..." */
static bool read_watch(const char *line, struct inotify_watch *w)
{
    unsigned size, type;
    int used = 0;
    if (sscanf(line,
            "wd:%x ino:%llx sdev:%x mask:%x ignored_mask:%*x fhandle-bytes:%x fhandle-type:%x f_handle:%n",
            &w->wd, &w->inode, &w->device, &w->mask, &size, &type, &used) != 6 ||
        used == 0 || size > MAX_HANDLE_SZ)
        return false;
    w->handle = xcalloc(1, sizeof *w->handle + size);
    w->handle->handle_bytes = size;
    w->handle->handle_type = (int)type;
    for (unsigned i = 0; i < size; i++) {
        char digits[3] = {line[used + 2 * (int)i], line[used + 2 * (int)i + 1], 0};
        if (!hex_decode(w->handle->f_handle + i, 1, digits))
            return false;
    }
    return true;
}

/* What the watch is on, as a path in the process's view: by its handle, on the mounts that may hold it. */
static bool find_watched(struct descriptors *d, struct inotify_watch *w)
{
    const char *const mounts[] = {
        "root/tmp", "root", "root/usr", "root/var/task", "root/var/runtime", "root/opt", "cwd"};
    for (size_t i = 0; i < countof(mounts); i++) {
        char link[32];
        struct stat st;
        CLEANUP_FD int mount = openat(d->f->tracee.proc_fd, mounts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (mount < 0)
            continue;
        CLEANUP_FD int fd = open_by_handle_at(mount, w->handle, O_PATH | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != w->inode || st.st_nlink == 0)
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, w->path, sizeof w->path - 1);
        if (len <= 0)
            continue;
        w->path[len] = 0;
        struct stat seen;
        if (fstatat(d->root_fd, w->path + 1, &seen, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 &&
            seen.st_ino == st.st_ino && seen.st_dev == st.st_dev)
            return true;
    }
    return false;
}

static int compare_watches(const void *a, const void *b)
{
    const struct inotify_watch *x = a, *y = b;
    return x->wd < y->wd ? -1 : x->wd > y->wd;
}

/* Watch descriptors count up from 1 and are not reused soon: gaps are filled with watches that are taken
 * back, which leaves an event each (IN_IGNORED) to read away. */
static int add_watches(struct descriptors *d, const struct description *o, const struct inotify_watch *list,
    size_t count, struct error *err)
{
    struct plan_arg fd = plan_literal((uint64_t)o->fds[0]);
    unsigned next = 1, gaps = 0;
    for (size_t i = 0; i < count; i++) {
        struct plan_arg path = plan_data(image_put_string(d->image, list[i].path));
        for (; next < list[i].wd; next++) {
            if (++gaps > INOTIFY_GAP_MAX)
                return descriptors_refuse(
                    d, o, err, "has gone through more than %d inotify watches", INOTIFY_GAP_MAX);
            uint64_t event = image_put(d->image, &(struct inotify_event){0}, sizeof(struct inotify_event));
            descriptors_last_call(d, SYS_inotify_add_watch, fd, path, plan_literal(IN_DELETE_SELF));
            descriptors_last_call(d, SYS_inotify_rm_watch, fd, plan_literal(next));
            descriptors_last_call(
                d, SYS_read, fd, plan_data(event), plan_literal(sizeof(struct inotify_event)));
        }
        plan_expect_value(
            descriptors_last_call(d, SYS_inotify_add_watch, fd, path, plan_literal(list[i].mask)), next++);
    }
    return 0;
}

static int inotify_finish(struct descriptors *d, struct description *o, struct error *err)
{
    struct inotify_watch *list = NULL;
    size_t count = 0;
    int result = 0;
    for (const char *line; result == 0 && (line = descriptors_info_line(o, "inotify ", count)); count++) {
        list = xrealloc(list, (count + 1) * sizeof *list);
        list[count] = (struct inotify_watch){0};
        if (!read_watch(line, &list[count]))
            result = not_understood(d, o, err);
        else if (!find_watched(d, &list[count]))
            result = descriptors_refuse(
                d, o, err, "watches (as %u) a file that cannot be found again", list[count].wd);
    }
    if (result == 0 && count > 0) {
        qsort(list, count, sizeof *list, compare_watches);
        result = add_watches(d, o, list, count, err);
    }
    for (size_t i = 0; i < count; i++)
        free(list[i].handle);
    free(list);
    if (result == 0)
        descriptors_note(d, o, "%zu watches", count);
    return result;
}

const struct descriptor_kind descriptor_kind_inotify = {
    "inotify", inotify_is, NULL, inotify_restore, inotify_finish};

/* ---- epoll ---- */

static bool epoll_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return has_link(o, "anon_inode:[eventpoll]");
}

static int epoll_restore(struct descriptors *d, struct description *o, struct error *err)
{
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    descriptors_expect(
        d, descriptors_call(d, SYS_epoll_create1, plan_literal(close_on_exec ? O_CLOEXEC : 0)));
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, 0);
    return 0;
}

#define EPOLL_MEMBERS_MAX 16384

struct epoll_member {
    int fd;       /* the number it was added with */
    uint32_t nth; /* among the members that were added with this number */
    struct epoll_event event;
};

/* All members, as fdinfo lists them. */
static int read_members(struct descriptors *d, const struct description *o, struct epoll_member **list,
    size_t *count, struct error *err)
{
    const char *line = descriptors_info_line(o, "tfd:", 0);
    for (; line; line = strstr(line, "\ntfd:")) {
        struct epoll_member m = {0};
        unsigned events;
        unsigned long long data;
        line += strncmp(line, "\ntfd:", 5) == 0 ? 5 : 0;
        if (sscanf(line, " %d events: %x data: %llx", &m.fd, &events, &data) != 3)
            return not_understood(d, o, err);
        if (*count == EPOLL_MEMBERS_MAX)
            return descriptors_refuse(d, o, err, "watches more than %d files", EPOLL_MEMBERS_MAX);
        m.event = (struct epoll_event){.events = events, .data.u64 = data};
        for (size_t i = 0; i < *count; i++)
            m.nth += (*list)[i].fd == m.fd;
        *list = xrealloc(*list, (*count + 1) * sizeof **list);
        (*list)[(*count)++] = m;
    }
    return 0;
}

/* One member as one process that has the epoll sees it. */
struct epoll_view {
    const struct holding *epoll;
    const struct epoll_member *member;
    const struct description *target;
    struct plan *plan; /* takes the ops */
};

static bool is_member(const struct epoll_view *v, const struct holding *candidate)
{
    struct kcmp_epoll_slot slot = {(uint32_t)v->epoll->fd, (uint32_t)v->member->fd, v->member->nth};
    return syscall(SYS_kcmp, candidate->who->tracee.pid, v->epoll->who->tracee.pid, KCMP_EPOLL_TFD,
               candidate->fd, &slot) == 0;
}

static const struct holding *holding_of(const struct description *o, const struct freeze *who, int fd)
{
    for (size_t i = 0; o && i < o->holding_count; i++)
        if (o->holdings[i].who == who && o->holdings[i].fd == fd)
            return &o->holdings[i];
    return NULL;
}

/* The description that a member is: usually what its number still is (in a process that has both), but the
 * number may be closed or be something else by now, while a duplicate keeps the member alive. */
static bool find_member(struct descriptors *d, const struct description *o, struct epoll_view *v)
{
    for (size_t i = 0; i < o->holding_count; i++) {
        v->epoll = &o->holdings[i];
        v->target = descriptors_find_fd(d, v->epoll->who, v->member->fd);
        const struct holding *likely = holding_of(v->target, v->epoll->who, v->member->fd);
        if (likely && is_member(v, likely))
            return true;
    }
    v->epoll = &o->holdings[0];
    for (size_t i = 0; i < d->count; i++) {
        v->target = &d->list[i];
        if (v->target->holding_count > 0 && is_member(v, &v->target->holdings[0]))
            return true;
    }
    return false;
}

#define watch_call(v, number, ...) \
    (plan_call((v)->plan, number, __VA_ARGS__)->subject = (uint16_t)(v)->epoll->fd)

/* A member that EPOLLONESHOT has disarmed comes back disarmed, but for what the kernel always adds (EPOLLERR,
 * EPOLLHUP); an edge that the process has seen already is reported once more, which programs must bear anyway. */
static void add_member(struct descriptors *d, const struct epoll_view *v)
{
    watch_call(v, SYS_epoll_ctl, plan_literal((uint64_t)v->epoll->fd), plan_literal(EPOLL_CTL_ADD),
        plan_literal((uint64_t)v->member->fd),
        plan_data(image_put(d->image, &v->member->event, sizeof v->member->event)));
}

/* The member's number is free, or another's, now: give it the number for a moment. */
static int add_member_by_loan(
    struct descriptors *d, const struct description *o, const struct epoll_view *v, struct error *err)
{
    const struct epoll_member *m = v->member;
    if (m->fd > d->max_fd || (d->f->in_tree && m->fd >= d->base) || v->target->opened_by_each)
        return descriptors_refuse(
            d, o, err, "watches %s under the closed number %d, which is too high", v->target->link, m->fd);
    const struct description *owner = descriptors_find_fd(d, v->epoll->who, m->fd);
    int aside = d->max_fd + 1;
    if (owner)
        watch_call(v, SYS_dup3, plan_literal((uint64_t)m->fd), plan_literal((uint64_t)aside),
            plan_literal(O_CLOEXEC));
    watch_call(v, SYS_dup3, plan_literal((uint64_t)v->target->fds[0]), plan_literal((uint64_t)m->fd),
        plan_literal(O_CLOEXEC));
    add_member(d, v);
    if (owner) {
        const struct holding *own = holding_of(owner, v->epoll->who, m->fd);
        watch_call(v, SYS_dup3, plan_literal((uint64_t)aside), plan_literal((uint64_t)m->fd),
            plan_literal(own->close_on_exec ? O_CLOEXEC : 0));
        watch_call(v, SYS_close, plan_literal((uint64_t)aside));
    } else {
        watch_call(v, SYS_close, plan_literal((uint64_t)m->fd));
    }
    return 0;
}

static int epoll_finish(struct descriptors *d, struct description *o, struct error *err)
{
    CLEANUP_FREE struct epoll_member *members = NULL;
    size_t count = 0;
    if (read_members(d, o, &members, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count && o->holding_count > 0; i++) {
        struct epoll_view v = {.member = &members[i]};
        if (!find_member(d, o, &v))
            return descriptors_refuse(d, o, err,
                "watches a file under the number %d that the process has no descriptor of any more",
                members[i].fd);
        struct freeze *who = v.epoll->who;
        v.plan = who->in_tree ? &who->watches : &who->process->process_plan;
        if (v.target == descriptors_find_fd(d, who, members[i].fd))
            add_member(d, &v);
        else if (add_member_by_loan(d, o, &v, err) < 0)
            return -1;
    }
    descriptors_note(d, o, "%zu members", count);
    return 0;
}

const struct descriptor_kind descriptor_kind_epoll = {"epoll", epoll_is, NULL, epoll_restore, epoll_finish};
