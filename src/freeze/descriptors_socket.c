#include "freeze/descriptors_socket.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct socket_about *socket_about(const struct description *o)
{
    return o->detail;
}

int socket_get_number(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) < 0 ? -1 : value;
}

bool socket_is(const struct description *o, int domain, int type)
{
    return S_ISSOCK(o->st.st_mode) && socket_get_number(o->copy, SOL_SOCKET, SO_DOMAIN) == domain &&
           (type < 0 || socket_get_number(o->copy, SOL_SOCKET, SO_TYPE) == type);
}

int socket_read_about(struct descriptors *d, struct description *o, struct error *err)
{
    struct socket_about *s = xcalloc(1, sizeof *s);
    free(o->detail);
    o->detail = s;
    s->domain = socket_get_number(o->copy, SOL_SOCKET, SO_DOMAIN);
    s->type = socket_get_number(o->copy, SOL_SOCKET, SO_TYPE);
    s->protocol = socket_get_number(o->copy, SOL_SOCKET, SO_PROTOCOL);
    s->listening = socket_get_number(o->copy, SOL_SOCKET, SO_ACCEPTCONN) == 1;
    s->local_len = s->remote_len = sizeof s->local;
    if (getsockname(o->copy, &s->local.any, &s->local_len) < 0)
        return descriptors_refuse(d, o, err, "is a socket that does not tell its address");
    if (getpeername(o->copy, &s->remote.any, &s->remote_len) < 0)
        s->remote_len = 0;
    struct pollfd wait = {o->copy, POLLPRI, 0};
    if (!s->listening && poll(&wait, 1, 0) > 0 && (wait.revents & POLLPRI))
        return descriptors_refuse(d, o, err, "has urgent data waiting, which cannot be frozen");
    /* To ask for an error takes it away, which the process would notice where it runs on: a lost connection is the
     * usual one. */
    if (wait.revents & POLLERR)
        s->error = d->f->request->spare == FREEZE_SPARE_NEVER
                       ? socket_get_number(o->copy, SOL_SOCKET, SO_ERROR)
                       : ECONNRESET;
    socket_read_peek_offset(o);
    return socket_refuse_attached(d, o, err);
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

#define NETLINK_GROUP_WORDS 32

static bool netlink_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return socket_is(o, AF_NETLINK, -1);
}

/* Its address names the first 32 groups only. */
static void restore_memberships(struct descriptors *d, const struct description *o, int at)
{
    uint32_t groups[NETLINK_GROUP_WORDS] = {0};
    socklen_t len = sizeof groups;
    if (getsockopt(o->copy, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len) < 0)
        return;
    for (int group = 33; group <= 32 * NETLINK_GROUP_WORDS; group++)
        if (groups[(group - 1) / 32] >> ((group - 1) % 32) & 1)
            socket_set_number(d, at, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
}

static int netlink_restore(struct descriptors *d, struct description *o, struct error *err)
{
    char byte;
    const struct socket_about *s = socket_about(o);
    if (s->error != 0 || recv(o->copy, &byte, 1, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC) >= 0)
        return descriptors_refuse(
            d, o, err, "is a netlink socket with unread messages or lost ones, which cannot be frozen");
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, o->flags & O_NONBLOCK);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0)
        return -1;
    static const uint32_t unbound = 0;
    if (memcmp(s->local.bytes + 4, &unbound, 4) != 0 || memcmp(s->local.bytes + 8, &unbound, 4) != 0)
        socket_bind(d, at, &s->local, s->local_len);
    restore_memberships(d, o, at);
    descriptors_note(d, o, "netlink, protocol %d", s->protocol);
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

const struct descriptor_kind descriptor_kind_netlink = {
    "netlink socket", netlink_is, socket_read_about, netlink_restore, NULL};
