/* Children that have ended and were not waited for, by exit and by a signal; one that ends after the thaw; an
 * orphan, and a daemon in a session whose leader is gone. SIGCHLD comes for what ends, and for nothing else.
 *
 * conformance: other processes | children that have ended and were not waited for | kept | by exit or by a signal, with their status
 * conformance: other processes | orphans and daemons | kept | children of pid 1, also in a session whose leader is gone
 * conformance: other processes | `SIGCHLD` and `wait` | kept | for what ends in the clone, and for nothing else
 */
#include "engine.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static volatile sig_atomic_t child_signals;

static void count_signal(int number)
{
    (void)number;
    child_signals++;
}

static void handle_children(void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGCHLD, &action, NULL) == 0);
}

static pid_t start(void (*run)(int), int argument)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        run(argument);
        _exit(99);
    }
    return pid;
}

static void await_zombie(pid_t pid)
{
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

static void end_by_exit(int status)
{
    _exit(status);
}

static void end_by_signal(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

static void end_at_byte(int fd)
{
    char byte = 0;
    CHECK_EQUAL(read(fd, &byte, 1), 1);
    _exit(byte);
}

struct orphans {
    volatile pid_t orphan, lone, daemon, session;
    volatile int answers;
};
static struct orphans *orphans;
static int to_orphans[2], from_orphans[2];

/* Answers each byte with its parent's number and session. */
static void run_orphan(void)
{
    char byte;
    while (read(to_orphans[0], &byte, 1) == 1) {
        int answer[3] = {getpid(), getppid(), getsid(0)};
        CHECK_EQUAL(write(from_orphans[1], answer, sizeof answer), sizeof answer);
    }
    _exit(0);
}

/* Forks one process and ends: an orphan, which is the sandbox's pid 1's. */
static void leave_orphan(int own_session)
{
    if (own_session == 1)
        orphans->session = setsid();
    pid_t pid = fork();
    if (pid == 0) {
        close(to_orphans[1]);
        close(from_orphans[0]);
        while (getppid() != 1)
            usleep(1000);
        if (own_session == 2)
            CHECK(setsid() == getpid());
        int ready = 1;
        CHECK_EQUAL(write(from_orphans[1], &ready, sizeof ready), sizeof ready);
        run_orphan();
    }
    *(own_session == 0 ? &orphans->orphan : own_session == 1 ? &orphans->daemon : &orphans->lone) = pid;
    _exit(0);
}

static void make_orphans(void)
{
    int ready, status;
    orphans = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(pipe(to_orphans) == 0 && pipe(from_orphans) == 0);
    for (int kind = 0; kind < 3; kind++) {
        pid_t pid = start(leave_orphan, kind);
        CHECK_EQUAL(waitpid(pid, &status, 0), pid);
        CHECK_EQUAL(read(from_orphans[0], &ready, sizeof ready), sizeof ready);
    }
}

static void check_orphans(void)
{
    int seen = 0;
    CHECK_EQUAL(kill(orphans->orphan, 0), 0);
    CHECK_EQUAL(kill(orphans->daemon, 0), 0);
    CHECK_EQUAL(kill(orphans->session, 0), -1); /* its leader is gone */
    /* Three answer, but one may answer for another. */
    for (int tries = 0; tries < 100000 && seen != 7; tries++) {
        int answer[3];
        CHECK_EQUAL(write(to_orphans[1], "?", 1), 1);
        CHECK_EQUAL(read(from_orphans[0], answer, sizeof answer), sizeof answer);
        CHECK_EQUAL(answer[1], 1);
        if (answer[0] == orphans->daemon)
            CHECK_EQUAL(answer[2], orphans->session);
        else if (answer[0] == orphans->lone)
            CHECK_EQUAL(answer[2], orphans->lone);
        else
            CHECK_EQUAL(answer[2], getsid(0));
        seen |= answer[0] == orphans->daemon ? 1 : answer[0] == orphans->lone ? 2 : 4;
        usleep(100);
    }
    CHECK_EQUAL(seen, 7);
    close(to_orphans[1]);
}

int main(void)
{
    int ends[2], status;
    sigset_t children, pending;
    make_orphans();
    CHECK(pipe(ends) == 0);
    handle_children(count_signal);
    pid_t exited = start(end_by_exit, 42), killed = start(end_by_signal, SIGTERM);
    pid_t later = start(end_at_byte, ends[0]);
    await_zombie(exited);
    await_zombie(killed);
    /* Whatever of SIGCHLD there was has been delivered; then nothing more. */
    while (child_signals == 0)
        usleep(1000);
    child_signals = 0;
    /* A signal ignored since does not make zombies vanish. */
    handle_children(SIG_IGN);
    test_freeze_point();
    handle_children(count_signal);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD));
    CHECK_EQUAL(child_signals, 0);
    CHECK_EQUAL(waitpid(exited, &status, WNOHANG), exited);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    CHECK_EQUAL(waitpid(killed, &status, WNOHANG), killed);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    CHECK_EQUAL(waitpid(later, &status, WNOHANG), 0);
    check_orphans();
    CHECK_EQUAL(child_signals, 0);
    char byte = (char)(50 + test_clone_index);
    CHECK_EQUAL(write(ends[1], &byte, 1), 1);
    while (child_signals == 0)
        usleep(1000);
    CHECK_EQUAL(waitpid(-1, &status, 0), later);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == byte);
    CHECK_EQUAL(child_signals, 1);
    CHECK_EQUAL(waitpid(-1, &status, 0), -1);
    return 0;
}
