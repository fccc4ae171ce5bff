/* conformance: sockets | a unix listener with connections waiting | kept | in their order, with what they have sent; the backlog
 *
 * Five wait; one of them has sent and been shut, one has a name of its own. As many more fit as before. */
#include "sockets.h"

int main(void)
{
    int listener = test_unix(SOCK_STREAM, "/tmp/server", 5), clients[5];
    char text[32];
    for (int i = 0; i < 5; i++) {
        if (i == 3) {
            struct sockaddr_un address;
            socklen_t len = test_name(&address, "/tmp/server");
            clients[i] = test_unix(SOCK_STREAM, "@third", 0);
            CHECK(connect(clients[i], (struct sockaddr *)&address, len) == 0);
        } else {
            clients[i] = test_unix_connect(SOCK_STREAM, "/tmp/server");
        }
        snprintf(text, sizeof text, "I am %d", i);
        CHECK(test_writes(clients[i], text));
    }
    CHECK(shutdown(clients[2], SHUT_WR) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0);

    test_freeze_point();
    CHECK(test_has_flag(listener, O_NONBLOCK) && (test_poll(listener) & POLLIN));
    /* Its backlog is five: one more may wait than that. */
    int sixth = test_unix_connect(SOCK_STREAM, "/tmp/server"),
        seventh = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un address;
    socklen_t len = test_name(&address, "/tmp/server");
    CHECK(connect(seventh, (struct sockaddr *)&address, len) < 0 && errno == EAGAIN);
    for (int i = 0; i < 5; i++) {
        int server = accept(listener, NULL, NULL);
        snprintf(text, sizeof text, "I am %d", i);
        CHECK(server >= 0 && test_reads(server, text));
        CHECK(i == 2 ? test_ends(server) : test_talks(server, clients[i]));
        CHECK(i != 3 || test_is_named(server, true, "@third"));
    }
    CHECK(test_is_own(sixth, accept(listener, NULL, NULL)));
    CHECK(accept(listener, NULL, NULL) < 0 && errno == EAGAIN);
    return 0;
}
