/* conformance: descriptors | epoll: `EPOLLET` | noted | an edge that was reported before the freeze is reported once more
 *
 * Readable before the freeze and reported; readable and not reported; not readable. */
#include "help.h"

#include <sys/epoll.h>

static bool add(int set, int fd, uint64_t data)
{
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = data}};
    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* A set of the numbers that are reported now. */
static unsigned report(int set)
{
    struct epoll_event events[8];
    unsigned found = 0;
    int count = epoll_wait(set, events, 8, 0);
    for (int i = 0; i < count; i++)
        found |= 1u << events[i].data.u64;
    return found;
}

int main(void)
{
    int seen[2], unseen[2], quiet[2], set = epoll_create1(EPOLL_CLOEXEC);
    CHECK(pipe(seen) == 0 && pipe(unseen) == 0 && pipe(quiet) == 0);
    CHECK(add(set, seen[0], 1) && add(set, unseen[0], 2) && add(set, quiet[0], 3));
    CHECK(test_writes(seen[1], "s") && report(set) == 1u << 1 && report(set) == 0);
    CHECK(test_writes(unseen[1], "u"));

    test_freeze_point();
    unsigned first = report(set);
    CHECK((first & ~(1u << 1)) == 1u << 2); /* that of `seen` may come again */
    CHECK_EQUAL(report(set), 0);
    CHECK(test_writes(seen[1], "t") && report(set) == 1u << 1 && report(set) == 0);
    CHECK(test_reads(seen[0], "st") && test_reads(unseen[0], "u"));
    CHECK(test_writes(quiet[1], "q") && report(set) == 1u << 3 && report(set) == 0);
    CHECK_EQUAL(fcntl(set, F_GETFD), FD_CLOEXEC);
    return 0;
}
