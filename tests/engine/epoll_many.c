/* conformance: descriptors | an epoll set with hundreds of members of all kinds | kept | with all 64 bits of their data
 *
 * Pipes, eventfds and sockets in one set; some were removed again, one is a duplicate beside its original. */
#include "help.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define MEMBERS 200

static uint64_t data_of(int i)
{
    return 0x8000000000000000ull | ((uint64_t)i << 40) | (uint64_t)i;
}

int main(void)
{
    int counters[MEMBERS], set = epoll_create1(0), pair[2], ends[2];
    struct epoll_event event, events[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        event = (struct epoll_event){EPOLLIN, {.u64 = data_of(i)}};
        CHECK((counters[i] = eventfd(0, EFD_NONBLOCK)) >= 0);
        CHECK(epoll_ctl(set, EPOLL_CTL_ADD, counters[i], &event) == 0);
    }
    for (int i = 0; i < MEMBERS; i += 10)
        CHECK(epoll_ctl(set, EPOLL_CTL_DEL, counters[i], NULL) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
    int twin = dup(counters[1]);
    event = (struct epoll_event){EPOLLIN, {.u64 = 1000}};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, twin, &event) == 0);
    event = (struct epoll_event){EPOLLIN | EPOLLRDHUP, {.ptr = &pair}};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, pair[0], &event) == 0);
    event = (struct epoll_event){EPOLLOUT, {.u64 = UINT64_MAX}};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, ends[1], &event) == 0);

    test_freeze_point();
    CHECK(epoll_wait(set, events, MEMBERS, 0) == 1 && events[0].data.u64 == UINT64_MAX);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, ends[1], NULL) == 0);
    for (int i = 0; i < MEMBERS; i++) {
        CHECK(eventfd_write(counters[i], 1) == 0);
        int count = epoll_wait(set, events, MEMBERS, 0);
        CHECK_EQUAL(count, i % 10 == 0 ? 0 : i == 1 ? 2 : 1);
        if (count == 1)
            CHECK(events[0].data.u64 == data_of(i) && events[0].events == EPOLLIN);
        eventfd_t value;
        CHECK(eventfd_read(counters[i], &value) == 0);
    }
    CHECK(close(pair[1]) == 0 && epoll_wait(set, events, MEMBERS, 0) == 1);
    CHECK(events[0].data.ptr == &pair && (events[0].events & EPOLLRDHUP));
    return 0;
}
