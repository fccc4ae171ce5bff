/* A process that is never still: threads come and go, files open and close, memory is mapped and unmapped, pipes and
 * condition variables hand numbers over, signals interrupt everything. It is frozen at some moment of all that.
 *
 * conformance: whole programs | a process that is never still, frozen at any moment | kept |
 */
#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#define STEPS 300 /* that every worker must do before the freeze, and again after */

static volatile bool stop;
static volatile unsigned long steps[8], signals;

static void on_tick(int number)
{
    (void)number;
    int saved = errno;
    signals++;
    errno = saved;
}

static void *add_one(void *argument)
{
    return (char *)argument + 1;
}

static void *make_threads(void *unused)
{
    (void)unused;
    while (!stop) {
        pthread_t thread;
        void *result;
        CHECK(pthread_create(&thread, NULL, add_one, (void *)steps[0]) == 0);
        CHECK(pthread_join(thread, &result) == 0);
        CHECK_EQUAL((unsigned long)result, steps[0] + 1);
        steps[0]++;
    }
    return NULL;
}

static int there[2], back[2];

static void write_number(int fd, unsigned long number)
{
    ssize_t n;
    while ((n = write(fd, &number, sizeof number)) < 0)
        CHECK_EQUAL(errno, EINTR);
    CHECK_EQUAL(n, sizeof number);
}

static unsigned long read_number(int fd)
{
    unsigned long number = 0;
    ssize_t n;
    while ((n = read(fd, &number, sizeof number)) < 0)
        CHECK_EQUAL(errno, EINTR);
    CHECK(n == sizeof number || n == 0);
    return number;
}

static void *echo(void *unused)
{
    (void)unused;
    for (unsigned long number; (number = read_number(there[0])) != 0;)
        write_number(back[1], number * 3);
    return NULL;
}

static void *ask(void *unused)
{
    (void)unused;
    while (!stop) {
        write_number(there[1], steps[1] + 1);
        CHECK_EQUAL(read_number(back[0]), (steps[1] + 1) * 3);
        steps[1]++;
    }
    close(there[1]);
    return NULL;
}

static void *map_memory(void *unused)
{
    (void)unused;
    while (!stop) {
        size_t len = (1 + steps[2] % 64) * 4096;
        char *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(at != MAP_FAILED);
        memset(at, (int)(steps[2] % 251), len);
        at = mremap(at, len, 2 * len, MREMAP_MAYMOVE);
        CHECK(at != MAP_FAILED && at[len - 1] == (char)(steps[2] % 251) && at[len] == 0);
        CHECK(mprotect(at, len, PROT_READ) == 0 && munmap(at, 2 * len) == 0);
        char *text = malloc(steps[2] % 100000 + 1);
        text[steps[2] % 100000] = 'x';
        free(text);
        steps[2]++;
    }
    return NULL;
}

static void *open_files(void *unused)
{
    char path[64], text[64] = {0};
    (void)unused;
    while (!stop) {
        snprintf(path, sizeof path, "/tmp/churn-%lu", steps[3] % 5);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        CHECK(fd >= 0);
        CHECK_EQUAL(write(fd, path, sizeof path), sizeof path);
        int copy = dup(fd);
        CHECK(copy >= 0 && close(fd) == 0);
        CHECK_EQUAL(pread(copy, text, sizeof text, 0), sizeof text);
        CHECK(strcmp(text, path) == 0 && close(copy) == 0);
        CHECK(steps[3] % 2 || unlink(path) == 0);
        steps[3]++;
    }
    return NULL;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned long turn;

static void *take_turns(void *argument)
{
    unsigned long mine = (unsigned long)argument;
    pthread_mutex_lock(&lock);
    while (!stop) {
        while (turn % 2 != mine && !stop)
            pthread_cond_wait(&changed, &lock);
        if (stop)
            break;
        turn++;
        steps[4 + mine]++;
        pthread_cond_broadcast(&changed);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void *calculate(void *unused)
{
    (void)unused;
    while (!stop) {
        double sum = 0;
        for (int i = 1; i <= 2000; i++)
            sum += 1.0 / ((double)i * i);
        CHECK(sum > 1.6444 && sum < 1.6445);
        CHECK(syscall(SYS_getppid) >= 0);
        steps[6]++;
    }
    return NULL;
}

static void *nap(void *unused)
{
    (void)unused;
    while (!stop) {
        struct timespec left = {0, 200000};
        while (nanosleep(&left, &left) < 0)
            CHECK_EQUAL(errno, EINTR);
        int count = poll(NULL, 0, 1);
        CHECK(count == 0 || (count < 0 && errno == EINTR));
        steps[7]++;
    }
    return NULL;
}

static void wait_for_steps(void)
{
    unsigned long from[8];
    for (int i = 0; i < 8; i++)
        from[i] = steps[i];
    for (int i = 0; i < 8; i++)
        while (steps[i] < from[i] + STEPS)
            sched_yield();
}

int main(void)
{
    static void *(*const workers[])(void *) = {
        make_threads, echo, ask, map_memory, open_files, take_turns, take_turns, calculate, nap};
    pthread_t threads[sizeof workers / sizeof *workers];
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGRTMIN, &action, NULL) == 0 && pipe(there) == 0 && pipe(back) == 0);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct itimerspec period = {{0, 500000}, {0, 500000}};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime(timer, 0, &period, NULL) == 0);
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++)
        CHECK(pthread_create(&threads[i], NULL, workers[i], (void *)(i % 2)) == 0);
    wait_for_steps();
    test_freeze_point();
    unsigned long signals_before = signals;
    wait_for_steps();
    while (signals < signals_before + 10)
        sched_yield();
    pthread_mutex_lock(&lock);
    stop = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
