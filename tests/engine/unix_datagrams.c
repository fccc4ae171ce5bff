/* conformance: sockets | unix datagram sockets: paired, bound, connected one way, with datagrams waiting | kept | with the names of their senders
 *
 * Three senders (one of them nameless) to one inbox, in their order; a pair; a connected one that others cannot reach. */
#include "sockets.h"

static bool comes(int fd, const char *text, const char *from)
{
    char got[64];
    struct sockaddr_un address, wanted;
    socklen_t len = sizeof address, wanted_len = from ? test_name(&wanted, from) : 0;
    ssize_t n = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (struct sockaddr *)&address, &len);
    if (n != (ssize_t)strlen(text) || memcmp(got, text, (size_t)n) != 0)
        return false;
    return from ? len == wanted_len && memcmp(&address, &wanted, len) == 0 : len <= sizeof(sa_family_t);
}

static bool sends(int fd, const char *text, const char *to)
{
    struct sockaddr_un address;
    socklen_t len = test_name(&address, to);
    return sendto(fd, text, strlen(text), MSG_DONTWAIT, (struct sockaddr *)&address, len) ==
           (ssize_t)strlen(text);
}

int main(void)
{
    int pair[2], inbox = test_unix(SOCK_DGRAM, "/tmp/inbox", 0), a = test_unix(SOCK_DGRAM, "/tmp/a", 0),
                 b = test_unix(SOCK_DGRAM, "@b", 0), nameless = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un address;
    socklen_t len = test_name(&address, "/tmp/inbox");
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    CHECK(connect(b, (struct sockaddr *)&address, len) == 0);
    CHECK(sends(a, "first", "/tmp/inbox") && test_writes(b, "second") &&
          sends(nameless, "third", "/tmp/inbox") && sends(a, "", "/tmp/inbox") &&
          sends(inbox, "to a", "/tmp/a"));
    CHECK(test_writes(pair[0], "x") && test_writes(pair[0], "yy") && test_writes(pair[1], "back"));

    test_freeze_point();
    CHECK(comes(inbox, "first", "/tmp/a") && comes(inbox, "second", "@b") && comes(inbox, "third", NULL));
    CHECK(comes(inbox, "", "/tmp/a") && test_would_block(inbox) && comes(a, "to a", "/tmp/inbox"));
    CHECK(test_message(pair[1], "x") && test_message(pair[1], "yy") && test_message(pair[0], "back"));
    CHECK(test_talks(pair[0], pair[1]));
    CHECK(test_is_named(b, true, "/tmp/inbox") && test_writes(b, "more") && comes(inbox, "more", "@b"));
    CHECK(!sends(a, "not from inbox", "@b") && errno == EPERM && sends(inbox, "reply", "@b") &&
          comes(b, "reply", "/tmp/inbox"));
    CHECK(getpeername(a, (struct sockaddr *)&address, &len) < 0 && errno == ENOTCONN);
    return 0;
}
