/* conformance: pipes | a pipe with several readers and writers | kept | duplicated, and opened again through /proc
 *
 * Whoever reads first takes it; the pipe ends when the last writer has closed. */
#include "help.h"

static int open_again(int fd, int flags)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags);
}

int main(void)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    int reader = open_again(ends[0], O_RDONLY | O_NONBLOCK), twin = dup(ends[0]),
        writer = open_again(ends[1], O_WRONLY | O_CLOEXEC), writer_twin = dup2(ends[1], 77);
    CHECK(reader >= 0 && twin >= 0 && writer >= 0 && writer_twin == 77);
    CHECK(test_writes(ends[1], "one") && test_writes(writer, "two"));
    /* The first descriptors go: what is left was made from them. */
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);

    test_freeze_point();
    char got[3];
    CHECK(read(reader, got, 3) == 3 && memcmp(got, "one", 3) == 0);
    CHECK(test_reads(twin, "two"));
    CHECK(test_has_flag(reader, O_NONBLOCK) && !test_has_flag(twin, O_NONBLOCK));
    CHECK(fcntl(writer, F_GETFD) == FD_CLOEXEC && fcntl(77, F_GETFD) == 0);
    CHECK(test_is_own(writer, twin) && test_is_own(77, reader));
    CHECK(close(writer) == 0 && test_poll(reader) == 0);
    CHECK(close(77) == 0 && test_ends(reader) && test_ends(twin));
    CHECK(test_is_closed(ends[0]) && test_is_closed(ends[1]));
    return 0;
}
