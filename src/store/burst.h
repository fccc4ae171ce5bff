/* How a publish and a collection in the origin keep out of each other's way, where they may be on different machines: there is no
 * lock in an object store, and a removal cannot ask for the age of what it removes.
 *
 * A collection removes in bursts. A burst puts the object collections/run-NAME, with a name of its own, there; lists chunks after
 * that; removes old ones, of which it sends the last BURST_SEND_S after its begin, and tries none again after BURST_TRY_S; when all removals are answered it puts
 * collections/over-NAME there, and takes the first object away. The second stays for BURST_STALE_S.
 * What could go wrong is that a burst lists a chunk as old, somebody stores it anew, a publish relies on it, and then the burst
 * removes it. So a publish lists these objects before it asks for its first chunk, and again after its last one:
 *   - None ran before, and there is none that was not there before: no burst removed anything in between, and later ones list
 *     what it relies on as young.
 *   - Else it waits until those that run are gone, or so long (by its own watch) that their removals are over in any case. Then it
 *     asks for all of its chunks again, and stores what is missing. Bursts that begin after its list find its chunks young,
 *     or not at all.
 * Only then it notes for later publishes that the origin has them. Private to the store. */
#pragma once

#include "store/origin.h"

#define BURST_SEND_S 20  /* from its begin on, a burst begins removals */
#define BURST_TRY_S 45   /* and no try of one begins later, whatever became of the courier that had it */
#define BURST_WAIT_S 120 /* none is still under way after that, as a try takes seconds */
#define BURST_STALE_S (24 * 3600) /* no publish takes as long */

struct burst {
    char name[ORIGIN_NAME_MAX + 1], over[ORIGIN_NAME_MAX + 1];
    uint64_t begun_ns; /* by clock_boot_ns */
};

MUST_CHECK int burst_begin(struct burst *burst, struct origin *origin, struct error *err);
bool burst_may_remove(const struct burst *burst);
uint64_t burst_last_try_ns(const struct burst *burst); /* for origin_request.before_ns */
MUST_CHECK int burst_end(const struct burst *burst, struct origin *origin, struct error *err);
/* The time by the origin's clock. */
MUST_CHECK int burst_ask_time(struct origin *origin, uint64_t *now_s, struct error *err);
/* Takes away what is stale; `now_s` by the origin's clock. */
MUST_CHECK int burst_sweep_stale(struct origin *origin, uint64_t now_s, struct error *err);

/* For a publish. Start from {0}. */
struct burst_watch {
    struct origin_entry *entries;
    size_t count;
};
MUST_CHECK int burst_watch_begin(struct burst_watch *watch, struct origin *origin, struct error *err);
/* *any: bursts may have removed something since; now they are over. Those that have not ended after `wait_s` (BURST_WAIT_S, but for
 * tests) are declared over, so that the next publish need not wait. */
MUST_CHECK int burst_watch_end(
    const struct burst_watch *watch, struct origin *origin, uint64_t wait_s, bool *any, struct error *err);
void burst_watch_free(struct burst_watch *watch);
#define CLEANUP_BURST_WATCH __attribute__((cleanup(burst_watch_free)))
