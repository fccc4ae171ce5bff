/* What the kinds of sockets share. */
#pragma once

#include "freeze/descriptors.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SOCKET_PENDING_MAX 256 /* connections that nobody has accepted yet, of all listeners together */

union socket_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    uint8_t bytes[128];
};

/* Kept in description->detail of every socket. */
struct socket_about {
    int domain, type, protocol;
    union socket_address local, remote;
    socklen_t local_len, remote_len; /* remote_len 0: not connected */
    bool listening;
    int backlog, state;           /* TCP: as TCP_INFO tells */
    struct description *listener; /* of a connection that nobody has accepted: where it waits */
    bool finished;                /* datagram sockets are finished all at once */
};

struct socket_about *socket_about(const struct description *o);
bool socket_is(const struct description *o, int domain, int type);
MUST_CHECK int socket_read_about(struct descriptors *d, struct description *o, struct error *err);
/* A socket in the process's network namespace. */
MUST_CHECK int socket_open_inside(
    struct descriptors *d, int domain, int type, int protocol, struct error *err);

enum socket_moment { SOCKET_BEFORE_BIND = 1, SOCKET_AFTER = 2, SOCKET_ALWAYS = 3 };
/* Set the options that are not as they are on `reference`, a socket of ours (-1: a fresh one of its kind). */
MUST_CHECK int socket_restore_options(struct descriptors *d, const struct description *o, int at,
    enum socket_moment moment, int reference, struct error *err);

/* Ops. */
int socket_create(struct descriptors *d, const struct description *o, bool close_on_exec, int flags);
void socket_bind(struct descriptors *d, int at, const union socket_address *address, socklen_t len);
void socket_connect(struct descriptors *d, int at, const union socket_address *address, socklen_t len);
/* Must take all of it at once, or the plan fails: what was queued once fits again. */
void socket_send(struct descriptors *d, int at, const void *data, size_t len, const union socket_address *to,
    socklen_t to_len);
void socket_shutdown(struct descriptors *d, int at, int how);

/* Takes the connections that wait at a listener: they become descriptions without numbers. */
MUST_CHECK int socket_take_pending(struct descriptors *d, struct description *listener, struct error *err);
