/* Timers that run across the freeze: setitimer, timer_create (signal and thread directed), timerfd of several
 * clocks, periodic and unread.
 *
 * conformance: timers and clocks | interval timers, POSIX timers | kept | with what was left of them
 * conformance: descriptors | timerfd | kept |
 */
#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

static volatile sig_atomic_t alarms, ticks, last_value;

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void on_timer(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    ticks++;
    last_value = info->si_value.sival_int;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    signal(SIGALRM, on_alarm);
    CHECK(sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    struct itimerval every = {{1000, 0}, {1, 0}};
    CHECK(setitimer(ITIMER_REAL, &every, NULL) == 0);

    timer_t skipped, timer;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &skipped) == 0);
    event = (struct sigevent){
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 42};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_delete(skipped) == 0);
    struct itimerspec tick = {{0, 50000000}, {1, 0}};
    CHECK(timer_settime(timer, 0, &tick, NULL) == 0);

    int monotonic = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
        wall = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK),
        unread = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK),
        idle = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK),
        past = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec one = {{0, 0}, {0, 500000000}}, at = {{3600, 0}, {0, 0}}, quick = {{0, 0}, {0, 1000}};
    CHECK(timerfd_settime(monotonic, 0, &one, NULL) == 0);
    clock_gettime(CLOCK_REALTIME, &at.it_value);
    at.it_value.tv_sec += 5000;
    CHECK(timerfd_settime(wall, TFD_TIMER_ABSTIME, &at, NULL) == 0);
    CHECK(timerfd_settime(unread, 0, &quick, NULL) == 0);
    CHECK(poll(&(struct pollfd){unread, POLLIN, 0}, 1, -1) == 1);
    struct itimerspec soon = {{0, 0}, {0, 0}};
    clock_gettime(CLOCK_MONOTONIC, &soon.it_value);
    soon.it_value.tv_nsec = 0;
    soon.it_value.tv_sec += 1;
    CHECK(timerfd_settime(past, TFD_TIMER_ABSTIME, &soon, NULL) == 0);

    test_freeze_point();
    uint64_t count = 0;
    struct itimerspec left;
    CHECK_EQUAL(read(unread, &count, 8), 8);
    CHECK_EQUAL(count, 1);
    CHECK(read(unread, &count, 8) < 0 && errno == EAGAIN);
    CHECK(read(idle, &count, 8) < 0 && errno == EAGAIN);
    CHECK(read(wall, &count, 8) < 0 && errno == EAGAIN);
    CHECK(timerfd_gettime(wall, &left) == 0 && left.it_value.tv_sec > 4000 && left.it_value.tv_sec <= 5000);
    CHECK_EQUAL(left.it_interval.tv_sec, 3600);
    while (read(monotonic, &count, 8) < 0)
        CHECK(errno == EINTR);
    CHECK_EQUAL(count, 1);
    struct pollfd wait = {past, POLLIN, 0};
    while (poll(&wait, 1, -1) < 0)
        CHECK(errno == EINTR);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(now.tv_sec >= soon.it_value.tv_sec);

    int before = ticks;
    while (ticks < before + 3 || alarms == 0)
        usleep(1000);
    CHECK_EQUAL(last_value, 42);
    struct itimerval rest;
    CHECK(getitimer(ITIMER_REAL, &rest) == 0);
    CHECK_EQUAL(rest.it_interval.tv_sec, 1000);
    CHECK(timer_delete(timer) == 0);
    return 0;
}
