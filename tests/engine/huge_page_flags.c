/* Transparent huge pages off but for memory that asks for them (PR_SET_THP_DISABLE with a flag, Linux 6.18), and names of
 * anonymous memory (PR_SET_VMA), where the kernel has them.
 *
 * conformance: memory | `PR_THP_DISABLE_EXCEPT_ADVISED`; names of anonymous memory (`PR_SET_VMA`), private and shared | kept | or the kernel has none
 */
#include "look.h"

#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#define EXCEPT_ADVISED 2
#define LEN (4 * TEST_PAGE)

static bool named(const char *name, bool shared)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "[%s:%s]", shared ? "anon_shmem" : "anon", name);
    return strstr(test_file_text("/proc/self/maps", NULL), wanted) != NULL;
}

int main(void)
{
    char *private = test_map(LEN, PROT_READ | PROT_WRITE);
    char *shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    test_fill(private, LEN, 1);
    test_fill(shared, LEN, 2);
    bool has_flag = prctl(PR_SET_THP_DISABLE, 1, EXCEPT_ADVISED, 0, 0) == 0;
    int state = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
    CHECK_EQUAL(state, has_flag ? 1 | EXCEPT_ADVISED : 0);
    bool has_names = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, private, LEN, "a name") == 0;
    CHECK_EQUAL(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, shared, LEN, "another") == 0, has_names);
    CHECK(named("a name", false) == has_names && named("another", true) == has_names);

    test_freeze_point();
    CHECK_EQUAL(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), state);
    CHECK_EQUAL(named("a name", false), has_names);
    CHECK(test_filled(private, LEN, 1) && test_filled(shared, LEN, 2));
    shared[9] = (char)test_clone_index;
    private[9] = (char)test_clone_index;
    CHECK_EQUAL(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, private, LEN, "other") == 0, has_names);
    test_barrier();
    CHECK(shared[9] == test_clone_index && private[9] == test_clone_index);
    return 0;
}
