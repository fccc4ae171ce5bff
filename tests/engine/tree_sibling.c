/* A process beside the first, whose parent is outside the sandbox too, as Lambda's extensions are; and a child of it.
 *
 * conformance: other processes | a sibling of the first process, with children of its own | kept | its parent is outside again
 */
#include "engine.h"

#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int pair[2], inner[2];

static void tell(int fd, int a, int b)
{
    int words[2] = {a, b};
    CHECK_EQUAL(write(fd, words, sizeof words), sizeof words);
}

static bool hear(int fd, int words[2])
{
    ssize_t got = read(fd, words, 2 * sizeof *words);
    CHECK(got == 0 || got == 2 * sizeof *words);
    return got > 0;
}

static void run_niece(void)
{
    int words[2];
    close(inner[0]);
    while (hear(inner[1], words))
        tell(inner[1], getppid(), words[0] + 100);
    _exit(7);
}

static void run_sibling(void)
{
    int words[2], status;
    pid_t self = (pid_t)syscall(SYS_getpid);
    close(pair[0]);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, inner) == 0);
    pid_t niece = fork();
    if (niece == 0) {
        close(pair[1]);
        run_niece();
    }
    close(inner[1]);
    tell(pair[1], (int)self, getppid());
    while (hear(pair[1], words)) {
        CHECK_EQUAL(syscall(SYS_getpid), self);
        CHECK_EQUAL(getppid(), 0);
        tell(inner[0], words[0], 0);
        CHECK(hear(inner[0], words));
        CHECK_EQUAL(words[0], self);
        tell(pair[1], words[1] + 1000, (int)self);
    }
    close(inner[0]);
    CHECK_EQUAL(waitpid(niece, &status, 0), niece);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    _exit(0);
}

int main(void)
{
    int words[2], status;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    long sibling = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    CHECK(sibling >= 0);
    if (sibling == 0)
        run_sibling();
    close(pair[1]);
    CHECK(hear(pair[0], words));
    CHECK_EQUAL(words[0], sibling);
    CHECK_EQUAL(words[1], 0);
    test_freeze_point();
    CHECK_EQUAL(getppid(), 0);
    CHECK_EQUAL(waitpid((pid_t)sibling, &status, WNOHANG), -1);
    CHECK_EQUAL(errno, ECHILD);
    test_barrier();
    tell(pair[0], test_clone_index, 0);
    CHECK(hear(pair[0], words));
    CHECK_EQUAL(words[0], 1100 + test_clone_index);
    CHECK_EQUAL(words[1], sibling);
    return 0;
}
