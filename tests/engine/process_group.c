/* A process that leads a group, but no session (the first argument is not there), or a session: as it was, also for a child
 * that comes after the thaw; signals to the group reach both.
 *
 * conformance: process | a process group or a session of its own | kept |
 */
#include "look.h"

#include <signal.h>
#include <sys/wait.h>

static volatile int signals;

static void on_signal(int number)
{
    (void)number;
    __atomic_add_fetch(&signals, 1, __ATOMIC_SEQ_CST);
}

int main(int argc, char **argv)
{
    bool session = argc > 1 && strcmp(argv[1], "session") == 0;
    signal(SIGUSR1, on_signal);
    if (session)
        CHECK_EQUAL(setsid(), getpid());
    else
        CHECK(setpgid(0, 0) == 0);
    pid_t own = getpid(), its_session = getsid(0);
    CHECK_EQUAL(getpgrp(), own);

    test_freeze_point();
    CHECK_EQUAL(getpid(), own);
    CHECK_EQUAL(getpgrp(), own);
    CHECK_EQUAL(getsid(0), session ? own : its_session);
    pid_t child = fork();
    if (child == 0) {
        test_wait_word(&signals, 1);
        _exit(getpgrp() == own ? 7 : 8);
    }
    usleep(1000);
    CHECK(kill(0, SIGUSR1) == 0);
    test_wait_word(&signals, 1);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 7);
    CHECK(setsid() < 0 && errno == EPERM); /* the leader of a group cannot */
    return 0;
}
