/* conformance: pipes | FIFOs with bytes waiting, resized, with several openers | kept |
 *
 * Each opener has flags of its own; a FIFO of another name stays another. */
#include "help.h"

int main(void)
{
    CHECK(mkdir("/tmp/run", 0700) == 0 && mkfifo("/tmp/run/one", 0600) == 0 &&
          mkfifo("/tmp/run/two", 0600) == 0);
    int reader = open("/tmp/run/one", O_RDONLY | O_NONBLOCK), writer = open("/tmp/run/one", O_WRONLY),
        second = open("/tmp/run/one", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    int other = open("/tmp/run/two", O_RDWR);
    CHECK(fcntl(reader, F_SETFL, 0) == 0);
    CHECK_EQUAL(fcntl(writer, F_SETPIPE_SZ, 4096), 4096);
    CHECK(test_writes(writer, "from one, ") && test_writes(second, "from the other"));
    CHECK(test_writes(other, "elsewhere"));
    /* Its name changes while it is open. */
    CHECK(rename("/tmp/run/one", "/tmp/run/renamed") == 0);

    test_freeze_point();
    static char block[8192];
    CHECK(!test_has_flag(reader, O_NONBLOCK) && !test_has_flag(writer, O_NONBLOCK));
    CHECK(test_has_flag(second, O_NONBLOCK) && fcntl(second, F_GETFD) == FD_CLOEXEC);
    CHECK(test_reads(reader, "from one, from the other") && test_reads(other, "elsewhere"));
    CHECK_EQUAL(fcntl(reader, F_GETPIPE_SZ), 4096);
    CHECK_EQUAL(write(second, block, sizeof block), 4096);
    CHECK(read(reader, block, sizeof block) == 4096 && test_is_idle(other));
    CHECK(test_is_own(writer, reader));
    CHECK(close(writer) == 0 && close(second) == 0 && test_ends(reader));
    CHECK(access("/tmp/run/renamed", F_OK) == 0 && access("/tmp/run/one", F_OK) < 0);
    return 0;
}
