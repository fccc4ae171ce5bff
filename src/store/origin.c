/* The client's side of the courier's socket.
 *
 *   slot: FREE --origin_begin--> WAITING --sent--> SENT --reply, or silence--> DONE --origin_next--> FREE
 *                                   ^               |
 *                                   '--- the courier died: a new connection, everything asked again
 *
 * Invariants:
 *   1. A slot leaves WAITING and SENT only with a reply or with an error made here, so every request has one answer.
 *   2. A reply's id holds the slot's number and its generation: a late reply of an earlier use matches nothing.
 *   3. poll_fd (an epoll set of the connection and the timer) is readable whenever origin_next has something to do. */
#include "store/origin.h"

#include "base/clock.h"
#include "base/fd.h"
#include "store/origin_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_MS 1000000ull
#define ATTEMPTS_MAX \
    4 /* a request that was under way when this many couriers died has probably killed them */
#define RECONNECT_MS 20

enum slot_state { SLOT_FREE = 0, SLOT_WAITING, SLOT_SENT, SLOT_DONE };

struct slot {
    enum slot_state state;
    uint32_t generation;
    unsigned attempts;
    int fd; /* STORE: the caller's */
    struct origin_wire_request request;
    struct origin_reply reply; /* when DONE */
};

struct origin {
    int control_fd; /* not ours */
    int socket_fd, poll_fd, timer_fd;
    int wake_fd; /* an eventfd: readable while something is DONE that came about outside of the socket */
    struct slot slots[ORIGIN_IN_FLIGHT_MAX];
    size_t in_flight, waiting, done;
    uint64_t heard_ns; /* from the courier; or when the first request was sent to a silent one */
    bool wants_room;   /* the socket is full: watched for EPOLLOUT */
};

struct origin *origin_new(int control_fd)
{
    struct origin *o = xcalloc(1, sizeof *o);
    o->control_fd = control_fd;
    o->socket_fd = -1;
    o->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    o->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    o->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event timer = {.events = EPOLLIN, .data.fd = o->timer_fd};
    struct epoll_event wake = {.events = EPOLLIN, .data.fd = o->wake_fd};
    if (o->poll_fd >= 0 && o->timer_fd >= 0 && o->wake_fd >= 0) {
        (void)!epoll_ctl(o->poll_fd, EPOLL_CTL_ADD, o->timer_fd, &timer);
        (void)!epoll_ctl(o->poll_fd, EPOLL_CTL_ADD, o->wake_fd, &wake);
    }
    return o;
}

static void free_reply(struct origin_reply *reply)
{
    fd_close(&reply->fd);
    free(steal_pointer(reply->entries));
}

void origin_free(struct origin *o)
{
    if (o == NULL)
        return;
    for (size_t i = 0; i < ORIGIN_IN_FLIGHT_MAX; i++)
        if (o->slots[i].state == SLOT_DONE)
            free_reply(&o->slots[i].reply);
    fd_close(&o->socket_fd);
    fd_close(&o->timer_fd);
    fd_close(&o->wake_fd);
    fd_close(&o->poll_fd);
    free(o);
}

int origin_fd(const struct origin *o)
{
    return o->poll_fd;
}

void origin_fds(const struct origin *o, int out[ORIGIN_FDS])
{
    out[0] = o->poll_fd;
    out[1] = o->timer_fd;
    out[2] = o->wake_fd;
}

size_t origin_in_flight(const struct origin *o)
{
    return o->in_flight;
}

static void set_timer(struct origin *o, uint64_t at_ns)
{
    const struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)}};
    (void)!timerfd_settime(o->timer_fd, at_ns == 0 ? 0 : TFD_TIMER_ABSTIME, &at, NULL);
}

static bool is_under_way(const struct slot *slot)
{
    return slot->state == SLOT_WAITING || slot->state == SLOT_SENT;
}

static void finish(struct origin *o, struct slot *slot, const struct origin_reply *reply)
{
    void *context = slot->reply.context;
    o->waiting -= slot->state == SLOT_WAITING;
    slot->state = SLOT_DONE;
    slot->reply = *reply;
    slot->reply.context = context;
    o->done++;
    (void)!eventfd_write(o->wake_fd, 1);
}

