/* What is passed on: the signals that people and supervisors send, and ends of processes. */
#include "process/command.h"
#include "process/process.h"

#include "base/fd.h"

#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int passed[] = {
    SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGWINCH, SIGALRM, SIGURG};

int signals_take(sigset_t *mask_before, struct error *err)
{
    sigset_t mask;
    sigemptyset(&mask);
    for (size_t i = 0; i < countof(passed); i++)
        sigaddset(&mask, passed[i]);
    if (sigprocmask(SIG_BLOCK, &mask, mask_before) < 0)
        return error_system(err, "cannot block signals");
    int fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? error_system(err, "cannot make a signalfd") : fd;
}

void signals_pass(int signals, const int *pidfds, size_t count)
{
    struct signalfd_siginfo info;
    if (read(signals, &info, sizeof info) != sizeof info)
        return;
    for (size_t i = 0; i < count; i++)
        if (pidfds[i] >= 0)
            (void)syscall(SYS_pidfd_send_signal, pidfds[i], info.ssi_signo, NULL, 0);
}

int status_of(const siginfo_t *end)
{
    return end->si_code == CLD_EXITED ? end->si_status : PROCESS_EXIT_SIGNAL_BASE + end->si_status;
}
