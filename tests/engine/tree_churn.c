/* Children that come and go all the time, by fork and by posix_spawn: the freeze catches them at any moment, and none
 * is lost or waited for twice in clones.
 *
 * conformance: other processes | processes that are started and end while they are being frozen | kept | each once
 */
#include "engine.h"

#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#define ROUNDS_AFTER 50

static volatile int thawed;

static void check_end(pid_t pid, int wanted)
{
    int status;
    while (waitpid(pid, &status, 0) != pid)
        CHECK_EQUAL(errno, EINTR);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == wanted);
}

static int rounds_left(int rounds)
{
    return !thawed || rounds < ROUNDS_AFTER;
}

static void *fork_always(void *nothing)
{
    for (int rounds = 0, number = 0; rounds_left(rounds); rounds += thawed, number++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            pid_t inner = fork();
            if (inner == 0)
                _exit(3);
            check_end(inner, 3);
            _exit(number % 100);
        }
        check_end(pid, number % 100);
    }
    return nothing;
}

static void *spawn_always(void *nothing)
{
    static char *const words[] = {(char *)"true", NULL};
    char *const environment[] = {NULL};
    for (int rounds = 0; rounds_left(rounds); rounds += thawed) {
        pid_t pid;
        CHECK_EQUAL(posix_spawn(&pid, "/usr/bin/true", NULL, NULL, words, environment), 0);
        check_end(pid, 0);
    }
    return nothing;
}

int main(void)
{
    pthread_t threads[2];
    CHECK(pthread_create(&threads[0], NULL, fork_always, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, spawn_always, NULL) == 0);
    usleep(20000);
    test_freeze_point();
    thawed = 1;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQUAL(waitpid(-1, NULL, 0), -1);
    CHECK_EQUAL(errno, ECHILD);
    return 0;
}
