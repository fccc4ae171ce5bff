/* Chance: what the kernel draws after the thaw is different in every clone; what a program has drawn and seeded itself is
 * the same in all, which is why runtimes seed again.
 *
 * conformance: process | `getrandom`, `/dev/urandom`, an open descriptor of it | kept | no two clones draw the same
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/random.h>

int main(void)
{
    unsigned char bytes[32], from_device[32];
    int fd = open("/dev/urandom", O_RDONLY);
    CHECK_EQUAL(read(fd, from_device, 16), 16);
    CHECK_EQUAL(getrandom(bytes, sizeof bytes, 0), sizeof bytes);
    srandom(1234);
    long first = random(), expected;
    expected = random();
    srandom(1234);
    CHECK_EQUAL(random(), first);

    test_freeze_point();
    CHECK_EQUAL(random(), expected); /* the program's own generator */
    CHECK_EQUAL(getrandom(bytes, sizeof bytes, 0), sizeof bytes);
    test_unique(bytes, sizeof bytes);
    CHECK_EQUAL(read(fd, from_device, sizeof from_device), sizeof from_device);
    test_unique(from_device, sizeof from_device);
    CHECK(memcmp(bytes, from_device, sizeof bytes) != 0);
    return 0;
}
