/* General registers, the arithmetic and direction flags, the x87 stack with values on it, rounding modes: of a thread that
 * spins, frozen at any of its instructions.
 *
 * conformance: registers | general registers, flags (direction too), the x87 stack, rounding modes | kept |
 */
#include "engine.h"

#include <fenv.h>
#include <math.h>
#include <pthread.h>

static volatile uint32_t go, spinning;

static void *run(void *unused)
{
    uint64_t flags = 0, values[12] = {0};
    double x87[3];
    (void)unused;
    __asm__ volatile(
        "fninit\n fldpi\n fld1\n fldl2e\n"
        "movq $0x1111111111111111, %%rbx\n movq $0x2222222222222222, %%rsi\n"
        "movq $0x3333333333333333, %%r8\n movq $0x4444444444444444, %%r9\n"
        "movq $0x5555555555555555, %%r10\n movq $0x6666666666666666, %%r11\n"
        "movq $0x7777777777777777, %%r13\n movq $0x8888888888888888, %%r14\n"
        "movq $0x9999999999999999, %%r15\n movq $0xaaaaaaaaaaaaaaaa, %%rcx\n"
        "std\n movl $1, %[spinning]\n"
        "1: pause\n cmpl $0, %[go]\n je 1b\n"
        "pushfq\n popq %%rax\n cld\n movq %%rax, %[flags]\n"
        "movq %%rbx, 0(%[v])\n movq %%rsi, 8(%[v])\n movq %%r8, 16(%[v])\n movq %%r9, 24(%[v])\n"
        "movq %%r10, 32(%[v])\n movq %%r11, 40(%[v])\n movq %%r13, 48(%[v])\n movq %%r14, 56(%[v])\n"
        "movq %%r15, 64(%[v])\n movq %%rcx, 72(%[v])\n"
        "fstpl 0(%[x])\n fstpl 8(%[x])\n fstpl 16(%[x])\n"
        : [spinning] "=m"(spinning), [flags] "=m"(flags)
        : [go] "m"(go), [v] "D"(values), [x] "d"(x87)
        : "memory", "cc", "rax", "rbx", "rcx", "rsi", "r8", "r9", "r10", "r11", "r13", "r14", "r15");
    static const uint64_t expected[] = {0x1111111111111111, 0x2222222222222222, 0x3333333333333333,
        0x4444444444444444, 0x5555555555555555, 0x6666666666666666, 0x7777777777777777, 0x8888888888888888,
        0x9999999999999999, 0xaaaaaaaaaaaaaaaa};
    CHECK(memcmp(values, expected, sizeof expected) == 0);
    CHECK(flags & 1 << 10); /* DF */
    CHECK(x87[0] == M_LOG2E && x87[1] == 1.0 && x87[2] == M_PI);
    return NULL;
}

static volatile double one = 1, three = 3;

static void *round_up(void *unused)
{
    (void)unused;
    CHECK(fesetround(FE_UPWARD) == 0 && feraiseexcept(FE_OVERFLOW) == 0);
    double up = one / three;
    spinning = 2;
    while (!go)
        ;
    CHECK_EQUAL(fegetround(), FE_UPWARD);
    CHECK(fetestexcept(FE_OVERFLOW) && !fetestexcept(FE_DIVBYZERO));
    CHECK(one / three == up);
    CHECK(fesetround(FE_DOWNWARD) == 0 && one / three < up);
    return NULL;
}

int main(void)
{
    pthread_t first, second;
    CHECK(pthread_create(&first, NULL, run, NULL) == 0);
    while (spinning != 1)
        ;
    CHECK(pthread_create(&second, NULL, round_up, NULL) == 0);
    while (spinning != 2)
        ;
    test_freeze_point();
    go = 1;
    CHECK(pthread_join(first, NULL) == 0 && pthread_join(second, NULL) == 0);
    CHECK_EQUAL(fegetround(), FE_TONEAREST);
    return 0;
}
