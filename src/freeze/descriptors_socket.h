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
    bool read_shut;               /* TCP: it was shut down for reading */
    int error;                    /* what SO_ERROR would say */
    int peek_offset;              /* SO_PEEK_OFF; -1: none */
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

/* Refuse what hangs on a socket and can neither be read nor set again. */
MUST_CHECK int socket_refuse_attached(struct descriptors *d, const struct description *o, struct error *err);
void socket_read_peek_offset(const struct description *o); /* before anything is taken from its queue */
int socket_get_number(int fd, int level, int name);        /* -1: there is no such option */
void socket_set_number(struct descriptors *d, int at, int level, int name, int value);

/* Multicast (descriptors_multicast.c). */
MUST_CHECK int socket_restore_groups(
    struct descriptors *d, const struct description *o, int at, struct error *err);
MUST_CHECK int socket_refuse_hidden_interface(
    struct descriptors *d, const struct description *o, struct error *err);

/* Addresses of either family (descriptors_address.c). */
uint16_t address_port(const union socket_address *a);
struct in6_addr address_host(
    const union socket_address *a); /* an IPv4 address as the IPv6 one that stands for it */
bool address_is_wildcard(const struct in6_addr *host);
bool address_is_loopback(const union socket_address *a);
bool address_same(const union socket_address *a, const union socket_address *b);
void address_print(char *text, size_t size, const union socket_address *a);
/* Another description has the same port (it binds beside this one). */
bool socket_port_is_shared(const struct descriptors *d, const struct description *o);

/* TCP. */
#define TCP_QUEUE_MAX (128u << 10) /* unread bytes of one direction */
/* A helper that listens at `address`; returns its number, above the process's own. */
MUST_CHECK int tcp_make_listener(struct descriptors *d, const struct description *like,
    const union socket_address *address, socklen_t len, struct error *err);
/* Connections whose other end is not the process's (descriptors_ended.c): as one that has ended, with what was
 * received before; or, where that is not what happened, as one that was reset. */
MUST_CHECK int tcp_restore_ended(struct descriptors *d, struct description *o, struct error *err);
MUST_CHECK int tcp_restore_lost(struct descriptors *d, struct description *o, struct error *err);

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

/* What waits in a unix socket (descriptors_unix_queue.c). */
#define RIGHTS_MAX 253 /* descriptors in one message: SCM_MAX_FD */

struct unix_message {
    uint8_t *data;
    size_t len;
    int rights[RIGHTS_MAX];
    size_t rights_count;
    union socket_address from;
    socklen_t from_len;
};

struct unix_queue {
    struct unix_message *list;
    size_t count, bytes;
    bool has_rights;
};

/* All messages that wait, in their order: `q` owns them. */
MUST_CHECK int unix_queue_take(
    struct descriptors *d, const struct description *o, struct unix_queue *q, struct error *err);
void unix_queue_free(struct unix_queue *q);
/* Ops that send them from the clone's descriptor `at`. */
void unix_queue_send(struct descriptors *d, int at, const struct unix_queue *q);
