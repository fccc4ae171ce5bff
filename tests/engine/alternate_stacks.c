/* An alternate stack for each thread, as Go and the JVM have it: at its place, with its size and flags, used by a signal
 * after the thaw; disabled in one thread; a guard page below each, where an overflow is noticed.
 *
 * conformance: signals | alternate stacks of each thread | kept |
 */
#include "look.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#define THREADS 12
#define STACK_BYTES (16 * TEST_PAGE)

static volatile int ready, go, on_own[THREADS];
static char *stacks[THREADS];
static __thread int self = -1;

static void on_signal(int number, siginfo_t *info, void *context)
{
    char here;
    stack_t stack;
    (void)number;
    (void)info;
    (void)context;
    CHECK(sigaltstack(NULL, &stack) == 0);
    on_own[self] = &here > stacks[self] && &here < stacks[self] + STACK_BYTES && stack.ss_flags == SS_ONSTACK;
}

static void *run(void *argument)
{
    self = (int)(intptr_t)argument;
    char *area = test_map(STACK_BYTES + TEST_PAGE, PROT_READ | PROT_WRITE);
    CHECK(mprotect(area, TEST_PAGE, PROT_NONE) == 0);
    stacks[self] = area + TEST_PAGE;
    stack_t stack = {.ss_sp = stacks[self], .ss_size = STACK_BYTES, .ss_flags = self == 3 ? SS_DISABLE : 0},
            now;
    CHECK(sigaltstack(&stack, NULL) == 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
    test_wait_word(&go, 1);
    CHECK(sigaltstack(NULL, &now) == 0);
    CHECK_EQUAL(now.ss_flags, self == 3 ? SS_DISABLE : 0);
    CHECK(self == 3 || (now.ss_sp == stacks[self] && now.ss_size == STACK_BYTES));
    CHECK(raise(SIGUSR1) == 0);
    CHECK_EQUAL(on_own[self], self != 3);
    CHECK_EQUAL(test_fault(area, true), SIGSEGV);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (intptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    test_wait_word(&ready, THREADS);

    test_freeze_point();
    stack_t none;
    CHECK(sigaltstack(NULL, &none) == 0 && none.ss_flags == SS_DISABLE);
    go = 1;
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    return 0;
}
