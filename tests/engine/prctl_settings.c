/* What prctl sets for a process: subreaper, dumpable, transparent huge pages off, slack, no write-execute (MDWE), what
 * to do about broken memory; and for threads: death signals and speculation control, which differ from thread to thread.
 *
 * conformance: process | subreaper, dumpable, `PR_SET_THP_DISABLE`, `PR_SET_MDWE`, no-new-privileges, timer slack | kept |
 * conformance: threads | death signal, speculation control, `PR_MCE_KILL`, timer slack, of each thread | kept |
 */
#include "look.h"

#include <linux/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SET_MDWE 65
#define GET_MDWE 66
#define REFUSE_EXEC_GAIN 1

static volatile int ready, go;

struct settings {
    int death_signal, memory_failure, slack, keep_capabilities, tagged;
    int speculation[3];
};

static void read_settings(struct settings *s)
{
    CHECK(prctl(PR_GET_PDEATHSIG, &s->death_signal) == 0);
    s->memory_failure = prctl(PR_MCE_KILL_GET, 0, 0, 0, 0);
    s->slack = prctl(PR_GET_TIMERSLACK);
    s->keep_capabilities = prctl(PR_GET_KEEPCAPS);
    s->tagged = prctl(PR_GET_TAGGED_ADDR_CTRL, 0, 0, 0, 0);
    for (int i = 0; i < 3; i++)
        s->speculation[i] = prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0);
}

static void *run(void *argument)
{
    size_t index = (size_t)(uintptr_t)argument;
    struct settings before = {0}, after = {0};
    CHECK(prctl(PR_SET_PDEATHSIG, index == 2 ? SIGUSR2 : 0) == 0);
    CHECK(
        prctl(PR_MCE_KILL, PR_MCE_KILL_SET, index == 1 ? PR_MCE_KILL_EARLY : PR_MCE_KILL_DEFAULT, 0, 0) == 0);
    CHECK(prctl(PR_SET_TIMERSLACK, 60000 + index) == 0);
    for (int which = 0; which < 2; which++)
        if (index == (size_t)which)
            (void)prctl(
                PR_SET_SPECULATION_CTRL, which, PR_SPEC_DISABLE, 0, 0); /* where the processor needs it */
    read_settings(&before);
    __atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
    test_wait_word(&go, 1);
    read_settings(&after);
    CHECK_EQUAL(before.death_signal, after.death_signal);
    CHECK_EQUAL(before.memory_failure, after.memory_failure);
    CHECK_EQUAL(before.slack, after.slack);
    CHECK_EQUAL(before.speculation[0], after.speculation[0]);
    CHECK_EQUAL(before.speculation[1], after.speculation[1]);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    return NULL;
}

int main(void)
{
    pthread_t threads[4];
    struct settings before = {0}, after = {0};
    CHECK(prctl(PR_SET_TIMERSLACK, 12345) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 && prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    test_wait_word(&ready, 4);
    CHECK(prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
    read_settings(&before);

    test_freeze_point();
    read_settings(&after);
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    CHECK(after.death_signal == SIGUSR1 && after.slack == 12345);
    int subreaper = 0;
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == 1);
    CHECK_EQUAL(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
    CHECK_EQUAL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 0);
    CHECK_EQUAL(prctl(GET_MDWE, 0, 0, 0, 0), REFUSE_EXEC_GAIN);
    char *page = test_map(TEST_PAGE, PROT_READ | PROT_WRITE);
    CHECK(mprotect(page, TEST_PAGE, PROT_READ | PROT_EXEC) < 0 && errno == EACCES);
    go = 1;
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
