/* Sockets that cannot be frozen must refuse the freeze by name: the first argument chooses.
 *
 * conformance: sockets | urgent data that waits, in TCP and in unix sockets | refused | its place in the stream cannot be made again
 * conformance: sockets | a socket with a filter (`SO_ATTACH_FILTER`) | refused | it could keep away what is sent again
 * conformance: sockets | a corked UDP socket, IP options, a multicast interface chosen by its number, groups joined for some senders | refused | the kernel does not tell them
 * conformance: sockets | unread UDP datagrams at a port that several sockets have; connections to such a port | refused | who of them gets what is the kernel's choice
 * conformance: sockets | an error that waits in a UDP socket | refused | it cannot be made again
 * conformance: sockets | netlink with unread messages | refused | they are the kernel's
 * conformance: sockets | more than 128 KiB that wait in one direction of a TCP connection | refused | limit
 * conformance: sockets | unix names outside /tmp, relative, or in a folder that is gone | refused | they cannot be bound again
 * conformance: sockets | unix names that were renamed since, or are another file's now | refused | clones would listen elsewhere
 * conformance: sockets | unix datagrams from a named sender that is closed, or with descriptors; a datagram socket that is connected to a closed one | refused | nobody could send them again
 * conformance: sockets | a descriptor in flight from an end that is closed | refused | nobody could send it again */
#include "sockets.h"

#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/eventfd.h>

static int wait_urgent(void)
{
    int listener = test_listen(5000, 2), client = test_connect(5000), server = accept(listener, NULL, NULL);
    CHECK(send(client, "abc", 3, MSG_OOB) == 3);
    return poll(&(struct pollfd){server, POLLPRI, 0}, 1, -1) == 1 ? server : -1;
}

static int wait_urgent_unix(void)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    return send(pair[0], "abc", 3, MSG_OOB) == 3 ? 0 : -1;
}

static int attach_filter(void)
{
    struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, 0}};
    struct sock_fprog program = {1, code};
    int fd = test_udp(7000);
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? fd : -1;
}

static int cork_udp(void)
{
    int fd = test_udp(7000);
    return test_set_option(fd, IPPROTO_UDP, 1 /* UDP_CORK */, 1) && test_send_to(fd, "held back", 7001) ? fd
                                                                                                        : -1;
}

static int set_ip_options(void)
{
    int fd = test_udp(7000);
    return setsockopt(fd, IPPROTO_IP, IP_OPTIONS, "\1\1\1\0", 4) == 0 ? fd : -1; /* nothing, three times */
}

static int choose_interface(void)
{
    struct ip_mreqn by_number = {.imr_ifindex = (int)if_nametoindex("lo")};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &by_number, sizeof by_number) == 0 ? fd : -1;
}

static int join_some(void)
{
    struct ip_mreq_source join = {.imr_multiaddr.s_addr = inet_addr("239.1.2.3"),
        .imr_interface.s_addr = htonl(INADDR_LOOPBACK),
        .imr_sourceaddr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = test_udp(7000);
    return setsockopt(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &join, sizeof join) == 0 ? fd : -1;
}

static int share(int type)
{
    struct sockaddr_in at = test_address(5000);
    int fd = socket(AF_INET, type, 0);
    CHECK(
        test_set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1) && bind(fd, (struct sockaddr *)&at, sizeof at) == 0);
    return fd;
}

static int queue_at_shared(void)
{
    CHECK(share(SOCK_DGRAM) >= 0);
    return test_send_to(share(SOCK_DGRAM), "whose?", 5000) ? 0 : -1;
}

static int connect_to_shared(void)
{
    CHECK(listen(share(SOCK_STREAM), 1) == 0 && listen(share(SOCK_STREAM), 1) == 0);
    return test_connect(5000);
}

static int wait_error(void)
{
    struct sockaddr_in nowhere = test_address(4999);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&nowhere, sizeof nowhere) == 0 && test_writes(fd, "anybody?"));
    return poll(&(struct pollfd){fd, 0, 0}, 1, -1) == 1 ? fd : -1;
}

