/* The personality, which is each thread's own: addresses that are not random, in one thread another than in the first. (A
 * sandbox lets no program choose; a program frozen by thaw process may.)
 *
 * conformance: process | personality (`ADDR_NO_RANDOMIZE`), of each thread | kept |
 */
#include "look.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/personality.h>

static volatile int ready, go;

static void *run(void *unused)
{
    CHECK(personality(READ_IMPLIES_EXEC) >= 0);
    __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
    test_wait_word(&go, 1);
    CHECK_EQUAL(personality(0xffffffff), READ_IMPLIES_EXEC);
    return unused;
}

int main(void)
{
    pthread_t thread;
    CHECK(personality(ADDR_NO_RANDOMIZE) >= 0);
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
    test_wait_word(&ready, 1);

    test_freeze_point();
    CHECK_EQUAL(personality(0xffffffff), ADDR_NO_RANDOMIZE);
    char *page = test_map(TEST_PAGE, PROT_READ | PROT_WRITE);
    CHECK(!test_vm_flag(page, "ex"));
    go = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}
