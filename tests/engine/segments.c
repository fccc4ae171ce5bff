/* The FS and GS bases, set with arch_prctl and with the instructions, of several threads; what arch_prctl knows beside
 * them: CPUID faulting, shadow stacks, address masking, permissions for extended registers.
 *
 * conformance: registers | FS and GS base, of each thread | kept |
 * conformance: registers | `arch_prctl`: CPUID faulting, of each thread | kept | or the processor has none
 * conformance: registers | `PR_SET_TSC`, of each thread | kept |
 */
#include "look.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define THREADS 3
#define ARCH_SHSTK_STATUS_VALUE 0x5005
#define ARCH_GET_UNTAG_MASK_VALUE 0x4001
#define ARCH_GET_XCOMP_PERM_VALUE 0x1022

static volatile int ready, go;
static uint64_t blocks[THREADS + 1][64];

static uint64_t read_gs(void)
{
    uint64_t value;
    __asm__ volatile("movq %%gs:8, %0" : "=r"(value));
    return value;
}

static bool cpuid_works(void)
{
    bool works = true;
    /* The handler of test_fault cannot be asked for an instruction; so ask the kernel. */
    long allowed = syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0);
    if (allowed >= 0)
        works = allowed == 1;
    return works;
}

static void *run(void *argument)
{
    size_t index = (size_t)(uintptr_t)argument;
    blocks[index][1] = index * 1000 + 1;
    if (index == 1)
        CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, blocks[index]) == 0);
    else
        __asm__ volatile("wrgsbase %0" ::"r"((uint64_t)blocks[index]));
    bool can_fault = syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1) == 0;
    if (can_fault && index == 2)
        CHECK(syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0) == 0);
    CHECK(prctl(PR_SET_TSC, index == 3 ? PR_TSC_SIGSEGV : PR_TSC_ENABLE) == 0);
    __atomic_add_fetch(&ready, 1, __ATOMIC_RELEASE);
    test_wait_word(&go, 1);
    CHECK_EQUAL(read_gs(), index * 1000 + 1);
    uint64_t base = 0;
    CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0 && base == (uint64_t)blocks[index]);
    CHECK_EQUAL(cpuid_works(), !(can_fault && index == 2));
    int tsc = 0;
    CHECK(prctl(PR_GET_TSC, &tsc) == 0);
    CHECK_EQUAL(tsc, index == 3 ? PR_TSC_SIGSEGV : PR_TSC_ENABLE);
    CHECK_EQUAL(syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1) == 0, can_fault);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    uint64_t shadow[2] = {0}, untag[2] = {0}, permitted[2] = {0};
    long results[2][3];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, (void *)(i + 1)) == 0);
    test_wait_word(&ready, THREADS);
    for (int i = 0; i < 2; i++) {
        results[i][0] = syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS_VALUE, &shadow[i]);
        results[i][1] = syscall(SYS_arch_prctl, ARCH_GET_UNTAG_MASK_VALUE, &untag[i]);
        results[i][2] = syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM_VALUE, &permitted[i]);
        if (i == 0)
            test_freeze_point();
    }
    go = 1;
    CHECK(memcmp(results[0], results[1], sizeof results[0]) == 0);
    CHECK(shadow[0] == shadow[1] && untag[0] == untag[1] && permitted[0] == permitted[1]);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(cpuid_works());
    return 0;
}
