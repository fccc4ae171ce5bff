/* conformance: sockets | netlink: groups, options, several sockets, of several protocols | kept |
 *
 * Memberships above the 32 that an address can name, too. */
#include "sockets.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

static bool is_member(int fd, int group)
{
    uint32_t groups[8] = {0};
    socklen_t len = sizeof groups;
    return getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len) == 0 &&
           (groups[(group - 1) / 32] >> ((group - 1) % 32) & 1);
}

int main(void)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR}, now;
    int first = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE),
        second = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_ROUTE),
        uevent = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT),
        generic = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
    CHECK(bind(first, (struct sockaddr *)&name, sizeof name) == 0);
    name.nl_groups = 0;
    CHECK(bind(second, (struct sockaddr *)&name, sizeof name) == 0);
    socklen_t len = sizeof name;
    CHECK(getsockname(second, (struct sockaddr *)&name, &len) == 0 && uevent >= 0 && generic >= 0);
    CHECK(test_set_option(second, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NSID) &&
          test_set_option(second, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_NEXTHOP));
    CHECK(RTNLGRP_NEXTHOP >= 32 && is_member(second, RTNLGRP_NEXTHOP));
    CHECK(test_set_option(second, SOL_NETLINK, NETLINK_EXT_ACK, 1) &&
          test_set_option(second, SOL_NETLINK, NETLINK_CAP_ACK, 1) &&
          test_set_option(second, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1) &&
          test_set_option(second, SOL_NETLINK, NETLINK_PKTINFO, 1) &&
          test_set_option(second, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1));

    test_freeze_point();
    CHECK(is_member(first, RTNLGRP_LINK) && is_member(first, RTNLGRP_IPV4_IFADDR) &&
          !is_member(first, RTNLGRP_NSID));
    CHECK(is_member(second, RTNLGRP_NSID) && is_member(second, RTNLGRP_NEXTHOP) &&
          !is_member(second, RTNLGRP_LINK));
    CHECK(getsockname(second, (struct sockaddr *)&now, &len) == 0 && now.nl_pid == name.nl_pid);
    static const int options[] = {
        NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK, NETLINK_PKTINFO, NETLINK_NO_ENOBUFS};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        CHECK_EQUAL(test_option(second, SOL_NETLINK, options[i]), 1);
        CHECK_EQUAL(test_option(first, SOL_NETLINK, options[i]), 0);
    }
    CHECK(test_option(uevent, SOL_SOCKET, SO_PROTOCOL) == NETLINK_KOBJECT_UEVENT &&
          test_option(generic, SOL_SOCKET, SO_PROTOCOL) == NETLINK_GENERIC);
    CHECK(test_has_flag(second, O_NONBLOCK) && fcntl(first, F_GETFD) == FD_CLOEXEC);
    return 0;
}
