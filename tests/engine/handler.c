/* Frozen inside a signal handler that runs on an alternate stack and interrupted a computation: the handler
 * returns to it in the clone.
 *
 * conformance: signals | a handler that runs, on an alternate stack | kept | it returns to what it interrupted
 */
#include "engine.h"

#include <signal.h>
#include <sys/mman.h>

static volatile uint64_t sum;
static volatile sig_atomic_t in_handler;

static void on_signal(int number, siginfo_t *info, void *context)
{
    stack_t stack;
    (void)info;
    (void)context;
    CHECK_EQUAL(number, SIGUSR1);
    CHECK(sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK));
    in_handler = 1;
    test_freeze_point();
    CHECK(sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_ONSTACK));
    char here;
    CHECK(&here >= (char *)stack.ss_sp && &here < (char *)stack.ss_sp + stack.ss_size);
    sigset_t mask;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && sigismember(&mask, SIGUSR1) &&
          sigismember(&mask, SIGWINCH));
    in_handler = 2;
}

int main(void)
{
    size_t size = 1 << 16;
    stack_t stack = {.ss_sp = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
        .ss_size = size};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_ONSTACK | SA_SIGINFO};
    CHECK(stack.ss_sp != MAP_FAILED && sigaltstack(&stack, NULL) == 0);
    sigaddset(&action.sa_mask, SIGWINCH);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    double product = 1;
    for (int i = 1; i <= 1000; i++) {
        sum += (uint64_t)i;
        product *= 1.001;
        if (i == 500)
            raise(SIGUSR1);
    }
    CHECK_EQUAL(in_handler, 2);
    CHECK_EQUAL(sum, 500500);
    CHECK(product > 2.716 && product < 2.717);
    sigset_t mask;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGUSR1) &&
          !sigismember(&mask, SIGWINCH));
    CHECK(sigaltstack(NULL, &stack) == 0 && stack.ss_flags == 0 && stack.ss_size == size);
    return 0;
}
