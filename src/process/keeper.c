#include "process/keeper.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET)

static int raise_loopback(struct error *err)
{
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return error_system(err, "cannot bring the loopback interface of a private network up");
    return 0;
}

static int furnish(const struct keeper_options *options, struct error *err)
{
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return error_system(err, "cannot make mounts private");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return error_system(err, "cannot mount /proc for a new pid namespace");
    if (options->private_tmp && mount("tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
        return error_system(err, "cannot mount a private /tmp");
    return options->private_network ? raise_loopback(err) : 0;
}

/* Sleeps until the process that it is told of has ended; when nobody tells, until we are gone. */
_Noreturn static void keep(int socket)
{
    int fds[FD_MESSAGE_MAX];
    size_t fd_count;
    char byte;
    signal(SIGCHLD, SIG_IGN); /* the kernel then reaps orphans by itself */
    if (fd_recv_message(socket, &byte, sizeof byte, fds, &fd_count, NULL) != 1 || fd_count != 1)
        _exit(0);
    close(socket);
    struct pollfd end = {fds[0], POLLIN, 0};
    while (poll(&end, 1, -1) < 0 && errno == EINTR)
        ;
    _exit(0);
}

_Noreturn static void run_keeper(const struct keeper_options *options, int socket)
{
    struct error outcome = {0};
    if (options->dies_with_us)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "thaw-keeper");
    bool ready = furnish(options, &outcome) == 0;
    if (fd_send_message(socket, &outcome, sizeof outcome, NULL, 0, NULL) < 0 || !ready)
        _exit(1);
    setsid(); /* a terminal's signals are not for it */
    int kept = fcntl(socket, F_DUPFD_CLOEXEC, 3);
    if (kept < 0 || chdir("/") < 0)
        _exit(1);
    /* Standard streams would keep pipes open that others wait to see the end of. */
    syscall(SYS_close_range, 0, (unsigned)kept - 1, 0);
    syscall(SYS_close_range, (unsigned)kept + 1, ~0u, 0);
    keep(kept);
}

static pid_t fork_with(uint64_t flags, int *pidfd)
{
    struct clone_args args = {
        .flags = flags | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

int keeper_start(struct keeper *k, const struct keeper_options *options, struct error *err)
{
    int pair[2], fds[FD_MESSAGE_MAX];
    size_t fd_count;
    struct error outcome;
    *k = KEEPER_NONE;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_system(err, "cannot make a socket pair");
    uint64_t flags =
        CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | (options->private_network ? CLONE_NEWNET : 0);
    k->pid = fork_with(flags, &k->pidfd);
    if (k->pid == 0) {
        close(pair[0]);
        run_keeper(options, pair[1]);
    }
    k->socket = pair[0];
    close(pair[1]);
    if (k->pid < 0) {
        error_system(err, "cannot make namespaces for the program");
        fd_close(&k->socket);
        k->pid = 0;
        return -1;
    }
    ssize_t got = fd_recv_message(k->socket, &outcome, sizeof outcome, fds, &fd_count, err);
    if (got == sizeof outcome && outcome.kind == ERROR_NONE)
        return 0;
    if (got >= 0)
        error_set(err, got > 0 ? outcome.kind : ERROR_INTERNAL, "%s",
            got > 0 ? outcome.text : "a keeper died before it was ready");
    keeper_stop(k);
    return -1;
}

int keeper_attend(struct keeper *k, int pidfd, struct error *err)
{
    int result = fd_send_message(k->socket, "", 1, &pidfd, 1, err);
    fd_close(&k->socket);
    return result;
}

pid_t keeper_fork(const struct keeper *k, int *pidfd, struct error *err)
{
    CLEANUP_FD int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(k->pidfd, CLONE_NEWPID) < 0)
        return error_system(err, "cannot enter the program's pid namespace");
    pid_t pid = fork_with(0, pidfd);
    if (pid == 0)
        return 0;
    if (pid < 0)
        error_system(err, "cannot fork");
    /* It is our own namespace and we are as privileged as a moment ago. */
    if (setns(own, CLONE_NEWPID) < 0 && pid > 0) {
        error_system(err, "cannot return to our own pid namespace");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    return pid;
}

int keeper_enter(const struct keeper *k, struct error *err)
{
    if (setns(k->pidfd, NAMESPACES) < 0)
        return error_system(err, "cannot enter the program's namespaces");
    return 0;
}

void keeper_stop(struct keeper *k)
{
    if (k->pid > 0) {
        kill(k->pid, SIGKILL);
        while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        k->pid = 0;
    }
    keeper_release(k);
}

void keeper_release(struct keeper *k)
{
    fd_close(&k->pidfd);
    fd_close(&k->socket);
}
