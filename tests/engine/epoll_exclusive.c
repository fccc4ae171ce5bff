/* conformance: descriptors | epoll: `EPOLLEXCLUSIVE`, one file in several sets | kept |
 *
 * The way it is added is seen by what the kernel refuses afterwards: an exclusive member cannot be changed. */
#include "help.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

int main(void)
{
    int first = epoll_create1(0), second = epoll_create1(0), third = epoll_create1(0),
        counter = eventfd(0, 0);
    struct epoll_event exclusive = {EPOLLIN | EPOLLEXCLUSIVE, {.u64 = 1}},
                       normal = {EPOLLIN | EPOLLPRI, {.u64 = 3}}, event;
    CHECK(epoll_ctl(first, EPOLL_CTL_ADD, counter, &exclusive) == 0);
    exclusive.data.u64 = 2;
    CHECK(epoll_ctl(second, EPOLL_CTL_ADD, counter, &exclusive) == 0);
    CHECK(epoll_ctl(third, EPOLL_CTL_ADD, counter, &normal) == 0);

    test_freeze_point();
    CHECK(epoll_wait(first, &event, 1, 0) == 0 && epoll_wait(second, &event, 1, 0) == 0);
    CHECK(epoll_ctl(first, EPOLL_CTL_MOD, counter, &normal) < 0 && errno == EINVAL);
    CHECK(epoll_ctl(second, EPOLL_CTL_MOD, counter, &normal) < 0 && errno == EINVAL);
    normal.data.u64 = 4;
    CHECK(epoll_ctl(third, EPOLL_CTL_MOD, counter, &normal) == 0);
    CHECK(eventfd_write(counter, 1) == 0);
    CHECK(epoll_wait(third, &event, 1, 0) == 1 && event.data.u64 == 4);
    CHECK(epoll_wait(first, &event, 1, 0) == 1 || epoll_wait(second, &event, 1, 0) == 1);
    return 0;
}
