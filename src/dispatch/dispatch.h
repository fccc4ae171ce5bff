/* Which environment serves which invocation. Pure logic: no clock, no process, no socket. Times are passed in
 * (nanoseconds of any one clock), and what is to be done to the world comes out through callbacks.
 *
 * A group is a function: it has a limit of invocations in flight. A pool is one version of it. An environment
 * belongs to one pool for life; a call waits in its pool's queue until an environment serves it.
 *
 * Environments and calls are records of the caller's with ours embedded; we own pools and groups. See
 * dispatch.c for the states and the invariants. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dispatch;
struct dispatch_group;
struct dispatch_pool;

enum dispatch_state {
    DISPATCH_STARTING = 1, /* the start effect ran; ready or ended will follow */
    DISPATCH_IDLE,
    DISPATCH_BUSY,
    DISPATCH_ENDING, /* the end effect ran, or it died while busy; ended will follow */
};

struct dispatch_link {
    struct dispatch_link *previous, *next;
};

struct dispatch_env {
    struct dispatch_link in_pool, in_idle; /* in_pool: the list of its state; in_idle: all idle, by age */
    struct dispatch_pool *pool;
    struct dispatch_call *call; /* BUSY only */
    uint64_t since_ns;          /* when it came into its state */
    enum dispatch_state state;
    bool warm; /* it has served a call */
};

struct dispatch_call {
    struct dispatch_link in_queue;
    struct dispatch_pool *pool;
    struct dispatch_env *env; /* NULL while it waits */
    uint64_t sequence;        /* order of arrival over all pools */
    uint64_t submitted_ns;
};

struct dispatch_options {
    uint32_t environments_max; /* all that exist, in any state; also the most invocations in flight */
    uint32_t group_max;        /* invocations in flight for one function */
    uint64_t idle_ns;          /* an environment idle for longer ends */
};

struct dispatch_pool_options {
    uint32_t starting_max; /* environments that may start at once; the rest of the queue waits its turn */
    void *user;
};

/* `start` and `serve` return before anything comes of them: none of these may call back into the dispatcher.
 * `start` returns the caller's record (zeroed or fresh), which lives until dispatch_env_ended. */
struct dispatch_effects {
    struct dispatch_env *(*start)(void *context, struct dispatch_pool *pool);
    void (*serve)(void *context, struct dispatch_env *env, struct dispatch_call *call);
    void (*end)(void *context, struct dispatch_env *env);
    /* A retired pool has no environment and no call any more; it is freed after this returns. */
    void (*pool_gone)(void *context, struct dispatch_pool *pool);
    void *context;
};

enum dispatch_verdict {
    DISPATCH_ACCEPTED = 0,
    DISPATCH_GROUP_LIMIT, /* the function has its limit of invocations in flight */
    DISPATCH_TOTAL_LIMIT, /* the server has */
};

struct dispatch *dispatch_new(const struct dispatch_options *options, const struct dispatch_effects *effects);
/* Frees pools and groups. Environments and calls are the caller's and are forgotten. */
void dispatch_free(struct dispatch *dispatch);

/* A new pool of the group called `group` (made when it is the first). */
struct dispatch_pool *dispatch_pool_new(
    struct dispatch *dispatch, const char *group, const struct dispatch_pool_options *options);
void *dispatch_pool_user(const struct dispatch_pool *pool);
void dispatch_pool_set_starting_max(struct dispatch_pool *pool, uint32_t starting_max);
bool dispatch_pool_is_held(const struct dispatch_pool *pool);
/* While a pool is held, nothing starts for it and nothing is blamed: calls wait (its snapshot is remade). */
void dispatch_pool_hold(struct dispatch_pool *pool);
void dispatch_pool_release(struct dispatch_pool *pool);
/* No new calls will come, but such as lost their environment here; idle environments end now, the others when
 * they have nothing to do. pool_gone follows, perhaps before this returns. A held pool must be released, or
 * its calls withdrawn, for it to go.
 */
void dispatch_pool_retire(struct dispatch_pool *pool);
/* End what is idle now and what is starting for nobody, the youngest first. Busy environments stay. */
void dispatch_pool_evict(struct dispatch_pool *pool);

/* An evict or a retirement is complete when `ending` is 0. */
struct dispatch_pool_counts {
    uint32_t starting, idle, busy, ending, waiting;
};
struct dispatch_pool_counts dispatch_pool_count(const struct dispatch_pool *pool);
uint32_t dispatch_in_flight(const struct dispatch *dispatch);
uint32_t dispatch_environments(const struct dispatch *dispatch);

/* Take a call in: served at once (the serve effect), or queued, or refused. */
enum dispatch_verdict dispatch_call_submit(
    struct dispatch *dispatch, struct dispatch_pool *pool, struct dispatch_call *call, uint64_t now_ns);
/* The call has its answer. Its environment is free again: it serves the queue's head, idles or ends. */
void dispatch_call_finished(struct dispatch *dispatch, struct dispatch_call *call, uint64_t now_ns);
/* The call has its answer, and its environment is broken: the end effect runs on it. */
void dispatch_call_broke(struct dispatch *dispatch, struct dispatch_call *call, uint64_t now_ns);
/* Takes a waiting call out of its queue. The oldest, when `call` is NULL; NULL when nothing waits. */
struct dispatch_call *dispatch_call_withdraw(struct dispatch *dispatch, struct dispatch_pool *pool);

/* A starting environment is ready. */
void dispatch_env_ready(struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns);
/* A starting environment will never be ready: the end effect runs on it. Returns the waiting call that loses
 * by it (withdrawn from the queue; the caller answers it), or NULL when others are on their way. */
struct dispatch_call *dispatch_env_failed(
    struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns);
/* An idle or starting environment is broken and must go, nobody is blamed: the end effect runs on it. */
void dispatch_env_discard(struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns);
/* An ENDING environment is gone from the world; its record may be freed afterwards. */
void dispatch_env_ended(struct dispatch *dispatch, struct dispatch_env *env, uint64_t now_ns);

/* End what was idle too long, and start for calls that waited in vain for a busy environment. */
void dispatch_tick(struct dispatch *dispatch, uint64_t now_ns);
/* When dispatch_tick has something to do, unless it comes otherwise; 0: never. */
uint64_t dispatch_due(const struct dispatch *dispatch);

/* Checks every invariant by counting; for tests. Returns NULL or a sentence. */
const char *dispatch_check(const struct dispatch *dispatch);
