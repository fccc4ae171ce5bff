/* conformance: descriptors | eventfd at its limits | kept | zero; more than 32 bits; so full that a write would wait
 *
 * The largest value that a counter holds is one less than the largest number. */
#include "help.h"

#include <sys/eventfd.h>

int main(void)
{
    eventfd_t value;
    int zero = eventfd(0, EFD_NONBLOCK), full = eventfd(0, EFD_NONBLOCK), wide = eventfd(0, 0),
        edge = eventfd(UINT32_MAX, EFD_CLOEXEC);
    CHECK(eventfd_write(full, UINT64_MAX - 1) == 0 && eventfd_write(wide, 1ull << 32) == 0);

    test_freeze_point();
    CHECK_EQUAL(test_poll(zero), POLLOUT);
    CHECK(eventfd_read(zero, &value) < 0 && errno == EAGAIN);
    CHECK_EQUAL(test_poll(full), POLLIN);
    CHECK(eventfd_write(full, 1) < 0 && errno == EAGAIN);
    CHECK(eventfd_read(full, &value) == 0 && value == UINT64_MAX - 1);
    CHECK(!test_has_flag(wide, O_NONBLOCK) && eventfd_read(wide, &value) == 0 && value == 1ull << 32);
    CHECK(fcntl(edge, F_GETFD) == FD_CLOEXEC && eventfd_read(edge, &value) == 0 && value == UINT32_MAX);
    return 0;
}
