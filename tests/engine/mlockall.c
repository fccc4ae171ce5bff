/* mlockall: what is mapped after the thaw is locked as well, with and without MCL_ONFAULT (the first argument).
 *
 * conformance: memory | `mlockall(MCL_FUTURE)`, `MCL_ONFAULT` | kept | what is mapped after the thaw is locked too
 */
#include "look.h"

#include <sys/mman.h>

int main(int argc, char **argv)
{
    bool on_fault = argc > 1 && strcmp(argv[1], "onfault") == 0;
    char *first = test_map(4 * TEST_PAGE, PROT_READ | PROT_WRITE);
    test_fill(first, 4 * TEST_PAGE, 1);
    CHECK(mlockall(MCL_FUTURE | (on_fault ? MCL_ONFAULT : 0)) == 0);
    char *second = test_map(4 * TEST_PAGE, PROT_READ | PROT_WRITE);
    CHECK(test_vm_flag(second, "lo") && !test_vm_flag(first, "lo"));

    test_freeze_point();
    CHECK(test_filled(first, 4 * TEST_PAGE, 1) && !test_vm_flag(first, "lo") && test_vm_flag(second, "lo"));
    char *third = test_map(4 * TEST_PAGE, PROT_READ | PROT_WRITE);
    CHECK(test_vm_flag(third, "lo"));
    CHECK_EQUAL(test_vm_number(third, "Rss:"), on_fault ? 0 : 16);
    CHECK(munlockall() == 0);
    char *fourth = test_map(4 * TEST_PAGE, PROT_READ | PROT_WRITE);
    CHECK(!test_vm_flag(fourth, "lo") && !test_vm_flag(second, "lo"));
    return 0;
}
