/* conformance: timers and clocks | a periodic timerfd, ticking and unread | kept | missed ticks are counted; it goes on
 *
 * One has ticked before the freeze and nobody has read it, one is read regularly. */
#include "help.h"

#include <sys/timerfd.h>
#include <time.h>

int main(void)
{
    uint64_t ticks;
    struct itimerspec fast = {{0, 2000000}, {0, 1000}}, slow = {{1000, 0}, {1000, 0}}, now;
    int unread = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK),
        read_once = timerfd_create(CLOCK_MONOTONIC, 0),
        far = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    CHECK(timerfd_settime(unread, 0, &fast, NULL) == 0 && timerfd_settime(read_once, 0, &fast, NULL) == 0 &&
          timerfd_settime(far, 0, &slow, NULL) == 0);
    CHECK(read(read_once, &ticks, 8) == 8 && ticks >= 1);
    CHECK(poll(&(struct pollfd){unread, POLLIN, 0}, 1, -1) == 1);
    nanosleep(&(struct timespec){0, 7000000}, NULL);

    test_freeze_point();
    CHECK(read(unread, &ticks, 8) == 8 && ticks >= 3);
    /* It goes on. */
    for (int i = 0; i < 3; i++) {
        CHECK(poll(&(struct pollfd){unread, POLLIN, 0}, 1, -1) == 1);
        CHECK(read(unread, &ticks, 8) == 8 && ticks >= 1);
        CHECK(read(read_once, &ticks, 8) == 8 && ticks >= 1);
    }
    CHECK(timerfd_gettime(unread, &now) == 0 && now.it_interval.tv_sec == 0 &&
          now.it_interval.tv_nsec == 2000000);
    CHECK(read(far, &ticks, 8) < 0 && errno == EAGAIN);
    CHECK(timerfd_gettime(far, &now) == 0 && now.it_value.tv_sec >= 900 && now.it_interval.tv_sec == 1000);
    CHECK_EQUAL(fcntl(far, F_GETFD), FD_CLOEXEC);
    return 0;
}
