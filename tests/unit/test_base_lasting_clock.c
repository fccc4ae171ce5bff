/* The clock that goes on over restarts and reboots: no setting of the machine's clock moves it by much. */
#include "base/lasting_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define GAP_MAX_MS 1000000u

static uint64_t resumed(struct lasting_clock kept, struct lasting_clock now)
{
    return lasting_clock_resume(&kept, &now, GAP_MAX_MS).lasting_ms;
}

static void begins_at_the_wall_clocks_time(void **state)
{
    (void)state;
    assert_int_equal(
        resumed((struct lasting_clock){0}, (struct lasting_clock){.wall_ms = 77, .boot_ms = 5, .boot_id = 1}),
        77);
}

static void goes_with_the_boot_clock_while_the_machine_runs(void **state)
{
    (void)state;
    struct lasting_clock kept = {.lasting_ms = 5000, .wall_ms = 9000, .boot_ms = 100, .boot_id = 1};
    const uint64_t walls[] = {0, 8000, 9100, 4000000000000u}; /* whatever the wall clock was set to */
    for (size_t i = 0; i < sizeof walls / sizeof *walls; i++)
        assert_int_equal(
            resumed(kept, (struct lasting_clock){.wall_ms = walls[i], .boot_ms = 2000100, .boot_id = 1}),
            2005000);
}

static void trusts_the_wall_clock_over_a_reboot_within_bounds(void **state)
{
    (void)state;
    struct lasting_clock kept = {.lasting_ms = 5000, .wall_ms = 9000, .boot_ms = 100, .boot_id = 1};
    struct lasting_clock now = {.wall_ms = 9300, .boot_ms = 20, .boot_id = 2};
    assert_int_equal(resumed(kept, now), 5300);
    now.wall_ms = 10; /* backwards */
    assert_int_equal(resumed(kept, now), 5000);
    now.wall_ms = 4000000000000u; /* far ahead */
    assert_int_equal(resumed(kept, now), 5000 + GAP_MAX_MS);
    now.wall_ms = 9300;
    kept.boot_id = now.boot_id = 0; /* the kernel does not name its starts */
    assert_int_equal(resumed(kept, now), 5300);
    kept.boot_id = now.boot_id = 3; /* a boot clock that went back is another one's */
    assert_int_equal(resumed(kept, now), 5300);
}

static void samples_this_machine(void **state)
{
    (void)state;
    uint64_t boot_id = lasting_clock_boot_id();
    assert_true(boot_id != 0);
    assert_int_equal(boot_id, lasting_clock_boot_id());
    struct lasting_clock first = lasting_clock_sample(boot_id), second = lasting_clock_sample(boot_id);
    assert_true(first.boot_ms > 0 && first.boot_ms <= second.boot_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(begins_at_the_wall_clocks_time),
        cmocka_unit_test(goes_with_the_boot_clock_while_the_machine_runs),
        cmocka_unit_test(trusts_the_wall_clock_over_a_reboot_within_bounds),
        cmocka_unit_test(samples_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
