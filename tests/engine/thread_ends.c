/* Threads that end after the thaw in every way: cancelled in a read, in a sleep and with cleanup handlers, pthread_exit,
 * detached; with destructors of keys and thread-local variables of a library that was loaded late.
 *
 * conformance: threads | cancellation, cleanup handlers, keys and their destructors, detached threads | kept |
 * conformance: threads | thread-local variables, also of libraries loaded by `dlopen` | kept |
 */
#include "look.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

enum { READER, SLEEPER, WORKER, EXITER, DETACHED, COUNT };

static pthread_key_t key;
static pid_t tids[COUNT];
static int ends[2];
static volatile int cleaned, destroyed, go, ended, workers_end;
static __thread int local = 5;
static __thread char zeros[5000];

static void clean(void *argument)
{
    __atomic_add_fetch(&cleaned, (int)(intptr_t)argument, __ATOMIC_SEQ_CST);
}

static void destroy(void *value)
{
    __atomic_add_fetch(&destroyed, (int)(intptr_t)value, __ATOMIC_SEQ_CST);
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument;
    char byte;
    CHECK(pthread_setspecific(key, (void *)(intptr_t)(1 << which)) == 0);
    local = which * 100;
    zeros[4000] = (char)which;
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    pthread_cleanup_push(clean, (void *)(intptr_t)(1 << which));
    if (which == READER)
        (void)!read(ends[0], &byte, 1);
    if (which == SLEEPER)
        for (;;)
            nanosleep(&(struct timespec){3600, 0}, NULL);
    if (which == WORKER) {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        test_wait_word(&workers_end, 1);
        CHECK(local == which * 100 && zeros[4000] == which && zeros[3999] == 0);
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        pthread_testcancel();
        CHECK(!"was not cancelled");
    }
    test_wait_word(&go, 1);
    CHECK(local == which * 100 && zeros[4000] == which);
    CHECK(pthread_getspecific(key) == (void *)(intptr_t)(1 << which));
    __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
    if (which == EXITER)
        pthread_exit((void *)99);
    pthread_cleanup_pop(0);
    return (void *)42;
}

int main(void)
{
    pthread_t threads[COUNT];
    void *result;
    CHECK(pipe(ends) == 0 && pthread_key_create(&key, destroy) == 0);
    /* A library with thread-local variables of its own, which is loaded after the first thread's are laid out. */
    void *library = dlopen("libstdc++.so.6", RTLD_NOW);
    CHECK(library);
    void *(*globals)(void) = (void *(*)(void))dlsym(library, "__cxa_get_globals");
    CHECK(globals);
    *(void **)globals() = &local;
    for (intptr_t i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    CHECK(pthread_detach(threads[DETACHED]) == 0);
    for (int i = 0; i < COUNT; i++)
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
    test_wait_blocked(tids[READER], SYS_read);
    CHECK(pthread_cancel(threads[WORKER]) == 0); /* pending across the freeze */

    test_freeze_point();
    CHECK(*(void **)globals() == &local && local == 5);
    CHECK(cleaned == 0 && destroyed == 0);
    for (int i = READER; i <= SLEEPER; i++)
        CHECK(pthread_cancel(threads[i]) == 0 && pthread_join(threads[i], &result) == 0 &&
              result == PTHREAD_CANCELED);
    CHECK_EQUAL(cleaned, 1 << READER | 1 << SLEEPER);
    workers_end = 1;
    CHECK(pthread_join(threads[WORKER], &result) == 0 && result == PTHREAD_CANCELED);
    go = 1;
    CHECK(pthread_join(threads[EXITER], &result) == 0 && result == (void *)99);
    test_wait_word(&ended, 2);
    test_wait_word(&destroyed, (1 << COUNT) - 1);
    CHECK_EQUAL(cleaned, 1 << READER | 1 << SLEEPER | 1 << WORKER | 1 << EXITER);
    return 0;
}
