/* Locks on files of /tmp: of the whole file, of ranges, of descriptions.
 *
 * conformance: files | `flock`, `fcntl` ranges and description locks, on files of /tmp | kept |
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

/* Whether another process could lock these bytes. */
static bool is_free(const char *path, short type, off_t start, off_t len)
{
    pid_t child = fork();
    if (child == 0) {
        struct flock range = {.l_type = type, .l_start = start, .l_len = len};
        _exit(fcntl(open(path, O_RDWR), F_SETLK, &range) == 0 ? 7 : 8);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status) == 7;
}

int main(void)
{
    int whole = open("/tmp/whole", O_RDWR | O_CREAT, 0600),
        shared = open("/tmp/shared", O_RDWR | O_CREAT, 0600),
        ranges = open("/tmp/ranges", O_RDWR | O_CREAT, 0600),
        owned = open("/tmp/owned", O_RDWR | O_CREAT, 0600), again = open("/tmp/ranges", O_RDONLY);
    CHECK(flock(whole, LOCK_EX) == 0 && flock(shared, LOCK_SH) == 0 && again >= 0);
    struct flock first = {.l_type = F_WRLCK, .l_start = 10, .l_len = 5},
                 rest = {.l_type = F_RDLCK, .l_start = 100};
    CHECK(fcntl(ranges, F_SETLK, &first) == 0 && fcntl(ranges, F_SETLK, &rest) == 0);
    CHECK(fcntl(owned, F_OFD_SETLK, &first) == 0);

    test_freeze_point();
    int other = open("/tmp/whole", O_RDWR);
    CHECK(flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    other = open("/tmp/shared", O_RDWR);
    CHECK(flock(other, LOCK_EX | LOCK_NB) < 0 && flock(other, LOCK_SH | LOCK_NB) == 0);
    CHECK(is_free("/tmp/ranges", F_WRLCK, 0, 10) && is_free("/tmp/ranges", F_WRLCK, 15, 85));
    CHECK(!is_free("/tmp/ranges", F_RDLCK, 12, 1) && is_free("/tmp/ranges", F_RDLCK, 100, 0));
    CHECK(!is_free("/tmp/ranges", F_WRLCK, 1000, 1));
    CHECK(!is_free("/tmp/owned", F_WRLCK, 14, 1) && is_free("/tmp/owned", F_WRLCK, 15, 1));
    CHECK(close(owned) == 0 && is_free("/tmp/owned", F_WRLCK, 14, 1));
    return 0;
}
