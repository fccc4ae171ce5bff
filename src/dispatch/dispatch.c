/* States of an environment:
 *
 *      start effect            ready, and a call waits                     the call finishes, and another
 * waits o ------------> STARTING ------------------------------> BUSY <--------. |  | | | |_________| |  |
 * ready, and nothing waits          | | |  '---------------> IDLE <------------' | the call finishes, nothing
 * waits |                     | |  a call comes  | |                     | '--------------->| failed |
 * reclaimed,     |                  | broke, or its pool is retired evicted |      evicted, died  v |
 *                     '----------------> ENDING <--------------'        (the end effect runs on the way in)
 *                                           | ended
 *                                           o
 *
 * Invariants, checked by dispatch_check:
 *  1. Every environment is on exactly one list of its pool, that of its state, and the counts are the
 * lengths.
 *  2. BUSY environments have a call that points back at them; no other environment has a call.
 *  3. A pool in which a call waits has no idle environment.
 *  4. The environments of all pools are at most environments_max.
 *  5. The calls in flight (waiting or served) are at most group_max in a group, environments_max in all, and
 * the counts are the sums.
 *  6. A pool that is not held has min(waiting, starting_max) environments starting, or is on the starved
 * list; a starved list that is not empty means that invariant 4's bound is reached.
 *  7. While a pool starves, as many environments are ending as are missing, or none is idle.
 *  8. The idle list is in order of age; the idle list of a pool too: its last is the most recently
 * used.
 *  9. A pool that wants less than one for each waiting call has a busy environment, and is on the trusting
 * list until its queue is empty or its oldest call has waited as long as a start takes.
 * 10. A retired pool has no idle environment, and is gone when it has neither environment nor call. */
#include "dispatch/internal.h"

#include "base/bytes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define QUICK 2           /* a function is quick when so many calls are served in the time of a start */
#define ESTIMATE_WEIGHT 8 /* a new sample counts as one part of so many */

static bool list_empty(const struct dispatch_link *head)
{
    return head->next == head;
}

static void list_open(struct dispatch_link *head)
{
    head->previous = head->next = head;
}

static void list_append(struct dispatch_link *head, struct dispatch_link *link)
{
    link->previous = head->previous;
    link->next = head;
    head->previous->next = link;
    head->previous = link;
}

static void list_remove(struct dispatch_link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->previous = link->next = NULL;
}

struct dispatch *dispatch_new(const struct dispatch_options *options, const struct dispatch_effects *effects)
{
    struct dispatch *dispatch = xcalloc(1, sizeof *dispatch);
    dispatch->options = *options;
    dispatch->effects = *effects;
    list_open(&dispatch->pools);
    list_open(&dispatch->starved);
    list_open(&dispatch->trusting);
    list_open(&dispatch->idle);
    return dispatch;
}

void dispatch_free(struct dispatch *dispatch)
{
    if (!dispatch)
        return;
    while (!list_empty(&dispatch->pools)) {
        struct dispatch_pool *pool = OWNER(struct dispatch_pool, in_pools, dispatch->pools.next);
        list_remove(&pool->in_pools);
        free(pool);
    }
    while (dispatch->groups) {
        struct dispatch_group *group = dispatch->groups;
        dispatch->groups = group->next;
        free(group->name);
        free(group);
    }
    free(dispatch);
}

/* ---- groups and pools ---- */

static struct dispatch_group *group_find(struct dispatch *dispatch, const char *name)
{
    for (struct dispatch_group *group = dispatch->groups; group; group = group->next)
        if (strcmp(group->name, name) == 0)
            return group;
    struct dispatch_group *group = xcalloc(1, sizeof *group);
    group->name = xstrdup(name);
    group->next = dispatch->groups;
    dispatch->groups = group;
    return group;
}

static void group_drop_pool(struct dispatch *dispatch, struct dispatch_group *group)
{
    if (--group->pools > 0)
        return;
    struct dispatch_group **at = &dispatch->groups;
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    free(group->name);
    free(group);
}

