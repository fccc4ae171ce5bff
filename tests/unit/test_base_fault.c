/* Fault points: nothing without the variable, once with it, at the right time and in the right process. */
#include "base/fault.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int sync_something(struct error *err)
{
    if (fault_fails("test.sync"))
        return error_system(err, "cannot sync");
    fault_point("test.synced");
    return 0;
}

/* In a child, as what is armed stays so: its wait status. */
static int run(const char *armed, int calls, int expected_failures)
{
    pid_t pid = fork();
    if (pid == 0) {
        const char *told;
        struct error err;
        if (armed != NULL)
            setenv("THAWD_FAULT", armed, 1);
        if (fault_open(&told, &err) < 0)
            _exit(100);
        int failures = 0;
        for (int i = 0; i < calls; i++)
            failures += sync_something(&err) < 0 && err.errno_value == ENOSPC;
        _exit(failures == expected_failures ? 0 : 101);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void nothing_without_the_variable(void **state)
{
    (void)state;
    assert_int_equal(run(NULL, 3, 0), 0);
}

static void fails_once_and_goes_on(void **state)
{
    (void)state;
    assert_int_equal(run("test.sync:2:ENOSPC", 3, 1), 0);
    assert_int_equal(run("test.sync:4:ENOSPC", 3, 0), 0);
}

static void kills_the_counted_time(void **state)
{
    (void)state;
    assert_int_equal(run("test.synced:3", 2, 0), 0);
    assert_true(WIFSIGNALED(run("test.synced:3", 3, 0)));
    assert_int_equal(WTERMSIG(run("test.synced", 1, 0)), SIGKILL);
}

static void a_child_kills_its_parent_first(void **state)
{
    (void)state;
    pid_t parent = fork();
    if (parent == 0) {
        const char *told;
        struct error err;
        setenv("THAWD_FAULT", "test.synced", 1);
        if (fault_open(&told, &err) == 0 && fork() == 0)
            (void)!sync_something(&err);
        pause();
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(parent, &status, 0), parent);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void refuses_what_it_does_not_know(void **state)
{
    (void)state;
    const char *const wrong[] = {"test.nothing", "test.sync:0", "test.sync:x", "test.sync:1:EWHAT",
        "test.synced:1:ENOSPC", "test.sync:1:", ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(WEXITSTATUS(run(wrong[i], 1, 0)), 100);
}

static void lists_every_spot(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    fault_list(out);
    fclose(out);
    assert_non_null(strstr(text, "test.sync errno\ntest.synced\n"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_without_the_variable),
        cmocka_unit_test(fails_once_and_goes_on),
        cmocka_unit_test(kills_the_counted_time),
        cmocka_unit_test(a_child_kills_its_parent_first),
        cmocka_unit_test(refuses_what_it_does_not_know),
        cmocka_unit_test(lists_every_spot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
