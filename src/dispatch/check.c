/* The invariants at the head of dispatch.c, counted. */
#include "dispatch/internal.h"

static uint32_t list_length(const struct dispatch_link *head)
{
    uint32_t length = 0;
    for (const struct dispatch_link *at = head->next; at != head; at = at->next)
        length++;
    return length;
}

static const char *check_pool(const struct dispatch_pool *pool)
{
    for (int state = DISPATCH_STARTING; state <= DISPATCH_ENDING; state++) {
        uint64_t last_ns = 0;
        for (struct dispatch_link *at = pool->lists[state].next; at != &pool->lists[state]; at = at->next) {
            const struct dispatch_env *env = OWNER(struct dispatch_env, in_pool, at);
            if ((int)env->state != state || env->pool != pool)
                return "1: an environment is on the list of another state or pool";
            if ((state == DISPATCH_BUSY) != (env->call != NULL) || (env->call && env->call->env != env))
                return "2: busy environments and calls do not point at each other";
            if (state == DISPATCH_IDLE && env->since_ns < last_ns)
                return "8: a pool's idle environments are out of order";
            last_ns = env->since_ns;
        }
        if (list_length(&pool->lists[state]) != pool->counts[state])
            return "1: a count differs from its list";
    }
    if (list_length(&pool->queue) != pool->waiting)
        return "5: the number of waiting calls differs from the queue";
    if (pool->waiting > 0 && pool->counts[DISPATCH_IDLE] > 0)
        return "3: a call waits beside an idle environment";
    if ((dispatch_pool_missing(pool) > 0) != pool->starved)
        return "6: a pool misses environments and is not known to starve";
    if (dispatch_pool_trusts(pool) != pool->trusting || (pool->trusting && pool->counts[DISPATCH_BUSY] == 0))
        return "9: a pool trusts busy environments and is not known to, or has none";
    if (pool->retired &&
        (pool->counts[DISPATCH_IDLE] > 0 || dispatch_pool_environments(pool) + pool->waiting == 0))
        return "10: a retired pool idles, or lingers";
    return NULL;
}

const char *dispatch_check(const struct dispatch *dispatch)
{
    uint32_t environments = 0, ending = 0, in_flight = 0, missing = 0, idle = 0;
    for (struct dispatch_link *at = dispatch->pools.next; at != &dispatch->pools; at = at->next) {
        const struct dispatch_pool *pool = OWNER(struct dispatch_pool, in_pools, at);
        const char *broken = check_pool(pool);
        if (broken)
            return broken;
        environments += dispatch_pool_environments(pool);
        ending += pool->counts[DISPATCH_ENDING];
        idle += pool->counts[DISPATCH_IDLE];
        in_flight += pool->waiting + pool->counts[DISPATCH_BUSY];
        missing += dispatch_pool_missing(pool);
    }
    uint32_t in_groups = 0;
    for (const struct dispatch_group *group = dispatch->groups; group; group = group->next) {
        if (group->in_flight > dispatch->options.group_max)
            return "5: a group exceeds its limit";
        in_groups += group->in_flight;
    }
    if (environments != dispatch->environments || ending != dispatch->ending)
        return "4: the number of environments is not the sum";
    if (environments > dispatch->options.environments_max)
        return "4: more environments than allowed";
    if (in_flight != dispatch->in_flight || in_groups != in_flight ||
        in_flight > dispatch->options.environments_max)
        return "5: the number of calls in flight is not the sum, or too large";
    if (missing > 0 && environments < dispatch->options.environments_max)
        return "6: a pool starves below the bound";
    if (ending < missing && idle > 0)
        return "7: a pool starves while others idle";
    if (list_length(&dispatch->idle) != idle)
        return "8: the idle list differs from the pools'";
    uint64_t last_ns = 0;
    for (struct dispatch_link *at = dispatch->idle.next; at != &dispatch->idle; at = at->next) {
        const struct dispatch_env *env = OWNER(struct dispatch_env, in_idle, at);
        if (env->since_ns < last_ns)
            return "8: the idle list is out of order";
        last_ns = env->since_ns;
    }
    return NULL;
}
