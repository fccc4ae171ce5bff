/* The life of a sandbox, in the warden:
 *
 *   preparing --finish--> blank --assign--> assigned --(a process enters)--> in use
 *       \____________________\________________\___________________________/
 *                                      kill_and_free
 *                                            v
 *                       dying: init killed, descriptors closed
 *                                            v  sandbox_host_tick: init reaped, cgroups empty
 *                                           gone
 *
 * Invariants: 1. init's exit signal is none, so that no waitpid(-1) of the warden ever reaps it but ours.
 * 2. A sandbox is on host->dying exactly when its listener is closed and its init was sent SIGKILL.
 * 3. A cgroup folder is removed only after init was reaped; pid 1 is the last of its namespace to go. */
#include "sandbox/sandbox.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "sandbox/filter.h"
#include "sandbox/init.h"
#include "sandbox/parts.h"
#include "sandbox/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLOSE_WAIT_NS 3000000000u
#define CLOSE_POLL_US 1000

pid_t sandbox_fork(uint64_t extra_flags, int exit_signal, int *pidfd)
{
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND | extra_flags,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = (uint64_t)exit_signal,
    };
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

struct sandbox_host *sandbox_host_open(const struct sandbox_host_options *options, struct error *err)
{
    if (geteuid() != 0) {
        (void)error_set(err, ERROR_INVALID, "sandboxes need root: namespaces, mounts and cgroups are made");
        return NULL;
    }
    struct sandbox_host_options filled = *options;
    filled.uid = filled.uid ? filled.uid : SANDBOX_UID;
    filled.gid = filled.gid ? filled.gid : SANDBOX_GID;
    struct sandbox_host *host = xcalloc(1, sizeof *host);
    *host = (struct sandbox_host){.base_root_fd = -1, .uid = filled.uid, .gid = filled.gid, .next_id = 1};
    host->own_pid_space_fd = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (host->own_pid_space_fd < 0)
        (void)error_system(err, "cannot open /proc/self/ns/pid");
    else if (sandbox_filter_full(err) && cgroups_open(&host->cgroups, err) == 0) {
        /* The filter is built here, in milliseconds, so that the first cold start is not the one to wait. */
        host->base_root_fd = root_build(&filled, err);
        if (host->base_root_fd >= 0)
            return host;
    }
    sandbox_host_close(host);
    return NULL;
}

void sandbox_host_close(struct sandbox_host *host)
{
    if (!host)
        return;
    uint64_t deadline = clock_monotonic_ns() + CLOSE_WAIT_NS;
    while (sandbox_host_tick(host) > 0 && clock_monotonic_ns() < deadline)
        usleep(CLOSE_POLL_US);
    while (host->dying) {
        struct sandbox *next = host->dying->next;
        fd_close(&host->dying->init_pidfd);
        free(host->dying);
        host->dying = next;
    }
    cgroups_close(&host->cgroups);
    fd_close(&host->base_root_fd);
    fd_close(&host->own_pid_space_fd);
    free(host);
}

const char *sandbox_host_cgroups_text(const struct sandbox_host *host)
{
    return host->cgroups.text;
}

static void close_descriptors(struct sandbox *sb)
{
    fd_close(&sb->ready_fd);
    fd_close(&sb->listener_fd);
    fd_close(&sb->tmp_fd);
    for (size_t i = 0; i < SANDBOX_CGROUP_MAX; i++)
        fd_close(&sb->cgroup_procs_fds[i]);
}

struct sandbox *sandbox_prepare_begin(struct sandbox_host *host, struct error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        (void)error_system(err, "cannot make a socket pair");
        return NULL;
    }
    struct sandbox *sb = xcalloc(1, sizeof *sb);
    *sb = (struct sandbox){
        .host = host,
        .id = host->next_id++,
        .init_pidfd = -1,
        .ready_fd = pair[0],
        .listener_fd = -1,
        .tmp_fd = -1,
        .cgroup_procs_fds = {-1, -1, -1},
        .memory_mb = SANDBOX_DEFAULT_MEMORY_MB,
        .tmp_mb = SANDBOX_DEFAULT_TMP_MB,
    };
    sb->init_pid = sandbox_fork(CLONE_NEWPID, 0, &sb->init_pidfd);
    if (sb->init_pid == 0) {
        close(pair[0]); /* so that a dead warden is noticed */
        init_run(&(struct init_plan){.cgroups = &host->cgroups,
            .id = sb->id,
            .base_root_fd = host->base_root_fd,
            .answer_fd = pair[1]});
    }
    fd_close(&pair[1]);
    if (sb->init_pid < 0) {
        (void)error_system(err, "cannot fork the first process of a sandbox");
        close_descriptors(sb);
        free(sb);
        return NULL;
    }
    return sb;
}

int sandbox_ready_fd(const struct sandbox *sb)
{
    return sb->ready_fd;
}

