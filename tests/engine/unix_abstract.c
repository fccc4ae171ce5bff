/* conformance: sockets | abstract unix addresses | kept | each clone has names of its own; bytes of zero in them
 *
 * A listener, one bound by the kernel's choice (autobind), and one whose name holds zeros. */
#include "sockets.h"

int main(void)
{
    struct sockaddr_un automatic, odd = {AF_UNIX, "\0a\0b\0"}, now;
    socklen_t len = sizeof automatic, odd_len = offsetof(struct sockaddr_un, sun_path) + 5;
    int listener = test_unix(SOCK_STREAM, "@server", 5), client = test_unix_connect(SOCK_STREAM, "@server"),
        server = accept(listener, NULL, NULL), own = socket(AF_UNIX, SOCK_DGRAM, 0),
        zeros = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(own, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)) == 0);
    CHECK(getsockname(own, (struct sockaddr *)&automatic, &len) == 0 && len == 8);
    CHECK(bind(zeros, (struct sockaddr *)&odd, odd_len) == 0 && listen(zeros, 1) == 0);
    CHECK(test_writes(client, "hello"));

    test_freeze_point();
    CHECK(test_reads(server, "hello") && test_talks(client, server) &&
          test_is_named(client, true, "@server") && test_is_named(server, false, "@server"));
    len = sizeof now;
    CHECK(
        getsockname(own, (struct sockaddr *)&now, &len) == 0 && len == 8 && memcmp(&now, &automatic, 8) == 0);
    int to_zeros = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(to_zeros, (struct sockaddr *)&odd, odd_len) == 0);
    CHECK(test_talks(to_zeros, accept(zeros, NULL, NULL)));
    int again = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(again, (struct sockaddr *)&odd, odd_len) < 0 && errno == EADDRINUSE);
    int more = test_unix_connect(SOCK_STREAM, "@server"), accepted = accept(listener, NULL, NULL);
    CHECK(test_is_own(more, accepted));
    CHECK(close(listener) == 0 && connect(again, (struct sockaddr *)&now, len) < 0);
    return 0;
}
