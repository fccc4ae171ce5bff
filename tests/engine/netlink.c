/* An idle netlink socket still asks and hears about routes.
 *
 * conformance: sockets | netlink, idle | kept |
 */
#include "engine.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

int main(void)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK}, now;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE),
        loose = socket(AF_NETLINK, SOCK_DGRAM, NETLINK_ROUTE);
    CHECK(fd >= 0 && loose >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    socklen_t len = sizeof name;
    CHECK(getsockname(fd, (struct sockaddr *)&name, &len) == 0);

    test_freeze_point();
    len = sizeof now;
    CHECK(getsockname(fd, (struct sockaddr *)&now, &len) == 0);
    CHECK(now.nl_pid == name.nl_pid && now.nl_groups == name.nl_groups);
    struct {
        struct nlmsghdr header;
        struct ifinfomsg about;
    } question = {
        {sizeof question, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.ifi_family = AF_UNSPEC}};
    _Alignas(struct nlmsghdr) char answer[8192];
    int sockets[] = {fd, loose};
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(send(sockets[i], &question, sizeof question, 0), sizeof question);
        CHECK(recv(sockets[i], answer, sizeof answer, 0) > 0);
        CHECK_EQUAL(((struct nlmsghdr *)answer)->nlmsg_type, RTM_NEWLINK);
    }
    return 0;
}
