/* conformance: sockets | credentials: `SO_PASSCRED` with messages waiting, `SO_PEERCRED` | kept | process, user and group are the same numbers
 *
 * Of a pair, of a connection by name, of a datagram. */
#include "sockets.h"

static bool comes_from_us(int fd, const char *text)
{
    char got[64];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec part = {got, sizeof got};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct ucred who;
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    if (n != (ssize_t)strlen(text) || memcmp(got, text, (size_t)n) != 0 ||
        message.msg_controllen < CMSG_LEN(sizeof who) || control.header.cmsg_type != SCM_CREDENTIALS)
        return false;
    memcpy(&who, CMSG_DATA(&control.header), sizeof who);
    return who.pid == getpid() && who.uid == getuid() && who.gid == getgid();
}

static bool peer_is_us(int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid == getpid() &&
           who.uid == getuid() && who.gid == getgid();
}

int main(void)
{
    int pair[2], datagrams[2], listener = test_unix(SOCK_STREAM, "@server", 2);
    CHECK(
        socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams) == 0);
    CHECK(test_set_option(pair[1], SOL_SOCKET, SO_PASSCRED, 1) &&
          test_set_option(datagrams[0], SOL_SOCKET, SO_PASSCRED, 1));
    int client = test_unix_connect(SOCK_STREAM, "@server"), server = accept(listener, NULL, NULL);
    int waiting = test_unix_connect(SOCK_STREAM, "@server");
    CHECK(test_writes(pair[0], "stream") && test_writes(datagrams[1], "datagram"));

    test_freeze_point();
    CHECK(comes_from_us(pair[1], "stream") && comes_from_us(datagrams[0], "datagram"));
    CHECK(test_option(pair[1], SOL_SOCKET, SO_PASSCRED) == 1 &&
          test_option(pair[0], SOL_SOCKET, SO_PASSCRED) == 0);
    CHECK(peer_is_us(pair[0]) && peer_is_us(pair[1]) && peer_is_us(client) && peer_is_us(server));
    int accepted = accept(listener, NULL, NULL);
    CHECK(peer_is_us(accepted) && peer_is_us(waiting));
    CHECK(test_writes(pair[0], "more") && comes_from_us(pair[1], "more"));
    return 0;
}
