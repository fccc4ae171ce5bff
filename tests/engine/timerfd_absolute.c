/* conformance: timers and clocks | a timerfd set to a moment, by `CLOCK_MONOTONIC`, `CLOCK_REALTIME`, `CLOCK_BOOTTIME` | kept | that very moment
 *
 * Far ones stay as far away as their moment is; near ones fire, and not too early. */
#include "help.h"

#include <sys/timerfd.h>
#include <time.h>

#define FAR_SECONDS 5000

static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
#define CLOCKS (sizeof clocks / sizeof *clocks)

static int64_t nanoseconds(struct timespec t)
{
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(void)
{
    int far[CLOCKS], near[CLOCKS];
    struct itimerspec when[CLOCKS], soon[CLOCKS];
    for (size_t i = 0; i < CLOCKS; i++) {
        when[i] = soon[i] = (struct itimerspec){{0, 0}, {0, 0}};
        CHECK(clock_gettime(clocks[i], &when[i].it_value) == 0);
        soon[i].it_value = when[i].it_value;
        when[i].it_value.tv_sec += FAR_SECONDS;
        when[i].it_interval.tv_sec = 60;
        soon[i].it_value.tv_sec += 1;
        soon[i].it_value.tv_nsec = 0;
        far[i] = timerfd_create(clocks[i], TFD_NONBLOCK);
        near[i] = timerfd_create(clocks[i], 0);
        CHECK(timerfd_settime(far[i], TFD_TIMER_ABSTIME, &when[i], NULL) == 0);
        CHECK(timerfd_settime(near[i], TFD_TIMER_ABSTIME, &soon[i], NULL) == 0);
    }

    test_freeze_point();
    for (size_t i = 0; i < CLOCKS; i++) {
        struct itimerspec left;
        struct timespec before, after;
        uint64_t ticks;
        CHECK(clock_gettime(clocks[i], &before) == 0 && timerfd_gettime(far[i], &left) == 0 &&
              clock_gettime(clocks[i], &after) == 0);
        int64_t fires = nanoseconds(left.it_value) + nanoseconds(before),
                wanted = nanoseconds(when[i].it_value);
        /* It fires at its moment, as far as that can be told: the clock went on while it was asked. What fdinfo
         * tells of a timer is a moment old when it is written down. */
        CHECK(fires <= wanted + 100000000 &&
              fires + nanoseconds(after) - nanoseconds(before) >= wanted - 100000000);
        CHECK_EQUAL(left.it_interval.tv_sec, 60);
        CHECK(read(near[i], &ticks, 8) == 8 && ticks == 1);
        CHECK(clock_gettime(clocks[i], &after) == 0);
        CHECK(nanoseconds(after) >= nanoseconds(soon[i].it_value));
    }
    return 0;
}
