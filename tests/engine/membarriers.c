/* Every kind of membarrier that a process can register for works in the clone without registering again.
 *
 * conformance: process | membarrier registrations of each kind | kept |
 */
#include "engine.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>

#define GET_REGISTRATIONS (1 << 9)

static const struct {
    int registration, command;
} kinds[] = {{MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, MEMBARRIER_CMD_GLOBAL_EXPEDITED},
    {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, MEMBARRIER_CMD_PRIVATE_EXPEDITED},
    {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE},
    {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ}};
#define COUNT (sizeof kinds / sizeof *kinds)

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

static volatile int stop;

static void *run(void *unused)
{
    while (!stop)
        ;
    return unused;
}

int main(void)
{
    pthread_t thread;
    long offered = membarrier(MEMBARRIER_CMD_QUERY), registered = 0;
    CHECK(offered > 0);
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
    for (size_t i = 0; i < COUNT; i++) {
        if (!(offered & kinds[i].registration))
            continue;
        CHECK_EQUAL(membarrier(kinds[i].registration), 0);
        registered |= kinds[i].registration;
    }
    CHECK(registered & MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);

    test_freeze_point();
    CHECK_EQUAL(membarrier(MEMBARRIER_CMD_QUERY), offered);
    CHECK_EQUAL(membarrier(GET_REGISTRATIONS), registered);
    for (size_t i = 0; i < COUNT; i++)
        if (registered & kinds[i].registration)
            CHECK_EQUAL(membarrier(kinds[i].command), 0);
    stop = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