struct dispatch_pool *dispatch_pool_new(
    struct dispatch *dispatch, const char *group, const struct dispatch_pool_options *options)
{
    struct dispatch_pool *pool = xcalloc(1, sizeof *pool);
    pool->dispatch = dispatch;
    pool->group = group_find(dispatch, group);
    pool->group->pools++;
    pool->starting_max = options->starting_max;
    pool->user = options->user;
    list_open(&pool->queue);
    for (int state = DISPATCH_STARTING; state <= DISPATCH_ENDING; state++)
        list_open(&pool->lists[state]);
    list_append(&dispatch->pools, &pool->in_pools);
    return pool;
}

void *dispatch_pool_user(const struct dispatch_pool *pool)
{
    return pool->user;
}

bool dispatch_pool_is_held(const struct dispatch_pool *pool)
{
    return pool->held;
}

uint32_t dispatch_pool_environments(const struct dispatch_pool *pool)
{
    return pool->counts[DISPATCH_STARTING] + pool->counts[DISPATCH_IDLE] + pool->counts[DISPATCH_BUSY] +
           pool->counts[DISPATCH_ENDING];
}

/* Where calls take far less time than a start, the busy environments will serve most of a queue before a new
 * one is there: starting one for each waiting call would only take the processor from them. So trust them,
 * but not for longer than a start would have taken. */
bool dispatch_pool_trusts(const struct dispatch_pool *pool)
{
    return pool->waiting > 0 && !pool->held && !pool->doubted && pool->counts[DISPATCH_BUSY] > 0 &&
           pool->serve_ns > 0 && pool->serve_ns * QUICK <= pool->start_ns;
}

static uint32_t pool_wanted(const struct dispatch_pool *pool)
{
    uint64_t served_soon =
        dispatch_pool_trusts(pool) ? pool->counts[DISPATCH_BUSY] * (pool->start_ns / pool->serve_ns) : 0;
    uint32_t wanted = served_soon < pool->waiting ? pool->waiting - (uint32_t)served_soon : 0;
    return wanted < pool->starting_max ? wanted : pool->starting_max;
}

/* How many environments the pool should be starting and is not (invariant 6). */
uint32_t dispatch_pool_missing(const struct dispatch_pool *pool)
{
    if (pool->held)
        return 0;
    uint32_t wanted = pool_wanted(pool);
    uint32_t starting = pool->counts[DISPATCH_STARTING];
    return wanted > starting ? wanted - starting : 0;
}

static void pool_free_when_gone(struct dispatch_pool *pool)
{
    if (!pool->retired || pool->waiting > 0 || dispatch_pool_environments(pool) > 0)
        return;
    struct dispatch *dispatch = pool->dispatch;
    if (pool->starved)
        list_remove(&pool->in_starved);
    if (pool->trusting)
        list_remove(&pool->in_trusting);
    list_remove(&pool->in_pools);
    dispatch->effects.pool_gone(dispatch->effects.context, pool);
    group_drop_pool(dispatch, pool->group);
    free(pool);
}

/* ---- environments ---- */

static void env_move(struct dispatch_env *env, enum dispatch_state state)
{
    struct dispatch_pool *pool = env->pool;
    if (env->state == DISPATCH_IDLE)
        list_remove(&env->in_idle);
    list_remove(&env->in_pool);
    pool->counts[env->state]--;
    env->state = state;
    env->since_ns = pool->dispatch->now_ns;
    pool->counts[state]++;
    list_append(&pool->lists[state], &env->in_pool);
    if (state == DISPATCH_IDLE)
        list_append(&pool->dispatch->idle, &env->in_idle);
}

static void env_end(struct dispatch_env *env)
{
    struct dispatch *dispatch = env->pool->dispatch;
    env_move(env, DISPATCH_ENDING);
    dispatch->ending++;
    dispatch->effects.end(dispatch->effects.context, env);
}

