/* Pipes, FIFOs, and the log pipe. */
#include "freeze/descriptors.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIPE_DEFAULT_BYTES 65536

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static int access_mode(const struct description *o)
{
    return o->flags & O_ACCMODE;
}

/* ---- the log ---- */

static bool log_is(const struct descriptors *d, const struct description *o)
{
    return d->log.st_ino != 0 && S_ISFIFO(o->st.st_mode) && same_file(&o->st, &d->log) &&
           access_mode(o) == O_WRONLY;
}

/* The first description is the clone's own pipe; another with flags of its own is opened from that. */
static int log_restore(struct descriptors *d, struct description *o, struct error *err)
{
    (void)err;
    descriptors_note(d, o, "stdout and stderr of the function");
    if (d->log_at >= 0) {
        char path[32];
        int at = descriptors_next(d);
        bool close_on_exec = descriptors_cloexec_for(o, at);
        snprintf(path, sizeof path, "/proc/self/fd/%d", d->log_at);
        descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                                  plan_data(image_put_string(d->image, path)),
                                  plan_literal((uint64_t)(o->flags | (close_on_exec ? O_CLOEXEC : 0)))));
        return descriptors_place_one(d, o, at, close_on_exec, err);
    }
    d->log_at = o->fds[0];
    for (size_t i = 0; i < o->fd_count; i++) {
        struct plan_op *op = descriptors_call(d, SYS_dup3, plan_slot(PLAN_SLOT_LOG),
            plan_literal((uint64_t)o->fds[i]), plan_literal(o->close_on_exec[i] ? O_CLOEXEC : 0));
        plan_expect_value(op, o->fds[i]);
        descriptors_occupy(d, o->fds[i]);
    }
    o->restored = true;
    descriptors_set_flags(d, o, 0);
    return 0;
}

const struct descriptor_kind descriptor_kind_log = {"log", log_is, NULL, log_restore, NULL};

/* ---- contents ---- */

/* A pipe of our own with a copy of what waits in `reader`, which keeps it. Returns its read end. */
static int copy_pipe(struct descriptors *d, const struct description *reader, int waiting, struct error *err)
{
    int pair[2], size = fcntl(reader->copy, F_GETPIPE_SZ);
    if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int ours = pair[0];
    CLEANUP_FD int to_us = pair[1];
    if (fcntl(to_us, F_SETPIPE_SZ, size) < size)
        return descriptors_refuse(
            d, reader, err, "is a pipe of %d bytes, which is more than can be copied here", size);
    if (tee(reader->copy, to_us, (size_t)waiting, SPLICE_F_NONBLOCK) != waiting)
        return descriptors_refuse(d, reader, err, "holds %d bytes that cannot be copied", waiting);
    return fd_steal(&ours);
}

/* Takes what waits in the pipe out of it, through our copy of its read end: the process never runs again; where it
 * does, from a copy of the pipe. */
static int take_contents(
    struct descriptors *d, const struct description *reader, struct buffer *out, struct error *err)
{
    int waiting = 0;
    if (ioctl(reader->copy, FIONREAD, &waiting) < 0)
        return error_system(err, "cannot tell what waits in a pipe");
    if (waiting > 0 && (reader->flags & O_DIRECT))
        return descriptors_refuse(d, reader, err, "holds packets (O_DIRECT), which cannot be frozen");
    uint8_t chunk[65536];
    CLEANUP_FD int copy = -1;
    int source = reader->copy;
    if (waiting > 0 && d->f->request->spare != FREEZE_SPARE_NEVER) {
        if ((copy = copy_pipe(d, reader, waiting, err)) < 0)
            return -1;
        source = copy;
    }
    while (waiting > 0) {
        ssize_t got = read(source, chunk, (size_t)waiting < sizeof chunk ? (size_t)waiting : sizeof chunk);
        if (got <= 0)
            return error_system(err, "cannot read what waits in a pipe");
        buffer_append(out, chunk, (size_t)got);
        waiting -= (int)got;
    }
    return 0;
}

