/* Multicast groups that a socket has joined. The kernel lists the groups of the whole network; whether one
 * socket has joined a group is asked by its source filter. */
#include "freeze/descriptors_socket.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

static int level_of(const struct group_req *group)
{
    return group->gr_group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

/* Joins the group in the clone, if the process's socket has joined it. */
static int restore_group(struct descriptors *d, const struct description *o, int at,
    const struct group_req *group, struct error *err)
{
    struct group_filter filter = {.gf_interface = group->gr_interface, .gf_group = group->gr_group};
    socklen_t len = GROUP_FILTER_SIZE(0);
    if (getsockopt(o->copy, level_of(group), MCAST_MSFILTER, &filter, &len) < 0)
        return errno == EADDRNOTAVAIL || errno == EINVAL || errno == ENOPROTOOPT
                   ? 0
                   : error_system(err, "cannot ask for the multicast groups of a socket");
    if (filter.gf_fmode != MCAST_EXCLUDE || filter.gf_numsrc != 0)
        return descriptors_refuse(
            d, o, err, "has joined a multicast group for some senders only, which cannot be frozen");
    descriptors_call(d, SYS_setsockopt, plan_literal((uint64_t)at), plan_literal((uint64_t)level_of(group)),
        plan_literal(MCAST_JOIN_GROUP), plan_data(image_put(d->image, group, sizeof *group)),
        plan_literal(sizeof *group));
    return 0;
}

/* "1  lo  :  2  V3" begins an interface, "    030201EF  1 0:00000000  0" is a group of it (proc(5)). */
static int restore_groups4(
    struct descriptors *d, const struct description *o, int at, const char *text, struct error *err)
{
    unsigned index = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        struct group_req group = {.gr_interface = index};
        struct sockaddr_in *address = (void *)&group.gr_group;
        if (line[0] >= '0' && line[0] <= '9') {
            index = (unsigned)strtoul(line, NULL, 10);
            continue;
        }
        address->sin_family = AF_INET;
        if (sscanf(line, " %8x %*d %*x:", &address->sin_addr.s_addr) == 1 &&
            restore_group(d, o, at, &group, err) < 0)
            return -1;
    }
    return 0;
}

/* "1    lo              ff020000000000000000000000000001     1 0000000C 0" */
static int restore_groups6(
    struct descriptors *d, const struct description *o, int at, const char *text, struct error *err)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        struct group_req group = {0};
        struct sockaddr_in6 *address = (void *)&group.gr_group;
        char digits[33] = {0};
        address->sin6_family = AF_INET6;
        if (sscanf(line, "%u %*s %32s", &group.gr_interface, digits) == 2 && strlen(digits) == 32 &&
            hex_decode(address->sin6_addr.s6_addr, 16, digits) && restore_group(d, o, at, &group, err) < 0)
            return -1;
    }
    return 0;
}

int socket_restore_groups(struct descriptors *d, const struct description *o, int at, struct error *err)
{
    CLEANUP_BUFFER struct buffer four = {0}, six = {0};
    struct error ignored;
    if (tracee_proc_file(&d->f->tracee, "net/igmp", &four, err) < 0)
        return -1;
    buffer_append_u8(&four, 0);
    if (restore_groups4(d, o, at, (const char *)four.data, err) < 0)
        return -1;
    /* A kernel without IPv6 has no such file. */
    if (socket_about(o)->domain != AF_INET6 ||
        tracee_proc_file(&d->f->tracee, "net/igmp6", &six, &ignored) < 0)
        return 0;
    buffer_append_u8(&six, 0);
    return restore_groups6(d, o, at, (const char *)six.data, err);
}

/* Whether there is a way from the socket to a multicast group. */
static bool reaches_groups(int fd)
{
    struct sockaddr_in group = {AF_INET, htons(9), {htonl(0xe00000fbu)}, {0}};
    return connect(fd, (struct sockaddr *)&group, sizeof group) == 0;
}

/* The interface for multicast that was given by its number is not told by any option; but by whether there is
 * a way to a group, where a fresh socket at the same address has none. */
int socket_refuse_hidden_interface(struct descriptors *d, const struct description *o, struct error *err)
{
    const struct socket_about *s = socket_about(o);
    union socket_address address = s->local;
    /* To ask connects it: not where the process runs on. */
    if (d->f->request->spare != FREEZE_SPARE_NEVER || s->domain != AF_INET || s->remote_len > 0 ||
        socket_get_number(o->copy, IPPROTO_IP, IP_MULTICAST_IF) != 0)
        return 0;
    CLEANUP_FD int fresh = socket_open_inside(d, s->domain, s->type, s->protocol, err);
    if (fresh < 0)
        return -1;
    address.in.sin_port = 0;
    if (bind(fresh, &address.any, sizeof address.in) == 0 && !reaches_groups(fresh) &&
        reaches_groups(o->copy))
        return descriptors_refuse(d, o, err,
            "sends to multicast groups through an interface that was chosen by number, which cannot be "
            "frozen");
    return 0;
}
