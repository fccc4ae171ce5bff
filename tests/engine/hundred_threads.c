/* A hundred threads, each with a name, a set of processors, a policy, a nice value and a slack of its own; some detached,
 * some with cancellation switched off; new ones after the thaw get numbers of their own.
 *
 * conformance: threads | names, processors (affinity), nice values, timer slack, of a hundred threads | kept |
 * conformance: threads | `SCHED_BATCH`, `SCHED_IDLE`, reset-on-fork, time slices; `SCHED_FIFO` where it is allowed | kept |
 * conformance: threads | I/O priority | kept |
 */
#include "look.h"

#include <linux/ioprio.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define THREADS 100

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static volatile int ready, done;
static int go[2];
static pid_t tids[THREADS];

struct state {
    char name[16];
    cpu_set_t cpus;
    struct attributes attributes;
    int slack, io_priority, cancelable;
};

static void read_state(struct state *s)
{
    memset(s, 0, sizeof *s);
    CHECK(prctl(PR_GET_NAME, s->name) == 0 && sched_getaffinity(0, sizeof s->cpus, &s->cpus) == 0);
    CHECK(syscall(SYS_sched_getattr, 0, &s->attributes, sizeof s->attributes, 0) == 0);
    s->slack = prctl(PR_GET_TIMERSLACK);
    s->io_priority = (int)syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
    int old;
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &s->cancelable) == 0);
    CHECK(pthread_setcancelstate(s->cancelable, &old) == 0);
}

static void become(size_t index)
{
    char name[16];
    struct attributes attributes = {.size = sizeof attributes};
    snprintf(name, sizeof name, "thread-%zu\xc3\xa9", index);
    CHECK(prctl(PR_SET_NAME, name) == 0);
    cpu_set_t cpus;
    CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
    int wanted = (int)index % CPU_COUNT(&cpus), seen = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && index % 3; cpu++)
        if (CPU_ISSET(cpu, &cpus) && seen++ != wanted)
            CPU_CLR(cpu, &cpus);
    CHECK(sched_setaffinity(0, sizeof cpus, &cpus) == 0);
    attributes.policy = index % 4 == 1 ? SCHED_BATCH : index % 25 == 2 ? SCHED_IDLE : SCHED_OTHER;
    attributes.nice = getpriority(PRIO_PROCESS, 0) + (int)index % 5; /* nobody may lower it without a right */
    attributes.flags = index % 6 == 5;                               /* SCHED_FLAG_RESET_ON_FORK */
    attributes.runtime = index % 7 == 3 ? 5000000 : 0; /* a time slice, where the kernel knows them */
    CHECK(syscall(SYS_sched_setattr, 0, &attributes, 0) == 0);
    CHECK(prctl(PR_SET_TIMERSLACK, 50000 + index % 9 * 1000) == 0);
    if (index % 5 == 1)
        CHECK(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, index % 8)) ==
              0);
    pthread_setcancelstate(index % 2 ? PTHREAD_CANCEL_DISABLE : PTHREAD_CANCEL_ENABLE, NULL);
}

static void *run(void *argument)
{
    size_t index = (size_t)(uintptr_t)argument;
    struct state before, after;
    become(index);
    tids[index] = test_gettid();
    read_state(&before);
    __atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
    char byte;
    CHECK_EQUAL(read(go[0], &byte, 1), 0); /* until the other end is closed */
    read_state(&after);
    CHECK(strcmp(before.name, after.name) == 0);
    CHECK(CPU_EQUAL(&before.cpus, &after.cpus));
    CHECK(memcmp(&before.attributes, &after.attributes, sizeof before.attributes) == 0);
    CHECK_EQUAL(before.slack, after.slack);
    CHECK_EQUAL(before.io_priority, after.io_priority);
    CHECK_EQUAL(before.cancelable, after.cancelable);
    CHECK_EQUAL(tids[index], test_gettid());
    __atomic_add_fetch(&done, 1, __ATOMIC_RELEASE);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    struct sched_param real_time = {.sched_priority = 1};
    CHECK(prctl(PR_SET_TIMERSLACK, 77000) == 0 && pipe(go) == 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
        if (i % 10 == 9)
            CHECK(pthread_detach(threads[i]) == 0);
    }
    test_wait_word(&ready, THREADS);
    int allowed = sched_setscheduler(0, SCHED_FIFO, &real_time);

    test_freeze_point();
    CHECK_EQUAL(sched_getscheduler(0), allowed == 0 ? SCHED_FIFO : SCHED_OTHER);
    CHECK_EQUAL(sched_setscheduler(0, SCHED_FIFO, &real_time), allowed);
    CHECK(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0}) == 0);
    CHECK(allowed == 0 || prctl(PR_GET_TIMERSLACK) == 77000);
    for (int i = 0; i < THREADS; i++)
        CHECK(tids[i] != test_gettid());
    CHECK(close(go[1]) == 0);
    test_wait_word(&done, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (i % 10 != 9)
            CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