static void fail(struct origin *o, struct slot *slot, enum error_kind kind, const char *why)
{
    struct origin_reply reply = {.fd = -1};
    error_set(&reply.error, kind, "%s: %s", slot->request.name, why);
    finish(o, slot, &reply);
}

/* Give the courier one end of a new pair. */
static int open_connection(struct origin *o, struct error *err)
{
    int pair[2];
    const char hello = ORIGIN_WIRE_HELLO;
    if (o->poll_fd < 0 || o->timer_fd < 0 || o->wake_fd < 0)
        return error_set(err, ERROR_SYSTEM, "cannot make descriptors to wait for the origin");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return error_system(err, "cannot make a socket to the courier");
    int sent = fd_send_message(o->control_fd, &hello, sizeof hello, &pair[1], 1, err);
    close(pair[1]);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = pair[0]};
    if (sent == 0 && epoll_ctl(o->poll_fd, EPOLL_CTL_ADD, pair[0], &event) < 0)
        sent = error_system(err, "cannot watch the courier's socket");
    if (sent < 0) {
        close(pair[0]);
        return -1;
    }
    o->socket_fd = pair[0];
    o->wants_room = false;
    o->heard_ns = clock_monotonic_ns();
    return 0;
}

/* The courier is gone, or has broken the rules: what it had is asked again. */
static void close_connection(struct origin *o)
{
    fd_close(&o->socket_fd); /* leaves the epoll set, too */
    for (size_t i = 0; i < ORIGIN_IN_FLIGHT_MAX; i++) {
        struct slot *slot = &o->slots[i];
        if (slot->state != SLOT_SENT)
            continue;
        slot->state = SLOT_WAITING;
        o->waiting++;
        if (slot->attempts >= ATTEMPTS_MAX)
            fail(o, slot, ERROR_BUSY, "the process that talks to the origin ended again and again");
    }
    if (o->waiting > 0)
        set_timer(o, clock_monotonic_ns() + RECONNECT_MS * NS_PER_MS);
}

static void fail_all(struct origin *o, enum error_kind kind, const char *why)
{
    for (size_t i = 0; i < ORIGIN_IN_FLIGHT_MAX; i++)
        if (is_under_way(&o->slots[i]))
            fail(o, &o->slots[i], kind, why);
}

static void watch_for_room(struct origin *o, bool wanted)
{
    if (o->wants_room == wanted)
        return;
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0u), .data.fd = o->socket_fd};
    (void)!epoll_ctl(o->poll_fd, EPOLL_CTL_MOD, o->socket_fd, &event);
    o->wants_room = wanted;
}

static int send_slot(struct origin *o, struct slot *slot, struct error *err)
{
    CLEANUP_BUFFER struct buffer packet = {0};
    origin_wire_encode_request(&packet, &slot->request);
    if (fd_send_message(o->socket_fd, packet.data, packet.len, &slot->fd, slot->fd >= 0, err) < 0)
        return -1;
    slot->state = SLOT_SENT;
    slot->attempts++;
    o->waiting--;
    return 0;
}

/* Send what waits: the urgent first. */
static void send_waiting(struct origin *o)
{
    struct error err = {0};
    if (o->waiting == 0)
        return;
    if (o->socket_fd < 0 && open_connection(o, &err) < 0) {
        if (err.kind != ERROR_BUSY) {
            fail_all(o, ERROR_BUSY, err.text);
            return;
        }
        /* No courier has taken what others have sent: it is being started again. */
        set_timer(o, clock_monotonic_ns() + RECONNECT_MS * NS_PER_MS);
        return;
    }
    for (int urgent = 1; urgent >= 0; urgent--) {
        for (size_t i = 0; i < ORIGIN_IN_FLIGHT_MAX && o->waiting > 0; i++) {
            struct slot *slot = &o->slots[i];
            if (slot->state != SLOT_WAITING || ((slot->request.flags & ORIGIN_URGENT) != 0) != urgent)
                continue;
            if (send_slot(o, slot, &err) == 0)
                continue;
            if (err.kind == ERROR_BUSY)
                watch_for_room(o, true);
            else if (err.errno_value == EPIPE || err.errno_value == ECONNRESET)
                close_connection(o);
            else
                fail(o, slot, ERROR_SYSTEM, err.text);
            return;
        }
    }
    watch_for_room(o, false);
    set_timer(o, o->heard_ns + ORIGIN_SILENCE_MS * NS_PER_MS);
}

