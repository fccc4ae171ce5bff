/* conformance: timers and clocks | a periodic timerfd that has fired and was not read | kept | the next tick comes within one interval
 *
 * The kernel shows it as not armed; the ticks that are there are read once, and it goes on ticking. */
#include "help.h"

#include <sys/timerfd.h>

int main(void)
{
    uint64_t ticks = 0;
    struct itimerspec when = {{0, 20000000}, {0, 20000000}}, now;
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    CHECK(timerfd_settime(fd, 0, &when, NULL) == 0);
    CHECK(poll(&(struct pollfd){fd, POLLIN, 0}, 1, -1) == 1);

    test_freeze_point();
    CHECK(read(fd, &ticks, 8) == 8 && ticks >= 1);
    for (int i = 0; i < 3; i++)
        CHECK(read(fd, &ticks, 8) == 8 && ticks >= 1);
    CHECK(timerfd_gettime(fd, &now) == 0 && now.it_interval.tv_nsec == 20000000);
    return 0;
}
