/* conformance: files | files opened for appending (`O_APPEND`) | kept |
 *
 * What is written goes to the end, wherever the position is, and whoever wrote last. */
#include "help.h"

int main(void)
{
    char text[64] = {0};
    int log = open("/tmp/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
        both = open("/tmp/log", O_RDWR | O_APPEND), plain = open("/tmp/log", O_WRONLY);
    CHECK(test_writes(log, "one,") && test_writes(both, "two,") && test_writes(plain, "ONE"));
    CHECK_EQUAL(lseek(both, 2, SEEK_SET), 2);
    CHECK(fcntl(plain, F_SETFL, O_APPEND) == 0);

    test_freeze_point();
    CHECK(test_has_flag(log, O_APPEND) && test_has_flag(both, O_APPEND) && test_has_flag(plain, O_APPEND));
    CHECK_EQUAL(fcntl(log, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(lseek(both, 0, SEEK_CUR), 2);
    CHECK(test_writes(log, "three,") && test_writes(plain, "four"));
    CHECK_EQUAL(lseek(both, 0, SEEK_SET), 0);
    CHECK(test_reads(both, "ONE,two,three,four"));
    snprintf(text, sizeof text, ",%d", test_clone_index);
    CHECK(test_writes(both, text));
    test_barrier();
    char wanted[64];
    snprintf(wanted, sizeof wanted, "ONE,two,three,four,%d", test_clone_index);
    CHECK(test_holds("/tmp/log", wanted));
    return 0;
}