int sandbox_prepare_finish(struct sandbox *sb, struct error *err)
{
    int fds[FD_MESSAGE_MAX];
    size_t fd_count = 0;
    struct error outcome;
    ssize_t len = fd_recv_message(sb->ready_fd, &outcome, sizeof outcome, fds, &fd_count, err);
    fd_close(&sb->ready_fd);
    if (len < 0)
        return error_prefix(err, "cannot prepare a sandbox");
    if (len != sizeof outcome)
        return error_set(err, ERROR_INTERNAL, "the first process of a sandbox died while it made it");
    if (outcome.kind != ERROR_NONE) {
        if (err)
            *err = outcome;
        return -1;
    }
    sb->listener_fd = fds[INIT_FD_LISTENER];
    sb->tmp_fd = fds[INIT_FD_TMP];
    return cgroups_open_procs(&sb->host->cgroups, sb->id, sb->cgroup_procs_fds, err);
}

struct sandbox *sandbox_prepare(struct sandbox_host *host, struct error *err)
{
    struct sandbox *sb = sandbox_prepare_begin(host, err);
    if (sb && sandbox_prepare_finish(sb, err) < 0)
        sandbox_kill_and_free(&sb);
    return sb;
}

int sandbox_assign(struct sandbox *sb, uint32_t memory_mb, uint32_t tmp_mb, struct error *err)
{
    if (memory_mb < LIMIT_MEMORY_MB_MIN || memory_mb > LIMIT_MEMORY_MB_MAX)
        return error_set(err, ERROR_INVALID, "a sandbox cannot have %u MB of memory", memory_mb);
    if (tmp_mb < LIMIT_TMP_MB_MIN || tmp_mb > LIMIT_TMP_MB_MAX)
        return error_set(err, ERROR_INVALID, "a sandbox cannot have %u MB of /tmp", tmp_mb);
    if (cgroups_limit(&sb->host->cgroups, sb->id, memory_mb, sb->memory_mb, err) < 0)
        return -1;
    sb->memory_mb = memory_mb;
    if (tmp_mb != sb->tmp_mb && root_resize_tmp(sb->tmp_fd, tmp_mb, err) < 0)
        return -1;
    sb->tmp_mb = tmp_mb;
    return 0;
}

int sandbox_listener_fd(const struct sandbox *sb)
{
    return sb->listener_fd;
}

int sandbox_init_pidfd(const struct sandbox *sb)
{
    return sb->init_pidfd;
}

pid_t sandbox_init_pid(const struct sandbox *sb)
{
    return sb->init_pid;
}

size_t sandbox_cgroup_procs_fds(const struct sandbox *sb, int fds[SANDBOX_CGROUP_MAX])
{
    memcpy(fds, sb->cgroup_procs_fds, sizeof sb->cgroup_procs_fds);
    return sb->host->cgroups.count;
}

int sandbox_tmp_fd(const struct sandbox *sb)
{
    return sb->tmp_fd;
}

int sandbox_open_peak_memory(const struct sandbox *sb, struct error *err)
{
    return cgroups_open_peak_memory(&sb->host->cgroups, sb->id, err);
}

bool sandbox_oom_killed(const struct sandbox *sb)
{
    return cgroups_oom_killed(&sb->host->cgroups, sb->id);
}

int sandbox_code_tree(struct sandbox_host *host, int code_dir_fd, struct error *err)
{
    (void)host;
    CLEANUP_FD int tree =
        (int)syscall(SYS_open_tree, code_dir_fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (tree < 0)
        return error_system(err, "cannot clone the mount of a code folder");
    struct mount_attr attributes = {
        .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
    };
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
        return error_system(err, "cannot make a code folder read-only");
    return fd_steal(&tree);
}

void sandbox_kill(struct sandbox *sb)
{
    if (sb->killed)
        return;
    sb->killed = true;
    (void)syscall(SYS_pidfd_send_signal, sb->init_pidfd, SIGKILL, NULL, 0);
    cgroups_let_die(&sb->host->cgroups, sb->id);
}

void sandbox_kill_and_free(struct sandbox **sb)
{
    struct sandbox *dying = *sb;
    if (!dying)
        return;
    *sb = NULL;
    sandbox_kill(dying);
    close_descriptors(dying);
    dying->next = dying->host->dying;
    dying->host->dying = dying;
}

static bool init_reaped(struct sandbox *sb)
{
    if (sb->init_pidfd < 0)
        return true;
    siginfo_t about = {0};
    if (waitid(P_PIDFD, (id_t)sb->init_pidfd, &about, WEXITED | WNOHANG | __WALL) == 0 && about.si_pid == 0)
        return false; /* still going; it waits until all in its namespace were reaped */
    fd_close(&sb->init_pidfd);
    return true;
}

size_t sandbox_host_tick(struct sandbox_host *host)
{
    size_t left = 0;
    for (struct sandbox **at = &host->dying; *at;) {
        struct sandbox *sb = *at;
        if (init_reaped(sb) && cgroups_remove(&host->cgroups, sb->id)) {
            *at = sb->next;
            free(sb);
            continue;
        }
        at = &sb->next;
        left++;
    }
    return left;
}
