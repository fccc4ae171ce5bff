/* A signal after the thaw interrupts a call that was frozen: with SA_RESTART it goes on, without it gives EINTR; a receive
 * time-out of a socket gives EINTR at once, as after SIGSTOP and SIGCONT.
 *
 * conformance: signals | calls frozen half-way that a signal then interrupts, with and without `SA_RESTART` | kept |
 * conformance: system calls | sockets that wait with `SO_RCVTIMEO` | noted | give `EINTR`, as after `SIGSTOP` and `SIGCONT`
 */
#include "look.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { READ, READ_TIMEOUT, ACCEPT, COUNT };

static pid_t tids[2][COUNT];
static int ends[2], pair[2], listener;
static volatile int returned[2][COUNT], errors[2][COUNT];
static volatile int handled;

static void on_signal(int number)
{
    (void)number;
    __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

static void *run(void *argument)
{
    int restart = (int)(intptr_t)argument / COUNT, which = (int)(intptr_t)argument % COUNT;
    char byte;
    ssize_t result = -1;
    __atomic_store_n(&tids[restart][which], test_gettid(), __ATOMIC_RELEASE);
    if (which == READ)
        result = read(ends[0], &byte, 1);
    else if (which == READ_TIMEOUT)
        result = recv(pair[0], &byte, 1, 0);
    else
        result = accept(listener, NULL, NULL);
    errors[restart][which] = result < 0 ? errno : 0;
    __atomic_store_n(&returned[restart][which], 1, __ATOMIC_RELEASE);
    return NULL;
}

int main(void)
{
    pthread_t threads[2][COUNT];
    struct sigaction plain = {.sa_handler = on_signal},
                     again = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &plain, NULL) == 0 && sigaction(SIGUSR2, &again, NULL) == 0);
    struct timeval hour = {3600, 0};
    CHECK(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &hour, sizeof hour) == 0);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr any = {.sa_family = AF_UNIX};
    CHECK(bind(listener, &any, sizeof any.sa_family) == 0 && listen(listener, 4) == 0);
    for (intptr_t i = 0; i < 2 * COUNT; i++)
        CHECK(pthread_create(&threads[i / COUNT][i % COUNT], NULL, run, (void *)i) == 0);
    for (int i = 0; i < 2 * COUNT; i++) {
        while (__atomic_load_n(&tids[i / COUNT][i % COUNT], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
        test_wait_blocked(tids[i / COUNT][i % COUNT], -1);
    }

    test_freeze_point();
    for (int i = 0; i < 2 * COUNT; i++) {
        if (i % COUNT == READ_TIMEOUT)
            continue;
        test_wait_blocked(tids[i / COUNT][i % COUNT], i % COUNT == READ ? SYS_read : SYS_accept);
        CHECK(pthread_kill(threads[i / COUNT][i % COUNT], i < COUNT ? SIGUSR1 : SIGUSR2) == 0);
    }
    test_wait_word(&handled, 2 * COUNT - 2);
    for (int i = 0; i < COUNT; i++) {
        test_wait_word(&returned[0][i], 1);
        CHECK_EQUAL(errors[0][i], EINTR);
    }
    CHECK(!returned[1][READ] && !returned[1][ACCEPT]);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    CHECK_EQUAL(write(pair[1], "x", 1), 1);
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    CHECK(getsockname(listener, (struct sockaddr *)&address, &len) == 0);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(client, (struct sockaddr *)&address, len) == 0);
    for (int i = 0; i < 2 * COUNT; i++)
        CHECK(pthread_join(threads[i / COUNT][i % COUNT], NULL) == 0);
    CHECK(errors[1][READ] == 0 && errors[1][ACCEPT] == 0 && errors[1][READ_TIMEOUT] == EINTR);
    return 0;
}
