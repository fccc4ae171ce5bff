/* Threads that wait to be moved to a priority inheritance lock (FUTEX_WAIT_REQUEUE_PI): they are moved, and woken with the lock,
 * after the thaw; and one that was moved before the freeze and waits for the lock.
 *
 * conformance: futexes | `FUTEX_WAIT_REQUEUE_PI`, before and after it was moved | noted | one that was moved before the freeze gets `EAGAIN` or `EINTR` where it must look again
 */
#include "look.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { MOVED, WAITING, COUNT };

static uint32_t from[COUNT], lock;
static pid_t tids[COUNT];
static volatile int results[COUNT], owned[COUNT], ended;

static long futex(uint32_t *at, int op, uint32_t value, unsigned long second, uint32_t *other, uint32_t third)
{
    return syscall(SYS_futex, at, op, value, second, other, third);
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument;
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    long result;
    do {
        result = futex(&from[which], FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, 0, &lock, 0);
        results[which] = result < 0 ? errno : 0;
    } while (result < 0 && errno == EINTR);
    if (result < 0) { /* it must look again, and take the lock itself */
        CHECK_EQUAL(errno, EAGAIN);
        CHECK(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, 0, NULL, 0) == 0);
    }
    owned[which] = (lock & FUTEX_TID_MASK) == (uint32_t)test_gettid();
    CHECK(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, NULL, 0) == 0);
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELEASE);
    return NULL;
}

int main(void)
{
    pthread_t threads[COUNT];
    for (intptr_t i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) {
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
        test_wait_blocked(tids[i], SYS_futex);
    }
    CHECK(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, 0, NULL, 0) == 0);
    from[MOVED] = 1;
    CHECK_EQUAL(futex(&from[MOVED], FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0, &lock, 1), 1);

    test_freeze_point();
    CHECK_EQUAL(ended, 0);
    CHECK_EQUAL(lock & FUTEX_TID_MASK, (uint32_t)test_gettid());
    test_wait_blocked(tids[WAITING], SYS_futex);
    from[WAITING] = 1;
    long moved = futex(&from[WAITING], FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, 0, &lock, 1);
    CHECK(moved >= 0);
    CHECK(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, 0, NULL, 0) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(owned[MOVED] && owned[WAITING]);
    CHECK(moved == 0 || results[WAITING] == 0);
    CHECK_EQUAL(lock & FUTEX_TID_MASK, 0);
    return 0;
}