static int copy_name(char out[ORIGIN_NAME_MAX + 1], const char *name, struct error *err)
{
    size_t len = strnlen(name, ORIGIN_NAME_MAX + 1);
    if (len > ORIGIN_NAME_MAX)
        return error_set(err, ERROR_INVALID, "a name of the origin is too long: %.40s...", name);
    memcpy(out, name, len + 1);
    return 0;
}

static int check_request(const struct origin_request *r, struct origin_wire_request *out, struct error *err)
{
    bool is_list = r->verb == ORIGIN_LIST;
    *out = (struct origin_wire_request){
        .verb = r->verb, .flags = r->flags, .bytes_max = r->bytes_max, .before_ns = r->before_ns};
    if (copy_name(out->name, r->name, err) < 0 || copy_name(out->after, r->after ? r->after : "", err) < 0)
        return -1;
    size_t len = strlen(out->name);
    bool fits = is_list ? len > 1 && out->name[len - 1] == '/' : origin_name_is_valid(out->name);
    if (!fits || (out->after[0] != '\0' && !origin_name_is_valid(out->after)))
        return error_set(err, ERROR_INVALID, "not a name of the origin: %s", out->name);
    if (r->verb == ORIGIN_STORE && r->fd < 0)
        return error_set(err, ERROR_INVALID, "there is no file to store as %s", out->name);
    return 0;
}

int origin_begin(struct origin *o, const struct origin_request *r, struct error *err)
{
    struct origin_wire_request request;
    if (check_request(r, &request, err) < 0)
        return -1;
    size_t i = 0;
    while (i < ORIGIN_IN_FLIGHT_MAX && o->slots[i].state != SLOT_FREE)
        i++;
    if (i == ORIGIN_IN_FLIGHT_MAX)
        return error_set(err, ERROR_BUSY, "%d requests to the origin are under way", ORIGIN_IN_FLIGHT_MAX);
    struct slot *slot = &o->slots[i];
    uint32_t generation = slot->generation + 1;
    *slot = (struct slot){.state = SLOT_WAITING,
        .generation = generation,
        .fd = r->verb == ORIGIN_STORE ? r->fd : -1,
        .request = request,
        .reply = {.context = r->context, .fd = -1}};
    slot->request.id = (uint64_t)generation << 32 | (i + 1);
    if (o->in_flight++ == 0)
        o->heard_ns = clock_monotonic_ns();
    o->waiting++;
    send_waiting(o);
    return 0;
}

static struct slot *slot_of(struct origin *o, uint64_t id)
{
    uint64_t number = id & UINT32_MAX;
    if (number == 0 || number > ORIGIN_IN_FLIGHT_MAX)
        return NULL;
    struct slot *slot = &o->slots[number - 1];
    return slot->state == SLOT_SENT && slot->request.id == id ? slot : NULL;
}

static int take_reply(struct origin *o, struct bytes packet, int *fd, struct error *err)
{
    struct origin_wire_reply wire;
    if (origin_wire_decode_reply(&wire, packet, err) < 0)
        return -1;
    if (wire.id == 0)
        return 0; /* still at work */
    struct slot *slot = slot_of(o, wire.id);
    bool brings_file = slot != NULL && slot->request.verb == ORIGIN_FETCH && wire.error.kind == ERROR_NONE;
    if (slot == NULL || brings_file != (*fd >= 0)) {
        free(wire.entries);
        return error_set(err, ERROR_INVALID, "the courier has sent a reply that fits no request");
    }
    const struct origin_reply reply = {.error = wire.error,
        .fd = fd_steal(fd),
        .bytes = wire.bytes,
        .modified_s = wire.modified_s,
        .entries = wire.entries,
        .entry_count = wire.entry_count,
        .more = wire.more};
    finish(o, slot, &reply);
    return 0;
}

/* One message; -1 when there is none (ERROR_BUSY), or the connection is of no more use. */
static int receive_one(struct origin *o, struct error *err)
{
    uint8_t packet[ORIGIN_WIRE_BYTES];
    int fds[FD_MESSAGE_MAX];
    size_t fd_count = 0;
    ssize_t len = fd_recv_message(o->socket_fd, packet, sizeof packet, fds, &fd_count, err);
    if (len < 0)
        return -1;
    int result = -1;
    if (len == 0)
        error_set(err, ERROR_NOT_FOUND, "the courier has ended");
    else
        result = take_reply(o, (struct bytes){packet, (size_t)len}, &fds[0], err);
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    return result;
}

