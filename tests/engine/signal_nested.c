/* Frozen three handlers deep, in two threads, on alternate stacks of which one disarms itself (SS_AUTODISARM); all return,
 * one of them with siglongjmp.
 *
 * conformance: signals | nested handlers, `SS_AUTODISARM`, `siglongjmp` out of a handler that was frozen | kept |
 */
#include "look.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static volatile int go, ready;
static __thread volatile int level, deepest, returned;
static __thread sigjmp_buf out;
static __thread bool first_thread;

static void on_signal(int number, siginfo_t *info, void *context)
{
    volatile int value = number * 1000 + ++level;
    ucontext_t *frame = context;
    CHECK_EQUAL(info->si_signo, number);
    if (level > deepest)
        deepest = level;
    if (number < SIGRTMIN + 4) {
        CHECK(raise(number + 1) == 0);
    } else if (first_thread) {
        test_freeze_point();
        go = 1;
    } else {
        __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
        test_wait_word(&go, 1);
        siglongjmp(out, 5);
    }
    CHECK_EQUAL(value, number * 1000 + level);
    CHECK(frame->uc_mcontext.gregs[REG_RIP] != 0);
    level--;
    returned++;
}

static void set_stack(unsigned flags)
{
    stack_t stack = {
        .ss_sp = test_map(1 << 17, PROT_READ | PROT_WRITE), .ss_size = 1 << 17, .ss_flags = (int)flags};
    CHECK(sigaltstack(&stack, NULL) == 0);
}

static void *run(void *unused)
{
    (void)unused;
    stack_t stack;
    set_stack(0);
    int jumped = sigsetjmp(out, 1);
    if (jumped == 0)
        raise(SIGRTMIN + 2);
    CHECK(jumped == 5 && level == 3 && returned == 0);
    CHECK(sigaltstack(NULL, &stack) == 0 && stack.ss_flags == 0 && stack.ss_size == 1 << 17);
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && sigisemptyset(&mask));
    return NULL;
}

int main(void)
{
    pthread_t thread;
    for (int number = SIGRTMIN + 2; number <= SIGRTMIN + 4; number++) {
        struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        CHECK(sigaction(number, &action, NULL) == 0);
    }
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
    test_wait_word(&ready, 1);
    first_thread = true;
    set_stack(SS_AUTODISARM);
    CHECK(raise(SIGRTMIN + 2) == 0);
    CHECK(level == 0 && deepest == 3 && returned == 3);
    stack_t stack;
    CHECK(sigaltstack(NULL, &stack) == 0);
    CHECK_EQUAL((unsigned)stack.ss_flags, SS_AUTODISARM);
    CHECK_EQUAL(stack.ss_size, 1 << 17);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
