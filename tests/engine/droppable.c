/* MAP_DROPPABLE, and what glibc and others build on it: the state of the vDSO's getrandom. Clones start with it wiped,
 * so that they never draw the same numbers.
 *
 * conformance: memory | `MAP_DROPPABLE` | noted | wiped in each clone, as in each fork
 * conformance: memory | the state of the vDSO's `getrandom` | noted | wiped in each clone: no two draw the same
 */
#include "look.h"

#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

struct opaque_params {
    uint32_t state_bytes, protection, flags, reserved[13];
};
typedef ssize_t getrandom_function(void *out, size_t len, unsigned flags, void *state, size_t state_len);

static getrandom_function *find_getrandom(void)
{
    void *vdso = dlopen("linux-vdso.so.1", RTLD_NOW | RTLD_NOLOAD);
    CHECK(vdso);
    getrandom_function *found = (getrandom_function *)dlsym(vdso, "__vdso_getrandom");
    CHECK(found);
    return found;
}

int main(void)
{
    char *droppable = mmap(NULL, 8 * TEST_PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
    CHECK(droppable != MAP_FAILED);
    test_fill(droppable, 8 * TEST_PAGE, 1);
    getrandom_function *vdso_getrandom = find_getrandom();
    struct opaque_params params;
    CHECK(vdso_getrandom(NULL, 0, 0, &params, ~0ul) == 0);
    void *state = mmap(NULL, TEST_PAGE, (int)params.protection, (int)params.flags, -1, 0);
    CHECK(state != MAP_FAILED && params.state_bytes <= TEST_PAGE);
    uint64_t drawn[4], again[4];
    CHECK_EQUAL(vdso_getrandom(drawn, sizeof drawn, 0, state, params.state_bytes), sizeof drawn);
    CHECK(test_vm_flag(droppable, "dp") && test_vm_flag(state, "dp"));

    test_freeze_point();
    CHECK(test_vm_flag(droppable, "dp") && test_vm_flag(state, "dp"));
    for (size_t i = 0; i < 8 * TEST_PAGE; i++)
        CHECK(droppable[i] == 0);
    CHECK_EQUAL(vdso_getrandom(again, sizeof again, 0, state, params.state_bytes), sizeof again);
    CHECK(memcmp(drawn, again, sizeof again) != 0);
    test_unique(again, sizeof again);
    for (int i = 0; i < 100; i++)
        CHECK_EQUAL(vdso_getrandom(again, sizeof again, 0, state, params.state_bytes), sizeof again);
    test_unique(again, sizeof again);
    test_fill(droppable, 8 * TEST_PAGE, 2);
    CHECK(test_filled(droppable, 8 * TEST_PAGE, 2));
    return 0;
}
