/* Signals for descriptors: O_ASYNC, with an owner and a signal of their own.
 *
 * conformance: descriptors | `O_ASYNC`, with owner and signal | kept |
 */
#include "engine.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

static volatile sig_atomic_t to_process, to_thread, fd_told;
static pthread_t helper;
static pid_t helper_tid;
static volatile bool stop;

static void on_io(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    fd_told = info->si_fd;
    to_process++;
}

static void on_thread_io(int number)
{
    (void)number;
    CHECK_EQUAL(test_gettid(), helper_tid);
    to_thread++;
}

static void *help(void *unused)
{
    (void)unused;
    __atomic_store_n(&helper_tid, test_gettid(), __ATOMIC_RELEASE);
    while (!stop)
        usleep(1000);
    return NULL;
}

int main(void)
{
    int a[2], b[2];
    struct sigaction action = {.sa_sigaction = on_io, .sa_flags = SA_SIGINFO | SA_RESTART};
    CHECK(sigaction(SIGRTMIN + 2, &action, NULL) == 0);
    signal(SIGIO, on_thread_io);
    CHECK(pthread_create(&helper, NULL, help, NULL) == 0);
    while (__atomic_load_n(&helper_tid, __ATOMIC_ACQUIRE) == 0)
        usleep(1000);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, b) == 0);
    CHECK(fcntl(a[0], F_SETOWN, getpid()) == 0 && fcntl(a[0], F_SETSIG, SIGRTMIN + 2) == 0);
    CHECK(fcntl(a[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
    struct f_owner_ex owner = {F_OWNER_TID, helper_tid};
    CHECK(fcntl(b[0], F_SETOWN_EX, &owner) == 0 && fcntl(b[0], F_SETFL, O_ASYNC) == 0);

    test_freeze_point();
    CHECK(to_process == 0 && to_thread == 0);
    CHECK_EQUAL(fcntl(a[0], F_GETSIG), SIGRTMIN + 2);
    CHECK_EQUAL(fcntl(a[0], F_GETFL) & (O_ASYNC | O_NONBLOCK), O_ASYNC | O_NONBLOCK);
    CHECK_EQUAL(write(a[1], "x", 1), 1);
    while (to_process == 0)
        usleep(1000);
    CHECK_EQUAL(fd_told, a[0]);
    CHECK_EQUAL(write(b[1], "x", 1), 1);
    while (to_thread == 0)
        usleep(1000);
    stop = true;
    CHECK(pthread_join(helper, NULL) == 0);
    return 0;
}
