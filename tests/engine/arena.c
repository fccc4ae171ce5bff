#include "arena.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int bind_file(const char *from, const char *to, bool folder, struct error *err)
{
    if (folder) {
        mkdir(to, 0755);
    } else {
        int fd = open(to, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        fd_close(&fd);
    }
    if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
        return error_system(err, "cannot bind %s", from);
    if (folder && mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) < 0)
        return error_system(err, "cannot make %s read-only", from);
    return 0;
}

static int build_root(struct error *err)
{
    static const char *const devices[] = {"null", "zero", "full", "random", "urandom"};
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("root", "/mnt", "tmpfs", 0, "mode=755") < 0 || chdir("/mnt") < 0)
        return error_system(err, "cannot mount the root");
    if (bind_file("/usr", "usr", true, err) < 0)
        return -1;
    if (symlink("usr/lib", "lib") < 0 || symlink("usr/lib64", "lib64") < 0 || symlink("usr/bin", "bin") < 0 ||
        mkdir("dev", 0755) < 0 || mkdir("proc", 0755) < 0 || mkdir("tmp", 0755) < 0 ||
        mkdir("var", 0755) < 0 || mkdir("var/task", 0755) < 0)
        return error_system(err, "cannot fill the root");
    for (size_t i = 0; i < countof(devices); i++) {
        char from[32], to[32];
        snprintf(from, sizeof from, "/dev/%s", devices[i]);
        snprintf(to, sizeof to, "dev/%s", devices[i]);
        if (bind_file(from, to, false, err) < 0)
            return -1;
    }
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 ||
        mount("tmp", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=4g") < 0)
        return error_system(err, "cannot mount /proc and /tmp");
    if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
        mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
        return error_system(err, "cannot change the root");
    return 0;
}

static int open_listener(struct error *err)
{
    CLEANUP_FD int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    struct sockaddr_in at = {AF_INET, htons(ARENA_PORT), {htonl(INADDR_LOOPBACK)}, {0}};
    int on = 1;
    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0 ||
        setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(sock, (struct sockaddr *)&at, sizeof at) < 0 || listen(sock, 64) < 0)
        return error_system(err, "cannot listen in the arena");
    return fd_steal(&sock);
}

/* Pid 1 of the arena; sends the listener, or the error's text, to `sock`. */
static void __attribute__((noreturn)) run_init(int sock)
{
    struct error err = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGCHLD, SIG_IGN); /* orphans vanish when they end */
    setsid();
    int listener = build_root(&err) < 0 ? -1 : open_listener(&err);
    if (fd_send_message(sock, &err, sizeof err, &listener, listener >= 0 ? 1 : 0, &err) < 0 || listener < 0)
        _exit(1);
    close(listener);
    close(sock);
    for (;;)
        pause();
}

int arena_start(struct arena *arena, struct error *err)
{
    int pair[2], fds[FD_MESSAGE_MAX];
    size_t fd_count;
    *arena = (struct arena){0, -1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_system(err, "socketpair");
    CLEANUP_FD int ours = pair[0];
    CLEANUP_FD int theirs = pair[1];
    struct clone_args args = {
        .flags = CLONE_PIDFD | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                 CLONE_NEWCGROUP,
        .pidfd = (uintptr_t)&arena->init_pidfd,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid < 0)
        return error_system(err, "clone3");
    if (pid == 0)
        run_init(theirs);
    arena->init = pid;
    fd_close(&theirs);
    struct error told;
    ssize_t got = fd_recv_message(ours, &told, sizeof told, fds, &fd_count, err);
    if (got < 0)
        return -1;
    if (fd_count == 1) {
        arena->listener = fds[0];
        return 0;
    }
    return error_set(err, ERROR_SYSTEM, "the arena did not start: %s", got > 0 ? told.text : "it died");
}

struct arena_stranger arena_stranger;

void arena_stop(struct arena *arena)
{
    if (arena->init > 0) {
        kill(arena->init, SIGKILL);
        /* It waits until all in its namespace were reaped: siblings of the first process are our children. */
        int status;
        for (pid_t ended = 0; ended >= 0 && ended != arena->init;) {
            ended = waitpid(-1, &status, 0);
            if (ended == arena_stranger.pid)
                arena_stranger = (struct arena_stranger){-1, status};
        }
    }
    fd_close(&arena->init_pidfd);
    fd_close(&arena->listener);
    arena->init = 0;
}

int arena_code_tree(const char *folder, struct error *err)
{
    int fd = (int)syscall(SYS_open_tree, AT_FDCWD, folder, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (fd < 0)
        return error_system(err, "open_tree %s", folder);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID};
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attributes, sizeof attributes) < 0)
        return error_system(err, "mount_setattr");
    return fd;
}

static void __attribute__((noreturn)) run_command(
    const struct arena *arena, char *const argv[], int code_tree, int log_fd, const struct sock_fprog *filter)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", ARENA_CODE_PATH, argv[0]);
    int nothing = open("/dev/null", O_RDWR);
    if (setns(arena->init_pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP) <
            0 ||
        syscall(SYS_move_mount, code_tree, "", AT_FDCWD, ARENA_CODE_PATH, MOVE_MOUNT_F_EMPTY_PATH) < 0 ||
        setgroups(0, NULL) < 0 || setresgid(ARENA_GID, ARENA_GID, ARENA_GID) < 0 ||
        setresuid(ARENA_UID, ARENA_UID, ARENA_UID) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        chdir(ARENA_CODE_PATH) < 0 || nothing < 0)
        _exit(120);
    /* First to numbers that are surely high, so that no move overwrites the source of another. */
    int log_copy = fcntl(log_fd, F_DUPFD_CLOEXEC, 100);
    nothing = fcntl(nothing, F_DUPFD_CLOEXEC, 100);
    dup2(nothing, 0);
    nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(nothing, 0);
    dup2(log_copy, 1);
    dup2(log_copy, 2);
    syscall(SYS_close_range, 3u, ~0u, 0);
    if (filter && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) < 0)
        _exit(122);
    char *const environment[] = {(char *)"PATH=/usr/bin", (char *)"LANG=C.UTF-8", NULL};
    execve(argv[0][0] == '/' ? argv[0] : path, argv, environment);
    _exit(121);
}

int arena_spawn(const struct arena *arena, char *const argv[], int code_tree, int log_fd,
    const struct sock_fprog *filter, pid_t *pid, struct error *err)
{
    CLEANUP_FD int own = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (own < 0 || setns(arena->init_pidfd, CLONE_NEWPID) < 0)
        return error_system(err, "cannot enter the arena");
    *pid = fork();
    if (*pid == 0)
        run_command(arena, argv, code_tree, log_fd, filter);
    if (setns(own, CLONE_NEWPID) < 0)
        return error_system(err, "cannot leave the arena");
    if (*pid < 0)
        return error_system(err, "fork");
    return 0;
}
