/* Standard streams that lead outside, and what may not be read where the process runs on. */
#include "freeze/descriptors_socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* ---- streams ---- */

static bool leads_to(const struct description *o, const struct freeze_stream *stream)
{
    struct stat st;
    if (fstat(stream->fd, &st) < 0 || st.st_dev != o->st.st_dev || st.st_ino != o->st.st_ino)
        return false;
    /* Of a pipe the other end is another thing. */
    return !S_ISFIFO(st.st_mode) || (o->flags & O_ACCMODE) == (stream->number == 0 ? O_RDONLY : O_WRONLY);
}

/* A terminal may be all three: a descriptor is the stream of its own number, else the first that it can be. */
static const struct freeze_stream *find_stream(
    const struct descriptors *d, const struct description *o, int number)
{
    const struct freeze_request *request = d->f->request;
    const struct freeze_stream *found = NULL;
    for (size_t i = 0; i < request->stream_count; i++) {
        if (!leads_to(o, &request->streams[i]))
            continue;
        if (request->streams[i].number == number)
            return &request->streams[i];
        if (found == NULL)
            found = &request->streams[i];
    }
    return found;
}

static bool stream_is(const struct descriptors *d, const struct description *o)
{
    return !(o->flags & O_PATH) && find_stream(d, o, -1) != NULL;
}

static int refuse_unread(struct descriptors *d, const struct description *o, struct error *err)
{
    int waiting = 0;
    if ((o->flags & O_ACCMODE) == O_WRONLY || ioctl(o->copy, FIONREAD, &waiting) < 0 || waiting == 0)
        return 0;
    return descriptors_refuse(d, o, err,
        "is a standard stream with %d bytes that the program has not read: freeze it when it has", waiting);
}

static int stream_restore(struct descriptors *d, struct description *o, struct error *err)
{
    static const char *const names[] = {"standard input", "standard output", "standard error"};
    if (refuse_unread(d, o, err) < 0)
        return -1;
    for (size_t i = 0; i < o->holding_count; i++) {
        const struct holding *h = &o->holdings[i];
        const struct freeze_stream *stream = find_stream(d, o, h->fd);
        image_note_descriptor(
            h->who->process, h->fd, o->kind->name, "%s of the thaw, for %s", names[stream->number], o->link);
        if (h->who->in_tree && stream != find_stream(d, o, o->holdings[0].fd))
            return descriptors_refuse(d, o, err,
                "is several standard streams at once, which cannot be frozen of a process with children");
    }
    for (size_t i = 0; i < o->fd_count; i++) {
        const struct freeze_stream *stream = find_stream(d, o, d->f->in_tree ? o->holdings[0].fd : o->fds[i]);
        struct plan_op *op =
            descriptors_call(d, SYS_dup3, plan_slot((enum plan_slot)(PLAN_SLOT_STDIN + stream->number)),
                plan_literal((uint64_t)o->fds[i]), plan_literal(o->close_on_exec[i] ? O_CLOEXEC : 0));
        plan_expect_value(op, o->fds[i]);
        descriptors_occupy(d, o->fds[i]);
        /* Not fcntl: it would take O_APPEND from a file that the clone's stream may be. */
        if (o->flags & O_NONBLOCK)
            descriptors_call(d, SYS_ioctl, plan_literal((uint64_t)o->fds[i]), plan_literal(FIONBIO),
                plan_data(image_put(d->image, &(int){1}, sizeof(int))));
    }
    o->restored = true;
    return 0;
}

const struct descriptor_kind descriptor_kind_stream = {"stream", stream_is, NULL, stream_restore, NULL};

/* ---- queues ---- */

static int refuse_waiting(
    struct descriptors *d, const struct description *o, struct error *err, const char *what)
{
    return descriptors_refuse(d, o, err,
        "has %s waiting, which cannot be read without taking it from the running program: freeze it when it "
        "is idle",
        what);
}

int descriptors_refuse_queue(struct descriptors *d, const struct description *o, struct error *err)
{
    char byte;
    int unsent = 0;
    struct pollfd wait = {o->copy, POLLIN, 0};
    if (d->f->request->spare == FREEZE_SPARE_NEVER)
        return 0;
    if (socket_about(o)->listening)
        return poll(&wait, 1, 0) > 0 ? refuse_waiting(d, o, err, "connections") : 0;
    ssize_t got = recv(o->copy, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0 || (got == 0 && socket_about(o)->type == SOCK_DGRAM))
        return refuse_waiting(d, o, err, "data");
    if (o->kind == &descriptor_kind_tcp && ioctl(o->copy, SIOCOUTQ, &unsent) == 0 && unsent > 0)
        return refuse_waiting(d, o, err, "data that it has sent");
    return 0;
}
