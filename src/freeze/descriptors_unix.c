/* Unix sockets. Who is connected to whom only the kernel's socket diagnosis tells; what is queued is taken
 * out (the process never runs again) and sent again by the other end. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNIX_LISTENING 10 /* TCP_LISTEN, which unix sockets share */

/* ---- the kernel's diagnosis ---- */

struct unix_state {
    uint32_t inode, peer, backlog;
    uint32_t name_inode; /* of the file that was made when it was bound; 0: none */
    uint8_t shutdown;    /* 1: nothing can be received, 2: nothing can be sent */
};

struct unix_table {
    struct unix_state *list;
    size_t count;
};

static void read_diagnosis(struct unix_table *table, const struct nlmsghdr *message)
{
    const struct unix_diag_msg *about = NLMSG_DATA(message);
    struct unix_state state = {.inode = about->udiag_ino};
    int left = (int)(message->nlmsg_len - NLMSG_LENGTH(sizeof *about));
    for (const struct rtattr *a = (const void *)(about + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if (a->rta_type == UNIX_DIAG_PEER)
            memcpy(&state.peer, RTA_DATA(a), 4);
        else if (a->rta_type == UNIX_DIAG_VFS)
            state.name_inode = ((const struct unix_diag_vfs *)RTA_DATA(a))->udiag_vfs_ino;
        else if (a->rta_type == UNIX_DIAG_SHUTDOWN)
            memcpy(&state.shutdown, RTA_DATA(a), 1);
        else if (a->rta_type == UNIX_DIAG_RQLEN && about->udiag_state == UNIX_LISTENING)
            state.backlog = ((const struct unix_diag_rqlen *)RTA_DATA(a))->udiag_wqueue;
    }
    table->list = xrealloc(table->list, (table->count + 1) * sizeof *table->list);
    table->list[table->count++] = state;
}

static int receive_diagnosis(int sock, struct unix_table *table, struct error *err)
{
    _Alignas(struct nlmsghdr) uint8_t answer[32768];
    for (;;) {
        ssize_t got = recv(sock, answer, sizeof answer, 0);
        if (got < 0)
            return error_system(err, "cannot read the state of unix sockets");
        size_t left = (size_t)got;
        for (const struct nlmsghdr *m = (const void *)answer; NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
            if (m->nlmsg_type == NLMSG_DONE)
                return 0;
            if (m->nlmsg_type == NLMSG_ERROR)
                return error_set(
                    err, ERROR_UNSUPPORTED, "this kernel does not tell the state of unix sockets");
            read_diagnosis(table, m);
        }
    }
}

/* All unix sockets of the process's network, asked once, when every waiting connection has been accepted:
 * before that it has no inode by which others name it. */
static const struct unix_state *find_state(
    struct descriptors *d, const struct description *o, struct error *err)
{
    if (!d->sockets) {
        struct {
            struct nlmsghdr header;
            struct unix_diag_req request;
        } question = {
            .header = {sizeof question, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0},
            .request = {.sdiag_family = AF_UNIX,
                .udiag_states = ~0u,
                .udiag_show = UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN},
        };
        CLEANUP_FD int sock = socket_open_inside(d, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, err);
        if (sock < 0)
            return NULL;
        if (send(sock, &question, sizeof question, 0) < 0) {
            error_system(err, "cannot ask for the state of unix sockets");
            return NULL;
        }
        d->sockets = xcalloc(1, sizeof(struct unix_table));
        if (receive_diagnosis(sock, d->sockets, err) < 0)
            return NULL;
    }
    const struct unix_table *table = d->sockets;
    for (size_t i = 0; i < table->count; i++)
        if (table->list[i].inode == (uint32_t)o->st.st_ino)
            return &table->list[i];
    error_set(err, ERROR_SYSTEM, "the kernel tells nothing of the unix socket %s", o->link);
    return NULL;
}

void socket_forget_table(void *sockets)
{
    struct unix_table *table = sockets;
    if (table)
        free(table->list);
    free(table);
}

/* ---- reading ---- */

static bool unix_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return socket_is(o, AF_UNIX, -1);
}

