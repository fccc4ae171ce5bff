/* The widest registers that the processor has: zmm0 to zmm31 and the masks k1 to k7 in a thread that spins over them.
 * Where there is no AVX-512, xmm0 to xmm15 stand for them.
 *
 * conformance: registers | SSE, AVX-512 and its masks | kept | as wide as the processor has them
 */
#include "engine.h"

#include <pthread.h>

static volatile uint32_t go, spinning;
static uint8_t pattern[32 * 64] __attribute__((aligned(64))), after[32 * 64] __attribute__((aligned(64)));
static uint64_t masks[8], masks_after[8];

#define LOAD(n) "vmovdqu64 " #n "*64(%[p]), %%zmm" #n "\n"
#define STORE(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%[a])\n"
#define LOAD_MASK(n) "kmovq " #n "*8(%[m]), %%k" #n "\n"
#define STORE_MASK(n) "kmovq %%k" #n ", " #n "*8(%[o])\n"
#define EACH(m) \
    m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15) m(16) m(17) m(18) \
        m(19) m(20) m(21) m(22) m(23) m(24) m(25) m(26) m(27) m(28) m(29) m(30) m(31)
#define EACH_MASK(m) m(1) m(2) m(3) m(4) m(5) m(6) m(7)

__attribute__((noinline)) static void spin_wide(void)
{
    __asm__ volatile(EACH(LOAD) EACH_MASK(LOAD_MASK) "movl $1, %[spinning]\n"
                                                     "1: pause\n cmpl $0, %[go]\n je 1b\n" EACH(STORE)
                                                         EACH_MASK(STORE_MASK) "vzeroupper\n"
                     : [spinning] "=m"(spinning)
                     : [p] "r"(pattern), [a] "r"(after), [m] "r"(masks), [o] "r"(masks_after), [go] "m"(go)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                     "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

#define LOAD_NARROW(n) "movdqu " #n "*64(%[p]), %%xmm" #n "\n"
#define STORE_NARROW(n) "movdqu %%xmm" #n ", " #n "*64(%[a])\n"
#define EACH_NARROW(m) m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15)

__attribute__((noinline)) static void spin_narrow(void)
{
    __asm__ volatile(EACH_NARROW(LOAD_NARROW) "movl $1, %[spinning]\n"
                                              "1: pause\n cmpl $0, %[go]\n je 1b\n" EACH_NARROW(STORE_NARROW)
                     : [spinning] "=m"(spinning)
                     : [p] "r"(pattern), [a] "r"(after), [go] "m"(go)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                     "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void *run(void *wide)
{
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (uint8_t)(i * 131 + 7);
    for (uint64_t i = 1; i < 8; i++)
        masks[i] = i * 0x0123456789abcdefull;
    if (wide) {
        spin_wide();
        CHECK(memcmp(pattern, after, sizeof pattern) == 0);
        CHECK(memcmp(masks, masks_after, sizeof masks) == 0);
    } else {
        spin_narrow();
        for (int i = 0; i < 16; i++)
            CHECK(memcmp(pattern + i * 64, after + i * 64, 16) == 0);
    }
    return wide;
}

int main(void)
{
    pthread_t thread;
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    CHECK(pthread_create(&thread, NULL, run, wide ? &thread : NULL) == 0);
    while (!spinning)
        ;
    test_freeze_point();
    go = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
