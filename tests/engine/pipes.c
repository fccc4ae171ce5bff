/* Pipes: a full one, one with text, a closed end, a size, ends that have changed places, FIFOs.
 *
 * conformance: pipes | pipes and FIFOs | kept | with contents, size and closed ends
 */
#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static char big[1 << 20];

static void fill(char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 7 + i / 251);
}

int main(void)
{
    int full[2], text[2], no_writer[2], no_reader[2], swapped[2], sized[2];
    char got[1 << 16], wanted[1 << 16];
    signal(SIGPIPE, SIG_IGN);
    fill(wanted, sizeof wanted);
    CHECK(pipe2(full, O_NONBLOCK) == 0 && pipe2(text, O_CLOEXEC) == 0 && pipe(no_writer) == 0 &&
          pipe(no_reader) == 0 && pipe(swapped) == 0 && pipe(sized) == 0);
    CHECK_EQUAL(write(full[1], wanted, sizeof wanted), sizeof wanted);
    CHECK(write(full[1], "x", 1) < 0 && errno == EAGAIN);
    CHECK_EQUAL(write(text[1], "hello", 5), 5);
    CHECK_EQUAL(write(no_writer[1], "last", 4), 4);
    close(no_writer[1]);
    close(no_reader[0]);
    int aside = dup(swapped[0]);
    CHECK_EQUAL(dup2(swapped[1], swapped[0]), swapped[0]);
    CHECK_EQUAL(dup2(aside, swapped[1]), swapped[1]);
    close(aside);
    CHECK_EQUAL(fcntl(sized[1], F_SETPIPE_SZ, 1 << 20), 1 << 20);
    CHECK(fcntl(sized[0], F_SETFL, O_NONBLOCK) == 0);
    fill(big, sizeof big);
    CHECK_EQUAL(write(sized[1], big, sizeof big), sizeof big);

    int packets[2];
    CHECK(pipe2(packets, O_DIRECT) == 0);
    int twice[2], alone[2];
    char path[32];
    CHECK(pipe(twice) == 0 && pipe(alone) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", twice[1]);
    int again = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", alone[0]);
    int both = open(path, O_RDWR);
    close(alone[0]);
    close(alone[1]);
    CHECK_EQUAL(write(both, "both", 4), 4);
    int log_again = open("/proc/self/fd/1", O_WRONLY | O_APPEND);
    CHECK(again >= 0 && log_again >= 0);

    CHECK(mkfifo("/tmp/fifo", 0600) == 0);
    int fifo = open("/tmp/fifo", O_RDWR | O_CLOEXEC), fifo_reader = open("/tmp/fifo", O_RDONLY | O_NONBLOCK);
    CHECK(fifo >= 0 && fifo_reader >= 0);
    CHECK_EQUAL(write(fifo, "fifo", 4), 4);

    test_freeze_point();
    CHECK(write(full[1], "x", 1) < 0 && errno == EAGAIN);
    CHECK_EQUAL(read(full[0], got, sizeof got), sizeof got);
    CHECK(memcmp(got, wanted, sizeof got) == 0);
    CHECK(read(full[0], got, 1) < 0 && errno == EAGAIN);
    CHECK_EQUAL(fcntl(text[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(fcntl(text[1], F_GETFL) & O_NONBLOCK, 0);
    CHECK_EQUAL(read(text[0], got, sizeof got), 5);
    CHECK(memcmp(got, "hello", 5) == 0);
    CHECK_EQUAL(read(no_writer[0], got, sizeof got), 4);
    CHECK_EQUAL(read(no_writer[0], got, sizeof got), 0);
    CHECK(write(no_reader[1], "x", 1) < 0 && errno == EPIPE);
    CHECK_EQUAL(write(swapped[0], "y", 1), 1);
    CHECK_EQUAL(read(swapped[1], got, 2), 1);
    CHECK_EQUAL(fcntl(sized[0], F_GETPIPE_SZ), 1 << 20);
    CHECK_EQUAL(fcntl(sized[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    CHECK_EQUAL(fcntl(sized[1], F_GETFL) & O_NONBLOCK, 0);
    for (size_t at = 0; at < sizeof big;) {
        ssize_t n = read(sized[0], got, sizeof got);
        CHECK(n > 0 && memcmp(got, big + at, (size_t)n) == 0);
        at += (size_t)n;
    }
    CHECK_EQUAL(read(both, got, sizeof got), 4);
    CHECK(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);
    CHECK(read(packets[0], got, sizeof got) == 3 && read(packets[0], got, sizeof got) == 5);
    CHECK_EQUAL(write(twice[1], "1", 1), 1);
    CHECK_EQUAL(write(again, "2", 1), 1);
    CHECK_EQUAL(read(twice[0], got, sizeof got), 2);
    CHECK((fcntl(again, F_GETFL) & O_NONBLOCK) && !(fcntl(twice[1], F_GETFL) & O_NONBLOCK));
    CHECK((fcntl(log_again, F_GETFL) & O_APPEND) && !(fcntl(1, F_GETFL) & O_APPEND));
    CHECK_EQUAL(write(log_again, "# logged\n", 9), 9);
    CHECK_EQUAL(read(fifo_reader, got, sizeof got), 4);
    CHECK(memcmp(got, "fifo", 4) == 0);
    CHECK(read(fifo_reader, got, 1) < 0 && errno == EAGAIN);
    CHECK_EQUAL(write(fifo, "again", 5), 5);
    CHECK_EQUAL(read(fifo_reader, got, sizeof got), 5);
    return 0;
}