static int unix_read(struct descriptors *d, struct description *o, struct error *err)
{
    if (!o->detail && socket_read_about(d, o, err) < 0)
        return -1;
    int error_number = socket_about(o)->error;
    if (error_number != 0 && error_number != ECONNRESET)
        return descriptors_refuse(
            d, o, err, "has an error that was not yet asked for (%s)", strerror(error_number));
    if (!socket_about(o)->listening)
        return 0;
    return d->f->request->spare == FREEZE_SPARE_NEVER ? socket_take_pending(d, o, err)
                                                      : descriptors_refuse_queue(d, o, err);
}

static bool has_name(const struct socket_about *s)
{
    return s->local_len > sizeof(sa_family_t);
}

static bool same_name(const struct socket_about *s, const union socket_address *name, socklen_t len)
{
    return s->local_len == len && memcmp(&s->local, name, len) == 0;
}

static struct description *find_inode(struct descriptors *d, const struct description *o, uint32_t inode)
{
    for (size_t i = 0; i < d->count && inode != 0; i++)
        if (d->list[i].kind == o->kind && (uint32_t)d->list[i].st.st_ino == inode)
            return &d->list[i];
    return NULL;
}

/* ---- names ---- */

/* A name among files that clones share with others. */
static bool is_outside_snapshot(const struct descriptors *d, const char *path)
{
    const struct freeze_request *request = d->f->request;
    return request->host_files && path[0] == '/' && (request->host_tmp || strncmp(path, "/tmp/", 5) != 0);
}

/* What the frozen process has left there makes place, unless it still runs; then the bind fails. */
static void clear_name(struct descriptors *d, const char *path)
{
    if (d->f->request->spare == FREEZE_SPARE_ALWAYS)
        return;
    descriptors_call(d, SYS_unlink, plan_data(image_put_string(d->image, path)))->expect =
        PLAN_EXPECT_ANYTHING;
}

/* The name is bound anew: whose it is and who may use it is as before; or it is gone again. */
static void settle_name(struct descriptors *d, const char *path, bool unlink_now)
{
    struct stat st;
    struct plan_arg here = plan_literal((uint64_t)AT_FDCWD),
                    name = plan_data(image_put_string(d->image, path));
    if (fstatat(d->root_fd, path + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode)) {
        descriptors_call(d, SYS_fchownat, here, name, plan_literal(st.st_uid), plan_literal(st.st_gid),
            plan_literal(AT_SYMLINK_NOFOLLOW));
        descriptors_call(d, SYS_fchmodat, here, name, plan_literal(st.st_mode & 07777));
    } else if (unlink_now) {
        descriptors_call(d, SYS_unlink, name);
    }
}

/* Whether the file that was made when it was bound is still where it was, or is gone; not elsewhere, and not
 * replaced by another. */
