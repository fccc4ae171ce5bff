/* Options of sockets: each that differs from what a fresh socket has is set again. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/socket.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* What the system's headers may be too old to name. */
#define SOCKET_RXQ_OVFL 40
#define SOCKET_PEEK_OFF 42
#define SOCKET_LOCK_FILTER 44
#define SOCKET_SELECT_ERR_QUEUE 45
#define SOCKET_ZEROCOPY 60
#define SOCKET_TIMESTAMP_NEW 63
#define SOCKET_TIMESTAMPNS_NEW 64
#define SOCKET_TIMESTAMPING_NEW 65
#define SOCKET_PASSPIDFD 76
#define SOCKET_RCVPRIORITY 82
#define SOCKET_PASSRIGHTS 83
#define SOCKET_INQ 84
#define TCP_OPTION_INQ 36
#define UDP_OPTION_CORK 1
#define UDP_OPTION_SEGMENT 103
#define UDP_OPTION_GRO 104
#define IP_OPTION_LOCAL_PORT_RANGE 51
#define IPV6_OPTION_MULTICAST_ALL 29
#define IPV6_OPTION_UNICAST_IF 76
#define IPV6_OPTION_RECVFRAGSIZE 77
#define IPV6_OPTION_RECVERR_RFC4884 31

static const struct {
    int level, name;
    uint8_t size, moment;
} options[] = {
    {SOL_SOCKET, SO_REUSEADDR, 4, SOCKET_BEFORE_BIND},
    {SOL_SOCKET, SO_REUSEPORT, 4, SOCKET_BEFORE_BIND},
    {IPPROTO_IPV6, IPV6_V6ONLY, 4, SOCKET_BEFORE_BIND},
    {IPPROTO_IP, IP_FREEBIND, 4, SOCKET_BEFORE_BIND},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 4, SOCKET_BEFORE_BIND},
    {IPPROTO_IP, IP_OPTION_LOCAL_PORT_RANGE, 4, SOCKET_BEFORE_BIND},
    {SOL_SOCKET, SO_KEEPALIVE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_BROADCAST, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_OOBINLINE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_PASSCRED, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_PASSSEC, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_PASSPIDFD, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_PASSRIGHTS, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_INQ, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_RCVPRIORITY, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_RCVLOWAT, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_TIMESTAMP, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_TIMESTAMPNS, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_TIMESTAMPING, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_TIMESTAMP_NEW, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_TIMESTAMPNS_NEW, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_TIMESTAMPING_NEW, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_DONTROUTE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_NO_CHECK, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_RXQ_OVFL, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_SELECT_ERR_QUEUE, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_LOCK_FILTER, 4, SOCKET_AFTER},
    {SOL_SOCKET, SOCKET_ZEROCOPY, 4, SOCKET_AFTER},
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
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_FASTOPEN, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_SAVE_SYN, 4, SOCKET_AFTER},
    {IPPROTO_TCP, TCP_OPTION_INQ, 4, SOCKET_AFTER},
    {IPPROTO_UDP, UDP_OPTION_SEGMENT, 4, SOCKET_AFTER},
    {IPPROTO_UDP, UDP_OPTION_GRO, 4, SOCKET_AFTER},
    {IPPROTO_UDP, UDP_NO_CHECK6_TX, 4, SOCKET_AFTER},
    {IPPROTO_UDP, UDP_NO_CHECK6_RX, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_TOS, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_TTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MINTTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_PKTINFO, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVERR, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVERR_RFC4884, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVTOS, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVTTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVOPTS, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RETOPTS, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVORIGDSTADDR, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_RECVFRAGSIZE, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_CHECKSUM, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_PASSSEC, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MTU_DISCOVER, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_UNICAST_IF, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MULTICAST_IF, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MULTICAST_TTL, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MULTICAST_LOOP, 4, SOCKET_AFTER},
    {IPPROTO_IP, IP_MULTICAST_ALL, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_OPTION_MULTICAST_ALL, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_OPTION_UNICAST_IF, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVRTHDR, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVHOPOPTS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVDSTOPTS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVPATHMTU, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_OPTION_RECVFRAGSIZE, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVERR, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_OPTION_RECVERR_RFC4884, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_TCLASS, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_DONTFRAG, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 4, SOCKET_AFTER},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT, 4, SOCKET_AFTER},
    {SOL_SOCKET, SO_PRIORITY, 4, SOCKET_AFTER}, /* after IP_TOS, which changes it */
    {SOL_NETLINK, NETLINK_PKTINFO, 4, SOCKET_AFTER},
    {SOL_NETLINK, NETLINK_BROADCAST_ERROR, 4, SOCKET_AFTER},
    {SOL_NETLINK, NETLINK_NO_ENOBUFS, 4, SOCKET_AFTER},
    {SOL_NETLINK, NETLINK_CAP_ACK, 4, SOCKET_AFTER},
    {SOL_NETLINK, NETLINK_EXT_ACK, 4, SOCKET_AFTER},
    {SOL_NETLINK, NETLINK_GET_STRICT_CHK, 4, SOCKET_AFTER},
};

/* Those that are a name. */
static const struct {
    int level, name;
    uint8_t moment;
} names[] = {
    {SOL_SOCKET, SO_BINDTODEVICE, SOCKET_BEFORE_BIND},
    {IPPROTO_TCP, TCP_CONGESTION, SOCKET_AFTER},
};
#define NAME_MAX_BYTES 16

