/* Every flag of a handler, and what it does after the thaw: SA_NODEFER, SA_RESETHAND, SA_ONSTACK, SA_NOCLDWAIT,
 * SA_NOCLDSTOP, SA_RESTART, masks; ignored and default signals.
 *
 * conformance: signals | handlers with every flag and mask; ignored signals | kept |
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define REALTIME 41

static volatile sig_atomic_t depth, deepest, calls, on_stack, chld;

static void on_signal(int number)
{
    stack_t stack;
    calls++;
    if (++depth > deepest)
        deepest = depth;
    on_stack = sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK);
    if (calls < 3)
        raise(number);
    depth--;
}

static void on_child(int number)
{
    (void)number;
    chld++;
}

static void call(int number, int expected_calls, int expected_depth)
{
    calls = deepest = 0;
    CHECK(raise(number) == 0);
    CHECK_EQUAL(calls, expected_calls);
    CHECK_EQUAL(deepest, expected_depth);
}

static const struct {
    int number, flags, blocked;
} actions[] = {{SIGUSR1, SA_NODEFER, 0}, {SIGUSR2, 0, SIGHUP}, {SIGHUP, SA_RESETHAND | SA_NODEFER, 0},
    {SIGTERM, SA_ONSTACK | SA_RESTART, SIGINT}, {REALTIME, SA_NODEFER | SA_ONSTACK, 0},
    {SIGCHLD, SA_NOCLDWAIT | SA_NOCLDSTOP | SA_RESTART, SIGUSR1}};

int main(void)
{
    stack_t stack = {.ss_sp = test_map(1 << 16, PROT_READ | PROT_WRITE), .ss_size = 1 << 16};
    CHECK(sigaltstack(&stack, NULL) == 0);
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        struct sigaction action = {
            .sa_handler = actions[i].number == SIGCHLD ? on_child : on_signal, .sa_flags = actions[i].flags};
        if (actions[i].blocked)
            sigaddset(&action.sa_mask, actions[i].blocked);
        CHECK(sigaction(actions[i].number, &action, NULL) == 0);
    }
    signal(SIGWINCH, SIG_IGN);
    signal(SIGRTMAX, SIG_IGN);

    test_freeze_point();
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        struct sigaction now;
        CHECK(sigaction(actions[i].number, NULL, &now) == 0);
        CHECK_EQUAL(now.sa_flags & ~0x04000000 /* SA_RESTORER */, actions[i].flags);
        for (int number = 1; number < 65; number++)
            if (number != 32 && number != 33)
                CHECK_EQUAL(sigismember(&now.sa_mask, number), number == actions[i].blocked);
    }
    struct sigaction now;
    CHECK(sigaction(SIGRTMAX, NULL, &now) == 0 && now.sa_handler == SIG_IGN);
    CHECK(raise(SIGWINCH) == 0 && raise(SIGRTMAX) == 0);
    call(SIGUSR1, 3, 3);
    call(SIGUSR2, 3, 1); /* deferred: one after the other, and each raises the next */
    calls = 2;           /* the handler is gone after its first call */
    CHECK(raise(SIGHUP) == 0);
    CHECK_EQUAL(calls, 3);
    CHECK(sigaction(SIGHUP, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    on_stack = 0;
    call(REALTIME, 3, 3);
    CHECK(on_stack);
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    CHECK(waitpid(child, NULL, 0) < 0 && errno == ECHILD); /* SA_NOCLDWAIT leaves no zombie */
    while (!chld)
        usleep(100);
    return 0;
}