static int check_name_file(
    struct descriptors *d, const struct description *o, const char *path, struct error *err)
{
    struct stat st, tmp;
    const struct unix_state *state = find_state(d, o, err);
    if (!state)
        return -1;
    if (state->name_inode == 0)
        return 0;
    if (fstatat(d->root_fd, path + 1, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return (uint32_t)st.st_ino == state->name_inode
                   ? 0
                   : descriptors_refuse(
                         d, o, err, "is bound to the name %s, which is another file's now", path);
    const char *renamed = fstatat(d->root_fd, "tmp", &tmp, 0) < 0
                              ? NULL
                              : tmp_files_find(d->f->tmp_files, tmp.st_dev, state->name_inode);
    return renamed ? descriptors_refuse(
                         d, o, err, "is bound to the name %s, which was renamed to %s", path, renamed)
                   : 0;
}

/* A name in the file system must be one of /tmp, where it can be bound again. */
static int check_name(struct descriptors *d, const struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    const char *path = s->local.un.sun_path;
    if (!has_name(s) || path[0] == 0)
        return 0;
    CLEANUP_FREE char *whole = xstrndup(path, s->local_len - offsetof(struct sockaddr_un, sun_path));
    const char *slash = strrchr(whole, '/');
    CLEANUP_FREE char *folder = xstrndup(whole, slash ? (size_t)(slash - whole) : 0);
    if (is_outside_snapshot(d, whole))
        return 0;
    if (strncmp(whole, "/tmp/", 5) != 0)
        return descriptors_refuse(
            d, o, err, "is bound to the name %s, which is not an absolute path in /tmp", whole);
    if (strcmp(folder, "/tmp") != 0 && !tmp_files_has_path(d->f->tmp_files, folder))
        return descriptors_refuse(d, o, err, "is bound to the name %s, whose folder is gone", whole);
    return check_name_file(d, o, whole, err);
}

/* Bind, and unlink again what the process has unlinked since (unless somebody has yet to connect to it). */
static int bind_name(
    struct descriptors *d, const struct description *o, int at, bool unlink_now, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    if (!has_name(s))
        return 0;
    if (check_name(d, o, err) < 0)
        return -1;
    if (s->local.un.sun_path[0] == 0) {
        socket_bind(d, at, &s->local, s->local_len);
        return 0;
    }
    CLEANUP_FREE char *path =
        xstrndup(s->local.un.sun_path, s->local_len - offsetof(struct sockaddr_un, sun_path));
    bool outside = is_outside_snapshot(d, path);
    tmp_files_clear_umask(d->f);
    if (outside)
        clear_name(d, path);
    socket_bind(d, at, &s->local, s->local_len);
    if (outside)
        settle_name(d, path, unlink_now);
    else if (tmp_files_has_path(d->f->tmp_files, path))
        tmp_files_made_by_bind(d->f, path);
    else if (unlink_now)
        descriptors_call(d, SYS_unlink, plan_data(image_put_string(d->image, path)));
    return 0;
}

/* What bind_name left. */
static void unlink_name(struct descriptors *d, const struct description *o)
{
    const struct socket_about *s = socket_about(o);
    if (s->local.un.sun_path[0] == 0)
        return;
    CLEANUP_FREE char *path =
        xstrndup(s->local.un.sun_path, s->local_len - offsetof(struct sockaddr_un, sun_path));
    if (is_outside_snapshot(d, path))
        settle_name(d, path, true);
    else if (!tmp_files_has_path(d->f->tmp_files, path))
        descriptors_call(d, SYS_unlink, plan_data(image_put_string(d->image, path)));
}

static const char *name_of(const struct socket_about *s, char *text, size_t size)
{
    if (!has_name(s))
        return "no name";
    int len = (int)(s->local_len - offsetof(struct sockaddr_un, sun_path));
    if (s->local.un.sun_path[0] != 0)
        snprintf(text, size, "%.*s", len, s->local.un.sun_path);
    else
        snprintf(text, size, "@%.*s", len - 1, s->local.un.sun_path + 1);
    return text;
}

/* ---- connected pairs: stream, seqpacket, and datagram sockets made by socketpair ---- */

static struct description *find_listener(struct descriptors *d, const struct description *accepted)
{
    const struct socket_about *s = socket_about(accepted);
    if (s->listener)
        return s->listener;
    for (size_t i = 0; i < d->count && has_name(s); i++)
        if (d->list[i].kind == accepted->kind && socket_about(&d->list[i])->listening &&
            socket_about(&d->list[i])->type == s->type &&
            same_name(socket_about(&d->list[i]), &s->local, s->local_len))
            return &d->list[i];
    return NULL;
}

static int listener_restore(struct descriptors *d, struct description *o, struct error *err)
{
    char text[128];
    const struct socket_about *s = socket_about(o);
    const struct unix_state *state = find_state(d, o, err);
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    if (!state)
        return -1;
    int before = d->subject;
    d->subject = descriptors_shown_fd(o);
    socket_create(d, o, close_on_exec, 0);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0 || bind_name(d, o, at, true, err) < 0)
        return -1;
    descriptors_call(d, SYS_listen, plan_literal((uint64_t)at), plan_literal(state->backlog));
    descriptors_note(d, o, "listens at %s", name_of(s, text, sizeof text));
    d->subject = before;
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

static int make_helper_listener(struct descriptors *d, const struct description *server, struct error *err)
{
    int at = socket_create(d, server, true, 0);
    if (bind_name(d, server, at, false, err) < 0)
        return -1;
    descriptors_call(d, SYS_listen, plan_literal((uint64_t)at), plan_literal(1));
    return descriptors_park(d, at, err);
}

struct unix_pair {
    struct description *client,
        *server; /* server: NULL when it is gone; without numbers when not yet accepted */
    struct unix_queue to_client, to_server;
};

static int make_by_socketpair(struct descriptors *d, struct unix_pair *p, struct descriptor_made made[2])
{
    const struct socket_about *s = socket_about(p->client);
    bool close_on_exec = descriptors_cloexec_for(p->client, descriptors_next(d));
    uint64_t pair = image_put(d->image, (const int32_t[]){-1, -1}, 8);
    descriptors_call(d, SYS_socketpair, plan_literal(AF_UNIX),
        plan_literal((uint64_t)(s->type | (close_on_exec ? SOCK_CLOEXEC : 0))),
        plan_literal((uint64_t)s->protocol), plan_data(pair));
    made[0] = (struct descriptor_made){p->client, descriptors_take(d), close_on_exec};
    made[1] = (struct descriptor_made){p->server, descriptors_take(d), close_on_exec};
    return 0;
}

static int make_by_listener(
    struct descriptors *d, struct unix_pair *p, struct descriptor_made made[2], struct error *err)
{
    struct description *listener = find_listener(d, p->server);
    if (listener && !listener->restored && listener_restore(d, listener, err) < 0)
        return -1;
    int listening = listener ? listener->fds[0] : make_helper_listener(d, p->server, err);
    if (listening < 0)
        return -1;
    bool close_on_exec = descriptors_cloexec_for(p->client, descriptors_next(d));
    int client = socket_create(d, p->client, close_on_exec, 0);
    if (bind_name(d, p->client, client, true, err) < 0)
        return -1;
    const struct socket_about *server = socket_about(p->server);
    socket_connect(d, client, &server->local, server->local_len);
    made[0] = (struct descriptor_made){p->client, client, close_on_exec};
    made[1] = (struct descriptor_made){p->server, -1, true};
    if (p->server->fd_count > 0) {
        made[1].at = descriptors_expect(d, descriptors_call(d, SYS_accept4, plan_literal((uint64_t)listening),
                                               plan_literal(0), plan_literal(0), plan_literal(SOCK_CLOEXEC)));
    }
    if (!listener) {
        descriptors_close(d, listening);
        unlink_name(d, p->server);
    }
    return 0;
}

static int restore_end_options(struct descriptors *d, const struct description *o, int at, struct error *err)
{
    return o && at >= 0 ? socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) : 0;
}

/* Queues with descriptors in them have to wait until those are there. */
static int pair_connect(struct descriptors *d, struct unix_pair *p, struct error *err)
{
    struct descriptor_made made[2];
    bool by_name = p->server && has_name(socket_about(p->server));
    if ((by_name ? make_by_listener(d, p, made, err) : make_by_socketpair(d, p, made)) < 0)
        return -1;
    if (restore_end_options(d, p->client, made[0].at, err) < 0 ||
        restore_end_options(d, p->server, made[1].at, err) < 0)
        return -1;
    if (!p->server)
        unix_queue_send(d, made[1].at, &p->to_client);
    /* The other end was closed with something unread in it: that is how it was lost. */
    if (!p->server && socket_about(p->client)->error == ECONNRESET)
        socket_send(d, made[0].at, "", 1, NULL, 0);
    if (p->server)
        p->server->restored = true;
    return descriptors_place(d, made, made[1].at < 0 ? 1 : 2, err);
}

/* What one end has sent, and that it will not send any more: now, or as ops that come after all descriptors.
 */
static int finish_end(
    struct descriptors *d, const struct description *sender, const struct unix_queue *q, struct error *err)
{
    if (!sender || sender->fd_count == 0)
        return 0;
    const struct unix_state *state = find_state(d, sender, err);
    if (!state)
        return -1;
    uint32_t before = d->f->process->process_plan.count;
    unix_queue_send(d, sender->fds[0], q);
    if (state->shutdown & 2)
        socket_shutdown(d, sender->fds[0], SHUT_WR);
    if (q->has_rights) {
        /* Move these ops behind everything. */
        struct plan *plan = &d->f->process->process_plan;
        for (uint32_t i = before; i < plan->count; i++)
            *plan_append(&d->late, (enum plan_op_kind)plan->ops[i].kind, plan->ops[i].number, NULL, 0) =
                plan->ops[i];
        plan->count = before;
    }
    return 0;
}

static void set_end_flags(struct descriptors *d, const struct description *o)
{
    if (o && o->fd_count > 0)
        descriptors_set_flags(d, o, 0);
}

static void note_end(
    struct descriptors *d, const struct description *o, const struct description *other, size_t waiting)
{
    char text[128];
    static const char *const types[] = {
        [SOCK_STREAM] = "stream", [SOCK_DGRAM] = "datagram", [SOCK_SEQPACKET] = "seqpacket"};
    if (!o || o->fd_count == 0)
        return;
    const char *name = name_of(socket_about(o), text, sizeof text);
    if (other && other->fd_count > 0)
        descriptors_note(d, o, "%s, %s, connected to %d, %zu bytes unread", types[socket_about(o)->type],
            name, descriptors_shown_fd(other), waiting);
    else
        descriptors_note(d, o, "%s, %s, the other end is closed, %zu bytes unread",
            types[socket_about(o)->type], name, waiting);
}

/* `peer` is NULL when the other end is gone (or outside, where a clone cannot follow it). */
static int pair_restore(
    struct descriptors *d, struct description *o, struct description *peer, struct error *err)
{
    struct unix_pair p = {.client = o, .server = peer};
    /* The server end is the one that has its listener's name. */
    if (peer && (o->fd_count == 0 || !has_name(socket_about(peer)) ||
                    (find_listener(d, o) && !find_listener(d, peer))))
        p = (struct unix_pair){.client = peer, .server = o};
    if (p.client->fd_count == 0)
        return descriptors_refuse(d, o, err, "is connected to a connection that nobody has accepted");
    int result = unix_queue_take(d, p.client, &p.to_client, err);
    if (result == 0 && p.server)
        result = unix_queue_take(d, p.server, &p.to_server, err);
    if (result == 0 && !p.server && p.to_client.has_rights)
        result = descriptors_refuse(d, o, err, "has a descriptor waiting from an end that is closed");
    if (result == 0)
        result = pair_connect(d, &p, err);
    if (result == 0)
        result = finish_end(d, p.client, &p.to_server, err);
    if (result == 0 && p.server)
        result = finish_end(d, p.server, &p.to_client, err);
    if (result == 0) {
        set_end_flags(d, p.client);
        set_end_flags(d, p.server);
        note_end(d, p.client, p.server, p.to_client.bytes);
        note_end(d, p.server, p.client, p.to_server.bytes);
    }
    unix_queue_free(&p.to_client);
    unix_queue_free(&p.to_server);
    return result;
}

/* ---- single sockets ---- */

static int single_restore(struct descriptors *d, struct description *o, struct error *err)
{
    char text[128];
    const struct socket_about *s = socket_about(o);
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    socket_create(d, o, close_on_exec, o->flags & O_NONBLOCK);
    if (socket_restore_options(d, o, at, SOCKET_ALWAYS, -1, err) < 0 || bind_name(d, o, at, true, err) < 0)
        return -1;
    descriptors_note(d, o, "not connected, %s", name_of(s, text, sizeof text));
    return descriptors_place_one(d, o, at, close_on_exec, err);
}

static int unix_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    if (s->listening)
        return listener_restore(d, o, err);
    const struct unix_state *state = find_state(d, o, err);
    if (!state)
        return -1;
    struct description *peer = find_inode(d, o, state->peer);
    if (s->listener || (peer && socket_about(peer)->listener))
        return 0; /* when the listener is finished: accept takes the oldest, so these must be the last */
    if (s->type == SOCK_DGRAM) {
        const struct unix_state *peer_state = peer ? find_state(d, peer, err) : NULL;
        bool mutual = peer_state && peer_state->peer == (uint32_t)o->st.st_ino;
        /* One that was paired and whose other end is closed is restored as such; one with a name is found by
         * it. */
        if (mutual && !has_name(s) && !has_name(socket_about(peer)))
            return pair_restore(d, o, peer, err);
        return single_restore(d, o, err);
    }
    if (s->remote_len == 0 && !peer && state->shutdown == 0)
        return single_restore(d, o, err);
    if (peer && peer->restored)
        return error_set(err, ERROR_INTERNAL, "a unix socket was restored without its other end");
    return pair_restore(d, o, peer, err);
}

