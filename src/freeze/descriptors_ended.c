/* TCP connections whose other end is not the process's: it is gone, or outside, or never answered. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/syscall.h>

/* A port that the process does not use: in a fresh network namespace it is free. */
static uint16_t choose_port(const struct descriptors *d)
{
    uint16_t port = 61001;
    for (size_t i = 0; i < d->count; i++)
        if (d->list[i].kind == &descriptor_kind_tcp &&
            address_port(&socket_about(&d->list[i])->local) == port) {
            port++;
            i = (size_t)-1;
        }
    return port;
}

static socklen_t choose_address(
    const struct descriptors *d, const struct description *o, union socket_address *address)
{
    const struct socket_about *s = socket_about(o);
    *address = (union socket_address){.any = {.sa_family = (sa_family_t)s->domain}};
    if (s->domain != AF_INET6) {
        address->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address->in.sin_port = htons(choose_port(d));
        return sizeof address->in;
    }
    /* Loopback by its IPv4 name: IPv6 may be switched off. */
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &address->in6.sin6_addr);
    address->in6.sin6_port = htons(choose_port(d));
    return sizeof address->in6;
}

/* A connection to a helper, made[0] and made[1]: the process's socket, and the helper's. */
static int connect_to_helper(
    struct descriptors *d, struct description *o, int made[2], bool *close_on_exec, struct error *err)
{
    union socket_address address;
    socklen_t len = choose_address(d, o, &address);
    int listener = tcp_make_listener(d, o, &address, len, err);
    if (listener < 0)
        return -1;
    made[0] = descriptors_next(d);
    *close_on_exec = descriptors_cloexec_for(o, made[0]);
    socket_create(d, o, *close_on_exec, 0);
    if (socket_restore_options(d, o, made[0], SOCKET_AFTER, -1, err) < 0)
        return -1;
    socket_connect(d, made[0], &address, len);
    made[1] = descriptors_expect(d, descriptors_call(d, SYS_accept4, plan_literal((uint64_t)listener),
                                        plan_literal(0), plan_literal(0), plan_literal(SOCK_CLOEXEC)));
    descriptors_close(d, listener);
    return 0;
}

/* The helper resets the connection: what is read then says ECONNRESET, and then end-of-file. */
int tcp_restore_lost(struct descriptors *d, struct description *o, struct error *err)
{
    int made[2];
    bool close_on_exec;
    if (connect_to_helper(d, o, made, &close_on_exec, err) < 0)
        return -1;
    struct linger now = {1, 0};
    descriptors_call(d, SYS_setsockopt, plan_literal((uint64_t)made[1]), plan_literal(SOL_SOCKET),
        plan_literal(SO_LINGER), plan_data(image_put(d->image, &now, sizeof now)), plan_literal(sizeof now));
    descriptors_close(d, made[1]);
    if (descriptors_place_one(d, o, made[0], close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, 0);
    descriptors_note(d, o, "a connection that cannot be kept: it will have been reset");
    return 0;
}

static int take_rest(
    struct descriptors *d, const struct description *o, struct buffer *rest, struct error *err)
{
    uint8_t chunk[16384];
    ssize_t got;
    if (descriptors_refuse_queue(d, o, err) < 0)
        return -1;
    while ((got = recv(o->copy, chunk, sizeof chunk, MSG_DONTWAIT)) > 0) {
        buffer_append(rest, chunk, (size_t)got);
        if (rest->len > TCP_QUEUE_MAX)
            return descriptors_refuse(d, o, err, "has more than %u KiB of unread data", TCP_QUEUE_MAX >> 10);
    }
    return 0;
}

/* The other end has sent all that it will: the helper sends what was not read yet, and closes. Where both
 * directions were shut, this one is, too. */
static int restore_ended(struct descriptors *d, struct description *o, struct error *err)
{
    int made[2];
    bool close_on_exec;
    CLEANUP_BUFFER struct buffer rest = {0};
    if (take_rest(d, o, &rest, err) < 0 || connect_to_helper(d, o, made, &close_on_exec, err) < 0)
        return -1;
    if (rest.len > 0)
        socket_send(d, made[1], rest.data, rest.len, NULL, 0);
    descriptors_close(d, made[1]);
    if (socket_about(o)->state == TCP_CLOSE)
        socket_shutdown(d, made[0], SHUT_WR);
    if (descriptors_place_one(d, o, made[0], close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, 0);
    descriptors_note(d, o, "its other end is closed, %zu bytes unread", rest.len);
    return 0;
}

/* Connects to where nobody listens, and does not wait for the answer: it is there at once. */
static int restore_refused(struct descriptors *d, struct description *o, struct error *err)
{
    union socket_address address;
    socklen_t len = choose_address(d, o, &address);
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, O_NONBLOCK);
    if (socket_restore_options(d, o, at, SOCKET_AFTER, -1, err) < 0)
        return -1;
    plan_expect_value(descriptors_call(d, SYS_connect, plan_literal((uint64_t)at),
                          plan_data(image_put(d->image, &address, len)), plan_literal(len)),
        -EINPROGRESS);
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, O_NONBLOCK);
    descriptors_note(d, o, "its connection was refused");
    return 0;
}

int tcp_restore_ended(struct descriptors *d, struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    if (s->state == TCP_CLOSE && s->error == ECONNREFUSED)
        return restore_refused(d, o, err);
    if (s->error == 0 && (s->state == TCP_CLOSE_WAIT || s->state == TCP_CLOSE))
        return restore_ended(d, o, err);
    return tcp_restore_lost(d, o, err);
}