static void env_start(struct dispatch_pool *pool)
{
    struct dispatch *dispatch = pool->dispatch;
    struct dispatch_env *env = dispatch->effects.start(dispatch->effects.context, pool);
    env->pool = pool;
    env->call = NULL;
    env->warm = false;
    env->state = DISPATCH_STARTING;
    env->since_ns = dispatch->now_ns;
    pool->counts[DISPATCH_STARTING]++;
    dispatch->environments++;
    list_append(&pool->lists[DISPATCH_STARTING], &env->in_pool);
}

static void env_serve(struct dispatch_env *env, struct dispatch_call *call)
{
    struct dispatch *dispatch = env->pool->dispatch;
    env_move(env, DISPATCH_BUSY);
    env->call = call;
    call->env = env;
    dispatch->effects.serve(dispatch->effects.context, env, call);
}

static struct dispatch_call *pool_head(struct dispatch_pool *pool)
{
    return list_empty(&pool->queue) ? NULL : OWNER(struct dispatch_call, in_queue, pool->queue.next);
}

static struct dispatch_call *pool_pop(struct dispatch_pool *pool)
{
    struct dispatch_call *call = pool_head(pool);
    if (call) {
        list_remove(&call->in_queue);
        pool->waiting--;
    }
    if (pool->waiting == 0)
        pool->doubted = false;
    return call;
}

/* The environment has nothing to do: the queue's head, or idle, or the end. */
static void env_free(struct dispatch_env *env)
{
    struct dispatch_call *call = pool_pop(env->pool);
    if (call) {
        env_serve(env, call);
        return;
    }
    if (env->pool->retired) {
        env_end(env);
        return;
    }
    env_move(env, DISPATCH_IDLE);
}

/* ---- starting what is wanted ---- */

static void note(bool *is, bool now, struct dispatch_link *head, struct dispatch_link *link)
{
    if (*is == now)
        return;
    *is = now;
    if (now)
        list_append(head, link);
    else
        list_remove(link);
}

static void pool_note(struct dispatch_pool *pool)
{
    struct dispatch *dispatch = pool->dispatch;
    note(&pool->starved, dispatch_pool_missing(pool) > 0, &dispatch->starved, &pool->in_starved);
    if (!pool->trusting)
        pool->trusted_since_ns = dispatch->now_ns;
    note(&pool->trusting, dispatch_pool_trusts(pool), &dispatch->trusting, &pool->in_trusting);
}

static struct dispatch_pool *starved_first(struct dispatch *dispatch)
{
    struct dispatch_pool *first = NULL;
    for (struct dispatch_link *at = dispatch->starved.next; at != &dispatch->starved; at = at->next) {
        struct dispatch_pool *pool = OWNER(struct dispatch_pool, in_starved, at);
        if (!first || pool_head(pool)->sequence < pool_head(first)->sequence)
            first = pool;
    }
    return first;
}

static void starved_reclaim_idle(struct dispatch *dispatch)
{
    uint32_t missing = 0;
    for (struct dispatch_link *at = dispatch->starved.next; at != &dispatch->starved; at = at->next)
        missing += dispatch_pool_missing(OWNER(struct dispatch_pool, in_starved, at));
    while (dispatch->ending < missing && !list_empty(&dispatch->idle))
        env_end(OWNER(struct dispatch_env, in_idle, dispatch->idle.next));
}

/* Start what `pool` (may be NULL) and the starved ones miss, as far as the bound allows. */
static void start_missing(struct dispatch *dispatch, struct dispatch_pool *pool)
{
    if (pool)
        pool_note(pool);
    while (!list_empty(&dispatch->starved) && dispatch->environments < dispatch->options.environments_max) {
        struct dispatch_pool *first = starved_first(dispatch);
        env_start(first);
        pool_note(first);
    }
    if (!list_empty(&dispatch->starved))
        starved_reclaim_idle(dispatch);
}

