/* Which templates stay in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/template_budget.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND 1000000000ull
#define MS 1000000ull

static const char *id_of(unsigned number)
{
    static char id[BUDGET_ID_BYTES];
    snprintf(id, sizeof id, "%032x", number);
    return id;
}

static bool busy[1024]; /* by `user`, which is its number here */

static bool may_go(const struct budget_item *item)
{
    return !busy[(uintptr_t)item->user];
}

/* Used, and built when it was not there. */
static struct budget_item *use(
    struct budget *b, unsigned number, uint64_t bytes, uint64_t cost_ns, uint64_t now_ns)
{
    struct budget_item *item = budget_use(b, id_of(number), now_ns, (void *)(uintptr_t)number);
    if (!item->is_ready) {
        budget_set_bytes(b, item, bytes);
        budget_is_ready(b, item, cost_ns);
    }
    return item;
}

/* Evicts down to the budget; returns how many went. */
static unsigned keep(struct budget *b, uint64_t now_ns)
{
    struct budget_item *item;
    unsigned count = 0;
    while ((item = budget_victim(b, may_go, now_ns)) != NULL) {
        budget_let_go(b, item, true);
        count++;
    }
    return count;
}

static bool is_held(struct budget *b, unsigned number)
{
    return budget_find(b, id_of(number)) != NULL;
}

static void nothing_goes_within_the_budget(void **state)
{
    (void)state;
    struct budget *b = budget_new(300);
    for (unsigned i = 0; i < 3; i++)
        use(b, i, 100, MS, SECOND + i);
    assert_null(budget_victim(b, may_go, 2 * SECOND));
    assert_int_equal(budget_count(b).bytes, 300);
    assert_int_equal(budget_count(b).templates, 3);
    budget_free(b);
}

static void of_equals_the_one_used_least_recently_goes(void **state)
{
    (void)state;
    struct budget *b = budget_new(300);
    for (unsigned i = 0; i < 4; i++)
        use(b, i, 100, MS, SECOND * (i + 1));
    assert_int_equal(keep(b, 5 * SECOND), 1);
    assert_false(is_held(b, 0));
    for (unsigned i = 1; i < 4; i++)
        assert_true(is_held(b, i));
    budget_free(b);
}

static void the_large_the_cheap_and_the_rare_go_first(void **state)
{
    (void)state;
    struct budget *b = budget_new(1);
    use(b, 1, 1000, 10 * MS, SECOND);    /* large */
    use(b, 2, 100, MS, 2 * SECOND);      /* cheap, but small */
    use(b, 3, 100, 10 * MS, 3 * SECOND); /* dear and small */
    for (unsigned i = 0; i < 8; i++)
        use(b, 4, 100, 10 * MS, 4 * SECOND + i * SECOND); /* and used often */
    use(b, 5, 100, 10 * MS, 13 * SECOND);                 /* the newest, which stays */
    unsigned order[4], gone = 0;
    struct budget_item *item;
    while ((item = budget_victim(b, may_go, 14 * SECOND)) != NULL) {
        assert_in_range(gone, 0, 3);
        order[gone++] = (unsigned)(uintptr_t)item->user;
        budget_let_go(b, item, true);
    }
    assert_int_equal(gone, 4);
    assert_true((order[0] == 1 && order[1] == 2) || (order[0] == 2 && order[1] == 1));
    assert_int_equal(order[2], 3);
    assert_int_equal(order[3], 4);
    assert_int_equal(budget_count(b).evictions, 4);
    assert_int_equal(budget_count(b).templates, 1);
    budget_free(b);
}

static void what_is_in_use_stays(void **state)
{
    (void)state;
    struct budget *b = budget_new(1);
    use(b, 1, 100, MS, SECOND);
    use(b, 2, 100, MS, 2 * SECOND);
    use(b, 3, 100, MS, 3 * SECOND);
    busy[1] = true;
    assert_int_equal(keep(b, 4 * SECOND), 1);
    busy[1] = false;
    assert_true(is_held(b, 1) && is_held(b, 3) && !is_held(b, 2));
    assert_int_equal(keep(b, 4 * SECOND), 1);
    assert_true(is_held(b, 3) && !is_held(b, 1));
    assert_true(budget_is_exceeded(b));
    budget_free(b);
}

static void old_uses_are_forgotten(void **state)
{
    (void)state;
    struct budget *b = budget_new(200);
    for (unsigned i = 0; i < 100; i++)
        use(b, 1, 100, MS, i * SECOND);
    uint64_t later = 100 * SECOND + 20 * BUDGET_HALF_LIFE_NS;
    use(b, 2, 100, MS, later);
    use(b, 3, 100, MS, later + SECOND);
    assert_int_equal(keep(b, later + SECOND), 1);
    assert_false(is_held(b, 1));
    budget_free(b);
}

