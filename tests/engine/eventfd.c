/* Counters, the semaphore flag, close-on-exec, non-blocking, and numbers far apart.
 *
 * conformance: descriptors | eventfd | kept | with its counter
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/eventfd.h>

static void check_read(int fd, uint64_t wanted)
{
    uint64_t value = 0;
    CHECK_EQUAL(read(fd, &value, sizeof value), sizeof value);
    CHECK_EQUAL(value, wanted);
}

int main(void)
{
    int plain = eventfd(7, EFD_NONBLOCK | EFD_CLOEXEC);
    int semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    int big = eventfd(0, EFD_NONBLOCK);
    CHECK(eventfd_write(big, 0x123456789abcdefull) == 0);
    CHECK_EQUAL(dup2(big, 200), 200);
    close(big);

    test_freeze_point();
    CHECK_EQUAL(fcntl(plain, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(fcntl(semaphore, F_GETFD), 0);
    check_read(plain, 7);
    CHECK(read(plain, &(uint64_t){0}, 8) < 0 && errno == EAGAIN);
    check_read(semaphore, 1);
    check_read(semaphore, 1);
    CHECK(read(semaphore, &(uint64_t){0}, 8) < 0 && errno == EAGAIN);
    check_read(200, 0x123456789abcdefull);
    return 0;
}
