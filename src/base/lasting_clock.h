/* A clock in milliseconds that goes on over restarts and reboots, and that no setting of the machine's clock
 * can move by much: for what shall happen days after something else.
 *
 * While the machine runs it goes with CLOCK_BOOTTIME, which nobody can set. Over a reboot only the wall clock
 * knows how long the machine was off: what it says counts, but never backwards and never for more than the
 * caller allows. It begins at the wall clock's time, so that its times read as dates that are nearly right. */
#pragma once

#include <stdint.h>

/* One reading, as it is kept. All zeros: there is none. */
struct lasting_clock {
    uint64_t lasting_ms, wall_ms, boot_ms; /* at the same moment; boot_ms is CLOCK_BOOTTIME */
    uint64_t boot_id; /* names the machine's start that boot_ms counts from; 0: not known */
};

/* A reading now, which follows `kept`. `now` has all but lasting_ms. */
struct lasting_clock lasting_clock_resume(
    const struct lasting_clock *kept, const struct lasting_clock *now, uint64_t gap_max_ms);
/* What this machine's clocks say, without lasting_ms. */
struct lasting_clock lasting_clock_sample(uint64_t boot_id);
/* The name of this start of the machine; 0 where the kernel does not tell. */
uint64_t lasting_clock_boot_id(void);
