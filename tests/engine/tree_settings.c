/* A parent and two children, each with memory and settings that the others have not: guard regions, seals, locks, advice, the
 * end of a file, wiped memory, limits, signal handlers, timers, names, slack, a faulting time stamp counter. None gets
 * another's.
 *
 * conformance: other processes | what each process of a tree has for itself: memory settings, limits, handlers, timers, prctl | kept | apart from the others'
 */
#include "look.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#define LEN (8 * TEST_PAGE)
#define GUARD_INSTALL 102
#define SYS_MSEAL 462
#define PROCESSES 3

struct board {
    volatile int ready, go;
};

/* At the same addresses in all three, as they are mapped before the forks. */
static struct board *board;
static char *guarded, *sealed, *locked, *advised, *past_end;
static volatile int ticks;

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void set_memory(int self)
{
    char *page = test_map(LEN, PROT_READ | PROT_WRITE);
    test_fill(guarded, LEN, (unsigned)self);
    test_fill(sealed, LEN, (unsigned)self + 10);
    test_fill(locked, LEN, (unsigned)self + 20);
    CHECK(madvise(guarded + (size_t)self * TEST_PAGE, TEST_PAGE, GUARD_INSTALL) == 0);
    if (self == 1)
        CHECK(syscall(SYS_MSEAL, sealed, LEN, 0) == 0 && mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
    if (self == 2)
        CHECK(mlock(locked, 2 * TEST_PAGE) == 0 && madvise(advised, LEN, MADV_DONTFORK) == 0);
    if (self == 0)
        CHECK(madvise(advised, LEN, MADV_SEQUENTIAL) == 0);
    int fd = memfd_create("short", 0);
    CHECK(ftruncate(fd, (self + 1) * (long)TEST_PAGE) == 0);
    CHECK(mmap(past_end, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) == past_end);
    close(fd);
    past_end[5] = (char)self;
    page[0] = 1;
}

static void set_process(int self)
{
    char name[16];
    struct rlimit limit = {40 + (rlim_t)self, 60 + (rlim_t)self};
    struct itimerval timer = {{0, 0}, {500 + self, 0}};
    snprintf(name, sizeof name, "process-%d", self);
    CHECK(prctl(PR_SET_NAME, name) == 0 && setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    CHECK(signal(SIGUSR1, self == 0 ? SIG_IGN : self == 1 ? on_tick : SIG_DFL) != SIG_ERR);
    CHECK(prctl(PR_SET_TIMERSLACK, 60000 + self) == 0);
    CHECK(prctl(PR_SET_TSC, self == 2 ? PR_TSC_SIGSEGV : PR_TSC_ENABLE) == 0);
    if (self == 1)
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
}

static void check_memory(int self)
{
    for (int page = 0; page < 8; page++) {
        CHECK_EQUAL(test_fault(guarded + (size_t)page * TEST_PAGE, false), page == self ? SIGSEGV : 0);
        CHECK_EQUAL(test_fault(past_end + (size_t)page * TEST_PAGE, false), page > self ? SIGBUS : 0);
    }
    CHECK_EQUAL(past_end[5], self);
    CHECK_EQUAL(test_vm_flag(sealed, "sl"), self == 1);
    CHECK(test_filled(sealed, LEN, (unsigned)self + 10) && test_filled(locked, LEN, (unsigned)self + 20));
    CHECK_EQUAL(test_vm_flag(locked, "lo"), self == 2);
    CHECK_EQUAL(test_vm_flag(advised, "dc"), self == 2);
    CHECK_EQUAL(test_vm_flag(advised, "sr"), self == 0);
    char *fresh = test_map(LEN, PROT_READ | PROT_WRITE);
    CHECK_EQUAL(test_vm_flag(fresh, "lo"), self == 1);
}

static void check_process(int self)
{
    char name[16], wanted[16];
    struct rlimit limit;
    struct itimerval timer;
    int counter, subreaper;
    snprintf(wanted, sizeof wanted, "process-%d", self);
    CHECK(prctl(PR_GET_NAME, name) == 0 && strcmp(name, wanted) == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 40 + (rlim_t)self);
    CHECK_EQUAL(limit.rlim_max, 60 + self);
    CHECK(getitimer(ITIMER_REAL, &timer) == 0 && timer.it_value.tv_sec > 300 &&
          timer.it_value.tv_sec <= 500 + self);
    struct sigaction action;
    CHECK(sigaction(SIGUSR1, NULL, &action) == 0);
    CHECK(action.sa_handler == (self == 0 ? SIG_IGN : self == 1 ? on_tick : SIG_DFL));
    CHECK_EQUAL(prctl(PR_GET_TIMERSLACK), 60000 + self);
    CHECK(prctl(PR_GET_TSC, &counter) == 0 && counter == (self == 2 ? PR_TSC_SIGSEGV : PR_TSC_ENABLE));
    CHECK(prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == (self == 1));
    CHECK(self != 1 || (raise(SIGUSR1) == 0 && ticks == 1));
}

static void check(int self)
{
    check_process(self);
    check_memory(self);
}

int main(void)
{
    pid_t children[PROCESSES];
    board = mmap(NULL, TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED);
    guarded = test_map(LEN, PROT_READ | PROT_WRITE);
    sealed = test_map(LEN, PROT_READ | PROT_WRITE);
    locked = test_map(LEN, PROT_READ | PROT_WRITE);
    advised = test_map(LEN, PROT_READ | PROT_WRITE);
    past_end = test_map(LEN, PROT_READ | PROT_WRITE);
    for (int self = 1; self < PROCESSES; self++) {
        children[self] = fork();
        if (children[self] != 0)
            continue;
        set_memory(self);
        set_process(self);
        __atomic_add_fetch(&board->ready, 1, __ATOMIC_RELEASE);
        while (!board->go)
            sched_yield();
        check(self);
        _exit(7 + self);
    }
    set_memory(0);
    set_process(0);
    while (__atomic_load_n(&board->ready, __ATOMIC_ACQUIRE) < PROCESSES - 1)
        usleep(200);

    test_freeze_point();
    check(0);
    board->go = 1;
    for (int self = 1; self < PROCESSES; self++) {
        int status;
        CHECK(waitpid(children[self], &status, 0) == children[self] && WIFEXITED(status));
        CHECK_EQUAL(WEXITSTATUS(status), 7 + self);
    }
    return 0;
}
