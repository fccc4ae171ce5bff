/* Sessions and process groups: a shell's pipelines, one whose leader has ended, a child that was forked before its
 * parent made a session, and one after; groups can be waited for and signalled in clones.
 *
 * conformance: other processes | sessions and process groups | kept | also such as have lost their leader
 */
#include "engine.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PROCESSES 7

struct seat {
    volatile pid_t pid, parent, group, session;
};
static struct seat *seats;
static int done[2];

static void take_seat(int index)
{
    seats[index].parent = getppid();
    seats[index].group = getpgid(0);
    seats[index].session = getsid(0);
    __atomic_store_n(&seats[index].pid, getpid(), __ATOMIC_RELEASE);
}

static void await_seat(int index)
{
    while (__atomic_load_n(&seats[index].pid, __ATOMIC_ACQUIRE) == 0)
        usleep(1000);
}

/* Frozen in the read; then says whether all is as it was. */
static void stay(int index)
{
    char byte;
    take_seat(index);
    CHECK_EQUAL(read(done[0], &byte, 1), 0);
    CHECK_EQUAL(getpid(), seats[index].pid);
    CHECK_EQUAL(getppid(), seats[index].parent);
    CHECK_EQUAL(getpgid(0), seats[index].group);
    CHECK_EQUAL(getsid(0), seats[index].session);
    _exit(10 + index);
}

static pid_t start(void (*run)(int), int index)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(done[1]);
        run(index);
        _exit(0);
    }
    return pid;
}

/* Its first child is in the old session, its second in the new one. */
static void lead_session(int index)
{
    int status;
    pid_t before = start(stay, index + 1);
    await_seat(index + 1);
    CHECK(setsid() == getpid());
    pid_t after = start(stay, index + 2);
    await_seat(index + 2);
    CHECK(seats[index + 1].session != getpid() && seats[index + 2].session == getpid());
    take_seat(index);
    char byte;
    CHECK_EQUAL(read(done[0], &byte, 1), 0);
    CHECK_EQUAL(getsid(0), getpid());
    CHECK_EQUAL(waitpid(before, &status, 0), before);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 10 + index + 1);
    CHECK_EQUAL(waitpid(after, &status, 0), after);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 10 + index + 2);
    _exit(10 + index);
}

static void end_at_once(int index)
{
    (void)index;
}

int main(void)
{
    int status;
    seats = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(pipe(done) == 0);
    CHECK(setsid() == getpid());
    /* A pipeline: the first leads the group. The second's group has lost its leader. */
    pid_t first = start(stay, 0), second = start(stay, 1);
    CHECK(setpgid(first, first) == 0 && setpgid(second, first) == 0);
    pid_t lost = start(end_at_once, 0);
    CHECK(setpgid(lost, lost) == 0 || errno == EACCES || errno == ESRCH);
    pid_t third = start(stay, 2);
    await_seat(2);
    bool in_lost_group = setpgid(third, lost) == 0; /* if it was still there, or is a zombie: it is */
    CHECK_EQUAL(waitpid(lost, &status, 0), lost);
    start(lead_session, 3);
    await_seat(0);
    await_seat(1);
    for (int i = 0; i < 6; i++)
        await_seat(i);
    for (int i = 0; i < 6; i++)
        seats[i].group = getpgid(seats[i].pid);
    CHECK(in_lost_group && seats[2].group == lost && kill(lost, 0) == -1);
    CHECK_EQUAL(seats[1].group, first);
    test_freeze_point();
    CHECK_EQUAL(kill(-lost, 0), 0);
    CHECK_EQUAL(kill(lost, 0), -1); /* nobody has the number itself */
    close(done[1]);
    int seen = 0, count = 0;
    for (; count < 2; count++) {
        CHECK(waitpid(-first, &status, 0) > 0); /* the pipeline */
        seen |= 1 << (WEXITSTATUS(status) - 10);
    }
    CHECK_EQUAL(seen, 3);
    CHECK_EQUAL(waitpid(-first, &status, 0), -1);
    for (pid_t pid; (pid = waitpid(-1, &status, 0)) > 0; count++)
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) >= 10);
    CHECK_EQUAL(count, 4);
    return 0;
}
