/* conformance: pipes | a pipe with one end closed | kept | contents, then the end of the stream; `SIGPIPE` and `EPIPE`
 *
 * Without a writer what waits can still be read; without a reader a write raises SIGPIPE. */
#include "help.h"

#include <signal.h>

static volatile sig_atomic_t broken;

static void on_broken(int number)
{
    (void)number;
    broken++;
}

int main(void)
{
    int widow[2], finished[2], widower[2];
    signal(SIGPIPE, on_broken);
    CHECK(pipe(widow) == 0 && pipe(finished) == 0 && pipe(widower) == 0);
    CHECK(test_writes(widow[1], "the last words"));
    CHECK(close(widow[1]) == 0 && close(finished[1]) == 0 && close(widower[0]) == 0);

    test_freeze_point();
    CHECK_EQUAL(test_poll(widow[0]), POLLIN | POLLHUP);
    CHECK(test_reads(widow[0], "the last words") && test_ends(widow[0]));
    CHECK_EQUAL(test_poll(widow[0]), POLLHUP);
    CHECK(test_ends(finished[0]));
    CHECK_EQUAL(test_poll(widower[1]), POLLOUT | POLLERR);
    CHECK(write(widower[1], "x", 1) < 0 && errno == EPIPE);
    CHECK_EQUAL(broken, 1);
    CHECK(test_is_closed(widow[1]) && test_is_closed(finished[1]) && test_is_closed(widower[0]));
    return 0;
}
