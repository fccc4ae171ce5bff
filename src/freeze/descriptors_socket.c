#include "freeze/descriptors_socket.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/socket.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

struct socket_about *socket_about(const struct description *o)
{
    return o->detail;
}

static int get_number(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) < 0 ? -1 : value;
}

bool socket_is(const struct description *o, int domain, int type)
{
    return S_ISSOCK(o->st.st_mode) && get_number(o->copy, SOL_SOCKET, SO_DOMAIN) == domain &&
           (type < 0 || get_number(o->copy, SOL_SOCKET, SO_TYPE) == type);
}

int socket_read_about(struct descriptors *d, struct description *o, struct error *err)
{
    struct socket_about *s = xcalloc(1, sizeof *s);
    free(o->detail);
    o->detail = s;
    s->domain = get_number(o->copy, SOL_SOCKET, SO_DOMAIN);
    s->type = get_number(o->copy, SOL_SOCKET, SO_TYPE);
    s->protocol = get_number(o->copy, SOL_SOCKET, SO_PROTOCOL);
    s->listening = get_number(o->copy, SOL_SOCKET, SO_ACCEPTCONN) == 1;
    s->local_len = s->remote_len = sizeof s->local;
    if (getsockname(o->copy, &s->local.any, &s->local_len) < 0)
        return descriptors_refuse(d, o, err, "is a socket that does not tell its address");
    if (getpeername(o->copy, &s->remote.any, &s->remote_len) < 0)
        s->remote_len = 0;
    return 0;
}

int socket_open_inside(struct descriptors *d, int domain, int type, int protocol, struct error *err)
{
    CLEANUP_FD int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(d->f->tracee.pidfd, CLONE_NEWNET) < 0)
        return error_system(err, "cannot enter the network of process %d", d->f->tracee.pid);
    CLEANUP_FD int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    int error_number = errno;
    if (setns(own, CLONE_NEWNET) < 0)
        return error_system(err, "cannot return to our own network");
    errno = error_number;
    if (fd < 0)
        return error_system(err, "cannot open a socket (%d, %d, %d)", domain, type, protocol);
    return fd_steal(&fd);
}

/* ---- options ---- */

static const struct {
    int level, name;
    uint8_t size, moment;
} options[] = {
    {SOL_SOCKET, SO_REUSEADDR, 4, SOCKET_BEFORE_BIND},
    {SOL_SOCKET, SO_REUSEPORT, 4, SOCKET_BEFORE_BIND},
    {IPPROTO_IPV6, IPV6_V6ONLY, 4, SOCKET_BEFORE_BIND},
    {IPPROTO_IP, IP_FREEBIND, 4, SOCKET_BEFORE_BIND},
    {SOL_SOCKET, SO_KEEPALIVE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_BROADCAST, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_OOBINLINE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_PASSCRED, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_PRIORITY, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_RCVLOWAT, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_TIMESTAMP, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_TIMESTAMPNS, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_DONTROUTE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_LINGER, sizeof(struct linger), SOCKET_AFTER},
    {SOL_SOCKET, SO_RCVTIMEO, sizeof(struct timeval), SOCKET_AFTER},
    {SOL_SOCKET, SO_SNDTIMEO, sizeof(struct timeval), SOCKET_AFTER},
    {IPPROTO_TCP, TCP_NODELAY, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_KEEPIDLE, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_KEEPINTVL, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_KEEPCNT, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_SYNCNT, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_LINGER2, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_CORK, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_TOS, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_TTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_PKTINFO, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVERR, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVTOS, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVTTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MTU_DISCOVER, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MULTICAST_TTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MULTICAST_LOOP, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVERR, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_TCLASS, 4, SOCKET_AFTER},
};

static void set_option(struct descriptors *d, int at, int level, int name, const void *value, size_t len)
{
    descriptors_call(d, SYS_setsockopt, plan_literal((uint64_t)at), plan_literal((uint64_t)level),
        plan_literal((uint64_t)name), plan_data(image_put(d->image, value, len)), plan_literal(len));
}

/* Sizes that somebody has chosen; others grow by themselves. The kernel answers twice what it was told. */
static void restore_buffers(struct descriptors *d, const struct description *o, int at)
{
    int locks = get_number(o->copy, SOL_SOCKET, SO_BUF_LOCK);
    if (locks < 0)
        return;
    int sizes[2] = {
        get_number(o->copy, SOL_SOCKET, SO_SNDBUF) / 2, get_number(o->copy, SOL_SOCKET, SO_RCVBUF) / 2};
    if (locks & SOCK_SNDBUF_LOCK)
        set_option(d, at, SOL_SOCKET, SO_SNDBUF, &sizes[0], 4);
    if (locks & SOCK_RCVBUF_LOCK)
        set_option(d, at, SOL_SOCKET, SO_RCVBUF, &sizes[1], 4);
}

static bool option_fits(const struct socket_about *s, int level, int name)
{
    if (level == IPPROTO_IP && (name == IP_MULTICAST_TTL || name == IP_MULTICAST_LOOP) &&
        s->type == SOCK_STREAM)
        return false;
    if (level == IPPROTO_TCP)
        return s->domain != AF_UNIX && s->type == SOCK_STREAM;
    if (level == IPPROTO_IP)
        return s->domain == AF_INET || s->domain == AF_INET6;
    return level == SOL_SOCKET || (level == IPPROTO_IPV6 && s->domain == AF_INET6);
}

