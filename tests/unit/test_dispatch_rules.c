/* The dispatcher's rules one by one, in a world of records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "dispatch/dispatch.h"

#include <stdlib.h>
#include <string.h>

#define ENVS 64

struct world {
    struct dispatch *dispatch;
    struct dispatch_env *started[ENVS], *ended[ENVS];
    uint32_t start_count, end_count, pools_gone;
    struct dispatch_call *last_served;
};

static struct dispatch_env *world_start(void *context, struct dispatch_pool *pool)
{
    struct world *world = context;
    (void)pool;
    assert_true(world->start_count < ENVS);
    return world->started[world->start_count++] = xcalloc(1, sizeof(struct dispatch_env));
}

static void world_serve(void *context, struct dispatch_env *env, struct dispatch_call *call)
{
    assert_ptr_equal(call->env, env);
    ((struct world *)context)->last_served = call;
}

static void world_end(void *context, struct dispatch_env *env)
{
    struct world *world = context;
    world->ended[world->end_count++] = env;
}

static void world_pool_gone(void *context, struct dispatch_pool *pool)
{
    (void)pool;
    ((struct world *)context)->pools_gone++;
}

static void world_open(struct world *world, uint32_t environments, uint32_t group)
{
    memset(world, 0, sizeof *world);
    world->dispatch = dispatch_new(&(struct dispatch_options){environments, group, 1000},
        &(struct dispatch_effects){world_start, world_serve, world_end, world_pool_gone, world});
}

static void world_close(struct world *world)
{
    assert_null(dispatch_check(world->dispatch));
    dispatch_free(world->dispatch);
    for (uint32_t i = 0; i < world->start_count; i++)
        free(world->started[i]);
}

static struct dispatch_pool *world_pool(struct world *world, const char *name)
{
    return dispatch_pool_new(world->dispatch, name, &(struct dispatch_pool_options){.starting_max = 8});
}

static void warm_environment_is_used_again_most_recent_first(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 10, 10);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call a = {0}, b = {0}, c = {0};
    assert_int_equal(dispatch_call_submit(w.dispatch, pool, &a, 0), DISPATCH_ACCEPTED);
    assert_int_equal(dispatch_call_submit(w.dispatch, pool, &b, 0), DISPATCH_ACCEPTED);
    assert_int_equal(w.start_count, 2);
    dispatch_env_ready(w.dispatch, w.started[0], 1);
    dispatch_env_ready(w.dispatch, w.started[1], 2);
    assert_ptr_equal(a.env, w.started[0]);
    dispatch_call_finished(w.dispatch, &b, 5);
    dispatch_call_finished(w.dispatch, &a, 6);
    dispatch_call_submit(w.dispatch, pool, &c, 7);
    assert_ptr_equal(c.env, w.started[0]);
    assert_int_equal(w.start_count, 2);
    world_close(&w);
}

static void freed_environment_takes_the_queue_head_and_the_started_one_idles(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 10, 10);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call a = {0}, b = {0};
    dispatch_call_submit(w.dispatch, pool, &a, 0);
    dispatch_env_ready(w.dispatch, w.started[0], 1);
    dispatch_call_submit(w.dispatch, pool, &b, 2);
    assert_int_equal(w.start_count, 2);
    dispatch_call_finished(w.dispatch, &a, 3);
    assert_ptr_equal(b.env, w.started[0]);
    dispatch_env_ready(w.dispatch, w.started[1], 4);
    assert_int_equal(dispatch_pool_count(pool).idle, 1);
    assert_int_equal(dispatch_due(w.dispatch), 1004);
    dispatch_tick(w.dispatch, 1003);
    assert_int_equal(w.end_count, 0);
    dispatch_tick(w.dispatch, 1004);
    assert_int_equal(dispatch_due(w.dispatch), 0);
    assert_ptr_equal(w.ended[0], w.started[1]);
    world_close(&w);
}

static void limits_refuse(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 3, 2);
    struct dispatch_pool *f = world_pool(&w, "f"), *g = world_pool(&w, "g");
    struct dispatch_call calls[4] = {0};
    assert_int_equal(dispatch_call_submit(w.dispatch, f, &calls[0], 0), DISPATCH_ACCEPTED);
    assert_int_equal(dispatch_call_submit(w.dispatch, f, &calls[1], 0), DISPATCH_ACCEPTED);
    assert_int_equal(dispatch_call_submit(w.dispatch, f, &calls[2], 0), DISPATCH_GROUP_LIMIT);
    assert_int_equal(dispatch_call_submit(w.dispatch, g, &calls[2], 0), DISPATCH_ACCEPTED);
    assert_int_equal(dispatch_call_submit(w.dispatch, g, &calls[3], 0), DISPATCH_TOTAL_LIMIT);
    world_close(&w);
}

static void idle_environment_of_another_function_makes_room(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 2, 2);
    struct dispatch_pool *f = world_pool(&w, "f"), *g = world_pool(&w, "g");
    struct dispatch_call a = {0}, b = {0}, c = {0};
    dispatch_call_submit(w.dispatch, f, &a, 0);
    dispatch_call_submit(w.dispatch, f, &b, 0);
    dispatch_env_ready(w.dispatch, w.started[0], 1);
    dispatch_env_ready(w.dispatch, w.started[1], 1);
    dispatch_call_finished(w.dispatch, &b, 2);
    dispatch_call_finished(w.dispatch, &a, 3);
    dispatch_call_submit(w.dispatch, g, &c, 4);
    assert_int_equal(w.start_count, 2);
    assert_int_equal(w.end_count, 1);
    assert_ptr_equal(w.ended[0], w.started[1]); /* the least recently used */
    assert_null(dispatch_check(w.dispatch));
    dispatch_env_ended(w.dispatch, w.ended[0], 5);
    assert_int_equal(w.start_count, 3);
    dispatch_env_ready(w.dispatch, w.started[2], 6);
    assert_ptr_equal(c.env, w.started[2]);
    world_close(&w);
}

