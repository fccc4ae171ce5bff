/* conformance: memory | memory protection keys (`pkey_alloc`), allocated, freed, on memory | kept | also what each thread may do with them
 *
 * The second of three keys was given back; the third is on a page, first open, then shut. */
#include "help.h"
#include "look.h"

#include <signal.h>
#include <sys/mman.h>

int main(void)
{
    int keys[3];
    char *page = test_map(TEST_PAGE, PROT_READ | PROT_WRITE);
    keys[0] = pkey_alloc(0, 0);
    if (keys[0] < 0) { /* a processor or kernel without them: then there is nothing to keep */
        test_freeze_point();
        CHECK(pkey_alloc(0, 0) < 0);
        return 0;
    }
    keys[1] = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    keys[2] = pkey_alloc(0, 0);
    CHECK(keys[1] > 0 && keys[2] > 0 && pkey_free(keys[1]) == 0);
    strcpy(page, "kept");
    CHECK(pkey_mprotect(page, TEST_PAGE, PROT_READ | PROT_WRITE, keys[2]) == 0);
    CHECK(pkey_set(keys[2], PKEY_DISABLE_WRITE) == 0);

    test_freeze_point();
    CHECK(strcmp(page, "kept") == 0 && pkey_get(keys[2]) == PKEY_DISABLE_WRITE);
    CHECK_EQUAL(test_fault(page, true), SIGSEGV);
    CHECK(pkey_set(keys[2], 0) == 0 && test_fault(page, true) == 0);
    CHECK(pkey_set(keys[2], PKEY_DISABLE_ACCESS) == 0 && test_fault(page, false) == SIGSEGV);
    CHECK_EQUAL(pkey_alloc(0, 0), keys[1]);
    return 0;
}
