/* conformance: files | flags of files: `O_DIRECT`, `O_SYNC`, `O_DSYNC`, `O_NOATIME`, `O_NONBLOCK`, `O_NOFOLLOW` | kept |
 *
 * All flags that F_GETFL shows are the same as before. */
#include "help.h"

static const int wanted[] = {O_RDWR | O_DIRECT, O_WRONLY | O_SYNC, O_RDWR | O_DSYNC, O_RDONLY | O_NOATIME,
    O_RDONLY | O_NONBLOCK, O_RDONLY | O_NOFOLLOW, O_WRONLY | O_APPEND | O_SYNC | O_NONBLOCK,
    O_RDONLY | O_LARGEFILE};
#define COUNT (sizeof wanted / sizeof *wanted)

int main(void)
{
    int fds[COUNT], code[2], before[COUNT + 2];
    CHECK(test_put("/tmp/file", "contents", 0600));
    for (size_t i = 0; i < COUNT; i++) {
        CHECK((fds[i] = open("/tmp/file", wanted[i])) >= 0);
        before[i] = fcntl(fds[i], F_GETFL);
        CHECK((before[i] & wanted[i]) == wanted[i]);
    }
    code[0] = open("/var/task/engine_file_flags", O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
    code[1] = open("/var/task", O_RDONLY | O_DIRECTORY);
    for (size_t i = 0; i < 2; i++)
        before[COUNT + i] = fcntl(code[i], F_GETFL);

    test_freeze_point();
    for (size_t i = 0; i < COUNT; i++)
        CHECK_EQUAL(fcntl(fds[i], F_GETFL), before[i]);
    for (size_t i = 0; i < 2; i++)
        CHECK_EQUAL(fcntl(code[i], F_GETFL), before[COUNT + i]);
    CHECK(write(fds[3], "x", 1) < 0 && errno == EBADF && read(fds[1], &before[0], 1) < 0 && errno == EBADF);
    static char block[4096] __attribute__((aligned(4096)));
    CHECK(pread(fds[0], block, sizeof block, 0) == 8 && memcmp(block, "contents", 8) == 0);
    return 0;
}
