/* Vector and general registers that are live across the freeze: a thread spins over its registers, in
 * assembly, until memory tells it to compare them.
 *
 * conformance: registers | AVX registers, x87 control word, MXCSR | kept | the signal frame of `rt_sigreturn`
 */
#include "engine.h"

#include <pthread.h>

static volatile uint32_t go, result;
static volatile uint32_t spinning;

/* Fills ymm0-ymm15 and some general registers, spins, and then counts what has changed. */
static uint32_t spin_over_registers(const uint8_t pattern[512], uint8_t after[512], uint64_t general[8])
{
    uint64_t r8_ = 0x8888, r9_ = 0x9999, r12_ = 0xcccc;
    __asm__ volatile("vmovdqu 0x000(%[p]), %%ymm0\n vmovdqu 0x020(%[p]), %%ymm1\n"
                     "vmovdqu 0x040(%[p]), %%ymm2\n vmovdqu 0x060(%[p]), %%ymm3\n"
                     "vmovdqu 0x080(%[p]), %%ymm4\n vmovdqu 0x0a0(%[p]), %%ymm5\n"
                     "vmovdqu 0x0c0(%[p]), %%ymm6\n vmovdqu 0x0e0(%[p]), %%ymm7\n"
                     "vmovdqu 0x100(%[p]), %%ymm8\n vmovdqu 0x120(%[p]), %%ymm9\n"
                     "vmovdqu 0x140(%[p]), %%ymm10\n vmovdqu 0x160(%[p]), %%ymm11\n"
                     "vmovdqu 0x180(%[p]), %%ymm12\n vmovdqu 0x1a0(%[p]), %%ymm13\n"
                     "vmovdqu 0x1c0(%[p]), %%ymm14\n vmovdqu 0x1e0(%[p]), %%ymm15\n"
                     "movq $0x8888, %%r8\n movq $0x9999, %%r9\n movq $0xcccc, %%r12\n"
                     "movl $1, %[spinning]\n"
                     "1: pause\n cmpl $0, %[go]\n je 1b\n"
                     "vmovdqu %%ymm0, 0x000(%[a])\n vmovdqu %%ymm1, 0x020(%[a])\n"
                     "vmovdqu %%ymm2, 0x040(%[a])\n vmovdqu %%ymm3, 0x060(%[a])\n"
                     "vmovdqu %%ymm4, 0x080(%[a])\n vmovdqu %%ymm5, 0x0a0(%[a])\n"
                     "vmovdqu %%ymm6, 0x0c0(%[a])\n vmovdqu %%ymm7, 0x0e0(%[a])\n"
                     "vmovdqu %%ymm8, 0x100(%[a])\n vmovdqu %%ymm9, 0x120(%[a])\n"
                     "vmovdqu %%ymm10, 0x140(%[a])\n vmovdqu %%ymm11, 0x160(%[a])\n"
                     "vmovdqu %%ymm12, 0x180(%[a])\n vmovdqu %%ymm13, 0x1a0(%[a])\n"
                     "vmovdqu %%ymm14, 0x1c0(%[a])\n vmovdqu %%ymm15, 0x1e0(%[a])\n"
                     "movq %%r8, %[r8]\n movq %%r9, %[r9]\n movq %%r12, %[r12]\n"
                     "vzeroupper\n"
                     : [spinning] "=m"(spinning), [r8] "=m"(r8_), [r9] "=m"(r9_), [r12] "=m"(r12_)
                     : [p] "r"(pattern), [a] "r"(after), [go] "m"(go)
                     : "memory", "cc", "r8", "r9", "r12", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
                     "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    general[0] = r8_;
    general[1] = r9_;
    general[2] = r12_;
    uint32_t wrong = 0;
    for (int i = 0; i < 512; i++)
        wrong += pattern[i] != after[i];
    return wrong;
}

static void *run(void *unused)
{
    static uint8_t pattern[512], after[512];
    uint64_t general[8] = {0};
    (void)unused;
    for (int i = 0; i < 512; i++)
        pattern[i] = (uint8_t)(i * 37 + 11);
    uint16_t control = 0x027f, control_after = 0; /* the x87 unit in double precision */
    uint32_t mxcsr = 0x9fc0, mxcsr_after = 0;     /* flush to zero, denormals are zero */
    __asm__ volatile("fldcw %0\n ldmxcsr %1" ::"m"(control), "m"(mxcsr));
    uint32_t wrong = spin_over_registers(pattern, after, general);
    __asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(control_after), "=m"(mxcsr_after));
    CHECK_EQUAL(wrong, 0);
    CHECK(general[0] == 0x8888 && general[1] == 0x9999 && general[2] == 0xcccc);
    CHECK_EQUAL(control_after, control);
    CHECK_EQUAL(mxcsr_after & 0xffc0, mxcsr);
    result = 1;
    return NULL;
}

int main(void)
{
    pthread_t thread;
    CHECK(__builtin_cpu_supports("avx")); /* every machine that this runs on has it */
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
    while (!spinning)
        ;
    test_freeze_point();
    go = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(result, 1);
    return 0;
}
