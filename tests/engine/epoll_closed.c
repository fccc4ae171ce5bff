/* conformance: descriptors | epoll members whose number is closed while a duplicate keeps the file open | kept | reported with their data, as the kernel does
 *
 * The only way to be rid of such a member is to close the duplicate too. */
#include "help.h"

#include <sys/epoll.h>

int main(void)
{
    int ends[2], other[2], set = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 7}};
    CHECK(pipe(ends) == 0 && pipe(other) == 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event) == 0);
    int twin = fcntl(ends[0], F_DUPFD_CLOEXEC, 60);
    CHECK(twin == 60 && close(ends[0]) == 0);
    event.data.u64 = 8;
    int moved = fcntl(other[0], F_DUPFD, 50);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, moved, &event) == 0 && dup2(other[1], moved) == moved);

    test_freeze_point();
    CHECK(test_is_closed(ends[0]) && epoll_wait(set, &event, 1, 0) == 0);
    CHECK(test_writes(ends[1], "x") && epoll_wait(set, &event, 1, 0) == 1 && event.data.u64 == 7);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL) < 0 && (errno == EBADF || errno == ENOENT));
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, twin, NULL) < 0 && errno == ENOENT);
    CHECK(close(twin) == 0 && epoll_wait(set, &event, 1, 0) == 0);
    CHECK(test_writes(moved, "y") && epoll_wait(set, &event, 1, 0) == 1 && event.data.u64 == 8);
    CHECK(test_reads(other[0], "y") && close(other[0]) == 0 && epoll_wait(set, &event, 1, 0) == 0);
    return 0;
}
