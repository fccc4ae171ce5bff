/* TCP on loopback. A connection whose both ends are the process's is made again; the runtime API's is
 * connected anew from the same port; any other comes back as a connection that was reset. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TCP_DRAIN_TURNS 1000 /* milliseconds that bytes may take from one end to the other */

/* ---- reading ---- */

/* Go listens with multipath TCP, which on loopback is as TCP is. */
static bool tcp_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    int protocol = 0;
    socklen_t len = sizeof protocol;
    return (socket_is(o, AF_INET, SOCK_STREAM) || socket_is(o, AF_INET6, SOCK_STREAM)) &&
           getsockopt(o->copy, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
           (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
}

static int tcp_read_state(struct descriptors *d, struct description *o, struct error *err)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    struct socket_about *s = socket_about(o);
    if (getsockopt(o->copy, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return descriptors_refuse(d, o, err, "is a TCP socket that does not tell its state");
    s->state = info.tcpi_state;
    /* The other end has not shut it, so this one has: shutdown(SHUT_RD), of which the other knows nothing. */
    struct pollfd wait = {o->copy, POLLRDHUP, 0};
    s->read_shut = (s->state == TCP_ESTABLISHED || s->state == TCP_FIN_WAIT1 || s->state == TCP_FIN_WAIT2) &&
                   poll(&wait, 1, 0) > 0 && (wait.revents & POLLRDHUP);
    s->backlog = (int)info.tcpi_sacked; /* so it is for a listener */
    return 0;
}

static int tcp_read(struct descriptors *d, struct description *o, struct error *err)
{
    if (o->detail) /* a connection that its listener has brought in */
        return tcp_read_state(d, o, err);
    if (socket_read_about(d, o, err) < 0 || tcp_read_state(d, o, err) < 0)
        return -1;
    if (!socket_about(o)->listening)
        return 0;
    return d->f->request->spare == FREEZE_SPARE_NEVER ? socket_take_pending(d, o, err)
                                                      : descriptors_refuse_queue(d, o, err);
}

static struct description *find_peer(struct descriptors *d, const struct description *o)
{
    const struct socket_about *s = socket_about(o);
    for (size_t i = 0; i < d->count && s->remote_len > 0; i++) {
        struct description *other = &d->list[i];
        const struct socket_about *t = socket_about(other);
        if (other != o && other->kind == o->kind && t->remote_len > 0 &&
            address_same(&s->local, &t->remote) && address_same(&s->remote, &t->local))
            return other;
    }
    return NULL;
}

/* How well a listener fits a connection's own end: 2 the very address, 1 every address, 0 not at all. */
static int listener_fit(const struct description *listener, const struct description *accepted)
{
    const struct socket_about *s = socket_about(listener), *t = socket_about(accepted);
    if (listener->kind != accepted->kind || !s->listening || s->domain != t->domain)
        return 0;
    struct in6_addr host = address_host(&s->local);
    if (address_same(&s->local, &t->local))
        return 2;
    return address_is_wildcard(&host) && address_port(&s->local) == address_port(&t->local);
}

/* The listener that the kernel would choose; *count says how many fit as well (SO_REUSEPORT). */
static struct description *find_listener(
    struct descriptors *d, const struct description *accepted, size_t *count)
{
    struct description *best = NULL;
    int best_fit = 0;
    *count = 0;
    for (size_t i = 0; i < d->count; i++) {
        int fit = listener_fit(&d->list[i], accepted);
        if (fit > best_fit) {
            best = &d->list[i];
            best_fit = fit;
            *count = 0;
        }
        *count += fit > 0 && fit == best_fit;
    }
    return best;
}

/* All that `from` has sent and `to` has not read, taken from `to`: what still waits at the sender comes as
 * room is made. */
static int drain(struct descriptors *d, const struct description *from, const struct description *to,
    struct buffer *out, struct error *err)
{
    uint8_t chunk[16384];
    if (descriptors_refuse_queue(d, from, err) < 0 || descriptors_refuse_queue(d, to, err) < 0)
        return -1;
    for (int turn = 0; turn < TCP_DRAIN_TURNS; turn++) {
        ssize_t got;
        int unsent = 0;
        while ((got = recv(to->copy, chunk, sizeof chunk, MSG_DONTWAIT)) > 0) {
            buffer_append(out, chunk, (size_t)got);
            if (out->len > TCP_QUEUE_MAX)
                return descriptors_refuse(d, to->fd_count > 0 ? to : from, err,
                    "has more than %u KiB of unread data", TCP_QUEUE_MAX >> 10);
        }
        if (got == 0)
            return 0;
        if (ioctl(from->copy, SIOCOUTQ, &unsent) < 0 || unsent == 0) {
            got = recv(to->copy, chunk, 1, MSG_DONTWAIT | MSG_PEEK);
            if (got <= 0)
                return 0;
        }
        poll(NULL, 0, 1);
    }
    return descriptors_refuse(d, from, err, "has sent bytes that do not arrive");
}

/* ---- ops ---- */

static bool has_sent_fin(const struct socket_about *s)
{
    return s->state == TCP_FIN_WAIT1 || s->state == TCP_FIN_WAIT2 || s->state == TCP_CLOSING ||
           s->state == TCP_TIME_WAIT || s->state == TCP_LAST_ACK;
}

static int listener_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    char text[80];
    int before = d->subject;
    d->subject = descriptors_shown_fd(o);
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, 0);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0)
        return -1;
    socket_bind(d, at, &s->local, s->local_len);
    descriptors_call(d, SYS_listen, plan_literal((uint64_t)at), plan_literal((uint64_t)s->backlog));
    address_print(text, sizeof text, &s->local);
    descriptors_note(d, o, "listens at %s", text);
    d->subject = before;
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

