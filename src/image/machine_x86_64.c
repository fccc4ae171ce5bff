#include "image/machine.h"

#include <cpuid.h>
#include <string.h>

#define XFEATURE_TILE_DATA (1ull << 18)

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

uint64_t machine_xstate_features(void)
{
    return read_xcr0() & ~XFEATURE_TILE_DATA;
}

size_t machine_xstate_bytes(void)
{
    uint64_t features = machine_xstate_features();
    size_t bytes = 512 + 64; /* the legacy area and the XSAVE header */
    for (unsigned i = 2; i < 63; i++) {
        uint32_t size, offset, c, d;
        if (!(features & 1ull << i))
            continue;
        __cpuid_count(0xd, i, size, offset, c, d);
        if (offset + size > bytes)
            bytes = offset + size;
    }
    return bytes;
}

/* The leaves whose values tell features. Leaf 1 EBX holds the APIC id of the CPU one happens to run on, and
 * leaf 0xd sub-leaf 1 EBX the size for the features now in use: both are left out. */
void machine_describe(void (*take)(void *context, const void *data, size_t len), void *context)
{
    uint32_t r[4];
    __cpuid(0, r[0], r[1], r[2], r[3]);
    take(context, r, sizeof r);
    __cpuid(1, r[0], r[1], r[2], r[3]);
    r[1] = 0;
    take(context, r, sizeof r);
    for (uint32_t sub = 0; sub < 2; sub++) {
        __cpuid_count(7, sub, r[0], r[1], r[2], r[3]);
        take(context, r, sizeof r);
    }
    __cpuid(0x80000001, r[0], r[1], r[2], r[3]);
    take(context, r, sizeof r);
    uint64_t features = read_xcr0();
    take(context, &features, sizeof features);
    size_t bytes = machine_xstate_bytes();
    take(context, &bytes, sizeof bytes);
}
