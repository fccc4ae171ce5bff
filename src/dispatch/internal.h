/* What dispatch.c keeps and check.c counts. */
#pragma once

#include "dispatch/dispatch.h"

struct dispatch_group {
    struct dispatch_group *next;
    char *name;
    uint32_t in_flight, pools;
};

struct dispatch_pool {
    struct dispatch *dispatch;
    struct dispatch_group *group;
    struct dispatch_link in_pools, in_starved, in_trusting;
    struct dispatch_link lists[DISPATCH_ENDING + 1]; /* by state */
    uint32_t counts[DISPATCH_ENDING + 1];
    struct dispatch_link queue;
    uint32_t waiting, starting_max;
    bool held, retired, starved, trusting;
    uint64_t trusted_since_ns;
    bool doubted;                /* a call waited too long: no trust until the queue is empty */
    uint64_t start_ns, serve_ns; /* how long a start and a call took of late; 0: unknown */
    void *user;
};

struct dispatch {
    struct dispatch_options options;
    struct dispatch_effects effects;
    struct dispatch_group *groups;
    struct dispatch_link pools, starved, trusting, idle;
    uint64_t now_ns; /* the latest that we were told */
    uint32_t environments, in_flight, ending;
    uint64_t next_sequence;
};

#define OWNER(type, member, link) ((type *)((char *)(link)-offsetof(type, member)))

/* How many environments the pool should be starting and is not. */
uint32_t dispatch_pool_missing(const struct dispatch_pool *pool);
/* Whether its busy environments are expected to serve its queue. */
bool dispatch_pool_trusts(const struct dispatch_pool *pool);
uint32_t dispatch_pool_environments(const struct dispatch_pool *pool);
