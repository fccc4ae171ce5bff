/* conformance: sockets | UDP datagrams waiting | kept | with their senders, in their order, also when the sender is closed
 *
 * Empty ones and large ones, from three senders, one of which is gone and one unbound. */
#include "sockets.h"

static bool comes(int fd, const char *text, uint16_t from)
{
    char got[64];
    struct sockaddr_in address;
    socklen_t len = sizeof address;
    ssize_t n = recvfrom(fd, got, sizeof got, MSG_DONTWAIT, (struct sockaddr *)&address, &len);
    return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0 && ntohs(address.sin_port) == from;
}

int main(void)
{
    static char large[60000], got[sizeof large];
    struct sockaddr_in to = test_address(7000);
    int inbox = test_udp(7000), one = test_udp(7001), gone = test_udp(7002),
        chosen = socket(AF_INET, SOCK_DGRAM, 0);
    memset(large, 'u', sizeof large);
    CHECK(test_send_to(one, "first", 7000) && test_send_to(gone, "second", 7000) &&
          test_send_to(one, "", 7000) && test_send_to(chosen, "fourth", 7000));
    CHECK_EQUAL(sendto(one, large, sizeof large, 0, (struct sockaddr *)&to, sizeof to), sizeof large);
    CHECK(test_send_to(inbox, "to itself", 7000) && test_send_to(inbox, "elsewhere", 7001));
    uint16_t port = test_port(chosen);
    CHECK(close(gone) == 0);

    test_freeze_point();
    CHECK(comes(inbox, "first", 7001) && comes(inbox, "second", 7002) && comes(inbox, "", 7001));
    CHECK(comes(inbox, "fourth", port) && recv(inbox, got, sizeof got, 0) == sizeof large);
    CHECK(memcmp(got, large, sizeof got) == 0 && comes(inbox, "to itself", 7000) && test_would_block(inbox));
    CHECK(comes(one, "elsewhere", 7000) && test_would_block(one));
    gone = test_udp(7002);
    CHECK(test_send_to(gone, "again", 7000) && comes(inbox, "again", 7002));
    return 0;
}
