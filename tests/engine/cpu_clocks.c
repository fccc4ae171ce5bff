/* Processor time begins anew in each clone, and runs: of the process, of a thread, of getrusage and times.
 *
 * conformance: timers and clocks | processor time: `CLOCK_PROCESS_CPUTIME_ID`, `CLOCK_THREAD_CPUTIME_ID`, `getrusage`, `times` | noted | begins anew in each clone
 */
#include "engine.h"

#include <sys/resource.h>
#include <sys/times.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    CHECK(clock_gettime(id, &now) == 0);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int main(void)
{
    while (read_clock(CLOCK_PROCESS_CPUTIME_ID) < 50000000)
        ;
    clock_t ticks = times(&(struct tms){0});
    clockid_t own;
    CHECK(clock_getcpuclockid(0, &own) == 0);

    test_freeze_point();
    int64_t process = read_clock(CLOCK_PROCESS_CPUTIME_ID), thread = read_clock(CLOCK_THREAD_CPUTIME_ID);
    CHECK(process >= 0 && process < 50000000 && thread <= read_clock(CLOCK_PROCESS_CPUTIME_ID));
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_utime.tv_sec == 0);
    CHECK(times(&(struct tms){0}) >= ticks); /* its result is a clock that never goes back */
    while (read_clock(CLOCK_PROCESS_CPUTIME_ID) < process + 5000000)
        ;
    CHECK(read_clock(own) > process && read_clock(CLOCK_THREAD_CPUTIME_ID) > thread);
    return 0;
}
