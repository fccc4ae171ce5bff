/* Locked memory: mlock, mlock2(MLOCK_ONFAULT), of private and shared memory; unlocking after the thaw.
 *
 * conformance: memory | `mlock`, `mlock2(MLOCK_ONFAULT)` | kept |
 */
#include "look.h"

#include <sys/mman.h>

#define LEN (8 * TEST_PAGE)

static long locked_kib(void)
{
    return atol(test_file_value("/proc/self/status", "\nVmLck:"));
}

int main(void)
{
    char *plain = test_map(LEN, PROT_READ | PROT_WRITE), *on_fault = test_map(LEN, PROT_READ | PROT_WRITE);
    char *shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    test_fill(plain, LEN, 1);
    test_fill(on_fault, 2 * TEST_PAGE, 2);
    test_fill(shared, LEN, 3);
    CHECK(mlock(plain, 4 * TEST_PAGE) == 0 && mlock2(on_fault, LEN, MLOCK_ONFAULT) == 0 &&
          mlock(shared, LEN) == 0);
    long before = locked_kib();
    CHECK_EQUAL(before, 80);
    CHECK_EQUAL(test_vm_number(on_fault, "Rss:"), 8);

    test_freeze_point();
    CHECK_EQUAL(locked_kib(), before);
    CHECK(test_vm_flag(plain, "lo") && !test_vm_flag(plain + 4 * TEST_PAGE, "lo"));
    CHECK(test_vm_flag(on_fault, "lo") && test_vm_flag(shared, "lo"));
    CHECK(
        test_filled(plain, LEN, 1) && test_filled(on_fault, 2 * TEST_PAGE, 2) && test_filled(shared, LEN, 3));
    CHECK_EQUAL(test_vm_number(plain, "Rss:"), 16);
    CHECK_EQUAL(test_vm_number(on_fault, "Rss:"), 8); /* what was never touched is not brought in */
    CHECK(munlock(plain, LEN) == 0 && munlock(shared, TEST_PAGE) == 0);
    CHECK_EQUAL(locked_kib(), before - 20);
    return 0;
}
