/* Invariants:
 *  1. `bytes` of the budget is the sum over the held items.
 *  2. At most BUDGET_REMEMBERED_MAX items are not held; the one used least recently is forgotten first. */
#include "daemon/template_budget.h"

#include "base/bytes.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define BUCKETS 1024

struct record {
    struct budget_item item; /* first: what the caller sees */
    LIST_ENTRY(record) in_bucket;
    TAILQ_ENTRY(record) in_list; /* of the held, or of the remembered: the most recently used first */
};
TAILQ_HEAD(record_list, record);

struct budget {
    LIST_HEAD(, record) buckets[BUCKETS];
    struct record_list held, remembered;
    uint32_t remembered_count;
    struct budget_counts counts;
};

struct budget *budget_new(uint64_t bytes)
{
    struct budget *b = xcalloc(1, sizeof *b);
    b->counts.budget_bytes = bytes;
    TAILQ_INIT(&b->held);
    TAILQ_INIT(&b->remembered);
    return b;
}

/* FNV-1a: ids are drawn at random by the front. */
static size_t bucket_of(const char *snapshot_id)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = snapshot_id; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
    return hash % BUCKETS;
}

static struct record *find(const struct budget *b, const char *snapshot_id)
{
    struct record *r;
    LIST_FOREACH (r, &b->buckets[bucket_of(snapshot_id)], in_bucket)
        if (strcmp(r->item.snapshot_id, snapshot_id) == 0)
            return r;
    return NULL;
}

struct budget_item *budget_find(const struct budget *b, const char *snapshot_id)
{
    struct record *r = find(b, snapshot_id);
    return r != NULL && r->item.held ? &r->item : NULL;
}

static void forget(struct budget *b, struct record *r)
{
    assert(!r->item.held);
    TAILQ_REMOVE(&b->remembered, r, in_list);
    b->remembered_count--;
    LIST_REMOVE(r, in_bucket);
    free(r);
}

void budget_free(struct budget *b)
{
    struct record *r;
    if (b == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while ((r = LIST_FIRST(&b->buckets[i])) != NULL) {
            LIST_REMOVE(r, in_bucket);
            free(r);
        }
    free(b);
}

/* Two to the power of -age/half-life, by a straight line between whole half-lives. */
static double decay(uint64_t age_ns)
{
    uint64_t halvings = age_ns / BUDGET_HALF_LIFE_NS;
    double part = (double)(age_ns % BUDGET_HALF_LIFE_NS) / (double)BUDGET_HALF_LIFE_NS;
    return halvings > 1000 ? 0 : ldexp(1 - part / 2, -(int)halvings);
}

static double uses_by(const struct budget_item *item, uint64_t now_ns)
{
    return now_ns > item->used_ns ? item->uses * decay(now_ns - item->used_ns) : item->uses;
}

double budget_value(const struct budget_item *item, uint64_t now_ns)
{
    return uses_by(item, now_ns) * (double)(item->cost_ns + 1) / (double)(item->bytes + 1);
}

static struct record *add(struct budget *b, const char *snapshot_id)
{
    struct record *r = xcalloc(1, sizeof *r);
    size_t len = strnlen(snapshot_id, BUDGET_ID_BYTES - 1);
    memcpy(r->item.snapshot_id, snapshot_id, len);
    LIST_INSERT_HEAD(&b->buckets[bucket_of(r->item.snapshot_id)], r, in_bucket);
    TAILQ_INSERT_HEAD(&b->remembered, r, in_list);
    b->remembered_count++;
    return r;
}

static void hold(struct budget *b, struct record *r, void *user)
{
    TAILQ_REMOVE(&b->remembered, r, in_list);
    b->remembered_count--;
    TAILQ_INSERT_HEAD(&b->held, r, in_list);
    r->item.held = true;
    r->item.user = user;
    b->counts.templates++;
    b->counts.bytes += r->item.bytes;
}

struct budget_item *budget_use(struct budget *b, const char *snapshot_id, uint64_t now_ns, void *user)
{
    struct record *r = find(b, snapshot_id);
    if (r == NULL)
        r = add(b, snapshot_id);
    struct budget_item *item = &r->item;
    /* A burst would all have waited for one and the same build: it saves that time once. */
    if (item->uses == 0 || now_ns - item->used_ns >= item->cost_ns) {
        item->uses = uses_by(item, now_ns) + 1;
        item->used_ns = now_ns;
    }
    if (item->is_ready)
        b->counts.hits++;
    else
        b->counts.misses++;
    if (!item->held) {
        hold(b, r, user);
    } else {
        TAILQ_REMOVE(&b->held, r, in_list);
        TAILQ_INSERT_HEAD(&b->held, r, in_list);
    }
    return item;
}

void budget_set_bytes(struct budget *b, struct budget_item *item, uint64_t bytes)
{
    assert(item->held);
    b->counts.bytes = b->counts.bytes - item->bytes + bytes;
    item->bytes = bytes;
}

void budget_is_ready(struct budget *b, struct budget_item *item, uint64_t cost_ns)
{
    item->is_ready = true;
    item->cost_ns = cost_ns;
    b->counts.builds++;
}

void budget_let_go(struct budget *b, struct budget_item *item, bool evicted)
{
    struct record *r = (struct record *)item;
    assert(item->held);
    item->held = item->is_ready = false;
    item->user = NULL;
    b->counts.templates--;
    b->counts.bytes -= item->bytes;
    b->counts.evictions += evicted;
    TAILQ_REMOVE(&b->held, r, in_list);
    TAILQ_INSERT_HEAD(&b->remembered, r, in_list);
    if (++b->remembered_count > BUDGET_REMEMBERED_MAX)
        forget(b, TAILQ_LAST(&b->remembered, record_list));
}

void budget_forget(struct budget *b, const char *snapshot_id)
{
    struct record *r = find(b, snapshot_id);
    if (r != NULL && !r->item.held)
        forget(b, r);
}

bool budget_is_exceeded(const struct budget *b)
{
    return b->counts.bytes > b->counts.budget_bytes;
}

struct budget_item *budget_victim(
    const struct budget *b, bool (*may_go)(const struct budget_item *item), uint64_t now_ns)
{
    struct record *r, *newest = TAILQ_FIRST(&b->held);
    struct budget_item *least = NULL;
    if (!budget_is_exceeded(b))
        return NULL;
    TAILQ_FOREACH (r, &b->held, in_list)
        if (r != newest && may_go(&r->item) &&
            (least == NULL || budget_value(&r->item, now_ns) < budget_value(least, now_ns)))
            least = &r->item;
    return least;
}

struct budget_counts budget_count(const struct budget *b)
{
    return b->counts;
}
