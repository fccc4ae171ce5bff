/* conformance: descriptors | close-on-exec, of every kind of descriptor | kept | an `execve` in the clone closes these and no others
 *
 * The program starts itself anew in the clone, which then looks at what it has inherited. */
#include "help.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#define KINDS 10

/* Of each kind one that stays open, at an even number, and one that does not, at the odd number above. */
static int place(int fd, int at)
{
    CHECK(fd >= 0 && dup2(fd, 100 + 2 * at) == 100 + 2 * at && dup3(fd, 101 + 2 * at, O_CLOEXEC) > 0);
    return close(fd);
}

static int check_inherited(void)
{
    for (int i = 0; i < KINDS; i++)
        if (!test_is_open(100 + 2 * i) || test_is_open(101 + 2 * i))
            return 50 + i;
    return test_reads(100 + 2, "seen") ? 42 : 43;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return check_inherited();
    int ends[2], pair[2];
    sigset_t none;
    sigemptyset(&none);
    CHECK(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    place(eventfd(1, 0), 0);
    place(ends[0], 1);
    place(ends[1], 2);
    place(pair[0], 3);
    place(open("/tmp", O_RDONLY | O_DIRECTORY), 4);
    place(open("/tmp/file", O_RDWR | O_CREAT, 0600), 5);
    place(memfd_create("memory", 0), 6);
    place(epoll_create1(0), 7);
    place(timerfd_create(CLOCK_MONOTONIC, 0), 8);
    place(signalfd(-1, &none, 0), 9);

    test_freeze_point();
    CHECK(test_writes(100 + 4, "seen"));
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", argv[0], "inherited", NULL);
        _exit(44);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 42);
    return 0;
}