int tcp_make_listener(struct descriptors *d, const struct description *like,
    const union socket_address *address, socklen_t len, struct error *err)
{
    int at = socket_create(d, like, true, 0);
    socket_set_number(d, at, SOL_SOCKET, SO_REUSEADDR, 1);
    socket_bind(d, at, address, len);
    descriptors_call(d, SYS_listen, plan_literal((uint64_t)at), plan_literal(1));
    return descriptors_park(d, at, err);
}

/* ---- connections inside ---- */

struct tcp_pair {
    struct description *client, *server; /* server->fd_count 0: waits to be accepted */
    struct description *listener;        /* NULL: a helper */
    struct buffer to_server, to_client;
};

/* The client's socket, bound to its old port and connected; returns its number. */
static int connect_client(struct descriptors *d, const struct tcp_pair *p, struct error *err)
{
    const struct socket_about *s = socket_about(p->client);
    bool close_on_exec = descriptors_cloexec_for(p->client, descriptors_next(d));
    int at = socket_create(d, p->client, close_on_exec, 0);
    if (socket_restore_options(d, p->client, at, SOCKET_BEFORE_BIND, -1, err) < 0)
        return -1;
    bool share = socket_port_is_shared(d, p->client);
    if (share)
        socket_set_number(d, at, SOL_SOCKET, SO_REUSEADDR, 1);
    socket_bind(d, at, &s->local, s->local_len);
    socket_connect(d, at, &s->remote, s->remote_len);
    return at;
}

static void finish_end(struct descriptors *d, const struct description *o, const struct buffer *sent)
{
    if (o->fd_count == 0)
        return;
    if (sent->len > 0)
        socket_send(d, o->fds[0], sent->data, sent->len, NULL, 0);
    if (has_sent_fin(socket_about(o)))
        socket_shutdown(d, o->fds[0], SHUT_WR);
    if (socket_about(o)->read_shut)
        socket_shutdown(d, o->fds[0], SHUT_RD);
}

static void note_end(struct descriptors *d, const struct description *o, const struct buffer *waiting)
{
    char local[80], remote[80];
    address_print(local, sizeof local, &socket_about(o)->local);
    address_print(remote, sizeof remote, &socket_about(o)->remote);
    descriptors_note(d, o, "%s to %s, %zu bytes unread", local, remote, waiting->len);
}

static int pair_make(struct descriptors *d, struct tcp_pair *p, struct error *err)
{
    const struct socket_about *server = socket_about(p->server);
    int listener;
    if (p->listener && !p->listener->restored && listener_restore(d, p->listener, err) < 0)
        return -1;
    listener = p->listener ? p->listener->fds[0]
                           : tcp_make_listener(d, p->server, &server->local, server->local_len, err);
    if (listener < 0)
        return -1;
    int client = connect_client(d, p, err);
    if (client < 0)
        return -1;
    struct descriptor_made made[2] = {{p->client, client, descriptors_cloexec_for(p->client, client)}};
    size_t count = 1;
    if (p->server->fd_count > 0) {
        bool close_on_exec = descriptors_cloexec_for(p->server, descriptors_next(d));
        int at = descriptors_expect(
            d, descriptors_call(d, SYS_accept4, plan_literal((uint64_t)listener), plan_literal(0),
                   plan_literal(0), plan_literal(close_on_exec ? SOCK_CLOEXEC : 0)));
        made[count++] = (struct descriptor_made){p->server, at, close_on_exec};
    }
    p->server->restored = true;
    if (descriptors_place(d, made, count, err) < 0)
        return -1;
    if (!p->listener)
        descriptors_close(d, listener);
    if (socket_restore_options(d, p->client, p->client->fds[0], SOCKET_AFTER, -1, err) < 0 ||
        (p->server->fd_count > 0 && socket_restore_options(d, p->server, p->server->fds[0], SOCKET_AFTER,
                                        p->listener ? p->listener->copy : -1, err) < 0))
        return -1;
    return 0;
}

