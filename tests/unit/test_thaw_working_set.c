#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "thaw/working_set.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ull

static void assert_range(const struct working_set *set, uint32_t index, uint64_t start, uint64_t bytes)
{
    assert_true(index < set->count);
    assert_true(set->ranges[index].start == start);
    assert_true(set->ranges[index].bytes == bytes);
}

static void adding_joins_neighbours_and_keeps_to_its_limits(void **state)
{
    (void)state;
    struct working_set set = {0};
    working_set_add(&set, 8 * PAGE, PAGE);
    working_set_add(&set, 9 * PAGE, 2 * PAGE);
    working_set_add(&set, 12 * PAGE, PAGE);
    assert_int_equal(set.count, 2);
    assert_int_equal(set.pages, 4);
    assert_range(&set, 0, 8 * PAGE, 3 * PAGE);
    assert_range(&set, 1, 12 * PAGE, PAGE);
    working_set_add(&set, 20 * PAGE, (uint64_t)WORKING_SET_PAGES_MAX * PAGE);
    assert_int_equal(set.pages, WORKING_SET_PAGES_MAX);
    working_set_add(&set, 9999999 * PAGE, PAGE);
    assert_int_equal(set.pages, WORKING_SET_PAGES_MAX);
    working_set_free(&set);
    for (uint64_t i = 0; i < 2 * WORKING_SET_RANGES_MAX; i++)
        working_set_add(&set, 2 * i * PAGE, PAGE);
    assert_int_equal(set.count, WORKING_SET_RANGES_MAX);
    assert_int_equal(set.pages, WORKING_SET_RANGES_MAX);
    working_set_free(&set);
}

static void an_intersection_holds_what_is_in_both(void **state)
{
    (void)state;
    struct working_set a = {0}, b = {0};
    working_set_add(&a, 1 * PAGE, 10 * PAGE);
    working_set_add(&a, 20 * PAGE, PAGE);
    working_set_add(&a, 30 * PAGE, 4 * PAGE);
    working_set_add(&b, 3 * PAGE, PAGE);
    working_set_add(&b, 5 * PAGE, 2 * PAGE);
    working_set_add(&b, 10 * PAGE, 21 * PAGE);
    working_set_intersect(&a, &b);
    assert_int_equal(a.count, 5);
    assert_range(&a, 0, 3 * PAGE, PAGE);
    assert_range(&a, 1, 5 * PAGE, 2 * PAGE);
    assert_range(&a, 2, 10 * PAGE, PAGE);
    assert_range(&a, 3, 20 * PAGE, PAGE);
    assert_range(&a, 4, 30 * PAGE, PAGE);
    working_set_free(&b);
    working_set_intersect(&a, &b);
    assert_int_equal(a.count, 0);
    working_set_free(&a);
}

/* A child of this process that has written to pages 3 and 5 of `memory`, read page 7, and waits to be killed. */
static pid_t start_clone(volatile char *memory)
{
    int said[2];
    char byte;
    assert_int_equal(pipe(said), 0);
    pid_t clone = fork();
    if (clone == 0) {
        memory[3 * PAGE] = 'c';
        memory[5 * PAGE] = memory[7 * PAGE];
        if (write(said[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(said[0], &byte, 1), 1);
    close(said[0]);
    close(said[1]);
    return clone;
}

static void a_clones_own_pages_are_those_it_wrote_to(void **state)
{
    (void)state;
    struct error err = {0};
    struct working_set own, only_this = {0};
    char *memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(madvise(memory, 16 * PAGE, MADV_NOHUGEPAGE), 0);
    for (int i = 0; i < 16; i++)
        memory[(uint64_t)i * PAGE] = 'm';
    pid_t clone = start_clone(memory);
    if (working_set_read(&own, clone, &err) < 0)
        fail_msg("%s", err.text);
    working_set_add(&only_this, (uint64_t)memory, 16 * PAGE);
    working_set_intersect(&own, &only_this);
    assert_int_equal(own.count, 2);
    assert_range(&own, 0, (uint64_t)memory + 3 * PAGE, PAGE);
    assert_range(&own, 1, (uint64_t)memory + 5 * PAGE, PAGE);
    assert_int_equal(mprotect(memory + 5 * PAGE, PAGE, PROT_READ), 0);
    assert_int_equal(working_set_keep_ownable(&own, getpid(), &err), 0);
    assert_int_equal(own.count, 1);
    assert_range(&own, 0, (uint64_t)memory + 3 * PAGE, PAGE);
    kill(clone, SIGKILL);
    waitpid(clone, NULL, 0);
    working_set_free(&own);
    assert_int_equal(working_set_read(&own, clone, &err), -1);
    working_set_free(&only_this);
    working_set_free(&own);
    munmap(memory, 16 * PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adding_joins_neighbours_and_keeps_to_its_limits),
        cmocka_unit_test(an_intersection_holds_what_is_in_both),
        cmocka_unit_test(a_clones_own_pages_are_those_it_wrote_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
