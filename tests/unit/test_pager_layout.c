/* Which addresses the page stream fills: eager and lazy stretches, the bulk area with a short last page, and what is
 * asked of them when memory is unmapped. */
#include "pager/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define PAGE LAYOUT_PAGE
#define FIRST 0x100000ull
#define SECOND 0x200000ull
#define BULK 0x300000ull

struct fixture {
    struct image_mapping mappings[3];
    struct image_process process;
    struct image image;
    struct layout layout;
};

static int make(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    struct plan *plan = &f->process.template_plan;
    f->mappings[0] =
        (struct image_mapping){.start = FIRST, .end = FIRST + 16 * PAGE, .kind = IMAGE_ANONYMOUS};
    f->mappings[1] =
        (struct image_mapping){.start = SECOND, .end = SECOND + 8 * PAGE, .kind = IMAGE_ANONYMOUS};
    f->mappings[2] =
        (struct image_mapping){.start = SECOND + 8 * PAGE, .end = SECOND + 9 * PAGE, .kind = IMAGE_FILE};
    plan_do(plan, PLAN_LAZY_PAGES, plan_literal(FIRST + 2 * PAGE), plan_literal(3 * PAGE));
    plan_do(plan, PLAN_LAZY_PAGES, plan_literal(FIRST + 8 * PAGE), plan_literal(4 * PAGE));
    plan_do(plan, PLAN_READ_PAGES, plan_literal(SECOND), plan_literal(2 * PAGE));
    plan_do(plan, PLAN_LAZY_PAGES, plan_literal(SECOND + 2 * PAGE), plan_literal(1 * PAGE));
    plan_do(plan, PLAN_READ_PAGES, plan_literal(SECOND + 8 * PAGE), plan_literal(1 * PAGE));
    f->process.mappings = f->mappings;
    f->process.mapping_count = 3;
    f->image = (struct image){
        .processes = &f->process, .process_count = 1, .page_bytes = 11 * PAGE, .bulk_bytes = PAGE + 100};
    layout_make(&f->layout, &f->image, BULK);
    *state = f;
    return 0;
}

static int drop(void **state)
{
    struct fixture *f = *state;
    layout_free(&f->layout);
    free(f->process.template_plan.ops);
    free(f);
    return 0;
}

static void test_stream(void **state)
{
    const struct layout *l = &((struct fixture *)*state)->layout;
    assert_int_equal(l->bytes, 12 * PAGE + 100);
    assert_int_equal(l->pages, 13);
    assert_int_equal(l->lazy_pages, 3 + 4 + 1 + 2);
    assert_int_equal(layout_find(l, 0), 0);
    assert_int_equal(layout_find(l, 3 * PAGE), 1);
    assert_int_equal(layout_find(l, 9 * PAGE), 3);
    assert_int_equal(layout_find(l, 12 * PAGE + 50), 5);
    assert_int_equal(layout_find(l, 12 * PAGE + 100), l->count);
}

static void test_addresses(void **state)
{
    const struct layout *l = &((struct fixture *)*state)->layout;
    uint64_t page;
    assert_true(layout_page(l, FIRST + 4 * PAGE, &page));
    assert_int_equal(page, 2);
    assert_true(layout_page(l, SECOND + 2 * PAGE, &page));
    assert_int_equal(page, 9);
    assert_true(layout_page(l, BULK + PAGE, &page));
    assert_int_equal(page, 12);
    assert_false(layout_page(l, FIRST + PAGE, &page));      /* zeros */
    assert_false(layout_page(l, SECOND, &page));            /* eager */
    assert_false(layout_page(l, SECOND + 8 * PAGE, &page)); /* eager, of a file */
}

static void test_regions_are_whole_mappings(void **state)
{
    const struct layout *l = &((struct fixture *)*state)->layout;
    assert_int_equal(l->region_count, 3);
    assert_int_equal(l->regions[0].start, FIRST);
    assert_int_equal(l->regions[0].end, FIRST + 16 * PAGE);
    assert_int_equal(l->regions[1].end, SECOND + 8 * PAGE);
    assert_int_equal(l->regions[2].start, BULK);
    assert_int_equal(l->regions[2].end, BULK + 2 * PAGE);
}

static void test_ranges(void **state)
{
    const struct layout *l = &((struct fixture *)*state)->layout;
    uint64_t at = FIRST, page, count;
    assert_true(layout_next(l, &at, FIRST + 10 * PAGE, &page, &count));
    assert_int_equal(at, FIRST + 2 * PAGE);
    assert_int_equal(page, 0);
    assert_int_equal(count, 3);
    at += count * PAGE;
    assert_true(layout_next(l, &at, FIRST + 10 * PAGE, &page, &count));
    assert_int_equal(at, FIRST + 8 * PAGE);
    assert_int_equal(page, 3);
    assert_int_equal(count, 2); /* the stretch goes on behind the range */
    at += count * PAGE;
    assert_false(layout_next(l, &at, FIRST + 10 * PAGE, &page, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stream, make, drop),
        cmocka_unit_test_setup_teardown(test_addresses, make, drop),
        cmocka_unit_test_setup_teardown(test_regions_are_whole_mappings, make, drop),
        cmocka_unit_test_setup_teardown(test_ranges, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
