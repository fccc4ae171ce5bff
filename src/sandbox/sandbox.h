/* Sandboxes: what a function's process can see and use. Runs in the warden: root, one thread.
 *
 * A *blank* sandbox is prepared ahead of need and holds no function yet. It is an init process of ours (pid
 * 1) in new pid, mount, net, ipc, uts and cgroup namespaces, a cgroup in every controller hierarchy, a
 * read-only root made of the host's /usr, a private /tmp, and a socket that listens at 127.0.0.1:9001 inside.
 *
 *   sandbox_prepare -> sandbox_assign -> (sandbox_spawn | a thawed clone enters by itself) ->
 * sandbox_kill_and_free
 *
 * How a thawed clone enters (sandbox_spawn does the same):
 *   1. it is cloned while the pid namespace for children is the sandbox's: setns(init_pidfd, CLONE_NEWPID) in
 *      the cloning process, then setns back to its own;
 *   2. write "0" to each descriptor of sandbox_cgroup_procs_fds;
 *   3. setns(init_pidfd, SANDBOX_ENTER_NAMESPACES), which needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and, as pid 1
 * is root's, uid 0 or CAP_SYS_PTRACE; it also moves root and working directory to the sandbox's root;
 *   4. move_mount(code_tree, "", AT_FDCWD, SANDBOX_CODE_PATH, MOVE_MOUNT_F_EMPTY_PATH).
 * A process that is not the init's child must be waited for by its own parent (the warden), or the pid
 * namespace cannot end. */
#pragma once

#include "base/error.h"
#include "base/limits.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SANDBOX_UID 1051
#define SANDBOX_GID 1051
#define SANDBOX_CGROUP_MAX 3 /* cgroup hierarchies a process enters: v1 cpu, memory, pids; or v2 alone */
#define SANDBOX_API_PORT 9001
#define SANDBOX_API_BACKLOG 128
#define SANDBOX_CODE_PATH "/var/task"
#define SANDBOX_DEFAULT_TMP_MB LIMIT_TMP_MB_MIN
#define SANDBOX_DEFAULT_MEMORY_MB LIMIT_MEMORY_MB_MIN
#define SANDBOX_TMP_INODES 131072
#define SANDBOX_FULL_CORE_MB 1769 /* memory that earns one core, as on Lambda */
#define SANDBOX_ENTER_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

struct sandbox_host;
struct sandbox;

struct sandbox_host_options {
    const char *runtimes_dir; /* the bootstraps: appears as /var/runtime; NULL leaves that empty */
    uid_t uid;                /* 0 means SANDBOX_UID */
    gid_t gid;                /* 0 means SANDBOX_GID */
};

/* Builds the base root, removes what dead daemons left behind (cgroups named after a pid and start time that
 * no longer exist), and makes this daemon's own cgroups. Needs root. */
MUST_CHECK struct sandbox_host *sandbox_host_open(
    const struct sandbox_host_options *options, struct error *err);
/* Free every sandbox first. Waits, bounded, for dying ones; NULL is fine. */
void sandbox_host_close(struct sandbox_host *host);
/* Finish the removal of killed sandboxes (reap their init, remove their cgroups), never blocking. Returns how
 * many are still dying: call it again, say every 20 ms, while that is not 0. */
size_t sandbox_host_tick(struct sandbox_host *host);
/* In words, for the log: "cgroup v1 (cpu, memory, pids)". */
const char *sandbox_host_cgroups_text(const struct sandbox_host *host);

/* A blank one, blocking until it is ready (about a millisecond). */
MUST_CHECK struct sandbox *sandbox_prepare(struct sandbox_host *host, struct error *err);
/* The same without blocking: most of the work is done by the new process beside the caller. The sandbox is
 * ready when sandbox_ready_fd polls readable; then call sandbox_prepare_finish, once, before anything else
 * (when it fails, sandbox_kill_and_free is still the caller's to call). */
MUST_CHECK struct sandbox *sandbox_prepare_begin(struct sandbox_host *host, struct error *err);
int sandbox_ready_fd(const struct sandbox *sb);
MUST_CHECK int sandbox_prepare_finish(struct sandbox *sb, struct error *err);

/* Limits for the function that is to run here. Cheap: it writes only what differs from the defaults. */
MUST_CHECK int sandbox_assign(struct sandbox *sb, uint32_t memory_mb, uint32_t tmp_mb, struct error *err);

/* All descriptors below belong to the sandbox and are closed with it. */
int sandbox_listener_fd(const struct sandbox *sb); /* non-blocking; the runtime API inside the sandbox */
int sandbox_init_pidfd(const struct sandbox *sb);
pid_t sandbox_init_pid(const struct sandbox *sb); /* as the warden sees it */
/* Write-only cgroup.procs descriptors; returns how many, the rest are -1. */
size_t sandbox_cgroup_procs_fds(const struct sandbox *sb, int fds[SANDBOX_CGROUP_MAX]);
int sandbox_tmp_fd(const struct sandbox *sb); /* O_PATH of its /tmp, reachable from any mount namespace */

/* A new read-only descriptor (the caller's) of the peak memory file: pread at 0 gives bytes in decimal. */
MUST_CHECK int sandbox_open_peak_memory(const struct sandbox *sb, struct error *err);
/* Whether the memory controller has killed a process of this sandbox. */
bool sandbox_oom_killed(const struct sandbox *sb);

/* A detached, read-only, nosuid, nodev mount of a folder, to attach once at SANDBOX_CODE_PATH. The descriptor
 * is the caller's; closing it unattached drops the mount. Each start needs its own. */
MUST_CHECK int sandbox_code_tree(struct sandbox_host *host, int code_dir_fd, struct error *err);

struct sandbox_command {
    const char *const *argv; /* argv[0] is an absolute path inside the sandbox */
    const char *const *env;
    int code_tree_fd;  /* from sandbox_code_tree, or -1 to leave /var/task empty */
    int log_fd;        /* becomes stdout and stderr */
    bool fixed_layout; /* its addresses are not random: it has ADDR_NO_RANDOMIZE when it begins */
};

/* Cold start: runs the command in the sandbox, in a time namespace of its own, as the sandbox user, without
 * any right, under sandbox_filter_full. Returns when it was exec'ed. It is the caller's child: wait for it by
 * *pidfd (the caller's). When exec fails the error names the path and the reason (kind ERROR_INVALID,
 * errno_value that of execve); other failures are ERROR_SYSTEM. */
MUST_CHECK int sandbox_spawn(
    struct sandbox *sb, const struct sandbox_command *command, pid_t *pid, int *pidfd, struct error *err);

/* Kills everything inside: its init, with which the kernel ends all others, whatever they do and however many they are.
 * The caller still reaps its own children among them, without which the sandbox cannot end, and frees it. */
void sandbox_kill(struct sandbox *sb);
/* Kills everything inside, closes the descriptors and queues the rest for sandbox_host_tick. Never blocks.
 * Sets *sb to NULL; NULL is fine. Read sandbox_oom_killed before. */
void sandbox_kill_and_free(struct sandbox **sb);
