/* Each thread blocks other signals, and has other ones pending; a signal for the process goes to the one that takes it.
 *
 * conformance: signals | masks and pending signals of each thread | kept |
 */
#include "look.h"

#include <pthread.h>
#include <signal.h>

#define THREADS 8

static volatile int ready, go, taken_by[THREADS + 1];
static __thread int own_index = -1;

static void on_signal(int number)
{
    taken_by[number - SIGRTMIN - 2] = own_index;
}

static void *run(void *argument)
{
    size_t index = (size_t)(uintptr_t)argument;
    sigset_t mask, now, pending;
    own_index = (int)index;
    sigfillset(&mask);
    sigdelset(&mask, SIGRTMIN + 2 + (int)index); /* takes this one alone */
    CHECK(pthread_sigmask(SIG_SETMASK, &mask, NULL) == 0);
    CHECK(pthread_kill(pthread_self(), SIGRTMIN + 20) == 0); /* pending, for this thread alone */
    if (index % 2)
        CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
    test_wait_word(&go, 1);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0 && sigpending(&pending) == 0);
    for (int number = 1; number < 65; number++)
        if (number != SIGKILL && number != SIGSTOP)
            CHECK_EQUAL(sigismember(&now, number), sigismember(&mask, number));
    CHECK_EQUAL(sigismember(&pending, SIGUSR1), index % 2);
    CHECK(sigismember(&pending, SIGRTMIN + 20) && !sigismember(&pending, SIGUSR2));
    test_wait_word(&go, 2);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    sigset_t all;
    for (int i = 0; i < THREADS; i++)
        signal(SIGRTMIN + 2 + i, on_signal);
    signal(SIGRTMIN + 20, SIG_DFL);
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    test_wait_word(&ready, THREADS);
    memset((void *)taken_by, -1, sizeof taken_by);

    test_freeze_point();
    for (int i = 0; i < THREADS; i++)
        CHECK(kill(getpid(), SIGRTMIN + 2 + i) == 0);
    go = 1;
    for (int i = 0; i < THREADS; i++)
        test_wait_word(&taken_by[i], i);
    sigset_t pending;
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGRTMIN + 20) &&
          !sigismember(&pending, SIGUSR1));
    go = 2;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
