/* Every limit that a process can have, lowered; soft and hard apart. They hold in the clone: no more descriptors, no larger
 * files, no more address space.
 *
 * conformance: process | all sixteen limits (`setrlimit`), soft and hard | kept |
 */
#include "look.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static const struct {
    int which;
    rlim_t soft, hard;
} limits[] = {{RLIMIT_CPU, 1000, 2000}, {RLIMIT_FSIZE, 100000, 200000}, {RLIMIT_DATA, 500 << 20, 600 << 20},
    {RLIMIT_STACK, 3 << 20, 7 << 20}, {RLIMIT_CORE, 0, 12345}, {RLIMIT_RSS, 1 << 30, 2 << 30},
    {RLIMIT_NPROC, 50, 60}, {RLIMIT_NOFILE, 50, 70}, {RLIMIT_MEMLOCK, 30000, 60000},
    {RLIMIT_AS, 700 << 20, 800 << 20}, {RLIMIT_LOCKS, 11, 22}, {RLIMIT_SIGPENDING, 33, 44},
    {RLIMIT_MSGQUEUE, 5000, 6000}, {RLIMIT_NICE, 0, 0}, {RLIMIT_RTPRIO, 0, 0},
    {RLIMIT_RTTIME, 100000, 200000}};
#define COUNT (sizeof limits / sizeof *limits)

int main(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        struct rlimit limit = {limits[i].soft, limits[i].hard};
        CHECK(setrlimit((__rlimit_resource_t)limits[i].which, &limit) == 0);
    }

    test_freeze_point();
    for (size_t i = 0; i < COUNT; i++) {
        struct rlimit limit;
        CHECK(getrlimit((__rlimit_resource_t)limits[i].which, &limit) == 0);
        CHECK_EQUAL(limit.rlim_cur, limits[i].soft);
        CHECK_EQUAL(limit.rlim_max, limits[i].hard);
        limit.rlim_max++;
        CHECK(setrlimit((__rlimit_resource_t)limits[i].which, &limit) < 0 && errno == EPERM);
    }
    CHECK(mmap(NULL, 800 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
          errno == ENOMEM);
    char *small = test_map(1 << 20, PROT_READ | PROT_WRITE);
    CHECK(mlock(small, 40000) < 0 && errno == ENOMEM);
    int highest = -1, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0)
        highest = fd;
    CHECK(errno == EMFILE && highest == 49);
    close(highest);
    signal(SIGXFSZ, SIG_IGN);
    fd = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && pwrite(fd, "x", 1, 99999) == 1 && pwrite(fd, "x", 1, 100000) < 0 && errno == EFBIG);
    return 0;
}