static void failed_start_loses_one_call_and_no_other(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 10, 10);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call a = {0}, b = {0};
    dispatch_call_submit(w.dispatch, pool, &a, 0);
    dispatch_call_submit(w.dispatch, pool, &b, 0);
    assert_ptr_equal(dispatch_env_failed(w.dispatch, w.started[1], 1), &a);
    assert_int_equal(w.start_count, 2);
    dispatch_env_ended(w.dispatch, w.started[1], 1);
    dispatch_env_ready(w.dispatch, w.started[0], 2);
    assert_ptr_equal(b.env, w.started[0]);
    world_close(&w);
}

static void held_pool_blames_nobody_and_starts_when_released(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 10, 10);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call a = {0}, b = {0};
    dispatch_call_submit(w.dispatch, pool, &a, 0);
    dispatch_pool_hold(pool);
    assert_null(dispatch_env_failed(w.dispatch, w.started[0], 1));
    dispatch_env_ended(w.dispatch, w.started[0], 1);
    dispatch_call_submit(w.dispatch, pool, &b, 2);
    assert_int_equal(w.start_count, 1);
    assert_null(dispatch_check(w.dispatch));
    dispatch_pool_release(pool);
    assert_int_equal(w.start_count, 3);
    assert_ptr_equal(dispatch_call_withdraw(w.dispatch, pool), &a);
    world_close(&w);
}

static void retired_pool_serves_its_calls_and_goes(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 10, 10);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call a = {0}, b = {0};
    dispatch_call_submit(w.dispatch, pool, &a, 0);
    dispatch_call_submit(w.dispatch, pool, &b, 0);
    dispatch_env_ready(w.dispatch, w.started[0], 1);
    dispatch_pool_retire(pool);
    assert_int_equal(w.end_count, 0);
    dispatch_call_finished(w.dispatch, &a, 2);
    assert_ptr_equal(b.env, w.started[0]);
    dispatch_env_ready(w.dispatch, w.started[1], 3);
    assert_int_equal(w.end_count, 1);
    dispatch_env_ended(w.dispatch, w.started[1], 3);
    dispatch_call_broke(w.dispatch, &b, 4);
    assert_int_equal(w.pools_gone, 0);
    dispatch_env_ended(w.dispatch, w.started[0], 5);
    assert_int_equal(w.pools_gone, 1);
    world_close(&w);
}