static void set_option(struct descriptors *d, int at, int level, int name, const void *value, size_t len)
{
    descriptors_call(d, SYS_setsockopt, plan_literal((uint64_t)at), plan_literal((uint64_t)level),
        plan_literal((uint64_t)name), plan_data(image_put(d->image, value, len)), plan_literal(len));
}

void socket_set_number(struct descriptors *d, int at, int level, int name, int value)
{
    set_option(d, at, level, name, &value, sizeof value);
}

/* Sizes that somebody has chosen; others grow by themselves. The kernel answers twice what it was told. */
static void restore_buffers(struct descriptors *d, const struct description *o, int at)
{
    int locks = socket_get_number(o->copy, SOL_SOCKET, SO_BUF_LOCK);
    if (locks < 0)
        return;
    if (locks & SOCK_SNDBUF_LOCK)
        socket_set_number(
            d, at, SOL_SOCKET, SO_SNDBUF, socket_get_number(o->copy, SOL_SOCKET, SO_SNDBUF) / 2);
    if (locks & SOCK_RCVBUF_LOCK)
        socket_set_number(
            d, at, SOL_SOCKET, SO_RCVBUF, socket_get_number(o->copy, SOL_SOCKET, SO_RCVBUF) / 2);
}

static bool is_for_multicast(int level, int name)
{
    return (level == IPPROTO_IP && (name == IP_MULTICAST_IF || name == IP_MULTICAST_TTL ||
                                       name == IP_MULTICAST_LOOP || name == IP_MULTICAST_ALL)) ||
           (level == IPPROTO_IPV6 && (name == IPV6_MULTICAST_IF || name == IPV6_MULTICAST_HOPS ||
                                         name == IPV6_MULTICAST_LOOP || name == IPV6_OPTION_MULTICAST_ALL));
}

static bool option_fits(const struct socket_about *s, int level, int name)
{
    bool internet = s->domain == AF_INET || s->domain == AF_INET6;
    if (s->type == SOCK_STREAM && is_for_multicast(level, name))
        return false;
    if (level == IPPROTO_TCP && name == TCP_FASTOPEN)
        return internet && s->listening;
    if (level == IPPROTO_TCP)
        return internet && s->type == SOCK_STREAM;
    if (level == IPPROTO_UDP)
        return internet && s->type == SOCK_DGRAM;
    if (level == IPPROTO_IP)
        return internet;
    if (level == SOL_NETLINK)
        return s->domain == AF_NETLINK;
    return level == SOL_SOCKET || (level == IPPROTO_IPV6 && s->domain == AF_INET6);
}

static void restore_names(
    struct descriptors *d, const struct description *o, int at, enum socket_moment moment, int reference)
{
    for (size_t i = 0; i < countof(names); i++) {
        char ours[NAME_MAX_BYTES + 1] = {0}, theirs[NAME_MAX_BYTES + 1] = {0};
        socklen_t our_len = NAME_MAX_BYTES, their_len = NAME_MAX_BYTES;
        if ((names[i].moment & moment) == 0 || !option_fits(socket_about(o), names[i].level, names[i].name) ||
            getsockopt(o->copy, names[i].level, names[i].name, theirs, &their_len) < 0 ||
            getsockopt(reference, names[i].level, names[i].name, ours, &our_len) < 0)
            continue;
        if (strcmp(ours, theirs) != 0)
            set_option(d, at, names[i].level, names[i].name, theirs, strlen(theirs) + 1);
    }
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
    restore_names(d, o, at, moment, reference);
    if (moment & SOCKET_BEFORE_BIND)
        restore_buffers(d, o, at);
    if ((moment & SOCKET_AFTER) && s->peek_offset >= 0)
        socket_set_number(d, at, SOL_SOCKET, SOCKET_PEEK_OFF, s->peek_offset);
    return 0;
}

void socket_read_peek_offset(const struct description *o)
{
    socket_about(o)->peek_offset = socket_get_number(o->copy, SOL_SOCKET, SOCKET_PEEK_OFF);
}

/* What hangs on a socket, is not an option that can be set again, and must not be lost. */
int socket_refuse_attached(struct descriptors *d, const struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    socklen_t filter = 0, protocol_len = NAME_MAX_BYTES;
    char protocol[NAME_MAX_BYTES + 1] = {0};
    errno = 0;
    if ((getsockopt(o->copy, SOL_SOCKET, SO_GET_FILTER, NULL, &filter) == 0 && filter > 0) || errno == EACCES)
        return descriptors_refuse(d, o, err, "is a socket with a filter, which cannot be frozen");
    bool internet = s->domain == AF_INET || s->domain == AF_INET6;
    if (internet && s->type == SOCK_STREAM &&
        getsockopt(o->copy, IPPROTO_TCP, TCP_ULP, protocol, &protocol_len) == 0 && protocol[0] != 0)
        return descriptors_refuse(
            d, o, err, "is a socket that speaks %s in the kernel, which cannot be frozen", protocol);
    uint8_t sent_along[64];
    socklen_t sent_len = sizeof sent_along;
    if (s->domain == AF_INET && getsockopt(o->copy, IPPROTO_IP, IP_OPTIONS, sent_along, &sent_len) == 0 &&
        sent_len > 0)
        return descriptors_refuse(d, o, err, "is a socket that sends IP options, which cannot be frozen");
    if (internet && s->type == SOCK_DGRAM && socket_get_number(o->copy, IPPROTO_UDP, UDP_OPTION_CORK) > 0)
        return descriptors_refuse(
            d, o, err, "is a corked UDP socket: what it holds back cannot be read, and so not be frozen");
    return 0;
}
