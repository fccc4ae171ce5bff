/* After the thaw a process goes on growing: the break, new mappings beside the old ones, threads with stacks, a library
 * that is loaded, an allocator under load; and nothing falls on what was kept.
 *
 * conformance: memory | what is allocated after the thaw: break, mappings, threads' stacks, libraries | kept |
 */
#include "look.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

static void *allocate(void *argument)
{
    char *blocks[200] = {0};
    unsigned random = (unsigned)(uintptr_t)argument;
    for (int i = 0; i < 4000; i++) {
        random = random * 1103515245 + 12345;
        size_t at = random >> 16 & 127, len = 16 + (random >> 8 & 0xfff);
        CHECK(!blocks[at] || blocks[at][0] == (char)at);
        free(blocks[at]);
        blocks[at] = malloc(len);
        memset(blocks[at], (int)at, len);
    }
    for (int i = 0; i < 200; i++)
        free(blocks[i]);
    return argument;
}

static void run_threads(void)
{
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, allocate, (void *)(i + 1)) == 0);
    for (uintptr_t i = 0; i < 4; i++) {
        void *result;
        CHECK(pthread_join(threads[i], &result) == 0 && result == (void *)(i + 1));
    }
}

int main(void)
{
    char *kept[64];
    for (unsigned i = 0; i < 64; i++) {
        kept[i] = test_map((i + 1) * TEST_PAGE, PROT_READ | PROT_WRITE);
        test_fill(kept[i], (i + 1) * TEST_PAGE, i);
    }
    char *heap = malloc(5000);
    memset(heap, 'h', 5000);
    run_threads();
    char *program_break = sbrk(0);

    test_freeze_point();
    run_threads();
    CHECK(sbrk(0) >= (void *)program_break);
    char *grown = sbrk(8 << 20);
    CHECK(grown >= program_break);
    memset(grown, 'b', 8 << 20);
    for (unsigned i = 0; i < 64; i++) {
        char *fresh = test_map((i + 1) * 3 * TEST_PAGE, PROT_READ | PROT_WRITE);
        for (size_t at = 0; at < (i + 1) * 3 * TEST_PAGE; at += 64)
            CHECK_EQUAL(fresh[at], 0);
        memset(fresh, 0xff, (i + 1) * 3 * TEST_PAGE);
    }
    void *library = dlopen("libresolv.so.2", RTLD_NOW);
    CHECK(library && dlsym(library, "__b64_ntop"));
    for (unsigned i = 0; i < 64; i++)
        CHECK(test_filled(kept[i], (i + 1) * TEST_PAGE, i));
    for (int i = 0; i < 5000; i++)
        CHECK_EQUAL(heap[i], 'h');
    CHECK(grown[0] == 'b' && grown[(8 << 20) - 1] == 'b');
    return 0;
}