/* ---- after all are there: flags of listeners, datagrams, connected datagram sockets ---- */

static struct description *find_name(
    struct descriptors *d, const struct description *like, const union socket_address *name, socklen_t len)
{
    for (size_t i = 0; i < d->count && len > sizeof(sa_family_t); i++)
        if (d->list[i].kind == like->kind && same_name(socket_about(&d->list[i]), name, len))
            return &d->list[i];
    return NULL;
}

static int resend_datagrams(struct descriptors *d, struct description *o, struct error *err)
{
    struct unix_queue q = {0};
    const struct socket_about *s = socket_about(o);
    int result = unix_queue_take(d, o, &q, err);
    int helper = -1;
    for (size_t i = 0; result == 0 && i < q.count; i++) {
        const struct unix_message *m = &q.list[i];
        const struct description *sender = find_name(d, o, &m->from, m->from_len);
        if (m->rights_count > 0) {
            result = descriptors_refuse(d, o, err,
                "has a datagram with descriptors waiting that was sent by name, which cannot be frozen");
            continue;
        }
        if (!has_name(s) || (!sender && m->from_len > sizeof(sa_family_t))) {
            result = descriptors_refuse(d, o, err, "has datagrams waiting from a sender that is gone");
            continue;
        }
        if (!sender && helper < 0)
            helper = socket_create(d, o, true, 0);
        socket_send(d, sender ? sender->fds[0] : helper, m->data, m->len, &s->local, s->local_len);
    }
    if (helper >= 0)
        descriptors_close(d, helper);
    unix_queue_free(&q);
    return result;
}

