/* More calls that threads are frozen in: select, accept, a full socket's send, an eventfd's write,
 * a FIFO's open, flock and fcntl locks; loops of sched_yield and getrandom.
 *
 * conformance: system calls | `select`, `accept`, `send` into a full socket, `open` of a FIFO, `flock`, `fcntl(F_SETLKW)` | kept | started again
 */
#include "look.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

enum { SELECT, ACCEPT, SEND, EVENT, FIFO, FLOCK, RANGE, YIELD, RANDOM, COUNT };

static const long calls[COUNT] = {[SELECT] = SYS_pselect6,
    [ACCEPT] = SYS_accept,
    [SEND] = SYS_sendto,
    [EVENT] = SYS_write,
    [FIFO] = SYS_openat,
    [FLOCK] = SYS_flock,
    [RANGE] = SYS_fcntl,
    [YIELD] = -1,
    [RANDOM] = -1};
static pid_t tids[COUNT];
static int pair[2], listener, counter, waiting_flock, waiting_range, ends[2];
static volatile int go;
static struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/listener"};

static void select_end(void)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    int result;
    while ((result = select(ends[0] + 1, &set, NULL, NULL, NULL)) < 0)
        CHECK_EQUAL(errno, EINTR);
    CHECK(result == 1 && FD_ISSET(ends[0], &set));
}

static void *run(void *argument)
{
    int which = (int)(intptr_t)argument;
    struct flock range = {.l_type = F_WRLCK, .l_start = 10, .l_len = 5};
    char bytes[64];
    __atomic_store_n(&tids[which], test_gettid(), __ATOMIC_RELEASE);
    switch (which) {
    case SELECT:
        select_end();
        break;
    case ACCEPT:
        CHECK(accept(listener, NULL, NULL) >= 0);
        break;
    case SEND:
        CHECK_EQUAL(send(pair[0], "last", 4, 0), 4);
        break;
    case EVENT:
        CHECK(eventfd_write(counter, 2) == 0);
        break;
    case FIFO:
        CHECK(open("/tmp/fifo", O_RDONLY) >= 0);
        break;
    case FLOCK:
        CHECK(flock(waiting_flock, LOCK_EX) == 0);
        break;
    case RANGE:
        CHECK(fcntl(waiting_range, F_OFD_SETLKW, &range) == 0);
        break;
    case YIELD:
        while (!go)
            sched_yield();
        break;
    case RANDOM:
        while (!go)
            CHECK_EQUAL(getrandom(bytes, sizeof bytes, 0), sizeof bytes);
        break;
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[COUNT];
    static char block[4096];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0 && pipe(ends) == 0 && mkfifo("/tmp/fifo", 0600) == 0);
    while (send(pair[0], block, sizeof block, MSG_DONTWAIT) > 0)
        ;
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 5) == 0);
    counter = eventfd(0, 0);
    CHECK(eventfd_write(counter, 0xfffffffffffffffdull) == 0); /* two more do not fit */
    int holding = open("/tmp/locked", O_RDWR | O_CREAT, 0600);
    waiting_flock = open("/tmp/locked", O_RDWR);
    waiting_range = open("/tmp/locked", O_RDWR);
    struct flock range = {.l_type = F_WRLCK, .l_start = 0, .l_len = 12};
    CHECK(flock(holding, LOCK_EX) == 0 && fcntl(holding, F_OFD_SETLK, &range) == 0);
    for (intptr_t i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < COUNT; i++) {
        while (__atomic_load_n(&tids[i], __ATOMIC_ACQUIRE) == 0)
            usleep(100);
        if (calls[i] >= 0)
            test_wait_blocked(tids[i], calls[i]);
    }

    test_freeze_point();
    go = 1;
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    ssize_t got;
    while ((got = recv(pair[1], block, sizeof block, 0)) == (ssize_t)sizeof block)
        ;
    CHECK(got == 4 && memcmp(block, "last", 4) == 0);
    uint64_t value;
    CHECK(eventfd_read(counter, &value) == 0 && value == 0xfffffffffffffffdull);
    CHECK(open("/tmp/fifo", O_WRONLY) >= 0);
    CHECK(flock(holding, LOCK_UN) == 0);
    range.l_type = F_UNLCK;
    CHECK(fcntl(holding, F_OFD_SETLK, &range) == 0);
    for (int i = 0; i < COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(eventfd_read(counter, &value) == 0 && value == 2);
    return 0;
}
