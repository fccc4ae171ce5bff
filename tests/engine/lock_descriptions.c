/* conformance: files | ranges of open file descriptions (`F_OFD_SETLK`), and those of the process beside them | kept | shared by duplicates, in the way of other descriptions
 *
 * Unlike the process's own they are asked for from the process itself. */
#include "help.h"

static int type_at(int fd, off_t start)
{
    struct flock range = {.l_type = F_WRLCK, .l_start = start, .l_len = 1};
    CHECK(fcntl(fd, F_OFD_GETLK, &range) == 0);
    return range.l_type;
}

static bool set(int fd, int command, short type, off_t start, off_t len)
{
    struct flock range = {.l_type = type, .l_start = start, .l_len = len};
    return fcntl(fd, command, &range) == 0;
}

int main(void)
{
    int one = open("/tmp/file", O_RDWR | O_CREAT, 0600), twin = dup(one), two = open("/tmp/file", O_RDWR),
        three = open("/tmp/file", O_RDWR);
    CHECK(set(one, F_OFD_SETLK, F_WRLCK, 0, 10) && set(twin, F_OFD_SETLK, F_RDLCK, 20, 10));
    CHECK(set(two, F_OFD_SETLK, F_RDLCK, 20, 5) && set(two, F_OFD_SETLK, F_WRLCK, 50, 0));
    CHECK(set(three, F_SETLK, F_WRLCK, 40, 1));

    test_freeze_point();
    CHECK(type_at(three, 0) == F_WRLCK && type_at(two, 9) == F_WRLCK && type_at(two, 10) == F_UNLCK);
    CHECK(type_at(one, 5) == F_UNLCK && type_at(twin, 22) == F_RDLCK && type_at(twin, 27) == F_UNLCK);
    CHECK(type_at(three, 27) == F_RDLCK && type_at(one, 1 << 30) == F_WRLCK &&
          type_at(two, 1 << 30) == F_UNLCK);
    CHECK(type_at(one, 40) == F_WRLCK && !set(three, F_OFD_SETLK, F_WRLCK, 0, 1) && errno == EAGAIN);
    CHECK(set(twin, F_OFD_SETLK, F_WRLCK, 5, 1) && close(one) == 0 && type_at(three, 0) == F_WRLCK);
    CHECK(close(twin) == 0 && type_at(three, 0) == F_UNLCK && type_at(three, 22) == F_RDLCK);
    return 0;
}
