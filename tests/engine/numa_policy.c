/* Policies of mappings for NUMA. A machine of one node has them, too: numerical libraries ask for local memory anywhere.
 *
 * conformance: memory | NUMA policies of private mappings: local, preferred, bound and interleaved nodes | kept |
 */
#include "look.h"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGES 16

static const struct {
    int mode;
    unsigned long nodes;
    int seen; /* MPOL_PREFERRED without a node is local */
} policies[] = {
    {MPOL_DEFAULT, 0, MPOL_DEFAULT},
    {MPOL_PREFERRED, 0, MPOL_LOCAL},
    {MPOL_LOCAL, 0, MPOL_LOCAL},
    {MPOL_PREFERRED, 1, MPOL_PREFERRED},
    {MPOL_BIND, 1, MPOL_BIND},
    {MPOL_INTERLEAVE, 1, MPOL_INTERLEAVE},
};
#define COUNT (sizeof policies / sizeof *policies)

static void check_policy(const char *address, int mode, unsigned long nodes)
{
    int seen = -1;
    unsigned long mask[16] = {0};
    CHECK(syscall(SYS_get_mempolicy, &seen, mask, 8 * sizeof mask, address, MPOL_F_ADDR) == 0);
    CHECK_EQUAL(seen, mode);
    CHECK_EQUAL(mask[0], nodes);
}

int main(void)
{
    char *memory[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        memory[i] = test_map(PAGES * TEST_PAGE, PROT_READ | PROT_WRITE);
        test_fill(memory[i], PAGES * TEST_PAGE, (unsigned)i);
        /* To the middle, so that each is three mappings. */
        CHECK(syscall(SYS_mbind, memory[i] + 4 * TEST_PAGE, 8 * TEST_PAGE, policies[i].mode,
                  policies[i].nodes ? &policies[i].nodes : NULL, policies[i].nodes ? 65 : 0, 0) == 0);
        check_policy(memory[i] + 5 * TEST_PAGE, policies[i].seen, policies[i].nodes);
    }

    test_freeze_point();
    for (size_t i = 0; i < COUNT; i++) {
        CHECK(test_filled(memory[i], PAGES * TEST_PAGE, (unsigned)i));
        check_policy(memory[i], MPOL_DEFAULT, 0);
        check_policy(memory[i] + 4 * TEST_PAGE, policies[i].seen, policies[i].nodes);
        check_policy(memory[i] + 11 * TEST_PAGE, policies[i].seen, policies[i].nodes);
        check_policy(memory[i] + 12 * TEST_PAGE, MPOL_DEFAULT, 0);
    }
    return 0;
}
