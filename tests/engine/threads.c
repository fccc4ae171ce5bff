/* Fifty threads: on condition variables, on mutexes, on raw futexes, in sleeps, and busy; each keeps its
 * number, its name, its thread-local variables and its signal mask.
 *
 * conformance: threads | fifty threads in everything they may wait for | kept | with number, name, mask, thread-local variables
 */
#include "engine.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define THREADS 50

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static bool awake;
static uint32_t word;
static volatile int stop_spinning;
static pid_t tids[THREADS];
static __thread int own = -1;
static int ready, done;

static void sleep_by_condition(void)
{
    pthread_mutex_lock(&lock);
    while (!awake)
        pthread_cond_wait(&wake, &lock);
    pthread_mutex_unlock(&lock);
}

static void sleep_by_futex(void)
{
    while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 0)
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void *run(void *argument)
{
    int index = (int)(intptr_t)argument;
    char name[16];
    sigset_t mask, now;
    own = index * 1000;
    tids[index] = test_gettid();
    snprintf(name, sizeof name, "worker-%d", index);
    prctl(PR_SET_NAME, name);
    sigemptyset(&mask);
    if (index % 2)
        sigaddset(&mask, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
    switch (index % 5) {
    case 0:
        sleep_by_condition();
        break;
    case 1:
        sleep_by_futex();
        break;
    case 2:
        pthread_mutex_lock(&held);
        pthread_mutex_unlock(&held);
        break;
    case 3:
        for (struct timespec nap = {1000, 0}; !awake;)
            nanosleep(&nap, NULL);
        break;
    case 4:
        while (!stop_spinning)
            if (index > 4)
                sched_yield();
        break;
    }
    CHECK_EQUAL(own, index * 1000);
    CHECK_EQUAL(test_gettid(), tids[index]);
    char got[16];
    prctl(PR_GET_NAME, got);
    CHECK(strcmp(name, got) == 0);
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    CHECK_EQUAL(sigismember(&now, SIGUSR2), index % 2);
    __atomic_add_fetch(&done, 1, __ATOMIC_SEQ_CST);
    return argument;
}

static void nothing(int number)
{
    (void)number;
}

int main(void)
{
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_handler = nothing};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    own = 77;
    pthread_mutex_lock(&held);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) == 0);
    while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < THREADS)
        usleep(1000);
    for (int i = 0; i < THREADS; i++)
        if (i % 5 != 4)
            test_wait_blocked(tids[i], -1);

    test_freeze_point();
    CHECK_EQUAL(done, 0);
    CHECK_EQUAL(own, 77);
    stop_spinning = 1;
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, THREADS, NULL, NULL, 0);
    pthread_mutex_unlock(&held);
    pthread_mutex_lock(&lock);
    awake = true;
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        if (i % 5 == 3)
            CHECK(syscall(SYS_tgkill, getpid(), tids[i], SIGUSR1) == 0 || errno == ESRCH);
        CHECK(pthread_join(threads[i], &result) == 0);
        CHECK(result == (void *)(intptr_t)i);
    }
    pthread_t another;
    CHECK(pthread_create(&another, NULL, run, (void *)(intptr_t)4) == 0);
    CHECK(pthread_join(another, NULL) == 0);
    return 0;
}