static void receive(struct origin *o)
{
    struct error err = {0};
    while (o->socket_fd >= 0) {
        if (receive_one(o, &err) == 0) {
            o->heard_ns = clock_monotonic_ns();
            continue;
        }
        if (err.kind != ERROR_BUSY)
            close_connection(o);
        return;
    }
}

static void check_silence(struct origin *o)
{
    uint64_t expirations, now = clock_monotonic_ns();
    (void)!read(o->timer_fd, &expirations, sizeof expirations);
    if (o->in_flight == o->done) {
        set_timer(o, 0);
        return;
    }
    if (now >= o->heard_ns + ORIGIN_SILENCE_MS * NS_PER_MS) {
        fail_all(o, ERROR_BUSY, "the process that talks to the origin does not answer");
        close_connection(o);
        return;
    }
    set_timer(o, o->heard_ns + ORIGIN_SILENCE_MS * NS_PER_MS);
}

bool origin_next(struct origin *o, struct origin_reply *reply)
{
    if (o->done == 0) {
        receive(o);
        check_silence(o);
        send_waiting(o);
    }
    for (size_t i = 0; o->done > 0 && i < ORIGIN_IN_FLIGHT_MAX; i++) {
        struct slot *slot = &o->slots[i];
        if (slot->state != SLOT_DONE)
            continue;
        *reply = slot->reply;
        slot->state = SLOT_FREE;
        o->in_flight--;
        eventfd_t count;
        if (--o->done == 0)
            (void)!eventfd_read(o->wake_fd, &count);
        return true;
    }
    return false;
}

int origin_wait(struct origin *o, struct origin_reply *reply, struct error *err)
{
    while (!origin_next(o, reply)) {
        if (o->in_flight == 0)
            return error_set(err, ERROR_INTERNAL, "no request to the origin is under way");
        struct pollfd ready = {.fd = o->poll_fd, .events = POLLIN};
        if (poll(&ready, 1, -1) < 0 && errno != EINTR)
            return error_system(err, "cannot wait for the origin");
    }
    return 0;
}

/* One at a time. */

static int ask(
    struct origin *o, const struct origin_request *request, struct origin_reply *reply, struct error *err)
{
    if (o->in_flight > 0)
        return error_set(err, ERROR_BUSY, "other requests to the origin are under way");
    if (origin_begin(o, request, err) < 0 || origin_wait(o, reply, err) < 0)
        return -1;
    if (reply->error.kind == ERROR_NONE)
        return 0;
    if (err != NULL)
        *err = reply->error;
    return -1;
}

int origin_fetch(struct origin *o, const char *name, unsigned flags, int *fd, struct error *err)
{
    struct origin_reply reply;
    const struct origin_request request = {.verb = ORIGIN_FETCH, .name = name, .flags = flags};
    if (ask(o, &request, &reply, err) < 0)
        return -1;
    *fd = reply.fd;
    return 0;
}

int origin_store(struct origin *o, const char *name, unsigned flags, int fd, struct error *err)
{
    struct origin_reply reply;
    const struct origin_request request = {.verb = ORIGIN_STORE, .name = name, .flags = flags, .fd = fd};
    return ask(o, &request, &reply, err);
}

int origin_remove(struct origin *o, const char *name, struct error *err)
{
    struct origin_reply reply;
    const struct origin_request request = {.verb = ORIGIN_REMOVE, .name = name};
    return ask(o, &request, &reply, err);
}

int origin_list(struct origin *o, const char *prefix, origin_each *each, void *context, struct error *err)
{
    char after[ORIGIN_NAME_MAX + 1] = "";
    for (;;) {
        struct origin_reply reply;
        const struct origin_request request = {.verb = ORIGIN_LIST, .name = prefix, .after = after};
        if (ask(o, &request, &reply, err) < 0)
            return -1;
        CLEANUP_FREE struct origin_entry *entries = reply.entries;
        for (size_t i = 0; i < reply.entry_count; i++)
            if (each(context, &entries[i], err) < 0)
                return -1;
        if (!reply.more || reply.entry_count == 0)
            return 0;
        memcpy(after, entries[reply.entry_count - 1].name, sizeof after);
    }
}
