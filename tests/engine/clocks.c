/* Clocks do not go back, also on a machine that has been up for a shorter time than the one of the freeze: the first
 * argument is how many seconds shorter the harness pretends it to be.
 *
 * conformance: timers and clocks | `CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`, `CLOCK_REALTIME` | noted | they never go back, also on a machine that has been up for a shorter time
 */
#include "engine.h"

#include <pthread.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    CHECK(clock_gettime(id, &now) == 0);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static volatile bool stop;

/* Through the vDSO, across the freeze. */
static void *watch(void *unused)
{
    int64_t last = 0;
    (void)unused;
    while (!stop) {
        int64_t now = read_clock(CLOCK_MONOTONIC);
        CHECK(now >= last);
        last = now;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int64_t shift = (argc > 1 ? atoll(argv[1]) : 0) * 1000000000ll;
    pthread_t watcher;
    CHECK(pthread_create(&watcher, NULL, watch, NULL) == 0);
    int64_t monotonic = read_clock(CLOCK_MONOTONIC), boot = read_clock(CLOCK_BOOTTIME),
            wall = read_clock(CLOCK_REALTIME);
    test_freeze_point();
    CHECK(read_clock(CLOCK_MONOTONIC) >= monotonic + shift);
    CHECK(read_clock(CLOCK_BOOTTIME) >= boot + shift);
    CHECK(read_clock(CLOCK_REALTIME) >= wall);
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec = 0;
    at.tv_sec++;
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == 0);
    CHECK(read_clock(CLOCK_MONOTONIC) >= at.tv_sec * 1000000000ll);
    stop = true;
    CHECK(pthread_join(watcher, NULL) == 0);
    return 0;
}
