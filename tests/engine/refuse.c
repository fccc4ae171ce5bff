/* What cannot be frozen must refuse the freeze by name: the first argument chooses. */
#include "engine.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int open_io_uring(void)
{
    struct io_uring_params params = {0};
    return (int)syscall(SYS_io_uring_setup, 4, &params);
}

static int lock_file(bool whole)
{
    int fd = open("/tmp/lock", O_RDWR | O_CREAT, 0600);
    struct flock range = {.l_type = F_WRLCK, .l_len = 10};
    CHECK(whole ? flock(fd, LOCK_EX) == 0 : fcntl(fd, F_SETLK, &range) == 0);
    return fd;
}

static int attach_shared_memory(void)
{
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    CHECK(id >= 0 && shmat(id, NULL, 0) != (void *)-1);
    return 0;
}

static int leave_event(void)
{
    int fd = inotify_init1(0);
    CHECK(inotify_add_watch(fd, "/tmp", IN_CREATE) == 1);
    return close(open("/tmp/new", O_CREAT | O_WRONLY, 0600));
}

static int fill_tmp(void)
{
    static char block[1 << 20];
    int fd = open("/tmp/big", O_WRONLY | O_CREAT, 0600);
    memset(block, 1, sizeof block);
    for (int i = 0; i < 300; i++)
        CHECK_EQUAL(write(fd, block, sizeof block), sizeof block);
    return fd;
}

static int send_closed(void)
{
    int pair[2], ends[2];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {(char *)"fd", 2};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
    memcpy(CMSG_DATA(&control.header), &ends[0], sizeof ends[0]);
    CHECK_EQUAL(sendmsg(pair[0], &message, 0), 2);
    return close(ends[0]);
}

static int start_child(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static int make_zombie(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t info;
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int result = strcmp(what, "io_uring") == 0        ? open_io_uring()
                 : strcmp(what, "flock") == 0         ? lock_file(true)
                 : strcmp(what, "range-lock") == 0    ? lock_file(false)
                 : strcmp(what, "sysv-memory") == 0   ? attach_shared_memory()
                 : strcmp(what, "inotify-event") == 0 ? leave_event()
                 : strcmp(what, "tmp-too-big") == 0   ? fill_tmp()
                 : strcmp(what, "lost-right") == 0    ? send_closed()
                 : strcmp(what, "child") == 0         ? start_child()
                 : strcmp(what, "zombie") == 0        ? make_zombie()
                 : strcmp(what, "pidfd") == 0         ? (int)syscall(SYS_pidfd_open, getpid(), 0)
                 : strcmp(what, "userfaultfd") == 0   ? (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1)
                 : strcmp(what, "namespace") == 0     ? open("/proc/self/ns/pid", O_RDONLY)
                                                      : -1;
    CHECK(result >= 0);
    test_freeze_point();
    return 0;
}
