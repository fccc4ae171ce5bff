/* Random operations on the dispatcher, with every invariant checked after each. The seed is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "dispatch/dispatch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOLS 5
#define ENVIRONMENTS_MAX 12
#define GROUP_MAX 7
#define STEPS 200000

struct record {
    struct dispatch_env env; /* first: cast back */
    bool alive;
};

struct world {
    struct dispatch *dispatch;
    struct dispatch_pool *pools[POOLS];
    struct record records[ENVIRONMENTS_MAX];
    struct dispatch_call calls[ENVIRONMENTS_MAX];
    bool flying[ENVIRONMENTS_MAX];
    uint64_t now_ns, random;
    uint32_t served, refused, gone, retired;
};

static uint32_t draw(struct world *world, uint32_t below)
{
    world->random = world->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(world->random >> 33) % below;
}

static struct dispatch_env *world_start(void *context, struct dispatch_pool *pool)
{
    struct world *world = context;
    (void)pool;
    for (int i = 0; i < ENVIRONMENTS_MAX; i++)
        if (!world->records[i].alive) {
            memset(&world->records[i], 0, sizeof world->records[i]);
            world->records[i].alive = true;
            return &world->records[i].env;
        }
    fail_msg("more environments than allowed");
    return NULL;
}

static void world_serve(void *context, struct dispatch_env *env, struct dispatch_call *call)
{
    (void)env;
    (void)call;
    ((struct world *)context)->served++;
}

static void world_end(void *context, struct dispatch_env *env)
{
    (void)context;
    assert_int_equal(env->state, DISPATCH_ENDING);
}

static void world_pool_gone(void *context, struct dispatch_pool *pool)
{
    (void)pool;
    ((struct world *)context)->gone++;
}

static struct dispatch_pool *new_pool(struct world *world, uint32_t at)
{
    char group[8];
    snprintf(group, sizeof group, "g%u", at % 3);
    return dispatch_pool_new(
        world->dispatch, group, &(struct dispatch_pool_options){.starting_max = 1 + draw(world, 4)});
}

static void forget_call(struct world *world, struct dispatch_call *call)
{
    if (call)
        world->flying[call - world->calls] = false;
}

static void step_call(struct world *world)
{
    uint32_t at = draw(world, ENVIRONMENTS_MAX);
    struct dispatch_call *call = &world->calls[at];
    if (!world->flying[at]) {
        memset(call, 0, sizeof *call);
        world->flying[at] = true;
        if (dispatch_call_submit(world->dispatch, world->pools[draw(world, POOLS)], call, world->now_ns) !=
            DISPATCH_ACCEPTED) {
            world->flying[at] = false;
            world->refused++;
        }
    } else if (call->env) {
        world->flying[at] = false;
        if (draw(world, 8) == 0)
            dispatch_call_broke(world->dispatch, call, world->now_ns);
        else
            dispatch_call_finished(world->dispatch, call, world->now_ns);
    }
}

static void step_env(struct world *world)
{
    struct record *record = &world->records[draw(world, ENVIRONMENTS_MAX)];
    if (!record->alive)
        return;
    struct dispatch_env *env = &record->env;
    uint32_t luck = draw(world, 10);
    if (env->state == DISPATCH_STARTING && luck < 7)
        dispatch_env_ready(world->dispatch, env, world->now_ns);
    else if (env->state == DISPATCH_STARTING && luck < 9)
        forget_call(world, dispatch_env_failed(world->dispatch, env, world->now_ns));
    else if (env->state == DISPATCH_ENDING) {
        record->alive = false; /* free for a start that follows from it */
        dispatch_env_ended(world->dispatch, env, world->now_ns);
    } else if ((env->state == DISPATCH_STARTING || env->state == DISPATCH_IDLE) && luck == 9)
        dispatch_env_discard(world->dispatch, env, world->now_ns);
}

static void step_pool(struct world *world)
{
    uint32_t at = draw(world, POOLS);
    switch (draw(world, 12)) {
    case 0:
        /* Nothing can start for a pool that is held and has no owner any more: its calls are answered. */
        while (dispatch_pool_is_held(world->pools[at]) && dispatch_pool_count(world->pools[at]).waiting > 0)
            forget_call(world, dispatch_call_withdraw(world->dispatch, world->pools[at]));
        dispatch_pool_retire(world->pools[at]);
        world->retired++;
        world->pools[at] = new_pool(world, at);
        break;
    case 1:
    case 2:
        dispatch_pool_hold(world->pools[at]);
        break;
    case 3:
        dispatch_pool_evict(world->pools[at]);
        break;
    case 4:
        forget_call(world, dispatch_call_withdraw(world->dispatch, world->pools[at]));
        break;
    case 5:
        dispatch_pool_set_starting_max(world->pools[at], 1 + draw(world, 5));
        break;
    default:
        dispatch_pool_release(world->pools[at]);
    }
}

static void random_operations_keep_the_invariants(void **state)
{
    (void)state;
    struct world w = {.random = 20261121};
    const char *seed = getenv("THAW_TEST_SEED");
    if (seed)
        w.random = strtoull(seed, NULL, 10);
    printf("seed %llu\n", (unsigned long long)w.random);
    w.dispatch = dispatch_new(&(struct dispatch_options){ENVIRONMENTS_MAX, GROUP_MAX, 40},
        &(struct dispatch_effects){world_start, world_serve, world_end, world_pool_gone, &w});
    for (uint32_t i = 0; i < POOLS; i++)
        w.pools[i] = new_pool(&w, i);
    for (int i = 0; i < STEPS; i++) {
        w.now_ns += draw(&w, 5);
        uint32_t kind = draw(&w, 20);
        if (kind < 9)
            step_call(&w);
        else if (kind < 18)
            step_env(&w);
        else if (kind == 18)
            step_pool(&w);
        else
            dispatch_tick(w.dispatch, w.now_ns);
        const char *broken = dispatch_check(w.dispatch);
        if (broken)
            fail_msg("step %d: invariant %s", i, broken);
    }
    assert_true(w.served > 10000);
    assert_true(w.refused > 10);
    assert_true(w.gone > 100);
    assert_true(w.retired >= w.gone);
    dispatch_free(w.dispatch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_keep_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