int socket_restore_options(struct descriptors *d, const struct description *o, int at,
    enum socket_moment moment, int reference, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    CLEANUP_FD int fresh = -1;
    if (reference < 0) {
        fresh = reference = socket_open_inside(d, s->domain, s->type, s->protocol, err);
        if (reference < 0)
            return -1;
    }
    for (size_t i = 0; i < countof(options); i++) {
        uint8_t ours[16] = {0}, theirs[16] = {0};
        socklen_t our_len = options[i].size, their_len = options[i].size;
        if ((options[i].moment & moment) == 0 || !option_fits(s, options[i].level, options[i].name) ||
            getsockopt(o->copy, options[i].level, options[i].name, theirs, &their_len) < 0 ||
            getsockopt(reference, options[i].level, options[i].name, ours, &our_len) < 0)
            continue;
        if (memcmp(ours, theirs, sizeof ours) != 0)
            set_option(d, at, options[i].level, options[i].name, theirs, their_len);
    }
    if (moment & SOCKET_BEFORE_BIND)
        restore_buffers(d, o, at);
    return 0;
}

/* ---- ops ---- */

int socket_create(struct descriptors *d, const struct description *o, bool close_on_exec, int flags)
{
    const struct socket_about *s = socket_about(o);
    return descriptors_expect(
        d, descriptors_call(d, SYS_socket, plan_literal((uint64_t)s->domain),
               plan_literal((uint64_t)(s->type | flags | (close_on_exec ? SOCK_CLOEXEC : 0))),
               plan_literal((uint64_t)s->protocol)));
}

void socket_bind(struct descriptors *d, int at, const union socket_address *address, socklen_t len)
{
    descriptors_call(d, SYS_bind, plan_literal((uint64_t)at), plan_data(image_put(d->image, address, len)),
        plan_literal(len));
}

void socket_connect(struct descriptors *d, int at, const union socket_address *address, socklen_t len)
{
    descriptors_call(d, SYS_connect, plan_literal((uint64_t)at), plan_data(image_put(d->image, address, len)),
        plan_literal(len));
}

void socket_send(struct descriptors *d, int at, const void *data, size_t len, const union socket_address *to,
    socklen_t to_len)
{
    uint64_t bytes = image_put(d->image, data, len);
    struct plan_arg address = to ? plan_data(image_put(d->image, to, to_len)) : plan_literal(0);
    plan_expect_value(
        descriptors_call(d, SYS_sendto, plan_literal((uint64_t)at), plan_data(bytes), plan_literal(len),
            plan_literal(MSG_DONTWAIT | MSG_NOSIGNAL), address, plan_literal(to_len)),
        (int64_t)len);
}

void socket_shutdown(struct descriptors *d, int at, int how)
{
    descriptors_call(d, SYS_shutdown, plan_literal((uint64_t)at), plan_literal((uint64_t)how));
}

/* ---- connections that wait to be accepted ---- */

int socket_take_pending(struct descriptors *d, struct description *listener, struct error *err)
{
    /* Whether accept may wait is said by the description, which is the process's own: it never runs again. */
    if (fcntl(listener->copy, F_SETFL, O_NONBLOCK) < 0)
        return error_system(err, "cannot read a listening socket");
    for (size_t taken = 0;; taken++) {
        int fd = accept4(listener->copy, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK
                       ? 0
                       : error_system(err, "cannot take a waiting connection");
        if (taken == SOCKET_PENDING_MAX || d->count + 1 >= d->capacity) {
            close(fd);
            return descriptors_refuse(d, listener, err, "has too many connections waiting to be accepted");
        }
        struct description *o = &d->list[d->count++];
        *o = (struct description){.copy = fd, .kind = listener->kind, .link = xstrdup("waiting connection")};
        buffer_append_u8(&o->info, 0);
        if (fstat(fd, &o->st) < 0 || socket_read_about(d, o, err) < 0)
            return error_system(err, "cannot look at a waiting connection");
        socket_about(o)->listener = listener;
    }
}

/* ---- netlink ---- */

static bool netlink_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return socket_is(o, AF_NETLINK, -1);
}

static int netlink_restore(struct descriptors *d, struct description *o, struct error *err)
{
    char byte;
    const struct socket_about *s = socket_about(o);
    if (recv(o->copy, &byte, 1, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) >= 0)
        return descriptors_refuse(
            d, o, err, "is a netlink socket with unread messages, which cannot be frozen");
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, o->flags & O_NONBLOCK);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0)
        return -1;
    static const uint32_t unbound = 0;
    if (memcmp(s->local.bytes + 4, &unbound, 4) != 0 || memcmp(s->local.bytes + 8, &unbound, 4) != 0)
        socket_bind(d, at, &s->local, s->local_len);
    descriptors_note(d, o, "netlink, protocol %d", s->protocol);
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

const struct descriptor_kind descriptor_kind_netlink = {
    "netlink socket", netlink_is, socket_read_about, netlink_restore, NULL};