static void restore_size(struct descriptors *d, const struct description *o, int at)
{
    int size = fcntl(o->copy, F_GETPIPE_SZ);
    if (size > 0 && size != PIPE_DEFAULT_BYTES)
        plan_expect_value(descriptors_call(d, SYS_fcntl, plan_literal((uint64_t)at),
                              plan_literal(F_SETPIPE_SZ), plan_literal((uint64_t)size)),
            size);
}

static void restore_contents(struct descriptors *d, const struct buffer *contents, int at)
{
    if (contents->len == 0)
        return;
    uint64_t data = image_put(d->image, contents->data, contents->len);
    plan_expect_value(descriptors_call(d, SYS_write, plan_literal((uint64_t)at), plan_data(data),
                          plan_literal(contents->len)),
        (int64_t)contents->len);
}

/* Whether somebody outside the process holds the pipe's other end. Our own copies count for the kernel, but
 * there is none of that end: only ends that the process has are copied. */
static bool other_end_is_outside(const struct description *o)
{
    struct pollfd end = {o->copy, access_mode(o) == O_RDONLY ? POLLIN : POLLOUT, 0};
    if (poll(&end, 1, 0) < 0)
        return true;
    return !(end.revents & (access_mode(o) == O_RDONLY ? POLLHUP : POLLERR));
}

/* ---- pipes ---- */

static bool pipe_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return strncmp(o->link, "pipe:[", 6) == 0;
}

#define PIPE_DESCRIPTIONS_MAX 8

/* All descriptions of one pipe: [0] its read end and [1] its write end, as pipe() makes them (or NULL); then
 * others, that were opened through /proc. */
struct pipe_ends {
    struct description *list[PIPE_DESCRIPTIONS_MAX];
    size_t count;
    const struct description *reader; /* any that can read */
    bool writes;
};

static int find_ends(
    struct descriptors *d, const struct description *o, struct pipe_ends *ends, struct error *err)
{
    ends->count = 2;
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        int mode = access_mode(other);
        if (!S_ISFIFO(other->st.st_mode) || !same_file(&other->st, &o->st))
            continue;
        if (mode != O_WRONLY)
            ends->reader = other;
        ends->writes |= mode != O_RDONLY;
        if (mode != O_RDWR && !ends->list[mode == O_WRONLY])
            ends->list[mode == O_WRONLY] = other;
        else if (ends->count == PIPE_DESCRIPTIONS_MAX)
            return descriptors_refuse(
                d, other, err, "is a pipe that was opened more than %d times", PIPE_DESCRIPTIONS_MAX);
        else
            ends->list[ends->count++] = other;
    }
    return 0;
}

static struct descriptor_made open_again(struct descriptors *d, struct description *o, int end)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", end);
    bool close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    int at = descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                                       plan_data(image_put_string(d->image, path)),
                                       plan_literal((uint64_t)(o->flags | (close_on_exec ? O_CLOEXEC : 0)))));
    return (struct descriptor_made){o, at, close_on_exec};
}

static int make_ends(struct descriptors *d, const struct pipe_ends *ends, const struct description *o,
    const struct buffer *contents, int flags, struct error *err)
{
    struct descriptor_made made[PIPE_DESCRIPTIONS_MAX];
    uint64_t pair = image_put(d->image, (const int32_t[]){-1, -1}, 8);
    bool close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    descriptors_call(
        d, SYS_pipe2, plan_data(pair), plan_literal((uint64_t)(flags | (close_on_exec ? O_CLOEXEC : 0))));
    for (size_t i = 0; i < 2; i++)
        made[i] = (struct descriptor_made){ends->list[i], descriptors_take(d), close_on_exec};
    restore_size(d, o, made[0].at);
    restore_contents(d, contents, made[1].at);
    for (size_t i = 2; i < ends->count; i++)
        made[i] = open_again(d, ends->list[i], made[0].at);
    if (descriptors_place(d, made, ends->count, err) < 0)
        return -1;
    for (size_t i = 0; i < 2; i++)
        if (ends->list[i])
            descriptors_set_flags(d, ends->list[i], flags);
    return 0;
}

