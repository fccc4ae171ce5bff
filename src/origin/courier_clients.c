/* The courier's clients: their sockets, what they send, what they have not yet taken. */
#include "base/clock.h"
#include "base/fd.h"
#include "origin/courier_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MESSAGES_PER_TURN 64
#define NS_PER_MS 1000000ull

static void free_parcel(struct client *client)
{
    struct parcel *first = STAILQ_FIRST(&client->parcels);
    STAILQ_REMOVE_HEAD(&client->parcels, entry);
    fd_close(&first->fd);
    buffer_free(&first->packet);
    free(first);
    client->parcel_count--;
}

/* What runs for it goes on, and is dropped when it is done. */
static void end_client(struct client *client)
{
    struct job *job;
    LIST_FOREACH (job, &client->jobs, of_client)
        job->client = NULL;
    while (client->parcel_count > 0)
        free_parcel(client);
    loop_unwatch(&client->watch);
    fd_close(&client->fd);
    LIST_REMOVE(client, entry);
    client->courier->client_count--;
    free(client);
}

void courier_free_clients(struct courier *c)
{
    while (!LIST_EMPTY(&c->clients))
        end_client(LIST_FIRST(&c->clients));
}

static void watch_for_room(struct client *client, bool needed)
{
    struct error ignored;
    (void)!loop_watch_change(client->watch, EPOLLIN | (needed ? EPOLLOUT : 0u), &ignored);
}

void client_send(struct client *client, const struct origin_wire_reply *reply, int fd)
{
    CLEANUP_BUFFER struct buffer packet = {0};
    struct error err = {0};
    origin_wire_encode_reply(&packet, reply);
    if (client->parcel_count == 0 &&
        fd_send_message(client->fd, packet.data, packet.len, &fd, fd >= 0, &err) == 0)
        return;
    if (client->parcel_count == 0 && err.kind != ERROR_BUSY)
        return; /* it is gone, or going: its socket will say so */
    struct parcel *later = xcalloc(1, sizeof *later);
    later->packet = packet;
    packet = (struct buffer){0};
    later->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    STAILQ_INSERT_TAIL(&client->parcels, later, entry);
    if (client->parcel_count++ == 0)
        watch_for_room(client, true);
}

static void flush(struct client *client)
{
    while (client->parcel_count > 0) {
        struct parcel *first = STAILQ_FIRST(&client->parcels);
        struct error err = {0};
        if (fd_send_message(
                client->fd, first->packet.data, first->packet.len, &first->fd, first->fd >= 0, &err) < 0 &&
            err.kind == ERROR_BUSY)
            return;
        free_parcel(client);
    }
    watch_for_room(client, false);
}

/* -1: it is gone, or breaks the rules. */
static int receive_one(struct client *client, struct error *err)
{
    uint8_t packet[ORIGIN_WIRE_BYTES];
    struct origin_wire_request request;
    int fds[FD_MESSAGE_MAX];
    size_t fd_count = 0;
    ssize_t len = fd_recv_message(client->fd, packet, sizeof packet, fds, &fd_count, err);
    if (len < 0)
        return -1;
    int result = -1;
    if (len == 0)
        error_set(err, ERROR_NOT_FOUND, "the client has left");
    else if (origin_wire_decode_request(&request, (struct bytes){packet, (size_t)len}, err) < 0)
        result = -1;
    else if (fd_count != (request.verb == ORIGIN_STORE))
        error_set(err, ERROR_INVALID, "a client sent %zu descriptors", fd_count);
    else if (client->job_count + client->parcel_count > 2 * ORIGIN_IN_FLIGHT_MAX)
        error_set(err, ERROR_LIMIT, "a client asks for too much at once");
    else
        result = 0;
    if (result == 0)
        courier_take(client, &request, fd_steal(&fds[0]));
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    return result;
}

static void client_event(void *context, uint32_t events)
{
    struct client *client = context;
    struct error err = {0};
    if (events & EPOLLOUT)
        flush(client);
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        if (receive_one(client, &err) == 0)
            continue;
        if (err.kind != ERROR_BUSY)
            end_client(client);
        return;
    }
}

static void add_client(struct courier *c, int fd)
{
    struct error ignored;
    if (c->client_count == COURIER_CLIENTS_MAX || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        close(fd);
        return;
    }
    struct client *client = xcalloc(1, sizeof *client);
    *client = (struct client){.courier = c, .fd = fd};
    STAILQ_INIT(&client->parcels);
    client->watch = loop_watch_fd(c->loop, fd, EPOLLIN, client_event, client, &ignored);
    if (client->watch == NULL) {
        close(fd);
        free(client);
        return;
    }
    LIST_INSERT_HEAD(&c->clients, client, entry);
    c->client_count++;
}

void courier_control_event(void *context, uint32_t events)
{
    (void)events;
    struct courier *c = context;
    struct error err = {0};
    char hello[8];
    int fds[FD_MESSAGE_MAX];
    size_t fd_count = 0;
    ssize_t len = fd_recv_message(c->options->control_fd, hello, sizeof hello, fds, &fd_count, &err);
    if (len == 1 && hello[0] == ORIGIN_WIRE_HELLO && fd_count == 1) {
        add_client(c, fds[0]);
        return;
    }
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    if (len == 0 || (len < 0 && err.kind == ERROR_SYSTEM))
        loop_stop(c->loop);
}

/* So that clients can tell a slow origin from a courier that hangs. */
void courier_signs_of_life(void *context)
{
    struct courier *c = context;
    struct client *client;
    const struct origin_wire_reply at_work = {0};
    LIST_FOREACH (client, &c->clients, entry)
        if (client->job_count > 0 && client->parcel_count == 0)
            client_send(client, &at_work, -1);
    loop_timer_set(c->loop, &c->life_timer, clock_monotonic_ns() + COURIER_SIGN_OF_LIFE_MS * NS_PER_MS,
        courier_signs_of_life, c);
}
