/* The front's end of the wire: what waits when the warden is busy, and who gets what comes. Runs in the
 * front.
 *
 * Nothing here blocks: a message is sent at once when none waits before it, else it queues. */
#include "base/fd.h"
#include "daemon/front_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGES_PER_TURN 32

static void watch_for(struct front *front, uint32_t events)
{
    struct error err;
    if (loop_watch_change(front->warden_watch, events, &err) < 0)
        front_fail(front, &err);
}

/* False when the warden's buffer is full. */
static bool send_packet(struct front *front, const void *data, size_t len)
{
    for (;;) {
        if (send(front->options->warden_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return true;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS) {
            struct error err;
            error_system(&err, "cannot send to the warden");
            front_fail(front, &err);
            return true; /* nobody is there to send it to */
        }
        return false;
    }
}

static void flush_queue(struct front *front)
{
    while (!STAILQ_EMPTY(&front->warden_queue)) {
        struct front_packet *packet = STAILQ_FIRST(&front->warden_queue);
        if (!send_packet(front, packet->data, packet->len))
            return;
        STAILQ_REMOVE_HEAD(&front->warden_queue, entry);
        front->warden_queued--;
        free(packet);
    }
    watch_for(front, EPOLLIN);
}

void front_warden_send(struct front *front, const struct wire_message *message)
{
    static struct buffer packet; /* kept: the start of an environment is on the thaw path */
    packet.len = 0;
    wire_encode(&packet, message);
    if (STAILQ_EMPTY(&front->warden_queue) && send_packet(front, packet.data, packet.len))
        return;
    if (front->warden_queued == FRONT_WARDEN_QUEUE_MAX) {
        struct error err;
        error_set(&err, ERROR_LIMIT, "the warden does not read: %u messages wait", FRONT_WARDEN_QUEUE_MAX);
        front_fail(front, &err);
        return;
    }
    struct front_packet *waiting = xcalloc(1, sizeof *waiting + packet.len);
    waiting->len = packet.len;
    memcpy(waiting->data, packet.data, packet.len);
    if (STAILQ_EMPTY(&front->warden_queue))
        watch_for(front, EPOLLIN | EPOLLOUT);
    STAILQ_INSERT_TAIL(&front->warden_queue, waiting, entry);
    front->warden_queued++;
}

void front_warden_send_env(struct front *front, enum wire_type type, uint64_t env_id)
{
    front_warden_send(front, &(struct wire_message){.type = type, .env_id = env_id});
}

void front_warden_send_snapshot(struct front *front, enum wire_type type, const char *snapshot_id)
{
    struct wire_message message = {.type = type};
    memcpy(message.snapshot_id, snapshot_id, sizeof message.snapshot_id);
    front_warden_send(front, &message);
}

/* Descriptors that a handler takes over are set to -1 by it; the rest is closed. */
static void handle_message(struct front *front, const struct wire_message *message, int *fds)
{
    switch (message->type) {
    case WIRE_ENV_STARTED:
        front_env_started(front, &message->env_started, fds);
        break;
    case WIRE_ENV_FROZEN:
        front_env_frozen(front, &message->env_frozen);
        break;
    case WIRE_ENV_EXITED:
        front_env_exited(front, &message->env_exited);
        break;
    case WIRE_TEMPLATE_DROPPED:
        front_admin_template_dropped(front, message->snapshot_id);
        break;
    case WIRE_SNAPSHOT_INSPECTED:
        front_admin_inspected(front, &message->snapshot_inspected, fds[0]);
        break;
    case WIRE_STATUS_TOLD:
        front_admin_status_told(front, &message->status_told);
        break;
    case WIRE_STORE_RUNNING:
        front_store_running(front, &message->store_running, &fds[0]);
        break;
    default:
        log_warning("the warden sent a message of type %d, which is not for the front", (int)message->type);
    }
}

/* 1: one was handled; 0: nothing there; -1: no further. */
static int receive_one(struct front *front, struct error *err)
{
    static uint8_t packet[WIRE_MESSAGE_BYTES];
    int fds[FD_MESSAGE_MAX];
    size_t fd_count;
    ssize_t len = fd_recv_message(front->options->warden_fd, packet, sizeof packet, fds, &fd_count, err);
    if (len < 0)
        return err->kind == ERROR_BUSY ? 0 : -1;
    if (len == 0)
        return error_set(err, ERROR_NOT_FOUND, "the warden is gone");
    struct wire_message message;
    int result = wire_decode(&message, (struct bytes){packet, (size_t)len}, err);
    if (result == 0)
        handle_message(front, &message, fds);
    for (size_t i = 0; i < FD_MESSAGE_MAX; i++)
        fd_close(&fds[i]);
    return result < 0 ? -1 : 1;
}

static void on_warden(void *context, uint32_t events)
{
    struct front *front = context;
    if (events & EPOLLOUT)
        flush_queue(front);
    for (int i = 0; i < MESSAGES_PER_TURN && !front->failed; i++) {
        struct error err;
        int got = receive_one(front, &err);
        if (got < 0)
            front_fail(front, &err);
        if (got <= 0)
            return;
    }
}

int front_warden_open(struct front *front, struct error *err)
{
    STAILQ_INIT(&front->warden_queue);
    int flags = fcntl(front->options->warden_fd, F_GETFL);
    if (flags < 0 || fcntl(front->options->warden_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_system(err, "cannot make the warden's socket non-blocking");
    front->warden_watch =
        loop_watch_fd(front->loop, front->options->warden_fd, EPOLLIN, on_warden, front, err);
    return front->warden_watch ? 0 : -1;
}

void front_warden_close(struct front *front)
{
    loop_unwatch(&front->warden_watch);
    while (!STAILQ_EMPTY(&front->warden_queue)) {
        struct front_packet *packet = STAILQ_FIRST(&front->warden_queue);
        STAILQ_REMOVE_HEAD(&front->warden_queue, entry);
        free(packet);
    }
}
