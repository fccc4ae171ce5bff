/* The probe's answers on the machine that runs the tests, which can run thaw: what is required must be there;
 * and the probe must leave this process as it was. */
#include "sandbox/probe.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_report_is_whole(void **state)
{
    (void)state;
    static struct probe_report report;
    static const char *const words[] = {"present", "MISSING", "unknown"};
    sandbox_probe(&report);
    assert_true(report.count > 20);
    bool required_missing = false;
    for (size_t i = 0; i < report.count; i++) {
        const struct probe_result *result = &report.results[i];
        print_message("%-26s %-8s %s\n", result->name, words[result->state], result->detail);
        assert_non_null(result->name);
        assert_true(strlen(result->when_missing) > 10);
        assert_true(memchr(result->detail, 0, sizeof result->detail) != NULL);
        if (result->state != PROBE_PRESENT)
            assert_true(result->detail[0] != 0);
        required_missing =
            required_missing || (result->need == PROBE_REQUIRED && result->state == PROBE_MISSING);
    }
    assert_int_equal(report.usable, !required_missing);
    assert_true(report.usable);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void test_without_rights(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        static struct probe_report report;
        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(2);
        sandbox_probe(&report);
        for (size_t i = 0; i < report.count; i++)
            if (strcmp(report.results[i].name, "net namespaces") == 0 &&
                report.results[i].state != PROBE_UNKNOWN)
                _exit(3);
        _exit(report.usable ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_is_whole),
        cmocka_unit_test(test_without_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
