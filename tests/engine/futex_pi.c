/* Mutexes with priority inheritance: one that is held across the freeze and waited for by several, one whose owner dies after
 * the thaw, one taken by a raw call.
 *
 * conformance: futexes | priority inheritance mutexes, owned and waited for | kept |
 * conformance: futexes | robust lists: owners that die after the thaw; process-shared too | kept |
 */
#include "look.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define WAITERS 4

static pthread_mutex_t held, *robust;
static uint32_t raw;
static pid_t tids[WAITERS + 1];
static volatile int go, inside, ready;

static void *wait_for(void *argument)
{
    size_t index = (size_t)(uintptr_t)argument;
    __atomic_store_n(&tids[index], test_gettid(), __ATOMIC_RELEASE);
    CHECK(pthread_mutex_lock(&held) == 0);
    CHECK_EQUAL(__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST), 1);
    CHECK_EQUAL(__atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST), 0);
    CHECK(pthread_mutex_unlock(&held) == 0);
    return NULL;
}

static void *die_with(void *unused)
{
    (void)unused;
    CHECK(pthread_mutex_lock(&robust[0]) == 0 && pthread_mutex_lock(&robust[1]) == 0);
    ready = 1;
    test_wait_word(&go, 1);
    return NULL;
}

static void *wait_raw(void *unused)
{
    (void)unused;
    __atomic_store_n(&tids[WAITERS], test_gettid(), __ATOMIC_RELEASE);
    CHECK(syscall(SYS_futex, &raw, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    CHECK_EQUAL(raw & FUTEX_TID_MASK, (uint32_t)test_gettid());
    CHECK(syscall(SYS_futex, &raw, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    return NULL;
}

static void make(pthread_mutex_t *mutex, bool is_robust, bool shared, bool inherit)
{
    pthread_mutexattr_t attribute;
    pthread_mutexattr_init(&attribute);
    if (inherit)
        CHECK(pthread_mutexattr_setprotocol(&attribute, PTHREAD_PRIO_INHERIT) == 0);
    if (is_robust)
        pthread_mutexattr_setrobust(&attribute, PTHREAD_MUTEX_ROBUST);
    if (shared)
        pthread_mutexattr_setpshared(&attribute, PTHREAD_PROCESS_SHARED);
    CHECK(pthread_mutex_init(mutex, &attribute) == 0);
}

static void check_dead_process(pthread_mutex_t *mutex)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(mutex);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK_EQUAL(pthread_mutex_lock(mutex), EOWNERDEAD);
    CHECK(pthread_mutex_consistent(mutex) == 0 && pthread_mutex_unlock(mutex) == 0);
}

int main(void)
{
    pthread_t threads[WAITERS], dying, raw_waiter;
    robust = mmap(NULL, TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(robust != MAP_FAILED);
    make(&held, false, false, true);
    make(&robust[0], true, true, true);
    make(&robust[1], true, true, false);
    make(&robust[2], true, true, false);
    CHECK(pthread_mutex_lock(&held) == 0 && pthread_mutex_lock(&robust[2]) == 0);
    CHECK(syscall(SYS_futex, &raw, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    for (uintptr_t i = 0; i < WAITERS; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_for, (void *)i) == 0);
    CHECK(pthread_create(&dying, NULL, die_with, NULL) == 0);
    CHECK(pthread_create(&raw_waiter, NULL, wait_raw, NULL) == 0);
    test_wait_word(&ready, 1);
    for (int i = 0; i <= WAITERS; i++) {
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
        test_wait_blocked(tids[i], SYS_futex);
    }

    test_freeze_point();
    CHECK_EQUAL(pthread_mutex_trylock(&held), EBUSY);
    CHECK_EQUAL(pthread_mutex_trylock(&robust[0]), EBUSY);
    CHECK_EQUAL(raw & FUTEX_TID_MASK, (uint32_t)test_gettid());
    CHECK(pthread_mutex_unlock(&held) == 0);
    CHECK(syscall(SYS_futex, &raw, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0);
    for (int i = 0; i < WAITERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(pthread_join(raw_waiter, NULL) == 0);
    CHECK_EQUAL(raw, 0);
    go = 1;
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(pthread_mutex_lock(&robust[i]), EOWNERDEAD);
        CHECK(pthread_mutex_consistent(&robust[i]) == 0 && pthread_mutex_unlock(&robust[i]) == 0);
    }
    CHECK(pthread_join(dying, NULL) == 0);
    CHECK(pthread_mutex_unlock(&robust[2]) == 0);
    check_dead_process(&robust[2]);
    test_barrier();
    CHECK(pthread_mutex_trylock(&robust[2]) == 0);
    return 0;
}
