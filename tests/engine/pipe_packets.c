/* conformance: pipes | a pipe in packet mode (`O_DIRECT`) | kept | each packet by itself
 *
 * A read gives one packet, however much room it has; what does not fit of it is lost. */
#include "help.h"

int main(void)
{
    static char large[4096];
    int packets[2], turned[2], plain[2], single[2];
    memset(large, 'L', sizeof large);
    CHECK(pipe2(packets, O_DIRECT | O_NONBLOCK) == 0 && pipe2(turned, O_DIRECT) == 0 && pipe(plain) == 0 &&
          pipe2(single, O_DIRECT) == 0);
    CHECK(test_writes(packets[1], "one") && test_writes(packets[1], "three"));
    CHECK_EQUAL(write(packets[1], large, sizeof large), sizeof large);
    CHECK(test_writes(packets[1], "x"));
    CHECK(test_writes(single[1], "alone"));
    /* Packets that wait stay packets when the mode is switched off. */
    CHECK(test_writes(turned[1], "first") && test_writes(turned[1], "second"));
    CHECK(fcntl(turned[0], F_SETFL, 0) == 0 && fcntl(turned[1], F_SETFL, 0) == 0);
    /* Bytes that wait stay bytes when it is switched on. */
    CHECK(test_writes(plain[1], "by") && test_writes(plain[1], "tes"));
    CHECK(fcntl(plain[1], F_SETFL, O_DIRECT) == 0);

    test_freeze_point();
    char got[8192];
    CHECK(test_reads(packets[0], "one"));
    CHECK(read(packets[0], got, 2) == 2 && memcmp(got, "th", 2) == 0);
    CHECK_EQUAL(read(packets[0], got, sizeof got), 4096);
    CHECK(memcmp(got, large, sizeof large) == 0);
    CHECK(test_reads(packets[0], "x") && read(packets[0], got, 1) < 0 && errno == EAGAIN);
    CHECK(test_has_flag(packets[0], O_NONBLOCK) && test_has_flag(packets[1], O_DIRECT | O_NONBLOCK));
    CHECK(test_writes(packets[1], "a") && test_writes(packets[1], "b"));
    CHECK(test_reads(packets[0], "a") && test_reads(packets[0], "b"));
    CHECK(!test_has_flag(turned[0], O_DIRECT) && !test_has_flag(turned[1], O_DIRECT));
    CHECK(test_reads(turned[0], "first") && test_reads(turned[0], "second"));
    CHECK(test_has_flag(plain[1], O_DIRECT) && !test_has_flag(plain[0], O_DIRECT));
    CHECK(read(plain[0], got, 2) == 2 && test_reads(plain[0], "tes"));
    CHECK(read(single[0], got, 2) == 2 && test_writes(single[1], "next") && test_reads(single[0], "next"));
    return 0;
}
