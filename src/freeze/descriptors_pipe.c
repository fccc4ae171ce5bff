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

/* What waits in a pipe. In packet mode (O_DIRECT) each read gives one packet: then it must be written in the
 * same portions. */
struct pipe_contents {
    struct buffer bytes;
    struct buffer lengths; /* uint32_t each */
    bool packets;
};

static void contents_free(struct pipe_contents *c)
{
    buffer_free(&c->bytes);
    buffer_free(&c->lengths);
}
#define CLEANUP_CONTENTS __attribute__((cleanup(contents_free)))

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

static int waiting_in(int reader, struct error *err)
{
    int waiting = 0;
    return ioctl(reader, FIONREAD, &waiting) < 0 ? error_system(err, "cannot tell what waits in a pipe")
                                                 : waiting;
}

/* How much is gone when one byte is read: all of a packet. Asked of a copy. */
static int first_portion(
    struct descriptors *d, const struct description *reader, int waiting, struct error *err)
{
    char byte;
    CLEANUP_FD int probe = copy_pipe(d, reader, waiting, err);
    if (probe < 0)
        return -1;
    if (read(probe, &byte, 1) != 1)
        return error_system(err, "cannot read the copy of a pipe");
    int left = waiting_in(probe, err);
    return left < 0 ? -1 : waiting - left;
}

/* Takes what waits in the pipe from a copy, by our copy of its read end. A read that gives less than there is has
 * ended with a packet. */
static int take_contents(
    struct descriptors *d, const struct description *reader, struct pipe_contents *out, struct error *err)
{
    uint8_t chunk[65536];
    int waiting = waiting_in(reader->copy, err);
    if (waiting <= 0)
        return waiting;
    int portion = first_portion(d, reader, waiting, err);
    CLEANUP_FD int copy = portion < 0 ? -1 : copy_pipe(d, reader, waiting, err);
    if (copy < 0)
        return -1;
    while (waiting > 0) {
        size_t wanted = (size_t)waiting < sizeof chunk ? (size_t)waiting : sizeof chunk;
        ssize_t got = read(copy, chunk, wanted);
        if (got <= 0)
            return error_system(err, "cannot read what waits in a pipe");
        uint32_t length = (uint32_t)got;
        buffer_append(&out->bytes, chunk, (size_t)got);
        buffer_append(&out->lengths, &length, sizeof length);
        out->packets |= (size_t)got < wanted || (portion > 1 && portion == got);
        waiting -= (int)got;
    }
    uint32_t first;
    memcpy(&first, out->lengths.data, sizeof first);
    if (out->packets && (uint32_t)portion != first)
        return descriptors_refuse(d, reader, err, "holds bytes and packets, which cannot be frozen together");
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

static void write_portion(struct descriptors *d, int at, const uint8_t *bytes, size_t len)
{
    uint64_t data = image_put(d->image, bytes, len);
    plan_expect_value(
        descriptors_call(d, SYS_write, plan_literal((uint64_t)at), plan_data(data), plan_literal(len)),
        (int64_t)len);
}

/* Leaves the flags of `at` as they are: `flags`, which it was created with. */
static void restore_contents(struct descriptors *d, const struct pipe_contents *contents, int at, int flags)
{
    const struct buffer *bytes = &contents->bytes;
    if (bytes->len > 0 && !contents->packets)
        write_portion(d, at, bytes->data, bytes->len);
    if (bytes->len == 0 || !contents->packets)
        return;
    struct plan_arg fd = plan_literal((uint64_t)at);
    if (!(flags & O_DIRECT))
        descriptors_call(d, SYS_fcntl, fd, plan_literal(F_SETFL), plan_literal((uint64_t)(flags | O_DIRECT)));
    for (size_t i = 0, from = 0; i < contents->lengths.len; i += sizeof(uint32_t)) {
        uint32_t length;
        memcpy(&length, contents->lengths.data + i, sizeof length);
        write_portion(d, at, bytes->data + from, length);
        from += length;
    }
    if (!(flags & O_DIRECT))
        descriptors_call(d, SYS_fcntl, fd, plan_literal(F_SETFL), plan_literal((uint64_t)flags));
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
    const struct pipe_contents *contents, int flags, struct error *err)
{
    struct descriptor_made made[PIPE_DESCRIPTIONS_MAX];
    uint64_t pair = image_put(d->image, (const int32_t[]){-1, -1}, 8);
    bool close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    descriptors_call(
        d, SYS_pipe2, plan_data(pair), plan_literal((uint64_t)(flags | (close_on_exec ? O_CLOEXEC : 0))));
    for (size_t i = 0; i < 2; i++)
        made[i] = (struct descriptor_made){ends->list[i], descriptors_take(d), close_on_exec};
    restore_size(d, o, made[0].at);
    restore_contents(d, contents, made[1].at, flags);
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
    CLEANUP_CONTENTS struct pipe_contents contents = {0};
    struct pipe_ends ends = {0};
    if (find_ends(d, o, &ends, err) < 0)
        return -1;
    if (!(ends.reader && ends.writes) && other_end_is_outside(o))
        return descriptors_refuse(
            d, o, err, "is a pipe whose other end is outside the process, where it cannot be frozen");
    if (ends.reader && take_contents(d, ends.reader, &contents, err) < 0)
        return -1;
    int flags = contents.bytes.len > 0 && !contents.packets ? O_NONBLOCK : O_NONBLOCK | O_DIRECT;
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
                contents.bytes.len, ends.reader && ends.writes ? "" : ", the other end is closed");
    return 0;
}

