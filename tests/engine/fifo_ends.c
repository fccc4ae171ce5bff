/* conformance: pipes | FIFOs: a reader that waits for its first writer, a reader whose writer has gone, both ends in one | kept |
 *
 * poll tells them apart: only the one that had a writer has been hung up on. */
#include "help.h"

int main(void)
{
    CHECK(mkfifo("/tmp/waiting", 0600) == 0 && mkfifo("/tmp/left", 0600) == 0 &&
          mkfifo("/tmp/both", 0640) == 0);
    int waiting = open("/tmp/waiting", O_RDONLY | O_NONBLOCK);
    int left = open("/tmp/left", O_RDONLY | O_NONBLOCK), writer = open("/tmp/left", O_WRONLY);
    CHECK(test_writes(writer, "gone") && close(writer) == 0);
    int both = open("/tmp/both", O_RDWR | O_CLOEXEC), twin = dup(both);
    CHECK(waiting >= 0 && left >= 0 && both >= 0 && twin >= 0);
    CHECK_EQUAL(test_poll(waiting), 0);
    CHECK_EQUAL(test_poll(left), POLLIN | POLLHUP);

    test_freeze_point();
    CHECK_EQUAL(test_poll(waiting), 0);
    CHECK_EQUAL(test_poll(left), POLLIN | POLLHUP);
    CHECK(test_reads(left, "gone") && test_ends(left));
    CHECK_EQUAL(test_poll(both), POLLOUT);
    CHECK(fcntl(both, F_GETFD) == FD_CLOEXEC && fcntl(twin, F_GETFD) == 0);
    CHECK(test_has_flag(waiting, O_NONBLOCK) && !test_has_flag(both, O_NONBLOCK));
    writer = open("/tmp/waiting", O_WRONLY | O_NONBLOCK);
    CHECK(writer >= 0 && test_is_own(writer, waiting));
    CHECK(close(writer) == 0 && test_poll(waiting) == POLLHUP);
    CHECK((writer = open("/tmp/left", O_WRONLY | O_NONBLOCK)) >= 0 && test_writes(writer, "new"));
    CHECK(test_reads(left, "new") && test_is_own(both, twin));
    struct stat st;
    CHECK(stat("/tmp/both", &st) == 0 && S_ISFIFO(st.st_mode) && (st.st_mode & 07777) == 0640);
    return 0;
}