static int ask_kernel(void)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg about;
    } question = {
        {sizeof question, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.ifi_family = AF_UNSPEC}};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    return send(fd, &question, sizeof question, 0) == sizeof question ? fd : -1;
}

static int queue_much(void)
{
    static char block[400000];
    int listener = test_listen(5000, 2), client = test_connect(5000), server = accept(listener, NULL, NULL);
    size_t sent = 0;
    for (ssize_t n; sent < sizeof block && (n = send(client, block, sizeof block - sent, MSG_DONTWAIT)) > 0;)
        sent += (size_t)n;
    CHECK(sent > 200000);
    return server;
}

static int bind_relative(void)
{
    CHECK(chdir("/tmp") == 0);
    return test_unix(SOCK_STREAM, "relative", 1);
}

static int lose_folder(void)
{
    CHECK(mkdir("/tmp/run", 0700) == 0);
    int fd = test_unix(SOCK_STREAM, "/tmp/run/server", 1);
    CHECK(unlink("/tmp/run/server") == 0 && rmdir("/tmp/run") == 0);
    return fd;
}

static int rename_name(void)
{
    int fd = test_unix(SOCK_STREAM, "/tmp/server", 1);
    return rename("/tmp/server", "/tmp/renamed") == 0 ? fd : -1;
}

static int replace_name(void)
{
    int old = test_unix(SOCK_STREAM, "/tmp/server", 1);
    CHECK(unlink("/tmp/server") == 0 && test_unix(SOCK_STREAM, "/tmp/server", 1) >= 0);
    return old;
}

static bool send_to_inbox(int fd)
{
    struct sockaddr_un address;
    socklen_t len = test_name(&address, "@inbox");
    return sendto(fd, "letter", 6, 0, (struct sockaddr *)&address, len) == 6;
}

static int lose_sender(void)
{
    int inbox = test_unix(SOCK_DGRAM, "@inbox", 0), sender = test_unix(SOCK_DGRAM, "@sender", 0);
    CHECK(send_to_inbox(sender) && close(sender) == 0);
    return inbox;
}

static int send_rights_by_name(void)
{
    int inbox = test_unix(SOCK_DGRAM, "@inbox", 0), sender = test_unix_connect(SOCK_DGRAM, "@inbox");
    return test_send_descriptors(sender, "fd", &inbox, 1) ? inbox : -1;
}

static int lose_inbox(void)
{
    int inbox = test_unix(SOCK_DGRAM, "@inbox", 0), sender = test_unix_connect(SOCK_DGRAM, "@inbox");
    return close(inbox) == 0 ? sender : -1;
}

static int lose_end(void)
{
    int pair[2], counter = eventfd(0, 0);
    CHECK(
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && test_send_descriptors(pair[0], "fd", &counter, 1));
    return close(pair[0]) == 0 ? pair[1] : -1;
}

static const struct test_maker makers[] = {
    {"urgent", wait_urgent},
    {"urgent-unix", wait_urgent_unix},
    {"filter", attach_filter},
    {"corked-udp", cork_udp},
    {"ip-options", set_ip_options},
    {"multicast-interface", choose_interface},
    {"multicast-senders", join_some},
    {"shared-datagrams", queue_at_shared},
    {"shared-listeners", connect_to_shared},
    {"udp-error", wait_error},
    {"netlink-unread", ask_kernel},
    {"much-queued", queue_much},
    {"relative-name", bind_relative},
    {"lost-folder", lose_folder},
    {"renamed-name", rename_name},
    {"replaced-name", replace_name},
    {"lost-sender", lose_sender},
    {"named-rights", send_rights_by_name},
    {"lost-inbox", lose_inbox},
    {"lost-end", lose_end},
};

int main(int argc, char **argv)
{
    return test_refusal(argc, argv, makers, sizeof makers / sizeof *makers);
}
