/* The three interval timers: what was left of them runs on, and they tick; alarm() that is far away.
 *
 * conformance: timers and clocks | `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`, `alarm` | kept | with what was left of them
 */
#include "look.h"

#include <signal.h>
#include <sys/time.h>

static volatile int virtual_ticks, profile_ticks;

static void on_tick(int number)
{
    *(number == SIGVTALRM ? &virtual_ticks : &profile_ticks) += 1;
}

static void check(int which, long least, long most, long interval)
{
    struct itimerval timer;
    CHECK(getitimer(which, &timer) == 0);
    CHECK(timer.it_value.tv_sec >= least && timer.it_value.tv_sec <= most);
    CHECK_EQUAL(timer.it_interval.tv_sec * 1000000 + timer.it_interval.tv_usec, interval);
}

int main(void)
{
    signal(SIGVTALRM, on_tick);
    signal(SIGPROF, on_tick);
    struct itimerval virtual = {{0, 4000}, {700, 0}}, profile = {{0, 8000}, {800, 0}};
    CHECK(alarm(600) == 0);
    CHECK(setitimer(ITIMER_VIRTUAL, &virtual, NULL) == 0 && setitimer(ITIMER_PROF, &profile, NULL) == 0);

    test_freeze_point();
    check(ITIMER_REAL, 300, 600, 0);
    check(ITIMER_VIRTUAL, 690, 700, 4000);
    check(ITIMER_PROF, 790, 800, 8000);
    unsigned left = alarm(0);
    CHECK(left >= 300 && left <= 600);
    virtual.it_value = virtual.it_interval;
    profile.it_value = profile.it_interval;
    CHECK(setitimer(ITIMER_VIRTUAL, &virtual, NULL) == 0 && setitimer(ITIMER_PROF, &profile, NULL) == 0);
    while (virtual_ticks < 3 || profile_ticks < 3)
        ;
    return 0;
}
