/* conformance: sockets | ports that wait after a connection (TIME-WAIT) | noted | they are free again in a clone, whose network is new
 *
 * The process has no descriptor of it any more: what it may notice is that binding works again. */
#include "sockets.h"

int main(void)
{
    struct sockaddr_in at = test_address(5000);
    int listener = test_listen(5000, 3), client = test_connect(5000), server = accept(listener, NULL, NULL);
    /* Who closes first waits: the server's port. */
    CHECK(close(server) == 0 && test_ends(client) && close(client) == 0 && close(listener) == 0);
    int early = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(early, (struct sockaddr *)&at, sizeof at) < 0 && errno == EADDRINUSE);

    test_freeze_point();
    CHECK(bind(early, (struct sockaddr *)&at, sizeof at) == 0 && listen(early, 1) == 0);
    CHECK(test_accepts(early, 5000));
    return 0;
}
