/* conformance: pipes | an empty pipe, each end with flags of its own | kept |
 *
 * Nothing waits; one end is non-blocking and close-on-exec, the other is not. */
#include "help.h"

int main(void)
{
    int ends[2], loose[2];
    char byte;
    CHECK(pipe(ends) == 0 && pipe2(loose, O_NONBLOCK | O_CLOEXEC) == 0);
    CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0);
    CHECK(fcntl(loose[1], F_SETFL, 0) == 0 && fcntl(loose[0], F_SETFD, 0) == 0);

    test_freeze_point();
    CHECK(read(ends[0], &byte, 1) < 0 && errno == EAGAIN);
    CHECK(read(loose[0], &byte, 1) < 0 && errno == EAGAIN);
    CHECK(test_has_flag(ends[0], O_NONBLOCK) && !test_has_flag(ends[1], O_NONBLOCK));
    CHECK(test_has_flag(loose[0], O_NONBLOCK) && !test_has_flag(loose[1], O_NONBLOCK));
    CHECK(fcntl(ends[0], F_GETFD) == 0 && fcntl(ends[1], F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(loose[0], F_GETFD) == 0 && fcntl(loose[1], F_GETFD) == FD_CLOEXEC);
    CHECK(test_poll(ends[0]) == 0 && test_poll(ends[1]) == POLLOUT);
    CHECK(test_is_own(ends[1], ends[0]));
    CHECK(close(ends[1]) == 0 && test_ends(ends[0]));
    return 0;
}
