/* conformance: descriptors | who gets the signals of a descriptor: `F_SETOWN`, `F_SETOWN_EX` with a thread, `F_SETSIG` | kept |
 *
 * A pipe that signals another thread, and a socket that has an owner but is not asynchronous. */
#include "help.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

static pid_t other_thread;
static int ready[2], quit[2];
static volatile sig_atomic_t got_by, got_fd;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    got_fd = info->si_fd;
    got_by = test_gettid();
}

static void *wait_there(void *unused)
{
    char byte;
    other_thread = test_gettid();
    CHECK(write(ready[1], "x", 1) == 1);
    while (read(quit[0], &byte, 1) < 0)
        CHECK(errno == EINTR);
    return unused;
}

int main(void)
{
    int ends[2], pair[2];
    char byte;
    pthread_t thread;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGRTMIN + 2, &action, NULL) == 0);
    CHECK(pipe(ready) == 0 && pipe(quit) == 0 && pipe(ends) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(pthread_create(&thread, NULL, wait_there, NULL) == 0 && read(ready[0], &byte, 1) == 1);
    struct f_owner_ex owner = {F_OWNER_TID, other_thread}, now;
    CHECK(fcntl(ends[0], F_SETOWN_EX, &owner) == 0 && fcntl(ends[0], F_SETSIG, SIGRTMIN + 2) == 0 &&
          fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
    CHECK(fcntl(pair[0], F_SETOWN, getpid()) == 0 && fcntl(pair[0], F_SETSIG, SIGUSR1) == 0);

    test_freeze_point();
    CHECK(fcntl(ends[0], F_GETOWN_EX, &now) == 0 && now.type == F_OWNER_TID && now.pid == other_thread);
    CHECK_EQUAL(fcntl(ends[0], F_GETSIG), SIGRTMIN + 2);
    CHECK(test_has_flag(ends[0], O_ASYNC | O_NONBLOCK) && !test_has_flag(pair[0], O_ASYNC));
    CHECK(fcntl(pair[0], F_GETOWN) == getpid() && fcntl(pair[0], F_GETSIG) == SIGUSR1);
    CHECK(fcntl(pair[1], F_GETOWN) == 0 && fcntl(pair[1], F_GETSIG) == 0);
    CHECK_EQUAL(got_by, 0);
    CHECK(test_writes(ends[1], "x"));
    while (got_by == 0)
        usleep(1000);
    CHECK(got_by == other_thread && got_fd == ends[0]);
    CHECK(test_writes(quit[1], "x") && pthread_join(thread, NULL) == 0);
    return 0;
}
