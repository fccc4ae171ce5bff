/* conformance: descriptors | eventfd as a semaphore | kept | the count goes down by one at a time
 *
 * Two threads' worth of permits, one of them taken before the freeze; duplicates share the count. */
#include "help.h"

#include <sys/eventfd.h>

int main(void)
{
    eventfd_t value;
    int permits = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), twin = dup(permits),
        none = eventfd(0, EFD_SEMAPHORE);
    CHECK(eventfd_read(permits, &value) == 0 && value == 1);

    test_freeze_point();
    CHECK(eventfd_read(twin, &value) == 0 && value == 1);
    CHECK_EQUAL(test_poll(permits), POLLIN | POLLOUT);
    CHECK(eventfd_read(permits, &value) == 0 && value == 1);
    CHECK(eventfd_read(permits, &value) < 0 && errno == EAGAIN);
    CHECK_EQUAL(test_poll(none), POLLOUT);
    CHECK(eventfd_write(none, (eventfd_t)test_clone_index + 1) == 0);
    test_barrier();
    for (int i = 0; i <= test_clone_index; i++)
        CHECK(eventfd_read(none, &value) == 0 && value == 1);
    CHECK_EQUAL(test_poll(none), POLLOUT);
    return 0;
}
