/* A hundred queued signals of the process and of a thread, with values, in order; a plain signal that came twice is
 * pending once; each with who sent it and how.
 *
 * conformance: signals | realtime signals that are queued, in order, with their `siginfo` | kept |
 */
#include "look.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define COUNT 100

static void queue(int number, int value, bool to_thread)
{
    siginfo_t info = {.si_signo = number, .si_code = SI_QUEUE};
    info.si_pid = 1000 + value;
    info.si_uid = getuid();
    info.si_value.sival_ptr = (void *)(0x123400000000ul + (unsigned long)value);
    long result = to_thread ? syscall(SYS_rt_tgsigqueueinfo, getpid(), test_gettid(), number, &info)
                            : syscall(SYS_rt_sigqueueinfo, getpid(), number, &info);
    CHECK_EQUAL(result, 0);
}

static siginfo_t take(int number)
{
    sigset_t only;
    siginfo_t info;
    struct timespec now = {0, 0};
    sigemptyset(&only);
    sigaddset(&only, number);
    /* glibc would make SI_USER of SI_TKILL. */
    CHECK_EQUAL(syscall(SYS_rt_sigtimedwait, &only, &info, &now, 8), number);
    return info;
}

int main(void)
{
    sigset_t all, none;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    for (int i = 0; i < COUNT; i++) {
        queue(SIGRTMIN + 3, i, false);
        queue(SIGRTMIN + 3, i + 500, true);
        queue(SIGRTMIN + 2, i, true);
    }
    CHECK(kill(getpid(), SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0 && raise(SIGUSR2) == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(33);
    CHECK(waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED) == 0); /* its SIGCHLD stays pending */

    test_freeze_point();
    for (int i = 0; i < COUNT; i++) {
        siginfo_t info = take(SIGRTMIN + 2);
        CHECK(info.si_code == SI_QUEUE && info.si_pid == 1000 + i);
        CHECK_EQUAL((unsigned long)info.si_value.sival_ptr, 0x123400000000ul + (unsigned long)i);
    }
    for (int i = 0; i < 2 * COUNT; i++) { /* a thread's own come first */
        siginfo_t info = take(SIGRTMIN + 3);
        int value = i < COUNT ? i + 500 : i - COUNT;
        CHECK_EQUAL(info.si_pid, 1000 + value);
        CHECK_EQUAL((unsigned long)info.si_value.sival_ptr, 0x123400000000ul + (unsigned long)value);
    }
    siginfo_t info = take(SIGUSR1);
    CHECK(info.si_code == SI_USER && info.si_pid == getpid() && info.si_uid == getuid());
    info = take(SIGUSR2);
    CHECK(info.si_code == SI_TKILL && info.si_pid == getpid());
    info = take(SIGCHLD);
    CHECK(info.si_code == CLD_EXITED && info.si_pid == child && info.si_status == 33);
    CHECK(sigpending(&none) == 0 && sigisemptyset(&none));
    return 0;
}
