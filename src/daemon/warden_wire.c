/* The warden's end of the wire. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static int send_packet(struct warden *w, const struct buffer *packet, const int *fds, size_t fd_count)
{
    struct error err = {0};
    if (fd_send_message(w->options->wire_fd, packet->data, packet->len, fds, fd_count, &err) == 0)
        return 0;
    if (err.kind == ERROR_BUSY)
        return -1;
    /* The front is gone or going: its exit is being watched, and ends us. */
    log_debug("a message to the front is lost: %s", err.text);
    return 0;
}

static void watch_for_room(struct warden *w, bool needed)
{
    struct error err = {0};
    if (w->wire_watch == NULL)
        return;
    if (loop_watch_change(w->wire_watch, EPOLLIN | (needed ? EPOLLOUT : 0u), &err) < 0)
        warden_fail(w, "%s", err.text);
}

static void keep_for_later(struct warden *w, const int *fds, size_t fd_count)
{
    if (w->outgoing_count == WARDEN_OUTGOING_MAX) {
        warden_fail(w, "the front has left %u messages unread", w->outgoing_count);
        return;
    }
    struct outgoing *later = xcalloc(1, sizeof *later);
    buffer_append(&later->packet, w->packet.data, w->packet.len);
    later->fd_count = fd_count;
    for (size_t i = 0; i < fd_count; i++)
        later->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
    STAILQ_INSERT_TAIL(&w->outgoing, later, entry);
    if (w->outgoing_count++ == 0)
        watch_for_room(w, true);
}

void warden_send(struct warden *w, const struct wire_message *message, const int *fds, size_t fd_count)
{
    w->packet.len = 0;
    wire_encode(&w->packet, message);
    if (w->outgoing_count > 0 || send_packet(w, &w->packet, fds, fd_count) < 0)
        keep_for_later(w, fds, fd_count);
}

static void free_first(struct warden *w)
{
    struct outgoing *first = STAILQ_FIRST(&w->outgoing);
    STAILQ_REMOVE_HEAD(&w->outgoing, entry);
    for (size_t i = 0; i < first->fd_count; i++)
        fd_close(&first->fds[i]);
    buffer_free(&first->packet);
    free(first);
    w->outgoing_count--;
}

static void flush(struct warden *w)
{
    while (w->outgoing_count > 0) {
        struct outgoing *first = STAILQ_FIRST(&w->outgoing);
        if (send_packet(w, &first->packet, first->fds, first->fd_count) < 0)
            return;
        free_first(w);
    }
    watch_for_room(w, false);
}

void warden_outgoing_free(struct warden *w)
{
    while (w->outgoing_count > 0)
        free_first(w);
    buffer_free(&w->packet);
}

/* -1 for a message that a front has no business to send. */
static int handle(struct warden *w, const struct wire_message *m, uint64_t received_ns, struct error *err)
{
    switch (m->type) {
    case WIRE_ENV_START:
        env_start(w, &m->env_start, received_ns);
        return 0;
    case WIRE_ENV_FREEZE:
        snapshot_freeze(w, &m->env_freeze);
        return 0;
    case WIRE_ENV_KILL:
        env_kill(w, m->env_id);
        return 0;
    case WIRE_ENV_SERVED:
        template_clone_served(w, m->env_id);
        return 0;
    case WIRE_TEMPLATE_DROP:
        template_drop(w, m->snapshot_id, true);
        return 0;
    case WIRE_SNAPSHOT_DELETE:
        snapshot_delete(w, m->snapshot_id);
        return 0;
    case WIRE_SNAPSHOT_INSPECT:
        snapshot_inspect(w, &m->snapshot_inspect);
        return 0;
    case WIRE_STATUS:
        template_tell_status(w, m->request_id);
        return 0;
    case WIRE_STORE_RUN:
        store_run(w, &m->store_run);
        return 0;
    case WIRE_SNAPSHOT_KEEP:
        return snapshot_keep(w, m->snapshot_id, err);
    case WIRE_FRONT_READY:
        snapshot_sweep(w);
        warden_front_ready(w);
        return 0;
    default:
        return error_set(err, ERROR_INVALID, "it sent a message of type %d", m->type);
    }
}

static int receive_one(struct warden *w, struct error *err)
{
    static uint8_t packet[WIRE_MESSAGE_BYTES];
    struct wire_message message;
    int fds[FD_MESSAGE_MAX];
    size_t fd_count;
    ssize_t len = fd_recv_message(w->options->wire_fd, packet, sizeof packet, fds, &fd_count, err);
    if (len < 0 && err->errno_value == ECONNRESET)
        len = 0; /* it closed with messages of ours unread, as it does when it ends */
    if (len < 0)
        return -1;
    uint64_t received_ns = clock_monotonic_ns();
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    if (fd_count > 0)
        return error_set(err, ERROR_INVALID, "it sent descriptors");
    if (len == 0) {
        /* Its end is closed: it has exited, or will; then the process's own watch tells how. */
        loop_unwatch(&w->wire_watch);
        return error_set(err, ERROR_BUSY, "the front has closed the wire");
    }
    if (wire_decode(&message, (struct bytes){packet, (size_t)len}, err) < 0)
        return -1;
    return handle(w, &message, received_ns, err);
}

void warden_wire_event(void *context, uint32_t events)
{
    struct warden *w = context;
    struct error err = {0};
    if (events & EPOLLOUT)
        flush(w);
    for (int i = 0; i < WARDEN_MESSAGES_PER_TURN; i++) {
        if (receive_one(w, &err) == 0)
            continue;
        if (err.kind != ERROR_BUSY)
            warden_fail(w, "the front misbehaves: %s", err.text);
        return;
    }
}
