/* The cold start: a new process in a sandbox that runs a command. What a thawed clone does by its plan, this
 * does in C. */
#include "base/bytes.h"
#include "base/fd.h"
#include "sandbox/filter.h"
#include "sandbox/parts.h"
#include "sandbox/rights.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOWEST_SPARE_FD 10 /* above stdin, stdout and stderr, where nothing is in the way of dup2 */

static int enter(const struct sandbox *sb, int code_tree_fd, struct error *err)
{
    for (size_t i = 0; i < sb->host->cgroups.count; i++)
        if (write(sb->cgroup_procs_fds[i], "0", 1) < 0)
            return error_system(err, "cannot enter a sandbox's cgroup");
    if (setns(sb->init_pidfd, SANDBOX_ENTER_NAMESPACES) < 0)
        return error_system(err, "cannot enter a sandbox's namespaces");
    if (code_tree_fd >= 0 &&
        syscall(SYS_move_mount, code_tree_fd, "", AT_FDCWD, SANDBOX_CODE_PATH, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_system(err, "cannot attach the code at " SANDBOX_CODE_PATH);
    if (chdir(SANDBOX_CODE_PATH) < 0)
        return error_system(err, "cannot enter " SANDBOX_CODE_PATH);
    return 0;
}

/* Leaves stdin, stdout, stderr and *status_fd open, which moves. */
static int arrange_descriptors(int log_fd, int *status_fd, struct error *err)
{
    int log = fcntl(log_fd, F_DUPFD_CLOEXEC, LOWEST_SPARE_FD);
    int status = fcntl(*status_fd, F_DUPFD_CLOEXEC, LOWEST_SPARE_FD);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || status < 0 || null < 0)
        return error_system(err, "cannot copy a descriptor");
    *status_fd = status;
    if (null != 0 && dup2(null, 0) < 0)
        return error_system(err, "cannot set stdin");
    if (null == 0 && fcntl(0, F_SETFD, 0) < 0)
        return error_system(err, "cannot set stdin");
    if (dup2(log, 1) < 0 || dup2(log, 2) < 0)
        return error_system(err, "cannot set stdout and stderr");
    if (syscall(SYS_close_range, 3, (unsigned)status - 1, 0) < 0 ||
        syscall(SYS_close_range, (unsigned)status + 1, ~0u, 0) < 0)
        return error_system(err, "cannot close descriptors");
    return 0;
}

/* Hard limits can only be lowered on machines that lack CAP_SYS_RESOURCE. */
static int lower_limit(__rlimit_resource_t resource, rlim_t most, struct error *err)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) < 0)
        return error_system(err, "cannot read a resource limit");
    if (limit.rlim_max > most)
        limit.rlim_max = most;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(resource, &limit) < 0)
        return error_system(err, "cannot set a resource limit");
    return 0;
}

static int lower_limits(struct error *err)
{
    if (lower_limit(RLIMIT_NOFILE, LIMIT_FUNCTION_FDS, err) < 0)
        return -1;
    return lower_limit(RLIMIT_CORE, 0, err);
}

/* CLONE_CLEAR_SIGHAND has reset what was handled; what was ignored stays so, and a mask is inherited. */
static void reset_signals(void)
{
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int confine(const struct sandbox_host *host, const struct sock_fprog *filter, struct error *err)
{
    if (rights_become(host->uid, host->gid, err) < 0)
        return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_system(err, "cannot set no_new_privs");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) < 0)
        return error_system(err, "cannot attach the seccomp filter");
    return 0;
}

_Noreturn static void run_child(const struct sandbox *sb, const struct sandbox_command *command,
    const struct sock_fprog *filter, int status_fd)
{
    struct error outcome = {0};
    if (enter(sb, command->code_tree_fd, &outcome) == 0 &&
        arrange_descriptors(command->log_fd, &status_fd, &outcome) == 0 && lower_limits(&outcome) == 0) {
        setsid();
        umask(022);
        reset_signals();
        if (command->fixed_layout)
            personality(ADDR_NO_RANDOMIZE);
        if (confine(sb->host, filter, &outcome) == 0) {
            execve(command->argv[0], (char *const *)command->argv, (char *const *)command->env);
            (void)error_system(&outcome, "cannot run %s", command->argv[0]);
            outcome.kind = ERROR_INVALID;
            outcome.errno_value = errno;
        }
    }
    _exit(fd_write_all(status_fd, &outcome, sizeof outcome, NULL) < 0 ? 126 : 127);
}

static void reap(int pidfd)
{
    while (waitid(P_PIDFD, (id_t)pidfd, NULL, WEXITED) < 0 && errno == EINTR)
        ;
}

static pid_t fork_into(const struct sandbox *sb, int *pidfd, struct error *err)
{
    if (setns(sb->init_pidfd, CLONE_NEWPID) < 0)
        return error_system(err, "cannot enter a sandbox's pid namespace");
    pid_t pid = sandbox_fork(CLONE_NEWTIME, SIGCHLD, pidfd);
    if (pid == 0)
        return 0;
    if (pid < 0)
        (void)error_system(err, "cannot fork into a sandbox");
    if (setns(sb->host->own_pid_space_fd, CLONE_NEWPID) == 0)
        return pid;
    /* It is our own namespace and we are as privileged as a moment ago, so this does not happen; if it did,
     * all later processes would end up in this sandbox. */
    (void)error_system(err, "cannot return to the warden's own pid namespace");
    if (pid > 0) {
        (void)syscall(SYS_pidfd_send_signal, *pidfd, SIGKILL, NULL, 0);
        reap(*pidfd);
    }
    return -1;
}

int sandbox_spawn(
    struct sandbox *sb, const struct sandbox_command *command, pid_t *pid, int *pidfd, struct error *err)
{
    const struct sock_fprog *filter = sandbox_filter_full(err);
    if (!filter)
        return -1;
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int from_child = pair[0];
    CLEANUP_FD int to_parent = pair[1];
    CLEANUP_FD int child_pidfd = -1;
    pid_t child = fork_into(sb, &child_pidfd, err);
    if (child == 0)
        run_child(sb, command, filter, to_parent);
    fd_close(&to_parent);
    if (child < 0)
        return -1;
    if (fd_await_exec(from_child, err) < 0) {
        reap(child_pidfd);
        return -1;
    }
    *pid = child;
    *pidfd = fd_steal(&child_pidfd);
    return 0;
}
