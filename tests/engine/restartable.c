/* Threads inside restartable sequences (rseq), which never leave them by themselves: each goes to its abort handler, and
 * the sequence can be entered again.
 *
 * conformance: threads | rseq registrations, and threads inside a restartable sequence | kept | they go to the abort handler
 */
#include "look.h"

#include <linux/rseq.h>
#include <pthread.h>
#include <sys/rseq.h>

#define THREADS 3

static volatile int go, entered[THREADS], aborted[THREADS];

/* Enters a sequence that spins for ever; comes back when the kernel (or a thaw) aborts it. */
static void enter_sequence(volatile int *inside)
{
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    __asm__ volatile(".pushsection __rseq_cs, \"aw\"\n .balign 32\n"
                     "3: .long 0, 0\n .quad 1f, 2f - 1f, 4f\n .popsection\n"
                     "leaq 3b(%%rip), %%rax\n movq %%rax, %[cs]\n"
                     "1: movl $1, %[inside]\n"
                     "5: pause\n jmp 5b\n"
                     "2:\n"
                     ".pushsection __rseq_failure, \"ax\"\n"
                     ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
                     "4: jmp 6f\n .popsection\n"
                     "6:\n"
                     : [inside] "=m"(*inside), [cs] "=m"(area->rseq_cs)
                     :
                     : "memory", "cc", "rax");
}

static void *run(void *argument)
{
    size_t index = (size_t)(uintptr_t)argument;
    do {
        enter_sequence(&entered[index]);
        __atomic_add_fetch(&aborted[index], 1, __ATOMIC_RELEASE);
    } while (!go);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    CHECK(__rseq_size > 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        while (!entered[i])
            usleep(100);

    test_freeze_point();
    go = 1; /* whoever is inside still has to be aborted: by the thaw, or by losing the processor */
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(aborted[i] > 0);
    return 0;
}
