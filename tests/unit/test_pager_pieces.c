/* Where moved memory lies: tried against a plain table of pages. */
#include "pager/pieces.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE 4096ull
#define BASE 0x10000000ull
#define PAGES 64

static uint64_t at(uint64_t page)
{
    return BASE + page * PAGE;
}

static void test_unmoved(void **state)
{
    struct pieces p = {0};
    uint64_t origin, address, bytes = 100 * PAGE;
    (void)state;
    pieces_add(&p, at(2), at(4));
    pieces_add(&p, at(8), at(16));
    assert_false(pieces_origin(&p, at(1), &origin));
    assert_false(pieces_origin(&p, at(4), &origin));
    assert_true(pieces_origin(&p, at(3), &origin));
    assert_int_equal(origin, at(3));
    assert_true(pieces_current(&p, at(9), &address, &bytes));
    assert_int_equal(address, at(9));
    assert_int_equal(bytes, 7 * PAGE);
    assert_false(pieces_current(&p, at(4), &address, &bytes));
    pieces_free(&p);
}

static void test_moved_over_another(void **state)
{
    struct error err;
    struct pieces p = {0}, copy;
    uint64_t origin, address, bytes = 4 * PAGE;
    (void)state;
    pieces_add(&p, at(0), at(8));
    pieces_copy(&copy, &p);
    assert_int_equal(pieces_move(&p, at(0), at(4), 2 * PAGE, 100, &err), 0);
    assert_false(pieces_origin(&p, at(0), &origin));
    assert_true(pieces_origin(&p, at(5), &origin));
    assert_int_equal(origin, at(1));
    assert_true(pieces_origin(&p, at(6), &origin));
    assert_int_equal(origin, at(6));
    assert_false(pieces_current(&p, at(4), &address, &bytes));
    assert_true(pieces_current(&p, at(0), &address, &bytes));
    assert_int_equal(address, at(4));
    assert_int_equal(bytes, 2 * PAGE);
    assert_true(pieces_origin(&copy, at(0), &origin)); /* a copy has its own */
    pieces_free(&copy);
    pieces_free(&p);
}

static void test_limit(void **state)
{
    struct error err;
    struct pieces p = {0};
    int result = 0;
    (void)state;
    pieces_add(&p, at(0), at(PAGES));
    for (uint64_t i = 0; i < 10 && result == 0; i++)
        result = pieces_move(&p, at(2 * i + 1), at(1000 + 2 * i), PAGE, 10, &err);
    assert_int_equal(result, -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    pieces_free(&p);
}

/* model[i]: the origin of page i, or 0. */
static void check(const struct pieces *p, const uint64_t *model)
{
    for (uint64_t i = 0; i < PAGES; i++) {
        uint64_t origin, address, bytes = PAGE;
        assert_int_equal(pieces_origin(p, at(i), &origin), model[i] != 0);
        if (model[i] == 0)
            continue;
        assert_int_equal(origin, model[i]);
        assert_true(pieces_current(p, origin, &address, &bytes));
        assert_int_equal(address, at(i));
    }
    for (size_t i = 0; i + 1 < p->count; i++)
        assert_true(p->list[i].start < p->list[i].end && p->list[i].end <= p->list[i + 1].start);
}

static void test_random_moves(void **state)
{
    (void)state;
    srandom(1);
    for (int round = 0; round < 200; round++) {
        struct pieces p = {0};
        struct error err;
        uint64_t model[PAGES] = {0};
        pieces_add(&p, at(4), at(20));
        pieces_add(&p, at(24), at(40));
        for (uint64_t i = 4; i < 40; i++)
            model[i] = i < 20 || i >= 24 ? at(i) : 0;
        for (int move = 0; move < 20; move++) {
            uint64_t count = 1 + (uint64_t)random() % 8, from = (uint64_t)random() % (PAGES - count);
            uint64_t to = (uint64_t)random() % (PAGES - count), taken[PAGES];
            if (from < to + count && to < from + count)
                continue; /* the kernel refuses it */
            memcpy(taken, &model[from], count * sizeof *taken);
            memset(&model[from], 0, count * sizeof *model);
            memcpy(&model[to], taken, count * sizeof *model);
            assert_int_equal(pieces_move(&p, at(from), at(to), count * PAGE, 1000, &err), 0);
            check(&p, model);
        }
        pieces_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unmoved),
        cmocka_unit_test(test_moved_over_another),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_random_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
