#pragma once

/* Ask the scheduler (Linux 6.12 and newer) for short slices: the process runs for microseconds at a time, and when it is
 * woken it should not wait for the end of a function's slice of milliseconds. Children do not inherit it. */
void wakeups_favor(void);
