/* Pending signals (of the process, of a thread, queued with values), masks, dispositions, signalfd.
 *
 * conformance: signals | handlers, masks, pending and queued signals | kept | with their `siginfo`
 * conformance: descriptors | signalfd | kept |
 */
#include "engine.h"

#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>

static volatile sig_atomic_t usr1, rt_count, rt_sum, rt_order_wrong, last_rt;
static pthread_t main_thread;

static void on_usr1(int number)
{
    (void)number;
    usr1++;
    CHECK(pthread_equal(pthread_self(), main_thread));
}

static void on_rt(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    CHECK_EQUAL(info->si_code, SI_QUEUE);
    CHECK_EQUAL(info->si_pid, getpid());
    rt_order_wrong |= info->si_value.sival_int < last_rt;
    last_rt = info->si_value.sival_int;
    rt_count++;
    rt_sum += info->si_value.sival_int;
}

int main(void)
{
    sigset_t mask, old;
    main_thread = pthread_self();
    struct sigaction rt = {.sa_sigaction = on_rt, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaddset(&rt.sa_mask, SIGHUP);
    signal(SIGUSR1, on_usr1);
    signal(SIGPIPE, SIG_IGN);
    CHECK(sigaction(SIGRTMIN + 1, &rt, NULL) == 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGRTMIN + 1);
    sigaddset(&mask, SIGTERM);
    CHECK(sigprocmask(SIG_BLOCK, &mask, &old) == 0);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGUSR2);
    int fd = signalfd(-1, &only, SFD_NONBLOCK | SFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
    CHECK(kill(getpid(), SIGUSR2) == 0);
    for (int i = 1; i <= 3; i++)
        CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i * 10}) == 0);

    test_freeze_point();
    sigset_t pending, now;
    CHECK(sigpending(&pending) == 0);
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2) &&
          sigismember(&pending, SIGRTMIN + 1));
    CHECK(!sigismember(&pending, SIGTERM));
    CHECK(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    for (int i = 1; i < 32; i++)
        CHECK_EQUAL(sigismember(&now, i), sigismember(&mask, i));
    struct signalfd_siginfo info;
    CHECK_EQUAL(read(fd, &info, sizeof info), sizeof info);
    CHECK_EQUAL(info.ssi_signo, SIGUSR2);
    CHECK_EQUAL(info.ssi_pid, getpid());
    CHECK(read(fd, &info, sizeof info) < 0 && errno == EAGAIN);
    CHECK(usr1 == 0 && rt_count == 0);
    CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    CHECK_EQUAL(usr1, 1);
    CHECK_EQUAL(rt_count, 3);
    CHECK_EQUAL(rt_sum, 60);
    CHECK(!rt_order_wrong);
    struct sigaction got;
    CHECK(sigaction(SIGRTMIN + 1, NULL, &got) == 0);
    CHECK(got.sa_sigaction == on_rt && (got.sa_flags & SA_RESTART) && sigismember(&got.sa_mask, SIGHUP));
    CHECK(sigaction(SIGPIPE, NULL, &got) == 0 && got.sa_handler == SIG_IGN);
    CHECK(sigaction(SIGTERM, NULL, &got) == 0 && got.sa_handler == SIG_DFL);
    return 0;
}