static int pair_restore(
    struct descriptors *d, struct description *a, struct description *b, struct error *err)
{
    struct tcp_pair p = {.client = a, .server = b};
    size_t listeners;
    /* The server is the end that a listener has the port of. */
    if (!find_listener(d, b, &listeners) && find_listener(d, a, &listeners))
        p = (struct tcp_pair){.client = b, .server = a};
    p.listener = find_listener(d, p.server, &listeners);
    if (listeners > 1)
        return descriptors_refuse(d, p.client, err,
            "is connected to a port that several sockets listen on, which cannot be frozen");
    if (p.client->fd_count == 0)
        return descriptors_refuse(d, p.server, err, "is connected to a connection that nobody has accepted");
    /* Both directions are emptied before both are judged: an end that has been sent a FIN is known by its
     * state. */
    int result = drain(d, p.client, p.server, &p.to_server, err);
    if (result == 0)
        result = drain(d, p.server, p.client, &p.to_client, err);
    if (result == 0)
        result = pair_make(d, &p, err);
    if (result == 0) {
        finish_end(d, p.client, &p.to_server);
        finish_end(d, p.server, &p.to_client);
        note_end(d, p.client, &p.to_client);
        note_end(d, p.server, &p.to_server);
        descriptors_set_flags(d, p.client, 0);
        descriptors_set_flags(d, p.server, 0);
    }
    buffer_free(&p.to_server);
    buffer_free(&p.to_client);
    return result;
}

/* ---- the runtime API's connection ---- */

static bool is_api(const struct descriptors *d, const struct description *o)
{
    const struct socket_about *s = socket_about(o);
    return s->state == TCP_ESTABLISHED && s->remote_len > 0 && address_is_loopback(&s->remote) &&
           address_port(&s->remote) == d->f->request->api_port;
}

static int api_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    const struct freeze_request *request = d->f->request;
    int unread = 0, at = descriptors_next(d);
    if (ioctl(o->copy, SIOCINQ, &unread) < 0 || unread > 0)
        return descriptors_refuse(d, o, err,
            "is a connection to the runtime API with %d bytes that the function has not read yet", unread);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, 0);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0)
        return -1;
    if (socket_port_is_shared(d, o))
        socket_set_number(d, at, SOL_SOCKET, SO_REUSEADDR, 1);
    socket_bind(d, at, &s->local, s->local_len);
    socket_connect(d, at, &s->remote, s->remote_len);
    for (size_t i = 0; i < request->replay_count; i++)
        if (request->replays[i].port == address_port(&s->local))
            descriptors_mark(
                d, plan_do(&d->f->process->process_plan, PLAN_WRITE_ALL, plan_literal((uint64_t)at),
                       plan_data(image_put(
                           d->image, request->replays[i].request.data, request->replays[i].request.len)),
                       plan_literal(request->replays[i].request.len)));
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, 0);
    descriptors_note(d, o, "the runtime API, from port %u", address_port(&s->local));
    return 0;
}

/* ---- TCP ---- */

/* Never connected: an end-of-file would say that it was, and is over. */
static bool is_fresh(const struct description *o)
{
    char byte;
    return socket_about(o)->state == TCP_CLOSE && socket_about(o)->error == 0 &&
           recv(o->copy, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == ENOTCONN;
}

static int fresh_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    char text[80];
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, o->flags & O_NONBLOCK);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0)
        return -1;
    if (address_port(&s->local) != 0)
        socket_bind(d, at, &s->local, s->local_len);
    address_print(text, sizeof text, &s->local);
    descriptors_note(d, o, "not connected, bound to %s", text);
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

static int tcp_restore(struct descriptors *d, struct description *o, struct error *err)
{
    if (socket_about(o)->listening)
        return listener_restore(d, o, err);
    struct description *peer = find_peer(d, o);
    if (peer && socket_about(peer)->listener)
        return 0; /* when the listener is finished: accept takes the oldest, so these must be the last */
    if (peer && !peer->restored && !socket_about(o)->listener)
        return pair_restore(d, o, peer, err);
    if (o->fd_count == 0)
        return 0; /* waited at a listener, but its client is gone or outside: it does not wait there any more
                   */
    if (is_api(d, o))
        return api_restore(d, o, err);
    return is_fresh(o) ? fresh_restore(d, o, err) : tcp_restore_ended(d, o, err);
}

/* What waits at a listener, in its order. It must not be non-blocking, or wait for data, before its
 * connections are all made. */
static int tcp_finish(struct descriptors *d, struct description *o, struct error *err)
{
    for (size_t i = 0; i < d->count && socket_about(o)->listening; i++) {
        struct description *waiting = &d->list[i];
        struct description *client =
            waiting->kind == o->kind && socket_about(waiting)->listener == o ? find_peer(d, waiting) : NULL;
        if (client && pair_restore(d, client, waiting, err) < 0)
            return -1;
    }
    if (!socket_about(o)->listening)
        return 0;
    int seconds = 0;
    socklen_t len = sizeof seconds;
    if (getsockopt(o->copy, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &len) == 0 && seconds > 0)
        socket_set_number(d, o->fds[0], IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds);
    descriptors_set_flags(d, o, 0);
    return 0;
}

const struct descriptor_kind descriptor_kind_tcp = {"TCP socket", tcp_is, tcp_read, tcp_restore, tcp_finish};