void dispatch_pool_set_starting_max(struct dispatch_pool *pool, uint32_t starting_max)
{
    pool->starting_max = starting_max;
    start_missing(pool->dispatch, pool);
}

void dispatch_pool_hold(struct dispatch_pool *pool)
{
    pool->held = true;
    pool_note(pool);
}

void dispatch_pool_release(struct dispatch_pool *pool)
{
    pool->held = false;
    start_missing(pool->dispatch, pool);
}

void dispatch_pool_evict(struct dispatch_pool *pool)
{
    while (!list_empty(&pool->lists[DISPATCH_IDLE]))
        env_end(OWNER(struct dispatch_env, in_pool, pool->lists[DISPATCH_IDLE].next));
    while (pool->counts[DISPATCH_STARTING] > pool->waiting)
        env_end(OWNER(struct dispatch_env, in_pool, pool->lists[DISPATCH_STARTING].previous));
}

void dispatch_pool_retire(struct dispatch_pool *pool)
{
    pool->retired = true;
    dispatch_pool_evict(pool);
    pool_free_when_gone(pool);
}

/* ---- calls ---- */

enum dispatch_verdict dispatch_call_submit(
    struct dispatch *dispatch, struct dispatch_pool *pool, struct dispatch_call *call, uint64_t now_ns)
{
    dispatch->now_ns = now_ns;
    if (pool->group->in_flight >= dispatch->options.group_max)
        return DISPATCH_GROUP_LIMIT;
    if (dispatch->in_flight >= dispatch->options.environments_max)
        return DISPATCH_TOTAL_LIMIT;
    pool->group->in_flight++;
    dispatch->in_flight++;
    call->pool = pool;
    call->env = NULL;
    call->sequence = dispatch->next_sequence++;
    call->submitted_ns = now_ns;
    struct dispatch_link *idle = &pool->lists[DISPATCH_IDLE];
    if (!list_empty(idle)) {
        env_serve(OWNER(struct dispatch_env, in_pool, idle->previous), call);
        return DISPATCH_ACCEPTED;
    }
    list_append(&pool->queue, &call->in_queue);
    pool->waiting++;
    start_missing(dispatch, pool);
    return DISPATCH_ACCEPTED;
}

static void call_leave(struct dispatch *dispatch, struct dispatch_call *call)
{
    call->pool->group->in_flight--;
    dispatch->in_flight--;
}

/* A moving average. */
static void estimate(uint64_t *value_ns, uint64_t sample_ns)
{
    if (*value_ns == 0)
        *value_ns = sample_ns;
    else
        *value_ns = *value_ns - *value_ns / ESTIMATE_WEIGHT + sample_ns / ESTIMATE_WEIGHT;
}

void dispatch_call_finished(struct dispatch *dispatch, struct dispatch_call *call, uint64_t now_ns)
{
    struct dispatch_env *env = call->env;
    dispatch->now_ns = now_ns;
    if (env->warm) /* a first call is slow for reasons of its own: pages copied, caches filled */
        estimate(&env->pool->serve_ns, now_ns - env->since_ns);
    env->warm = true;
    call_leave(dispatch, call);
    call->env = NULL;
    env->call = NULL;
    env_free(env);
    start_missing(dispatch, env->pool);
}

void dispatch_call_broke(struct dispatch *dispatch, struct dispatch_call *call, uint64_t now_ns)
{
    dispatch->now_ns = now_ns;
    struct dispatch_env *env = call->env;
    call_leave(dispatch, call);
    call->env = NULL;
    env->call = NULL;
    env_end(env);
    start_missing(dispatch, env->pool);
}

struct dispatch_call *dispatch_call_withdraw(struct dispatch *dispatch, struct dispatch_pool *pool)
{
    struct dispatch_call *call = pool_pop(pool);
    if (!call)
        return NULL;
    call_leave(dispatch, call);
    pool_note(pool);
    pool_free_when_gone(pool);
    return call;
}

/* ---- what happens to environments ---- */

