/* Threads that are frozen in system calls: each goes on as if nothing had been, or sees EINTR where the
 * manual says that a stop may cause it.
 *
 * conformance: system calls | `nanosleep`, `poll`, `epoll_wait`, `futex`, `read`, `write`, `recv` | noted | started again; with a relative time-out that has begun they give `EINTR`, as after `SIGSTOP` and `SIGCONT`
 */
#include "engine.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
    SLEEP,
    SLEEP_UNTIL,
    POLL,
    POLL_TIMEOUT,
    EPOLL,
    EPOLL_TIMEOUT,
    FUTEX,
    FUTEX_TIMEOUT,
    READ,
    WRITE,
    RECV,
    COUNT
};

static pid_t tids[COUNT];
static int trigger[2], full[2], pair[2], counter, set;
static uint32_t word, never;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void sleep_relative(void)
{
    struct timespec left = {1, 0};
    int64_t start = now_ns();
    while (nanosleep(&left, &left) < 0)
        CHECK_EQUAL(errno, EINTR);
    CHECK(now_ns() - start >= 1000000000);
}

static void sleep_until(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec++;
    int result;
    while ((result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL)) != 0)
        CHECK_EQUAL(result, EINTR);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    CHECK(now.tv_sec > at.tv_sec || (now.tv_sec == at.tv_sec && now.tv_nsec >= at.tv_nsec));
}

static void poll_for(int timeout)
{
    struct pollfd wait = {timeout < 0 ? trigger[0] : pair[1], POLLIN, 0};
    int result;
    while ((result = poll(&wait, 1, timeout)) < 0)
        CHECK_EQUAL(errno, EINTR);
    CHECK_EQUAL(result, timeout < 0);
}

static void epoll_for(int timeout)
{
    struct epoll_event event;
    int result, own = epoll_create1(0);
    while ((result = epoll_wait(timeout < 0 ? set : own, &event, 1, timeout)) < 0)
        CHECK_EQUAL(errno, EINTR);
    CHECK_EQUAL(result, timeout < 0);
}

static void futex_for(struct timespec *timeout)
{
    uint32_t *at = timeout ? &never : &word;
    long result = 0;
    while (__atomic_load_n(at, __ATOMIC_ACQUIRE) == 0) {
        result = syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, 0, timeout, NULL, 0);
        if (result < 0 && errno == ETIMEDOUT)
            break;
        CHECK(result == 0 || errno == EINTR || errno == EAGAIN);
    }
    CHECK(!timeout || result < 0);
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument;
    char byte = 0;
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    switch (which) {
    case SLEEP:
        sleep_relative();
        break;
    case SLEEP_UNTIL:
        sleep_until();
        break;
    case POLL:
        poll_for(-1);
        break;
    case POLL_TIMEOUT:
        poll_for(1000);
        break;
    case EPOLL:
        epoll_for(-1);
        break;
    case EPOLL_TIMEOUT:
        epoll_for(1000);
        break;
    case FUTEX:
        futex_for(NULL);
        break;
    case FUTEX_TIMEOUT:
        futex_for(&(struct timespec){1, 0});
        break;
    case READ:
        CHECK_EQUAL(read(counter, &(uint64_t){0}, 8), 8);
        break;
    case WRITE:
        CHECK_EQUAL(write(full[1], "x", 1), 1);
        break;
    case RECV:
        CHECK_EQUAL(recv(pair[0], &byte, 1, 0), 1);
        CHECK_EQUAL(byte, 'r');
        break;
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[COUNT];
    static char page[65536];
    CHECK(
        pipe(trigger) == 0 && pipe2(full, O_NONBLOCK) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK_EQUAL(write(full[1], page, sizeof page), sizeof page);
    CHECK(fcntl(full[1], F_SETFL, 0) == 0);
    set = epoll_create1(0);
    counter = eventfd(0, 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, trigger[0], &(struct epoll_event){.events = EPOLLIN}) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i) == 0);
    for (int i = 0; i < COUNT; i++) {
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(1000);
        test_wait_blocked(tids[i], -1);
    }
    test_freeze_point();
    CHECK_EQUAL(write(trigger[1], "t", 1), 1);
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    CHECK(eventfd_write(counter, 1) == 0);
    CHECK_EQUAL(send(pair[1], "r", 1, 0), 1);
    CHECK_EQUAL(read(full[0], page, sizeof page), sizeof page);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK_EQUAL(read(full[0], page, 2), 1);
    return 0;
}
