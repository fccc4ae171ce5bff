/* POSIX timers of every clock, each with every way to tell: a signal, a thread, nothing; with gaps in their numbers,
 * running, idle, by absolute time, of processor time; one that has expired with its signal blocked, and overruns.
 *
 * conformance: timers and clocks | POSIX timers of each clock and notification (`SIGEV_THREAD_ID` too), their numbers, overruns | kept | with what was left of them
 * conformance: timers and clocks | POSIX timers set to an absolute time (`TIMER_ABSTIME`) | noted | they run for as long as was left of them at the freeze: the kernel does not tell which are
 */
#include "look.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#define BASE (SIGRTMIN + 5)

static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI,
    CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
#define CLOCKS (int)(sizeof clocks / sizeof *clocks)
enum { SIGNAL, THREAD, NONE, KINDS };

static pid_t helper_tid;
static volatile int ticks[KINDS], wrong_thread, overruns, stop;

static void on_timer(int number, siginfo_t *info, void *context)
{
    (void)context;
    int kind = info->si_value.sival_int % 10;
    CHECK_EQUAL(number, BASE + kind);
    CHECK_EQUAL(info->si_code, SI_TIMER);
    wrong_thread |= kind == THREAD && test_gettid() != helper_tid;
    overruns += info->si_overrun;
    __atomic_add_fetch(&ticks[kind], 1, __ATOMIC_RELEASE);
}

static void *help(void *unused)
{
    (void)unused;
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, BASE + SIGNAL);
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    __atomic_store_n(&helper_tid, test_gettid(), __ATOMIC_RELEASE);
    while (!stop)
        usleep(1000);
    return NULL;
}

static int create(clockid_t clock, int kind, int value)
{
    int id = -1;
    struct sigevent event = {.sigev_signo = BASE + kind, .sigev_value.sival_int = value};
    event.sigev_notify = kind == NONE ? SIGEV_NONE : kind == THREAD ? SIGEV_THREAD_ID : SIGEV_SIGNAL;
    if (kind == THREAD)
        event._sigev_un._tid = helper_tid;
    CHECK(syscall(SYS_timer_create, clock, &event, &id) == 0);
    return id;
}

static void set(int id, int flags, time_t seconds, long nanoseconds, time_t interval)
{
    struct itimerspec spec = {{interval, 0}, {seconds, nanoseconds}};
    CHECK(syscall(SYS_timer_settime, id, flags, &spec, NULL) == 0);
}

static struct itimerspec get(int id)
{
    struct itimerspec spec;
    CHECK(syscall(SYS_timer_gettime, id, &spec) == 0);
    return spec;
}

int main(void)
{
    int ids[KINDS][CLOCKS], idle[CLOCKS];
    pthread_t helper;
    struct sigaction action = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
    for (int kind = 0; kind < KINDS; kind++)
        CHECK(sigaction(BASE + kind, &action, NULL) == 0);
    CHECK(pthread_create(&helper, NULL, help, NULL) == 0);
    while (__atomic_load_n(&helper_tid, __ATOMIC_ACQUIRE) == 0)
        usleep(100);
    for (int c = 0; c < CLOCKS; c++) {
        for (int kind = 0; kind < KINDS; kind++) {
            ids[kind][c] = create(clocks[c], kind, c * 10 + kind);
            set(ids[kind][c], 0, 1000 + c, 0, 50 + c);
        }
        int gap = create(clocks[c], NONE, 0);
        idle[c] = create(clocks[c], SIGNAL, 0);
        CHECK(syscall(SYS_timer_delete, gap) == 0);
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int absolute = create(CLOCK_REALTIME, NONE, 0);
    set(absolute, TIMER_ABSTIME, now.tv_sec + 5000, 0, 0);

    test_freeze_point();
    for (int c = 0; c < CLOCKS; c++) {
        for (int kind = 0; kind < KINDS; kind++) {
            struct itimerspec left = get(ids[kind][c]);
            CHECK(left.it_value.tv_sec > 700 && left.it_value.tv_sec <= 1000 + c);
            CHECK_EQUAL(left.it_interval.tv_sec, 50 + c);
            CHECK_EQUAL(syscall(SYS_timer_getoverrun, ids[kind][c]), 0);
        }
        struct itimerspec left = get(idle[c]);
        CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    }
    struct itimerspec left = get(absolute);
    CHECK(left.it_value.tv_sec > 4700 && left.it_value.tv_sec <= 5000);
    int fresh = create(CLOCK_MONOTONIC, NONE, 0);
    CHECK(fresh > absolute);
    for (int kind = SIGNAL; kind <= THREAD; kind++)
        set(ids[kind][1], 0, 0, 1000000, 0);
    while (!ticks[SIGNAL] || !ticks[THREAD])
        usleep(500);
    set(ids[SIGNAL][4], 0, 0, 1000, 0); /* processor time passes while this waits */
    while (ticks[SIGNAL] < 2)
        ;
    sigset_t mask, pending;
    sigemptyset(&mask);
    sigaddset(&mask, BASE + SIGNAL);
    CHECK(pthread_sigmask(SIG_BLOCK, &mask, NULL) == 0);
    struct itimerspec quick = {{0, 100000}, {0, 100000}};
    CHECK(syscall(SYS_timer_settime, ids[SIGNAL][2], 0, &quick, NULL) == 0);
    usleep(3000);
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, BASE + SIGNAL));
    CHECK(pthread_sigmask(SIG_UNBLOCK, &mask, NULL) == 0);
    CHECK(overruns > 0);
    CHECK(syscall(SYS_timer_delete, ids[SIGNAL][2]) == 0 && !wrong_thread && ticks[NONE] == 0);
    stop = 1;
    CHECK(pthread_join(helper, NULL) == 0);
    return 0;
}
