/* UDP sockets. What waits in them is sent again, by the sockets it came from. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

static bool udp_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return (socket_is(o, AF_INET, SOCK_DGRAM) || socket_is(o, AF_INET6, SOCK_DGRAM)) &&
           socket_get_number(o->copy, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP;
}

/* An error that nobody has asked for yet, or a report of one in the error queue, cannot be made anew. */
static int udp_read(struct descriptors *d, struct description *o, struct error *err)
{
    if (socket_read_about(d, o, err) < 0)
        return -1;
    struct pollfd wait = {o->copy, POLLIN, 0};
    if (socket_about(o)->error != 0)
        return descriptors_refuse(
            d, o, err, "has an error that was not yet asked for (%s)", strerror(socket_about(o)->error));
    if (poll(&wait, 1, 0) > 0 && (wait.revents & POLLERR))
        return descriptors_refuse(d, o, err, "has unread messages in its error queue");
    return 0;
}

static int udp_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    char text[80];
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    if (socket_refuse_hidden_interface(d, o, err) < 0)
        return -1;
    socket_create(d, o, close_on_exec, o->flags & O_NONBLOCK);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0)
        return -1;
    if (address_port(&s->local) != 0)
        socket_bind(d, at, &s->local, s->local_len);
    if (socket_restore_groups(d, o, at, err) < 0)
        return -1;
    address_print(text, sizeof text, &s->local);
    descriptors_note(d, o, "bound to %s%s", text, s->remote_len > 0 ? ", connected" : "");
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

static struct description *find_sender(struct descriptors *d, const union socket_address *from)
{
    for (size_t i = 0; i < d->count; i++) {
        struct description *o = &d->list[i];
        if (o->kind != &descriptor_kind_udp || address_port(&socket_about(o)->local) != address_port(from))
            continue;
        struct in6_addr host = address_host(&socket_about(o)->local);
        if (address_is_wildcard(&host) || address_same(&socket_about(o)->local, from))
            return o;
    }
    return NULL;
}

/* Where its datagrams were sent to: what it is bound to, or loopback when that is every address. */
static union socket_address reachable_address(const struct socket_about *s)
{
    union socket_address to = s->local;
    struct in6_addr host = address_host(&s->local);
    if (!address_is_wildcard(&host))
        return to;
    if (s->domain == AF_INET6)
        inet_pton(AF_INET6, "::1", &to.in6.sin6_addr);
    else
        to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}

static int send_again(struct descriptors *d, struct description *o, const union socket_address *from,
    socklen_t from_len, const uint8_t *data, size_t len, struct error *err)
{
    union socket_address to = reachable_address(socket_about(o));
    const struct description *sender = find_sender(d, from);
    if (sender) {
        socket_send(d, sender->fds[0], data, len, &to, socket_about(o)->local_len);
        return 0;
    }
    if (!address_is_loopback(from))
        return descriptors_refuse(d, o, err, "has unread datagrams from outside the process");
    /* Its sender is closed: a helper takes its address for as long as it sends. */
    int helper = socket_create(d, o, true, 0);
    socket_bind(d, helper, from, from_len);
    socket_send(d, helper, data, len, &to, socket_about(o)->local_len);
    descriptors_close(d, helper);
    return 0;
}

/* Datagrams are sent again by the socket they came from; then everybody is connected as before, after which
 * it would refuse datagrams from others. */
static int udp_resend(struct descriptors *d, struct description *o, struct error *err)
{
    CLEANUP_FREE uint8_t *data = xcalloc(1, 65536);
    size_t total = 0;
    if (descriptors_refuse_queue(d, o, err) < 0)
        return -1;
    for (;;) {
        union socket_address from = {0};
        socklen_t from_len = sizeof from;
        ssize_t got = recvfrom(o->copy, data, 65536, MSG_DONTWAIT, &from.any, &from_len);
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got < 0)
            return error_system(err, "cannot read the datagrams that wait in a UDP socket");
        if ((total += (size_t)got) > DESCRIPTORS_QUEUE_MAX)
            return descriptors_refuse(
                d, o, err, "has more than %u MiB of unread datagrams", DESCRIPTORS_QUEUE_MAX >> 20);
        if (socket_port_is_shared(d, o))
            return descriptors_refuse(d, o, err,
                "has unread datagrams at a port that several sockets have, which cannot be frozen");
        if (send_again(d, o, &from, from_len, data, (size_t)got, err) < 0)
            return -1;
    }
}

/* shutdown is also how a program wakes its own thread from recv; where the socket is not connected it works,
 * and says ENOTCONN. */
static void restore_shutdown(struct descriptors *d, const struct description *o)
{
    struct pollfd wait = {o->copy, POLLRDHUP, 0};
    if (poll(&wait, 1, 0) <= 0 || !(wait.revents & POLLRDHUP))
        return;
    int how = wait.revents & POLLHUP ? SHUT_RDWR : SHUT_RD;
    plan_expect_value(
        descriptors_call(d, SYS_shutdown, plan_literal((uint64_t)o->fds[0]), plan_literal((uint64_t)how)),
        socket_about(o)->remote_len > 0 ? 0 : -ENOTCONN);
}

static int udp_finish(struct descriptors *d, struct description *o, struct error *err)
{
    if (!socket_about(o)->finished) {
        /* The first that comes here sends what waits anywhere; only then is anybody connected. */
        for (size_t i = 0; i < d->count; i++) {
            if (d->list[i].kind != &descriptor_kind_udp)
                continue;
            socket_about(&d->list[i])->finished = true;
            if (udp_resend(d, &d->list[i], err) < 0)
                return -1;
        }
    }
    const struct socket_about *s = socket_about(o);
    if (s->remote_len > 0)
        socket_connect(d, o->fds[0], &s->remote, s->remote_len);
    restore_shutdown(d, o);
    return 0;
}

const struct descriptor_kind descriptor_kind_udp = {"UDP socket", udp_is, udp_read, udp_restore, udp_finish};
