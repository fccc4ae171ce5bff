/* AMX: the permission to use tiles, which a program asks for once, is there in the clone, and tiles work; they were used
 * before the freeze, and released. Where the processor has none, asking for them fails alike.
 *
 * conformance: registers | the permission for AMX tiles (`ARCH_REQ_XCOMP_PERM`), also of threads | kept | or the processor has none; tiles that hold something refuse the freeze
 */
#include "look.h"

#include <pthread.h>
#include <sys/syscall.h>

#define GET_PERMISSION 0x1022
#define REQUEST_PERMISSION 0x1023
#define TILE_DATA 18

static volatile int stage;

/* Through one tile of 4 rows of 64 bytes. */
static void use_tile(void)
{
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t columns[16];
        uint8_t rows[16];
    } __attribute__((aligned(64))) config = {.palette = 1, .columns = {64}, .rows = {4}};
    uint8_t in[256], out[256] = {0};
    for (int i = 0; i < 256; i++)
        in[i] = (uint8_t)(i * 3 + 1);
    __asm__ volatile("ldtilecfg %[config]\n"
                     "tileloadd (%[in],%[stride],1), %%tmm0\n"
                     "tilestored %%tmm0, (%[out],%[stride],1)\n"
                     "tilerelease\n"
                     :
                     : [config] "m"(config), [in] "r"(in), [out] "r"(out), [stride] "r"(64l)
                     : "memory");
    CHECK(memcmp(in, out, sizeof in) == 0);
}

static void *run(void *permitted)
{
    if (permitted)
        use_tile();
    __atomic_store_n(&stage, 1, __ATOMIC_RELEASE);
    test_wait_word(&stage, 2);
    if (permitted)
        use_tile();
    return permitted;
}

int main(void)
{
    pthread_t thread;
    uint64_t before = 0, after = 0;
    bool permitted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    long asked = syscall(SYS_arch_prctl, GET_PERMISSION, &before);
    CHECK_EQUAL(before >> TILE_DATA & 1, permitted);
    if (permitted)
        use_tile();
    CHECK(pthread_create(&thread, NULL, run, permitted ? &thread : NULL) == 0);
    test_wait_word(&stage, 1);

    test_freeze_point();
    CHECK_EQUAL(syscall(SYS_arch_prctl, GET_PERMISSION, &after), asked);
    CHECK_EQUAL(after, before);
    if (permitted)
        use_tile();
    stage = 2;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0, permitted);
    return 0;
}
