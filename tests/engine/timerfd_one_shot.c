/* conformance: timers and clocks | a one-shot timerfd: running, expired and unread, expired and read, stopped | kept |
 *
 * What has expired has expired once; what is stopped stays so. */
#include "help.h"

#include <sys/timerfd.h>

static int start(long seconds, long nanoseconds)
{
    struct itimerspec when = {{0, 0}, {seconds, nanoseconds}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    CHECK(timerfd_settime(fd, 0, &when, NULL) == 0);
    return fd;
}

int main(void)
{
    uint64_t ticks;
    struct itimerspec now, nothing = {{0, 0}, {0, 0}};
    int soon = start(0, 300000000), far = start(100000, 0), expired = start(0, 1000), done = start(0, 1000),
        stopped = start(50, 0), twin = dup(expired);
    CHECK(poll(&(struct pollfd){expired, POLLIN, 0}, 1, -1) == 1);
    CHECK(poll(&(struct pollfd){done, POLLIN, 0}, 1, -1) == 1 && read(done, &ticks, 8) == 8);
    CHECK(timerfd_settime(stopped, 0, &nothing, NULL) == 0);

    test_freeze_point();
    CHECK(timerfd_gettime(expired, &now) == 0 && now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0);
    CHECK(read(twin, &ticks, 8) == 8 && ticks == 1);
    CHECK(read(expired, &ticks, 8) < 0 && errno == EAGAIN);
    CHECK(read(done, &ticks, 8) < 0 && errno == EAGAIN && read(stopped, &ticks, 8) < 0 && errno == EAGAIN);
    CHECK(timerfd_gettime(stopped, &now) == 0 && now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0);
    CHECK(timerfd_gettime(far, &now) == 0 && now.it_value.tv_sec > 90000 && now.it_value.tv_sec < 100000);
    CHECK(poll(&(struct pollfd){soon, POLLIN, 0}, 1, -1) == 1);
    CHECK(read(soon, &ticks, 8) == 8 && ticks == 1);
    CHECK(read(far, &ticks, 8) < 0 && errno == EAGAIN);
    return 0;
}
