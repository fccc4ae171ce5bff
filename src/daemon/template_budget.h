/* Which templates stay in memory: pure policy, without processes and clocks (times are passed in, nanoseconds of any
 * one clock).
 *
 * A template is worth the time that it saves for each byte that it holds: how often it is wanted (uses, of which half are
 * forgotten in each half-life), times how long a start waits when it has to be built, over its size. While all
 * templates together hold more than the budget, the least valuable that is not in use goes; but the one that was used
 * last stays, even when it alone is larger than the budget.
 *
 * What is known of a snapshot outlives its template, so that one that comes back does not begin as a stranger. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_ID_BYTES 33                            /* a snapshot's id, as a string */
#define BUDGET_HALF_LIFE_NS (10 * 60 * 1000000000ull) /* after which a use counts half */
#define BUDGET_REMEMBERED_MAX 4096                    /* snapshots without a template */

struct budget;

/* One snapshot. Valid while its template is held; read only. */
struct budget_item {
    char snapshot_id[BUDGET_ID_BYTES];
    void *user; /* the caller's, while it is held */
    bool held, is_ready;
    uint64_t bytes;   /* that it holds or will hold; of one that is not held: held last */
    uint64_t cost_ns; /* what the last build took, to being ready */
    uint64_t used_ns;
    double uses; /* at used_ns */
    /* The caller's notes for the next template of this snapshot: how it records its hot set, and how often more was. */
    unsigned hot_set_wish, hot_set_wishes_for_more;
};

struct budget_counts {
    uint64_t budget_bytes, bytes;
    uint64_t hits, misses; /* uses that found it ready, and uses that had to wait for it */
    uint64_t builds, evictions;
    uint32_t templates;
};

struct budget *budget_new(uint64_t bytes);
void budget_free(struct budget *b); /* NULL is fine */
/* A start wants the template: counted. A template that is not held becomes so, with the bytes that it had the last time. */
struct budget_item *budget_use(struct budget *b, const char *snapshot_id, uint64_t now_ns, void *user);
struct budget_item *budget_find(const struct budget *b, const char *snapshot_id); /* held; or NULL */
void budget_set_bytes(struct budget *b, struct budget_item *item, uint64_t bytes);
void budget_is_ready(struct budget *b, struct budget_item *item, uint64_t cost_ns);
/* Its template is gone; `evicted`: for the sake of the budget. The item may be freed. */
void budget_let_go(struct budget *b, struct budget_item *item, bool evicted);
/* The snapshot is deleted: nothing needs to be remembered of it, unless it is held. */
void budget_forget(struct budget *b, const char *snapshot_id);
bool budget_is_exceeded(const struct budget *b);
/* The one to go next, of those that may go (are not in use); NULL when all that are held may stay, or must. */
struct budget_item *budget_victim(
    const struct budget *b, bool (*may_go)(const struct budget_item *item), uint64_t now_ns);
/* How much it is worth to keep it: nanoseconds saved for each byte, on a scale of its own. */
double budget_value(const struct budget_item *item, uint64_t now_ns);
struct budget_counts budget_count(const struct budget *b);
