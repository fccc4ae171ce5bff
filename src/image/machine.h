/* What differs between processors, behind one small header: x86-64 here, another architecture is a new file.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Bytes of extended processor state (XSAVE, standard form) that a signal frame may hold without asking for
 * more: all features but those that a process must request (AMX tiles). Intel SDM vol. 1 ch. 13;
 * arch/x86/kernel/fpu. */
size_t machine_xstate_bytes(void);
/* The same features as a mask (XCR0 without AMX tile data). */
uint64_t machine_xstate_features(void);
/* Everything that a program can learn of the processor with CPUID and might have cached: fed to `take`. */
void machine_describe(void (*take)(void *context, const void *data, size_t len), void *context);
