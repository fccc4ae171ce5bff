/* conformance: signals | signalfds with masks of their own, and signals that wait for them | kept |
 *
 * Each reports the signals of its mask, those that were sent before the freeze and those after it. */
#include "help.h"

#include <signal.h>
#include <sys/signalfd.h>

static bool gets(int fd, int number, int value)
{
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == (ssize_t)sizeof info && (int)info.ssi_signo == number &&
           info.ssi_int == value && (pid_t)info.ssi_pid == getpid();
}

int main(void)
{
    sigset_t first, second, all;
    sigemptyset(&first);
    sigaddset(&first, SIGUSR1);
    sigaddset(&first, SIGRTMIN + 1);
    sigemptyset(&second);
    sigaddset(&second, SIGUSR2);
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    int one = signalfd(-1, &first, SFD_NONBLOCK | SFD_CLOEXEC), two = signalfd(-1, &first, 0),
        twin = dup(one);
    CHECK(two >= 0 && twin >= 0 && signalfd(two, &second, 0) == two); /* its mask is another now */
    CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 11}) == 0);
    CHECK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 12}) == 0);
    CHECK(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 2}) == 0);

    test_freeze_point();
    CHECK_EQUAL(test_poll(one), POLLIN);
    CHECK(gets(twin, SIGRTMIN + 1, 11) && gets(one, SIGRTMIN + 1, 12) && gets(two, SIGUSR2, 2));
    struct signalfd_siginfo info;
    CHECK(read(one, &info, sizeof info) < 0 && errno == EAGAIN);
    CHECK(!test_has_flag(two, O_NONBLOCK) && fcntl(one, F_GETFD) == FD_CLOEXEC && fcntl(two, F_GETFD) == 0);
    CHECK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 3}) == 0);
    CHECK(test_is_idle(two) && gets(one, SIGUSR1, 3));
    return 0;
}
