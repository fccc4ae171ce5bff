#include "base/wakeups.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUICK_SLICE_NS 100000u /* the shortest that the kernel gives */

/* The layout of the kernel's struct sched_attr, version 1. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
    uint32_t clamp_min, clamp_max;
};
#define RESET_ON_FORK 1 /* SCHED_FLAG_RESET_ON_FORK */

void wakeups_favor(void)
{
    /* Not an error where the kernel does not know the wish: it is then ignored, or refused. */
    const struct scheduling wish = {
        .size = sizeof wish, .flags = RESET_ON_FORK, .runtime_ns = QUICK_SLICE_NS};
    (void)!syscall(SYS_sched_setattr, 0, &wish, 0);
}
