/* When the warden is killed outright, its sandboxes die with it, but their cgroups stay. A process that does
 * nothing else waits for that moment, and removes them. (Without it the next start would.) */
#include "base/fd.h"
#include "daemon/role.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define WARDEN_FD 3
#define REAPED_POLL_MS 20
#define REAPED_POLLS_MAX 3000

/* As long as nobody has waited for the dead warden its pid is taken, and its cgroups look like those of the
 * living. */
static bool wait_until_gone(void)
{
    struct pollfd warden = {.fd = WARDEN_FD, .events = POLLIN};
    while (poll(&warden, 1, -1) < 0 && errno == EINTR)
        ;
    for (int i = 0; i < REAPED_POLLS_MAX; i++) {
        if (pidfd_send_signal(WARDEN_FD, 0, NULL, 0) < 0 && errno == ESRCH)
            return true;
        poll(NULL, 0, REAPED_POLL_MS);
    }
    return false;
}

static _Noreturn void run_undertaker(int warden_pidfd)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    prctl(PR_SET_NAME, "thaw-undertaker");
    setsid();
    for (size_t i = 0; i < countof(ignored); i++)
        signal(ignored[i], SIG_IGN);
    /* Not even standard error stays open: who reads the daemon's would wait for us. */
    if (dup2(warden_pidfd, WARDEN_FD) != WARDEN_FD)
        _exit(1);
    close_range(0, WARDEN_FD - 1, 0);
    close_range(WARDEN_FD + 1, ~0u, 0);
    if (!wait_until_gone())
        _exit(1);
    /* Opening removes what dead daemons left. */
    const struct sandbox_host_options options = {.uid = ROLE_SANDBOX_UID, .gid = ROLE_SANDBOX_UID};
    struct error err = {0};
    sandbox_host_close(sandbox_host_open(&options, &err));
    _exit(0);
}

int role_start_undertaker(pid_t *pid, struct error *err)
{
    CLEANUP_FD int self = pidfd_open(getpid(), 0);
    if (self < 0)
        return error_system(err, "cannot open a descriptor of this process");
    *pid = fork();
    if (*pid == 0)
        run_undertaker(self);
    return *pid < 0 ? error_system(err, "cannot fork") : 0;
}

void role_end_undertaker(pid_t pid)
{
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