const struct descriptor_kind descriptor_kind_pipe = {"pipe", pipe_is, NULL, pipe_restore, NULL};

/* ---- FIFOs of /tmp ---- */

static bool fifo_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return S_ISFIFO(o->st.st_mode) && o->link[0] == '/';
}

/* All descriptions of one FIFO. */
struct fifo_ends {
    struct description **list;
    size_t count;
    bool reads, writes;
    bool waits; /* nobody has ever written, so that poll says nothing of a hang-up yet */
};

static int find_openers(struct descriptors *d, const struct description *o, struct fifo_ends *ends,
    struct pipe_contents *contents, struct error *err)
{
    ends->list = xcalloc(d->count, sizeof *ends->list);
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        if (!same_file(&other->st, &o->st) || other->kind != &descriptor_kind_fifo)
            continue;
        struct pollfd end = {other->copy, POLLIN, 0};
        if (access_mode(other) == O_RDONLY)
            ends->waits |= poll(&end, 1, 0) >= 0 && !(end.revents & POLLHUP);
        if (!ends->reads && access_mode(other) != O_WRONLY && take_contents(d, other, contents, err) < 0)
            return -1;
        ends->reads |= access_mode(other) != O_WRONLY;
        ends->writes |= access_mode(other) != O_RDONLY;
        ends->list[ends->count++] = other;
    }
    return 0;
}

/* A reader that has not been hung up on: is somebody outside writing, or has nobody ever written? The first makes
 * tee wait, the second ends it. */
static bool writer_is_outside(const struct description *reader)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return true;
    ssize_t got = tee(reader->copy, pair[1], 1, SPLICE_F_NONBLOCK);
    close(pair[0]);
    close(pair[1]);
    return got != 0;
}

static int refuse_outside(struct descriptors *d, const struct description *o, const struct fifo_ends *ends,
    const struct pipe_contents *contents, struct error *err)
{
    bool outside =
        ends->reads ? !ends->writes && ends->waits && writer_is_outside(o) : other_end_is_outside(o);
    if (outside)
        return descriptors_refuse(d, o, err, "is a FIFO whose other end is outside the process");
    if (!ends->writes && ends->waits && contents->bytes.len > 0)
        return descriptors_refuse(d, o, err,
            "is a FIFO that was opened between two writers with something in it, which cannot be frozen");
    return 0;
}

static int open_fifo(struct descriptors *d, uint64_t path, int flags)
{
    return descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                                     plan_data(path), plan_literal((uint64_t)flags)));
}

/* A helper that is open for both lets every end open at once, and takes the contents. Where a reader waits for
 * its first writer there must be none, not even for a moment. */
static int fifo_restore(struct descriptors *d, struct description *o, struct error *err)
{
    CLEANUP_CONTENTS struct pipe_contents contents = {0};
    struct fifo_ends ends = {0};
    const char *path = tmp_files_find(d->f->tmp_files, o->st.st_dev, o->st.st_ino);
    if (!path)
        return descriptors_refuse(d, o, err, "is a FIFO that has no name in /tmp");
    int result = find_openers(d, o, &ends, &contents, err);
    CLEANUP_FREE struct description **list = ends.list;
    if (result < 0 || refuse_outside(d, o, &ends, &contents, err) < 0)
        return -1;
    bool helped = ends.writes || !ends.waits;
    uint64_t path_data = image_put_string(d->image, path);
    int helper = -1;
    if (helped) {
        helper = descriptors_park(d, open_fifo(d, path_data, O_RDWR | O_NONBLOCK | O_CLOEXEC), err);
        if (helper < 0)
            return -1;
        restore_size(d, o, helper);
        restore_contents(d, &contents, helper, O_RDWR | O_NONBLOCK);
    }
    for (size_t i = 0; i < ends.count; i++) {
        struct description *other = list[i];
        int at = descriptors_next(d), flags = other->flags | (helped ? 0 : O_NONBLOCK);
        bool close_on_exec = descriptors_cloexec_for(other, at);
        open_fifo(d, path_data, flags | (close_on_exec ? O_CLOEXEC : 0));
        if (!helped)
            restore_size(d, o, at);
        if (descriptors_place_one(d, other, at, close_on_exec, err) < 0)
            return -1;
        descriptors_set_flags(d, other, flags);
        descriptors_note(d, other, "%s, %zu bytes waiting", path, contents.bytes.len);
    }
    if (helped)
        descriptors_close(d, helper);
    return 0;
}

const struct descriptor_kind descriptor_kind_fifo = {"FIFO", fifo_is, NULL, fifo_restore, NULL};
