/* conformance: descriptors | a pidfd of the process itself | kept |
 *
 * A signal that is sent through it arrives, in this clone only. */
#include "help.h"

#include <signal.h>
#include <sys/syscall.h>

static volatile sig_atomic_t got;

static void on_signal(int number)
{
    (void)number;
    got++;
}

int main(void)
{
    signal(SIGUSR1, on_signal);
    int plain = (int)syscall(SYS_pidfd_open, getpid(), 0),
        loose = (int)syscall(SYS_pidfd_open, getpid(), O_NONBLOCK), twin = dup(plain);
    CHECK(plain >= 0 && loose >= 0 && twin >= 0);

    test_freeze_point();
    CHECK(fcntl(plain, F_GETFD) == FD_CLOEXEC && fcntl(twin, F_GETFD) == 0);
    CHECK(test_has_flag(loose, O_NONBLOCK) && !test_has_flag(plain, O_NONBLOCK));
    CHECK(test_poll(plain) == 0 && syscall(SYS_pidfd_send_signal, twin, SIGUSR1, NULL, 0) == 0);
    test_barrier();
    CHECK_EQUAL(got, 1);
    CHECK(syscall(SYS_pidfd_send_signal, loose, 0, NULL, 0) == 0);
    return 0;
}
