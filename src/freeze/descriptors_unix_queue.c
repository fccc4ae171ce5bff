/* What waits in unix sockets: taken out, with the descriptors that come along, and sent again. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void unix_queue_free(struct unix_queue *q)
{
    for (size_t i = 0; i < q->count; i++)
        free(q->list[i].data);
    free(q->list);
}

/* The descriptions that a message carries must be such as the process has itself: then they can be sent
 * again. */
static int read_rights(struct descriptors *d, const struct description *o, struct msghdr *header,
    struct unix_message *m, struct error *err)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && i < RIGHTS_MAX; i++) {
            int copy;
            memcpy(&copy, CMSG_DATA(c) + i * sizeof copy, sizeof copy);
            const struct description *same = descriptors_find_copy(d, copy);
            close(copy);
            if (!same || same->fd_count == 0 || same->opened_by_each)
                return descriptors_refuse(
                    d, o, err, "has a message waiting with a descriptor that the process has not got itself");
            m->rights[m->rights_count++] = same->fds[0];
        }
    }
    return 0;
}

/* How far it is to the end of the next part of a stream that descriptors come with; 0 when there is none. */
static size_t find_rights(const struct description *o, uint8_t *data)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(RIGHTS_MAX * sizeof(int)) + 256];
    struct iovec part = {data, DESCRIPTORS_MESSAGE_MAX};
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    bool found = false;
    if (socket_about(o)->type != SOCK_STREAM || socket_about(o)->peek_offset >= 0)
        return 0;
    ssize_t got = recvmsg(o->copy, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *c = got < 0 ? NULL : CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        found = true;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int copy;
            memcpy(&copy, CMSG_DATA(c) + i * sizeof copy, sizeof copy);
            close(copy);
        }
    }
    return found ? (size_t)got : 0;
}

/* Receives up to `len` bytes behind those that the message has already. Returns 1, 0 when there is nothing. */
static int receive(
    struct descriptors *d, const struct description *o, struct unix_message *m, size_t len, struct error *err)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(RIGHTS_MAX * sizeof(int)) + 256];
    struct iovec part = {m->data + m->len, len};
    struct msghdr header = {
        .msg_name = &m->from,
        .msg_namelen = sizeof m->from,
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    ssize_t got = recvmsg(o->copy, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    bool is_stream = socket_about(o)->type == SOCK_STREAM;
    /* A seqpacket end-of-file and an empty packet look alike; nobody sends empty packets. */
    if (got < 0 || (got == 0 && (is_stream || !(header.msg_flags & MSG_EOR)) && header.msg_namelen == 0))
        return 0;
    if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return descriptors_refuse(
            d, o, err, "has a message waiting that is longer than %u KiB", DESCRIPTORS_MESSAGE_MAX >> 10);
    m->len += (size_t)got;
    m->from_len = header.msg_namelen;
    return read_rights(d, o, &header, m, err) < 0 ? -1 : 1;
}

/* Takes `m->data` over. */
static int add_message(struct descriptors *d, const struct description *o, struct unix_queue *q,
    struct unix_message *m, struct error *err)
{
    m->data = xrealloc(m->data, m->len + 1);
    q->has_rights |= m->rights_count > 0;
    q->bytes += m->len;
    q->list = xrealloc(q->list, (q->count + 1) * sizeof *q->list);
    q->list[q->count++] = *m;
    if (q->bytes > DESCRIPTORS_QUEUE_MAX)
        return descriptors_refuse(
            d, o, err, "has more than %u MiB of unread data", DESCRIPTORS_QUEUE_MAX >> 20);
    return 1;
}

/* The next `whole` bytes of a stream, of which the last part comes with descriptors: they belong to its first byte,
 * where byte by byte they are met. What is before it becomes a message of its own, so that a clone gets them with the
 * same byte, and a read ends where it did. */
static int take_parts(struct descriptors *d, const struct description *o, struct unix_queue *q,
    struct unix_message *m, size_t whole, struct error *err)
{
    while (m->len < whole && m->rights_count == 0)
        if (receive(d, o, m, 1, err) <= 0)
            return -1;
    size_t before = m->len - 1;
    if (before > 0) {
        struct unix_message plain = {.data = xcalloc(1, before), .len = before};
        memcpy(plain.data, m->data, before);
        m->data[0] = m->data[before];
        m->len = 1;
        if (add_message(d, o, q, &plain, err) < 0)
            return -1;
    }
    while (m->len < whole - before)
        if (receive(d, o, m, whole - before - m->len, err) <= 0)
            return -1;
    return 1;
}

/* Returns 1 for a message, 0 when there is none (any more). */
static int take_message(
    struct descriptors *d, const struct description *o, struct unix_queue *q, struct error *err)
{
    struct unix_message m = {.data = xcalloc(1, DESCRIPTORS_MESSAGE_MAX)};
    size_t whole = find_rights(o, m.data);
    int result =
        whole > 0 ? take_parts(d, o, q, &m, whole, err) : receive(d, o, &m, DESCRIPTORS_MESSAGE_MAX, err);
    if (result <= 0) {
        free(m.data);
        return result;
    }
    return add_message(d, o, q, &m, err);
}

int unix_queue_take(
    struct descriptors *d, const struct description *o, struct unix_queue *q, struct error *err)
{
    int result;
    if (descriptors_refuse_queue(d, o, err) < 0)
        return -1;
    while ((result = take_message(d, o, q, err)) > 0)
        ;
    return result;
}

/* sendmsg with descriptors: the numbers are known, the addresses of the parts are not. */
static void send_with_rights(struct descriptors *d, int at, const struct unix_message *m)
{
    struct plan *plan = &d->f->process->process_plan;
    size_t rights_bytes = m->rights_count * sizeof(int);
    CLEANUP_FREE struct cmsghdr *control = xcalloc(1, CMSG_SPACE(rights_bytes));
    *control = (struct cmsghdr){CMSG_LEN(rights_bytes), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(control), m->rights, rights_bytes);
    uint64_t data = image_put(d->image, m->data, m->len);
    uint64_t control_data = image_put(d->image, control, CMSG_SPACE(rights_bytes));
    uint64_t part = image_put(d->image, &(struct iovec){NULL, m->len}, sizeof(struct iovec));
    struct msghdr header = {.msg_iovlen = 1, .msg_controllen = CMSG_SPACE(rights_bytes)};
    uint64_t header_data = image_put(d->image, &header, sizeof header);
    plan_do(plan, PLAN_STORE, plan_data(part), plan_data(data), plan_literal(8));
    plan_do(plan, PLAN_STORE, plan_data(header_data + offsetof(struct msghdr, msg_iov)), plan_data(part),
        plan_literal(8));
    plan_do(plan, PLAN_STORE, plan_data(header_data + offsetof(struct msghdr, msg_control)),
        plan_data(control_data), plan_literal(8));
    plan_expect_value(descriptors_call(d, SYS_sendmsg, plan_literal((uint64_t)at), plan_data(header_data),
                          plan_literal(MSG_DONTWAIT | MSG_NOSIGNAL)),
        (int64_t)m->len);
}

void unix_queue_send(struct descriptors *d, int at, const struct unix_queue *q)
{
    for (size_t i = 0; i < q->count; i++) {
        if (q->list[i].rights_count > 0)
            send_with_rights(d, at, &q->list[i]);
        else
            socket_send(d, at, q->list[i].data, q->list[i].len, NULL, 0);
    }
}
