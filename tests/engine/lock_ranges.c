/* conformance: files | `fcntl` ranges: read, write, split, to the end of the file | kept | they are the process's, and go when any descriptor of the file is closed
 *
 * A child asks whether the ranges are held: to the process itself its own are never in the way. */
#include "help.h"

#include <sys/wait.h>

/* Who holds a range that is in the way of writing these bytes: 'R', 'W' or '-'. */
static int holder(const char *path, off_t start, off_t len)
{
    int status;
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        struct flock range = {.l_type = F_WRLCK, .l_start = start, .l_len = len};
        if (fcntl(open(path, O_RDWR), F_GETLK, &range) < 0 ||
            (range.l_type != F_UNLCK && range.l_pid != parent))
            _exit('?');
        _exit(range.l_type == F_UNLCK ? '-' : range.l_type == F_RDLCK ? 'R' : 'W');
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(void)
{
    int file = open("/tmp/file", O_RDWR | O_CREAT, 0600), reader, twin = dup(file);
    CHECK(test_put("/tmp/reader", "", 0600) && (reader = open("/tmp/reader", O_RDONLY)) >= 0);
    struct flock range = {.l_type = F_WRLCK, .l_start = 0, .l_len = 100};
    CHECK(fcntl(file, F_SETLK, &range) == 0);
    range = (struct flock){.l_type = F_UNLCK, .l_start = 40, .l_len = 20};
    CHECK(fcntl(twin, F_SETLK, &range) == 0);
    range = (struct flock){.l_type = F_RDLCK, .l_start = 60, .l_len = 10};
    CHECK(fcntl(twin, F_SETLK, &range) == 0);
    range = (struct flock){.l_type = F_RDLCK, .l_start = 1ll << 40};
    CHECK(fcntl(reader, F_SETLK, &range) == 0);

    test_freeze_point();
    CHECK(holder("/tmp/file", 0, 40) == 'W' && holder("/tmp/file", 39, 1) == 'W' &&
          holder("/tmp/file", 40, 20) == '-');
    CHECK(holder("/tmp/file", 60, 10) == 'R' && holder("/tmp/file", 70, 1) == 'W' &&
          holder("/tmp/file", 100, 0) == '-');
    CHECK(holder("/tmp/reader", 0, 1ll << 40) == '-' && holder("/tmp/reader", 1ll << 50, 1) == 'R');
    CHECK(close(twin) == 0 && holder("/tmp/file", 0, 0) == '-');
    return 0;
}
