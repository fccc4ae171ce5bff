/* Memory that can be executed but not read: where the processor has protection keys the kernel uses one for it.
 *
 * conformance: memory | execute-only memory (`PROT_EXEC` alone) | kept | with the protection key that the kernel itself takes for it
 */
#include "look.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

static char *code;
static int expected_fault;
static volatile int stage;

static int call(void)
{
    return ((int (*)(void))code)();
}

static void *run(void *unused)
{
    (void)unused;
    CHECK_EQUAL(test_fault(code, false), expected_fault);
    __atomic_store_n(&stage, 1, __ATOMIC_RELEASE);
    test_wait_word(&stage, 2);
    CHECK_EQUAL(call(), 42);
    CHECK_EQUAL(test_fault(code, false), expected_fault);
    return NULL;
}

int main(void)
{
    static const unsigned char return_42[] = {0xb8, 42, 0, 0, 0, 0xc3};
    code = test_map(2 * TEST_PAGE, PROT_READ | PROT_WRITE);
    memcpy(code, return_42, sizeof return_42);
    CHECK(mprotect(code, 2 * TEST_PAGE, PROT_EXEC) == 0);
    expected_fault = test_fault(code, false); /* without protection keys it can be read */
    CHECK(expected_fault == 0 || expected_fault == SIGSEGV);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, NULL) == 0);
    test_wait_word(&stage, 1);

    test_freeze_point();
    CHECK_EQUAL(call(), 42);
    CHECK_EQUAL(test_fault(code, false), expected_fault);
    CHECK_EQUAL(test_fault(code, true), SIGSEGV);
    __atomic_store_n(&stage, 2, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(mprotect(code, 2 * TEST_PAGE, PROT_READ | PROT_WRITE) == 0 && code[1] == 42);
    code[1] = (char)(test_clone_index + 1);
    CHECK(mprotect(code, 2 * TEST_PAGE, PROT_EXEC) == 0);
    test_barrier();
    CHECK_EQUAL(call(), test_clone_index + 1);
    return 0;
}
