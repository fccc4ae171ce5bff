/* conformance: descriptors | epoll: `EPOLLONESHOT`, armed and spent | noted | a spent member comes back spent, but would report an error or a hang-up, which the kernel always adds
 *
 * One is armed, one has fired before the freeze and must not fire again before it is armed anew. */
#include "help.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static uint64_t next(int set)
{
    struct epoll_event event;
    return epoll_wait(set, &event, 1, 0) == 1 ? event.data.u64 : 0;
}

int main(void)
{
    int set = epoll_create1(0), armed = eventfd(0, EFD_NONBLOCK), spent = eventfd(1, EFD_NONBLOCK);
    struct epoll_event first = {EPOLLIN | EPOLLONESHOT, {.u64 = 0xaaaabbbbccccdddd}},
                       second = {EPOLLIN | EPOLLONESHOT, {.u64 = 2}};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, armed, &first) == 0 &&
          epoll_ctl(set, EPOLL_CTL_ADD, spent, &second) == 0);
    CHECK_EQUAL(next(set), 2);
    CHECK_EQUAL(next(set), 0);

    test_freeze_point();
    CHECK_EQUAL(next(set), 0);
    CHECK(eventfd_write(spent, 1) == 0);
    CHECK_EQUAL(next(set), 0);
    CHECK(eventfd_write(armed, 1) == 0);
    CHECK(next(set) == 0xaaaabbbbccccdddd && next(set) == 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_MOD, spent, &second) == 0);
    CHECK(next(set) == 2 && next(set) == 0);
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, armed, &first) < 0 && errno == EEXIST);
    return 0;
}
