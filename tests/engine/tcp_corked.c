/* conformance: sockets | a corked TCP connection (`TCP_CORK`) | kept | what was written arrives, at the latest when it is uncorked
 *
 * Corked with bytes held back, corked and empty. */
#include "sockets.h"

int main(void)
{
    int listener = test_listen(5000, 5), held = test_connect(5000),
        held_server = accept(listener, NULL, NULL), empty = test_connect(5000),
        empty_server = accept(listener, NULL, NULL);
    CHECK(
        test_set_option(held, IPPROTO_TCP, TCP_CORK, 1) && test_set_option(empty, IPPROTO_TCP, TCP_CORK, 1));
    CHECK(test_writes(held, "held ") && test_writes(held, "back") && test_writes(held_server, "meanwhile"));

    test_freeze_point();
    CHECK(test_option(held, IPPROTO_TCP, TCP_CORK) == 1 &&
          test_option(held_server, IPPROTO_TCP, TCP_CORK) == 0);
    CHECK_EQUAL(test_option(empty, IPPROTO_TCP, TCP_CORK), 1);
    CHECK(test_receives(held, "meanwhile") && test_writes(held, ", and more"));
    CHECK(
        test_set_option(held, IPPROTO_TCP, TCP_CORK, 0) && test_receives(held_server, "held back, and more"));
    CHECK(test_writes(empty, "x") && test_set_option(empty, IPPROTO_TCP, TCP_CORK, 0) &&
          test_receives(empty_server, "x"));
    return 0;
}
