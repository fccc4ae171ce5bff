/* conformance: descriptors | epoll sets within epoll sets | kept | four deep, whatever the order of their numbers
 *
 * What happens at the innermost is seen at the outermost. */
#include "help.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#define DEPTH 4

int main(void)
{
    int sets[DEPTH], counter = eventfd(0, EFD_NONBLOCK);
    struct epoll_event event;
    for (int i = 0; i < DEPTH; i++)
        sets[i] = epoll_create1(0);
    for (int i = 0; i < DEPTH; i++) { /* the outermost has the lowest number, then the highest has the next */
        event = (struct epoll_event){EPOLLIN, {.u64 = (uint64_t)i + 100}};
        int inner = i == DEPTH - 1 ? counter : sets[i + 1];
        CHECK(epoll_ctl(sets[i], EPOLL_CTL_ADD, inner, &event) == 0);
    }
    int moved = fcntl(sets[1], F_DUPFD, 50);
    CHECK(moved == 50 && close(sets[1]) == 0 && epoll_ctl(sets[0], EPOLL_CTL_ADD, moved, &event) == 0);

    test_freeze_point();
    CHECK_EQUAL(epoll_wait(sets[0], &event, 1, 0), 0);
    CHECK(eventfd_write(counter, 1) == 0);
    struct epoll_event both[2];
    CHECK_EQUAL(epoll_wait(sets[0], both, 2, 0), 2); /* under its old number and its new one */
    CHECK(epoll_wait(moved, &event, 1, 0) == 1 && event.data.u64 == 101);
    CHECK(epoll_wait(sets[3], &event, 1, 0) == 1 && event.data.u64 == 103);
    eventfd_t value;
    CHECK(eventfd_read(counter, &value) == 0 && epoll_wait(sets[0], both, 2, 0) == 0);
    return 0;
}