static void evict_ends_idle_and_needless_and_spares_busy(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 10, 10);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call calls[3] = {0};
    for (int i = 0; i < 3; i++)
        dispatch_call_submit(w.dispatch, pool, &calls[i], 0);
    dispatch_env_ready(w.dispatch, w.started[0], 1);
    dispatch_env_ready(w.dispatch, w.started[1], 1);
    dispatch_call_finished(w.dispatch, &calls[1], 2); /* serves calls[2]; started[2] starts for nobody */
    dispatch_call_finished(w.dispatch, &calls[2], 3);
    dispatch_pool_evict(pool);
    assert_int_equal(w.end_count, 2);
    struct dispatch_pool_counts counts = dispatch_pool_count(pool);
    assert_int_equal(counts.busy, 1);
    assert_int_equal(counts.ending, 2);
    assert_int_equal(counts.starting + counts.idle, 0);
    world_close(&w);
}

static void quick_function_is_not_started_for_every_call(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 50, 50);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call calls[12] = {0};
    dispatch_call_submit(w.dispatch, pool, &calls[0], 0);
    dispatch_env_ready(w.dispatch, w.started[0], 100);  /* a start takes 100 */
    dispatch_call_finished(w.dispatch, &calls[0], 190); /* the first call does not count */
    dispatch_call_submit(w.dispatch, pool, &calls[0], 190);
    dispatch_call_finished(w.dispatch, &calls[0], 200); /* a call takes 10 */
    for (int i = 1; i < 12; i++)
        dispatch_call_submit(w.dispatch, pool, &calls[i], 200);
    assert_int_equal(w.start_count, 1); /* one is busy, and serves the other ten in the time of a start */
    assert_null(dispatch_check(w.dispatch));
    assert_int_equal(dispatch_due(w.dispatch), 300);
    for (int i = 1; i < 5; i++)
        dispatch_call_finished(w.dispatch, &calls[i], 200 + 10 * (uint64_t)i);
    assert_int_equal(w.start_count, 1);
    dispatch_tick(w.dispatch, 299); /* the fifth does not end */
    assert_int_equal(w.start_count, 1);
    dispatch_tick(w.dispatch, 300);
    assert_int_equal(w.start_count, 1 + 6);
    assert_int_equal(dispatch_due(w.dispatch), 0);
    world_close(&w);
}

static void slow_function_is_started_for_every_call(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 50, 50);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call calls[4] = {0};
    dispatch_call_submit(w.dispatch, pool, &calls[0], 0);
    dispatch_env_ready(w.dispatch, w.started[0], 100);
    dispatch_call_finished(w.dispatch, &calls[0], 150);
    for (int i = 1; i < 4; i++)
        dispatch_call_submit(w.dispatch, pool, &calls[i], 200);
    assert_int_equal(w.start_count, 3);
    world_close(&w);
}

static void trust_ends_with_the_last_busy_environment(void **state)
{
    (void)state;
    struct world w;
    world_open(&w, 50, 50);
    struct dispatch_pool *pool = world_pool(&w, "f");
    struct dispatch_call calls[3] = {0};
    dispatch_call_submit(w.dispatch, pool, &calls[0], 0);
    dispatch_env_ready(w.dispatch, w.started[0], 100);
    dispatch_call_finished(w.dispatch, &calls[0], 101);
    dispatch_call_submit(w.dispatch, pool, &calls[0], 110);
    dispatch_call_finished(w.dispatch, &calls[0], 111);
    dispatch_call_submit(w.dispatch, pool, &calls[1], 200);
    dispatch_call_submit(w.dispatch, pool, &calls[2], 200);
    assert_int_equal(w.start_count, 1);
    dispatch_call_broke(w.dispatch, &calls[1], 201);
    assert_int_equal(w.start_count, 2);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_environment_is_used_again_most_recent_first),
        cmocka_unit_test(freed_environment_takes_the_queue_head_and_the_started_one_idles),
        cmocka_unit_test(limits_refuse),
        cmocka_unit_test(idle_environment_of_another_function_makes_room),
        cmocka_unit_test(failed_start_loses_one_call_and_no_other),
        cmocka_unit_test(held_pool_blames_nobody_and_starts_when_released),
        cmocka_unit_test(retired_pool_serves_its_calls_and_goes),
        cmocka_unit_test(evict_ends_idle_and_needless_and_spares_busy),
        cmocka_unit_test(quick_function_is_not_started_for_every_call),
        cmocka_unit_test(slow_function_is_started_for_every_call),
        cmocka_unit_test(trust_ends_with_the_last_busy_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
