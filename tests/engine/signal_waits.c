/* Threads that wait with another mask than their own: sigsuspend, pause, ppoll, pselect, epoll_pwait, sigwaitinfo,
 * sigtimedwait. The signal that each waits for comes after the thaw; its own mask is back then.
 *
 * conformance: signals | `sigsuspend`, `pause`, `ppoll`, `pselect`, `epoll_pwait` with masks of their own | kept |
 * conformance: signals | `sigwaitinfo`, `sigtimedwait` | noted | give `EINTR` once, as after `SIGSTOP` and `SIGCONT`
 */
#include "look.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>

enum { SUSPEND, PAUSE, PPOLL, PSELECT, EPOLL, WAITINFO, TIMEDWAIT, COUNT };

static const long calls[COUNT] = {SYS_rt_sigsuspend, SYS_pause, SYS_ppoll, SYS_pselect6, SYS_epoll_pwait,
    SYS_rt_sigtimedwait, SYS_rt_sigtimedwait};
static pid_t tids[COUNT];
static __thread volatile sig_atomic_t seen;

static void on_signal(int number)
{
    (void)number;
    seen++;
}

static int wait_once(int which, const sigset_t *open, const sigset_t *taken)
{
    struct timespec hour = {3600, 0};
    fd_set none;
    FD_ZERO(&none);
    struct epoll_event event;
    switch (which) {
    case SUSPEND:
        return sigsuspend(open);
    case PAUSE:
        return pause();
    case PPOLL:
        return ppoll(NULL, 0, &hour, open);
    case PSELECT:
        return pselect(0, &none, NULL, NULL, NULL, open);
    case EPOLL:
        return epoll_pwait(epoll_create1(EPOLL_CLOEXEC), &event, 1, -1, open);
    case WAITINFO:
        return sigwaitinfo(taken, NULL);
    default:
        return sigtimedwait(taken, NULL, &hour);
    }
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument, result;
    sigset_t mask, open, taken, now;
    sigfillset(&mask);
    sigdelset(&mask, SIGTERM);
    open = mask;
    sigdelset(&open, SIGUSR1);
    sigemptyset(&taken);
    sigaddset(&taken, SIGUSR1);
    if (which == PAUSE)
        sigdelset(&mask, SIGUSR1);
    CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    do { /* a stop may show itself as EINTR, without a signal */
        result = wait_once(which, &open, &taken);
        CHECK(result == SIGUSR1 || (result < 0 && errno == EINTR));
        CHECK(result == SIGUSR1 || seen || which >= EPOLL);
    } while (result != SIGUSR1 && !seen);
    CHECK_EQUAL(seen, which < WAITINFO);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0);
    for (int number = 1; number < 65; number++)
        if (number != SIGKILL && number != SIGSTOP)
            CHECK_EQUAL(sigismember(&now, number), sigismember(&mask, number));
    return NULL;
}

int main(void)
{
    pthread_t threads[COUNT];
    struct sigaction action = {.sa_handler = on_signal};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (intptr_t i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) {
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
        test_wait_blocked(tids[i], -1);
    }
    test_freeze_point();
    for (int i = 0; i < COUNT; i++)
        test_wait_blocked(tids[i], calls[i]); /* a signal just before it would be lost, as it always is */
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_kill(threads[i], SIGUSR1) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
