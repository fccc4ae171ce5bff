/* conformance: descriptors | numbers up to the limit, with gaps | kept | the next that is opened gets the lowest free one
 *
 * One description under many numbers, the standard ones among them. */
#include "help.h"

#include <sys/eventfd.h>
#include <sys/resource.h>

int main(void)
{
    struct rlimit limit;
    eventfd_t value;
    int counter = eventfd(0, EFD_NONBLOCK);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 1024;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(dup2(counter, 900) == 900 && dup3(counter, 500, O_CLOEXEC) == 500 && dup2(counter, 0) == 0);
    CHECK(dup2(counter, (int)limit.rlim_cur - 1) == (int)limit.rlim_cur - 1);
    for (int i = 20; i < 40; i += 2)
        CHECK(dup2(counter, i) == i);
    CHECK(close(counter) == 0);

    test_freeze_point();
    CHECK(eventfd_write(900, 5) == 0 && eventfd_read(500, &value) == 0 && value == 5);
    CHECK(eventfd_write(38, 6) == 0 && eventfd_read(0, &value) == 0 && value == 6);
    CHECK(eventfd_write((int)limit.rlim_cur - 1, 7) == 0 && eventfd_read(20, &value) == 0 && value == 7);
    CHECK(fcntl(500, F_GETFD) == FD_CLOEXEC && fcntl(900, F_GETFD) == 0 && fcntl(0, F_GETFD) == 0);
    for (int i = 21; i < 40; i += 2)
        CHECK(test_is_closed(i));
    CHECK(test_is_closed(901) && test_is_closed(counter));
    CHECK(eventfd(0, 0) < 20);
    CHECK(close(30) == 0 && fcntl(0, F_DUPFD, 22) == 23 && fcntl(0, F_DUPFD, 30) == 30);
    return 0;
}
