/* How this architecture makes system calls and returns from signals; another architecture is a new file. */
#pragma once

#include <stdint.h>

static inline long raw_syscall(
    long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    long result;
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* clone3 of a thread or a process: the new one calls run(control, index) on the stack that the arguments give
 * it, and run never returns. */
static inline long raw_clone_run(
    const void *args, uint64_t args_bytes, void (*run)(void *, uint64_t), void *control, uint64_t index)
{
    long result;
    register uint64_t r12 __asm__("r12") = (uint64_t)run;
    register uint64_t r13 __asm__("r13") = (uint64_t)control;
    register uint64_t r14 __asm__("r14") = index;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "mov %%r14, %%rsi\n\t"
                     "call *%%r12\n\t"
                     "ud2\n"
                     "1:"
                     : "=a"(result)
                     : "a"(435L), "D"(args), "S"(args_bytes), "r"(r12), "r"(r13), "r"(r14)
                     : "rcx", "r11", "memory");
    return result;
}

/* Goes on at `entry`, with `argument`, on another stack, and does not come back. */
static inline __attribute__((noreturn)) void raw_go_on(uint64_t stack_top, uint64_t entry, void *argument)
{
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%1\n\t"
                     "ud2" ::"r"(stack_top),
                     "r"(entry), "D"(argument)
                     : "memory");
    __builtin_unreachable();
}

/* rt_sigreturn takes the frame at the stack pointer less one word, and does not come back. */
static inline __attribute__((noreturn)) void raw_sigreturn(uint64_t frame)
{
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "mov $15, %%eax\n\t"
                     "syscall\n\t"
                     "ud2" ::"r"(frame + 8)
                     : "memory");
    __builtin_unreachable();
}