void dispatch_env_ready(struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns)
{
    assert(env->state == DISPATCH_STARTING);
    dispatch->now_ns = now_ns;
    estimate(&env->pool->start_ns, now_ns - env->since_ns);
    env_free(env);
    start_missing(dispatch, env->pool);
}

struct dispatch_call *dispatch_env_failed(
    struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns)
{
    dispatch->now_ns = now_ns;
    assert(env->state == DISPATCH_STARTING);
    struct dispatch_pool *pool = env->pool;
    env_end(env);
    struct dispatch_call *loser = NULL;
    if (!pool->held && pool->waiting > pool->counts[DISPATCH_STARTING]) {
        loser = pool_pop(pool);
        call_leave(dispatch, loser);
    }
    start_missing(dispatch, pool);
    return loser;
}

void dispatch_env_discard(struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns)
{
    dispatch->now_ns = now_ns;
    assert(env->state == DISPATCH_STARTING || env->state == DISPATCH_IDLE);
    env_end(env);
    start_missing(dispatch, env->pool);
}

void dispatch_env_ended(struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns)
{
    dispatch->now_ns = now_ns;
    assert(env->state == DISPATCH_ENDING);
    struct dispatch_pool *pool = env->pool;
    list_remove(&env->in_pool);
    pool->counts[DISPATCH_ENDING]--;
    dispatch->ending--;
    dispatch->environments--;
    env->pool = NULL;
    pool_free_when_gone(pool);
    start_missing(dispatch, NULL);
}

static uint64_t idle_due(const struct dispatch *dispatch)
{
    if (list_empty(&dispatch->idle))
        return 0;
    return OWNER(struct dispatch_env, in_idle, dispatch->idle.next)->since_ns + dispatch->options.idle_ns;
}

static uint64_t trust_due(const struct dispatch_pool *pool)
{
    uint64_t from_ns = OWNER(struct dispatch_call, in_queue, pool->queue.next)->submitted_ns;
    if (from_ns < pool->trusted_since_ns) /* before that it waited for a start */
        from_ns = pool->trusted_since_ns;
    return from_ns + pool->start_ns;
}

void dispatch_tick(struct dispatch *dispatch, uint64_t now_ns)
{
    dispatch->now_ns = now_ns;
    while (!list_empty(&dispatch->idle) && idle_due(dispatch) <= now_ns)
        env_end(OWNER(struct dispatch_env, in_idle, dispatch->idle.next));
    for (struct dispatch_link *at = dispatch->trusting.next, *next; at != &dispatch->trusting; at = next) {
        struct dispatch_pool *pool = OWNER(struct dispatch_pool, in_trusting, at);
        next = at->next;
        if (trust_due(pool) > now_ns)
            continue;
        pool->doubted = true;
        start_missing(dispatch, pool);
    }
}

uint64_t dispatch_due(const struct dispatch *dispatch)
{
    uint64_t due_ns = idle_due(dispatch);
    for (struct dispatch_link *at = dispatch->trusting.next; at != &dispatch->trusting; at = at->next) {
        uint64_t trust_ns = trust_due(OWNER(struct dispatch_pool, in_trusting, at));
        if (due_ns == 0 || trust_ns < due_ns)
            due_ns = trust_ns;
    }
    return due_ns;
}

struct dispatch_pool_counts dispatch_pool_count(const struct dispatch_pool *pool)
{
    return (struct dispatch_pool_counts){
        .starting = pool->counts[DISPATCH_STARTING],
        .idle = pool->counts[DISPATCH_IDLE],
        .busy = pool->counts[DISPATCH_BUSY],
        .ending = pool->counts[DISPATCH_ENDING],
        .waiting = pool->waiting,
    };
}

uint32_t dispatch_in_flight(const struct dispatch *dispatch)
{
    return dispatch->in_flight;
}

uint32_t dispatch_environments(const struct dispatch *dispatch)
{
    return dispatch->environments;
}