static void a_burst_is_one_use(void **state)
{
    (void)state;
    struct budget *b = budget_new(1);
    for (unsigned i = 0; i < 50; i++)
        use(b, 1, 100, 50 * MS, SECOND + i);
    assert_true(use(b, 1, 100, 50 * MS, SECOND + 60)->uses < 1.5);
    assert_true(use(b, 1, 100, 50 * MS, SECOND + 51 * MS)->uses > 1.5);
    assert_int_equal(budget_count(b).hits, 51);
    assert_int_equal(budget_count(b).misses, 1);
    budget_free(b);
}

static void what_comes_back_is_remembered(void **state)
{
    (void)state;
    struct budget *b = budget_new(200);
    for (unsigned i = 0; i < 10; i++)
        use(b, 1, 100, MS, i * SECOND);
    use(b, 2, 150, MS, 10 * SECOND);
    struct budget_item *often = budget_use(b, id_of(1), 11 * SECOND, (void *)1);
    budget_let_go(b, often, false); /* it died */
    often = budget_use(b, id_of(1), 12 * SECOND, (void *)1);
    assert_false(often->is_ready);
    assert_int_equal(often->bytes, 100); /* as many as it will hold again */
    assert_true(often->uses > 10);
    budget_is_ready(b, often, MS);
    use(b, 2, 150, MS, 13 * SECOND);
    use(b, 3, 100, MS, 14 * SECOND);
    assert_int_equal(keep(b, 15 * SECOND), 1);
    assert_true(is_held(b, 1) && !is_held(b, 2));
    budget_forget(b, id_of(2));
    assert_true(budget_use(b, id_of(2), 16 * SECOND, (void *)2)->uses < 1.5);
    budget_free(b);
}

static void memory_for_what_is_gone_is_bounded(void **state)
{
    (void)state;
    struct budget *b = budget_new(1);
    for (unsigned i = 0; i < 3 * BUDGET_REMEMBERED_MAX; i++) {
        struct budget_item *item = budget_use(b, id_of(i), SECOND + i, NULL);
        budget_set_bytes(b, item, 7);
        budget_let_go(b, item, false);
    }
    /* The first ones are forgotten, the last ones are not. */
    assert_int_equal(budget_use(b, id_of(0), 9 * SECOND, NULL)->bytes, 0);
    assert_int_equal(budget_use(b, id_of(3 * BUDGET_REMEMBERED_MAX - 1), 9 * SECOND, NULL)->bytes, 7);
    budget_free(b);
}

/* Two hundred snapshots of which ten fit, wanted by Zipf's law: the ten most wanted are worth most of the hits that
 * any policy could have. */
static void zipf_hits_come_near_the_best(void **state)
{
    (void)state;
    enum { SNAPSHOTS = 200, FIT = 10, USES = 20000 };
    struct budget *b = budget_new(FIT * 100);
    double weights[SNAPSHOTS], sum = 0, best = 0;
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        sum += weights[i] = 1.0 / (i + 1);
    for (unsigned i = 0; i < FIT; i++)
        best += weights[i] / sum;
    srand(4);
    for (unsigned i = 0; i < USES; i++) {
        double at = sum * rand() / ((double)RAND_MAX + 1);
        unsigned number = 0;
        while (number < SNAPSHOTS - 1 && at >= weights[number])
            at -= weights[number++];
        use(b, number, 100, 5 * MS, SECOND + i * 20 * MS);
        keep(b, SECOND + i * 20 * MS);
        assert_in_range(budget_count(b).bytes, 0, FIT * 100);
    }
    struct budget_counts counts = budget_count(b);
    double rate = (double)counts.hits / USES;
    if (rate < best * 0.85)
        fail_msg("a hit rate of %.3f, where %.3f is possible", rate, best);
    assert_int_equal(counts.hits + counts.misses, USES);
    budget_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_goes_within_the_budget),
        cmocka_unit_test(of_equals_the_one_used_least_recently_goes),
        cmocka_unit_test(the_large_the_cheap_and_the_rare_go_first),
        cmocka_unit_test(what_is_in_use_stays),
        cmocka_unit_test(old_uses_are_forgotten),
        cmocka_unit_test(a_burst_is_one_use),
        cmocka_unit_test(what_comes_back_is_remembered),
        cmocka_unit_test(memory_for_what_is_gone_is_bounded),
        cmocka_unit_test(zipf_hits_come_near_the_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
