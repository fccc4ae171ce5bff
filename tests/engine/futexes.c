/* Raw futexes that are waited for across the freeze: plain, with a bit set, requeued to another word, several at once
 * (futex_waitv), the newer calls, with absolute time-outs, in private and in shared memory.
 *
 * conformance: futexes | `FUTEX_WAIT`, `WAIT_BITSET`, requeued waiters, in private and shared memory | kept |
 * conformance: futexes | `futex_waitv`, `futex_wait` (the newer calls) | kept |
 */
#include "look.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define NR_FUTEX_WAITV 449
#define NR_FUTEX_WAIT 455
#define FLAG_U32 2
#define FLAG_PRIVATE 128
struct waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
};

enum { PLAIN, SHARED, BITSET, ABSOLUTE, REQUEUED, REQUEUED_TOO, VECTOR, NEW, COUNT };

static uint32_t words[COUNT], gate;
static uint32_t *shared;
static pid_t tids[COUNT];

static long futex(uint32_t *at, int op, uint32_t value, void *timeout, uint32_t *second, uint32_t third)
{
    return syscall(SYS_futex, at, op, value, timeout, second, third);
}

static long wait_vector(const struct timespec *until)
{
    struct waitv list[3];
    for (int i = 0; i < 3; i++)
        list[i] = (struct waitv){0, (uint64_t)(i == 2 ? &words[VECTOR] : &gate), FLAG_U32 | FLAG_PRIVATE, 0};
    return syscall(NR_FUTEX_WAITV, list, 3, 0, until, CLOCK_MONOTONIC);
}

static long wait_once(int which)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 3600;
    switch (which) {
    case SHARED:
        return futex(shared, FUTEX_WAIT, 0, NULL, NULL, 0);
    case BITSET:
        return futex(&words[which], FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0x10);
    case ABSOLUTE:
        return futex(&words[which], FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    case REQUEUED:
    case REQUEUED_TOO:
        return futex(&gate, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    case VECTOR:
        return wait_vector(&until);
    case NEW:
        return syscall(
            NR_FUTEX_WAIT, &words[which], 0, 0xffffffffu, FLAG_U32 | FLAG_PRIVATE, &until, CLOCK_MONOTONIC);
    default:
        return futex(&words[which], FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    }
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument;
    uint32_t *word = which == SHARED ? shared : &words[which];
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0) {
        long result = wait_once(which);
        CHECK(result >= 0 || errno == EINTR || errno == EAGAIN);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[COUNT];
    shared = mmap(NULL, TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (intptr_t i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) {
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
        test_wait_blocked(tids[i], i == VECTOR ? NR_FUTEX_WAITV : i == NEW ? NR_FUTEX_WAIT : SYS_futex);
    }
    /* Two threads wait at the gate; they are moved to wait for something else, and not woken. (Others wait at it as a
     * part of a vector, and may be the one that is woken.) */
    CHECK(futex(&gate, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)2, &words[REQUEUED], 0) >= 0);

    test_freeze_point();
    CHECK(
        futex(&words[BITSET], FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0x01) == 0); /* another bit: nobody */
    gate = 1;
    __atomic_store_n(shared, 1, __ATOMIC_RELEASE);
    futex(shared, FUTEX_WAKE, 1, NULL, NULL, 0);
    for (int i = 0; i < COUNT; i++) {
        __atomic_store_n(&words[i], 1, __ATOMIC_RELEASE);
        futex(&words[i], FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 0x10);
    }
    futex(&words[REQUEUED], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
    futex(&gate, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
