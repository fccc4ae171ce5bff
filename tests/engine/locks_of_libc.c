/* What the C library makes of futexes, held and waited for across the freeze: mutexes of each type, condition variables with
 * and without a time-out, a barrier, a read-write lock, semaphores, pthread_once; private, and shared with a child that
 * comes after the thaw.
 *
 * conformance: futexes | glibc's mutexes of each type, condition variables, barriers, read-write locks, semaphores, `pthread_once` | kept | also process-shared ones
 */
#include "look.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { MUTEX, CONDITION, TIMED, BARRIER, READER, WRITER, SEMAPHORE, ONCE, COUNT };

struct locks {
    pthread_mutex_t mutex, recursive, checked, of_condition;
    pthread_cond_t condition;
    pthread_barrier_t barrier;
    pthread_rwlock_t lock;
    sem_t semaphore;
    bool told;
};

static struct locks private, *shared, *current;
static pid_t tids[COUNT];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile int once_ran, once_go;

static void run_once(void)
{
    __atomic_add_fetch(&once_ran, 1, __ATOMIC_SEQ_CST);
    while (!once_go)
        usleep(500);
}

static void *hold_once(void *unused)
{
    pthread_once(&once, run_once);
    return unused;
}

static void make(struct locks *l, int shared_with)
{
    pthread_mutexattr_t attribute;
    pthread_condattr_t of_condition;
    pthread_barrierattr_t of_barrier;
    pthread_rwlockattr_t of_lock;
    pthread_mutexattr_init(&attribute);
    pthread_mutexattr_setpshared(&attribute, shared_with);
    pthread_condattr_init(&of_condition);
    pthread_condattr_setpshared(&of_condition, shared_with);
    pthread_condattr_setclock(&of_condition, CLOCK_MONOTONIC);
    pthread_barrierattr_init(&of_barrier);
    pthread_barrierattr_setpshared(&of_barrier, shared_with);
    pthread_rwlockattr_init(&of_lock);
    pthread_rwlockattr_setpshared(&of_lock, shared_with);
    CHECK(pthread_mutex_init(&l->mutex, &attribute) == 0 &&
          pthread_mutex_init(&l->of_condition, &attribute) == 0);
    pthread_mutexattr_settype(&attribute, PTHREAD_MUTEX_RECURSIVE);
    CHECK(pthread_mutex_init(&l->recursive, &attribute) == 0);
    pthread_mutexattr_settype(&attribute, PTHREAD_MUTEX_ERRORCHECK);
    CHECK(pthread_mutex_init(&l->checked, &attribute) == 0);
    CHECK(pthread_cond_init(&l->condition, &of_condition) == 0 &&
          pthread_barrier_init(&l->barrier, &of_barrier, 2) == 0 &&
          pthread_rwlock_init(&l->lock, &of_lock) == 0 &&
          sem_init(&l->semaphore, shared_with == PTHREAD_PROCESS_SHARED, 0) == 0);
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument;
    struct locks *l = current;
    struct timespec until;
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    switch (which) {
    case MUTEX:
        CHECK(pthread_mutex_lock(&l->mutex) == 0 && pthread_mutex_unlock(&l->mutex) == 0);
        break;
    case CONDITION:
    case TIMED:
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 3600;
        pthread_mutex_lock(&l->of_condition);
        while (!l->told)
            CHECK(which == TIMED ? pthread_cond_timedwait(&l->condition, &l->of_condition, &until) == 0
                                 : pthread_cond_wait(&l->condition, &l->of_condition) == 0);
        pthread_mutex_unlock(&l->of_condition);
        break;
    case BARRIER:
        (void)pthread_barrier_wait(&l->barrier);
        break;
    case READER:
        CHECK(pthread_rwlock_rdlock(&l->lock) == 0 && pthread_rwlock_unlock(&l->lock) == 0);
        break;
    case WRITER:
        CHECK(pthread_rwlock_wrlock(&l->lock) == 0 && pthread_rwlock_unlock(&l->lock) == 0);
        break;
    case SEMAPHORE:
        while (sem_wait(&l->semaphore) < 0)
            CHECK_EQUAL(errno, EINTR);
        break;
    case ONCE:
        pthread_once(&once, run_once);
        break;
    }
    return NULL;
}

static void hold(struct locks *l)
{
    CHECK(pthread_mutex_lock(&l->mutex) == 0 && pthread_rwlock_wrlock(&l->lock) == 0);
    CHECK(pthread_mutex_lock(&l->recursive) == 0 && pthread_mutex_lock(&l->recursive) == 0);
    CHECK(pthread_mutex_lock(&l->checked) == 0);
}

static void let_go(struct locks *l)
{
    CHECK_EQUAL(pthread_mutex_trylock(&l->mutex), EBUSY);
    CHECK_EQUAL(pthread_mutex_lock(&l->checked), EDEADLK);
    CHECK(pthread_mutex_unlock(&l->mutex) == 0 && pthread_rwlock_unlock(&l->lock) == 0);
    CHECK(pthread_mutex_unlock(&l->recursive) == 0 && pthread_mutex_unlock(&l->recursive) == 0);
    CHECK(pthread_mutex_unlock(&l->recursive) == EPERM);
    CHECK(pthread_mutex_unlock(&l->checked) == 0);
    (void)pthread_barrier_wait(&l->barrier);
    CHECK(sem_post(&l->semaphore) == 0);
    pthread_mutex_lock(&l->of_condition);
    l->told = true;
    CHECK(pthread_cond_broadcast(&l->condition) == 0 && pthread_mutex_unlock(&l->of_condition) == 0);
}

/* With a child that is forked after the thaw. */
static void check_shared(struct locks *l)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(&l->mutex);
        (void)pthread_barrier_wait(&l->barrier);
        pthread_mutex_unlock(&l->mutex);
        while (sem_wait(&l->semaphore) < 0)
            ;
        _exit(7);
    }
    (void)pthread_barrier_wait(&l->barrier);
    CHECK(pthread_mutex_lock(&l->mutex) == 0 && pthread_mutex_unlock(&l->mutex) == 0);
    CHECK(sem_post(&l->semaphore) == 0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void)
{
    pthread_t threads[2][COUNT], holder;
    shared = mmap(NULL, 2 * TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(pthread_create(&holder, NULL, hold_once, NULL) == 0);
    test_wait_word(&once_ran, 1);
    for (int round = 0; round < 2; round++) {
        current = round == 0 ? &private : shared;
        make(current, round == 0 ? PTHREAD_PROCESS_PRIVATE : PTHREAD_PROCESS_SHARED);
        hold(current);
        memset(tids, 0, sizeof tids);
        for (intptr_t i = 0; i < COUNT; i++)
            CHECK(pthread_create(&threads[round][i], NULL, run, (void *)i) == 0);
        for (int i = 0; i < COUNT; i++) {
            while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
                usleep(100);
            test_wait_blocked(tids[i], SYS_futex);
        }
    }

    test_freeze_point();
    once_go = 1;
    let_go(&private);
    let_go(shared);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < COUNT; i++)
            CHECK(pthread_join(threads[round][i], NULL) == 0);
    CHECK(pthread_join(holder, NULL) == 0);
    CHECK_EQUAL(once_ran, 1);
    check_shared(shared);
    return 0;
}