static int pipe_restore(struct descriptors *d, struct description *o, struct error *err)
{
    CLEANUP_BUFFER struct buffer contents = {0};
    struct pipe_ends ends = {0};
    if (find_ends(d, o, &ends, err) < 0)
        return -1;
    if (!(ends.reader && ends.writes) && other_end_is_outside(o))
        return descriptors_refuse(
            d, o, err, "is a pipe whose other end is outside the process, where it cannot be frozen");
    if (ends.reader && take_contents(d, ends.reader, &contents, err) < 0)
        return -1;
    int flags = O_NONBLOCK | O_DIRECT;
    for (size_t i = 0; i < 2; i++)
        if (ends.list[i])
            flags &= ends.list[i]->flags;
    if (!ends.list[0] && !ends.list[1])
        flags = 0;
    if (make_ends(d, &ends, o, &contents, flags, err) < 0)
        return -1;
    for (size_t i = 0; i < ends.count; i++)
        if (ends.list[i])
            descriptors_note(d, ends.list[i], "%s, %zu bytes waiting%s",
                access_mode(ends.list[i]) == O_RDONLY   ? "read end"
                : access_mode(ends.list[i]) == O_WRONLY ? "write end"
                                                        : "both ends",
                contents.len, ends.reader && ends.writes ? "" : ", the other end is closed");
    return 0;
}

const struct descriptor_kind descriptor_kind_pipe = {"pipe", pipe_is, NULL, pipe_restore, NULL};

/* ---- FIFOs of /tmp ---- */

static bool fifo_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return S_ISFIFO(o->st.st_mode) && o->link[0] == '/';
}

/* All descriptions of one FIFO: a helper that is open for both lets every end open at once, and takes the
 * contents. */
static int fifo_restore(struct descriptors *d, struct description *o, struct error *err)
{
    CLEANUP_BUFFER struct buffer contents = {0};
    const char *path = tmp_files_find(d->f->tmp_files, o->st.st_dev, o->st.st_ino);
    if (!path)
        return descriptors_refuse(d, o, err, "is a FIFO that has no name in /tmp");
    bool reads = false, writes = false;
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        if (!same_file(&other->st, &o->st) || other->kind != &descriptor_kind_fifo)
            continue;
        if (!reads && access_mode(other) != O_WRONLY && take_contents(d, other, &contents, err) < 0)
            return -1;
        reads |= access_mode(other) != O_WRONLY;
        writes |= access_mode(other) != O_RDONLY;
    }
    if (!(reads && writes) && other_end_is_outside(o))
        return descriptors_refuse(d, o, err, "is a FIFO whose other end is outside the process");

    uint64_t path_data = image_put_string(d->image, path);
    int helper =
        descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                                  plan_data(path_data), plan_literal(O_RDWR | O_NONBLOCK | O_CLOEXEC)));
    if ((helper = descriptors_park(d, helper, err)) < 0)
        return -1;
    restore_size(d, o, helper);
    restore_contents(d, &contents, helper);
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        if (!same_file(&other->st, &o->st) || other->kind != &descriptor_kind_fifo)
            continue;
        int at = descriptors_next(d);
        bool close_on_exec = descriptors_cloexec_for(other, at);
        descriptors_expect(
            d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD), plan_data(path_data),
                   plan_literal((uint64_t)(other->flags | (close_on_exec ? O_CLOEXEC : 0)))));
        if (descriptors_place_one(d, other, at, close_on_exec, err) < 0)
            return -1;
        descriptors_note(d, other, "%s, %zu bytes waiting", path, contents.len);
    }
    descriptors_close(d, helper);
    return 0;
}

const struct descriptor_kind descriptor_kind_fifo = {"FIFO", fifo_is, NULL, fifo_restore, NULL};
