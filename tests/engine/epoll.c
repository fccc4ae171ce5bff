/* epoll over an eventfd, a pipe, a timerfd and a socket; nested; with a member whose number has been closed,
 * and one whose number is something else now; edge-triggered; data.
 *
 * conformance: descriptors | epoll: nested, edge-triggered, with closed and replaced members | kept |
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static void add(int set, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
}

static bool reports(int set, uint64_t data)
{
    struct epoll_event events[16];
    int count = epoll_wait(set, events, 16, 0);
    CHECK(count >= 0);
    for (int i = 0; i < count; i++)
        if (events[i].data.u64 == data)
            return true;
    return false;
}

int main(void)
{
    int ends[2], pair[2];
    int set = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(0);
    int counter = eventfd(0, EFD_NONBLOCK), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    CHECK(pipe(ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    add(set, counter, EPOLLIN, 0x1111222233334444);
    add(set, ends[0], EPOLLIN | EPOLLET, 2);
    add(set, timer, EPOLLIN, 3);
    add(set, pair[0], EPOLLIN | EPOLLRDHUP, 4);
    add(outer, set, EPOLLIN, 5);

    int hidden = eventfd(0, EFD_NONBLOCK), kept = dup(hidden);
    add(set, hidden, EPOLLIN, 6);
    close(hidden);
    int replaced = eventfd(0, EFD_NONBLOCK), kept_too = dup(replaced);
    add(set, replaced, EPOLLIN, 7);
    CHECK_EQUAL(dup2(counter, replaced), replaced);
    add(set, replaced, EPOLLIN, 8);

    test_freeze_point();
    CHECK(!reports(outer, 5));
    eventfd_write(counter, 1);
    CHECK(reports(outer, 5) && reports(set, 0x1111222233334444) && reports(set, 8));
    CHECK(!reports(set, 2) && !reports(set, 3) && !reports(set, 4) && !reports(set, 6) && !reports(set, 7));
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    CHECK(reports(set, 2) && !reports(set, 2)); /* once: edge */
    CHECK_EQUAL(write(pair[1], "x", 1), 1);
    CHECK(reports(set, 4));
    struct itimerspec soon = {.it_value.tv_nsec = 1000};
    CHECK(timerfd_settime(timer, 0, &soon, NULL) == 0);
    while (!reports(set, 3))
        ;
    eventfd_write(kept, 1);
    CHECK(reports(set, 6));
    eventfd_write(kept_too, 1);
    CHECK(reports(set, 7));
    CHECK(fcntl(hidden, F_GETFD) < 0 || hidden == replaced);
    CHECK_EQUAL(fcntl(set, F_GETFD), FD_CLOEXEC);
    CHECK(epoll_ctl(set, EPOLL_CTL_DEL, counter, NULL) == 0);
    CHECK(!reports(set, 0x1111222233334444));
    return 0;
}
