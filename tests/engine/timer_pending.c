/* A timer that expired before the freeze with its signal blocked: the signal is pending in each clone, with its value; the
 * timer of a notification thread (SIGEV_THREAD) goes on.
 *
 * conformance: timers and clocks | the pending signal of a timer; glibc's `SIGEV_THREAD` | kept |
 */
#include "look.h"

#include <signal.h>
#include <time.h>

static volatile int told;

static void on_thread(union sigval value)
{
    __atomic_add_fetch(&told, value.sival_int, __ATOMIC_RELEASE);
}

int main(void)
{
    timer_t once, threaded;
    sigset_t mask, pending;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN + 4);
    CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
    struct sigevent event = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4, .sigev_value.sival_int = 77};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &once) == 0);
    struct itimerspec soon = {{0, 0}, {0, 1000}}, tick = {{0, 2000000}, {0, 2000000}};
    CHECK(timer_settime(once, 0, &soon, NULL) == 0);
    event = (struct sigevent){
        .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 5};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &threaded) == 0 &&
          timer_settime(threaded, 0, &tick, NULL) == 0);
    while (sigpending(&pending) == 0 && !sigismember(&pending, SIGRTMIN + 4))
        usleep(500);
    while (told < 10)
        usleep(500);

    test_freeze_point();
    siginfo_t info;
    struct timespec now = {0, 0};
    CHECK_EQUAL(sigtimedwait(&mask, &info, &now), SIGRTMIN + 4);
    CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 77);
    CHECK(sigtimedwait(&mask, &info, &now) < 0 && errno == EAGAIN);
    int before = told;
    while (told < before + 15)
        usleep(500);
    CHECK(timer_delete(threaded) == 0);
    CHECK(timer_settime(once, 0, &soon, NULL) == 0);
    CHECK(sigwaitinfo(&mask, &info) == SIGRTMIN + 4 && info.si_value.sival_int == 77);
    return 0;
}