/* A connected datagram socket takes from nobody else: connect when all that waits has been sent. */
static int finish_datagrams(struct descriptors *d, struct error *err)
{
    for (size_t i = 0; i < d->count; i++) {
        struct description *o = &d->list[i];
        if (o->kind != &descriptor_kind_unix || socket_about(o)->type != SOCK_DGRAM || !o->restored)
            continue;
        d->subject = descriptors_shown_fd(o);
        if (resend_datagrams(d, o, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < d->count; i++) {
        struct description *o = &d->list[i];
        if (o->kind != &descriptor_kind_unix || socket_about(o)->type != SOCK_DGRAM || o->fd_count == 0 ||
            socket_about(o)->remote_len <= sizeof(sa_family_t))
            continue;
        d->subject = descriptors_shown_fd(o);
        const struct socket_about *s = socket_about(o);
        if (!find_name(d, o, &s->remote, s->remote_len))
            return descriptors_refuse(d, o, err, "is connected to a datagram socket outside the process");
        socket_connect(d, o->fds[0], &s->remote, s->remote_len);
    }
    return 0;
}

/* Connections that wait to be accepted, in their order; those whose client is gone do not come back. */
static int finish_listener(struct descriptors *d, struct description *o, struct error *err)
{
    for (size_t i = 0; i < d->count; i++) {
        struct description *waiting = &d->list[i];
        if (waiting->kind != o->kind || socket_about(waiting)->listener != o)
            continue;
        const struct unix_state *state = find_state(d, waiting, err);
        if (!state)
            return -1;
        struct description *client = find_inode(d, o, state->peer);
        if (client && pair_restore(d, client, waiting, err) < 0)
            return -1;
    }
    descriptors_set_flags(d, o, 0);
    return 0;
}

static int unix_finish(struct descriptors *d, struct description *o, struct error *err)
{
    struct socket_about *s = socket_about(o);
    if (s->listening && finish_listener(d, o, err) < 0)
        return -1;
    if (s->type != SOCK_DGRAM || s->finished)
        return 0;
    /* The first datagram socket that comes here does it for all. */
    for (size_t i = 0; i < d->count; i++)
        if (d->list[i].kind == &descriptor_kind_unix)
            socket_about(&d->list[i])->finished = true;
    int subject = d->subject, result = finish_datagrams(d, err);
    d->subject = subject;
    return result;
}

const struct descriptor_kind descriptor_kind_unix = {
    "unix socket", unix_is, unix_read, unix_restore, unix_finish};
