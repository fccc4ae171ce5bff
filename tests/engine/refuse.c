/* What cannot be frozen must refuse the freeze by name: the first argument chooses.
 *
 * conformance: descriptors | io_uring | refused | a program that asks the sandbox for it is told that the kernel has none
 * conformance: files | locks on files outside /tmp, leases | refused | others could see them
 * conformance: sockets | unread bytes of the runtime API | refused | each clone has its own connection
 * conformance: shared memory | System V shared memory | refused | it belongs to the sandbox, not to the process
 * conformance: process | System V semaphores and message queues, POSIX message queues | refused | they belong to the sandbox, not to the process
 * conformance: sockets | more than 48 MiB waiting in pipes and sockets | refused | limit
 * conformance: files | more than 256 MiB in /tmp | refused | limit, together with deleted files and shared memory
 * conformance: descriptors | unread inotify events | refused | cannot be put back
 * conformance: sockets | a descriptor in flight whose other side is nowhere else | refused | cannot be looked at
 * conformance: other processes | processes that share memory, descriptors or working folder, also while vfork lasts | refused | their parts could not be made apart
 * conformance: other processes | stopped jobs | refused | they would run in a clone
 * conformance: descriptors | pidfds of threads, namespace files, userfaultfd | refused | they are of other objects than the process itself
 */
#include "engine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sem.h>
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

static int lock_code(void)
{
    int fd = open("/var/task/engine_refuse", O_RDONLY);
    return flock(fd, LOCK_SH) == 0 ? fd : -1;
}

static int take_lease(void)
{
    int fd = open("/tmp/lease", O_RDONLY | O_CREAT, 0600);
    return fcntl(fd, F_SETLEASE, F_RDLCK) == 0 ? fd : -1;
}

/* Sends a request to the runtime API, and never reads what comes. */
static int do_not_read(void)
{
    static const char request[] = "GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n";
    struct sockaddr_in api = {AF_INET, htons(ENGINE_PORT), {htonl(INADDR_LOOPBACK)}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&api, sizeof api) == 0);
    CHECK_EQUAL(write(fd, request, strlen(request)), strlen(request));
    for (;;)
        pause();
}

static int attach_shared_memory(void)
{
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    CHECK(id >= 0 && shmat(id, NULL, 0) != (void *)-1);
    return 0;
}

static int make_semaphores(void)
{
    return semget(IPC_PRIVATE, 3, IPC_CREAT | 0600);
}

static int make_message_queue(void)
{
    int fd = (int)syscall(SYS_mq_open, "queue", O_RDWR | O_CREAT, 0600, NULL);
    return fd < 0 ? -1 : close(fd);
}

static int fill_sockets(void)
{
    static char block[100000];
    for (int i = 0; i < 400; i++) {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        CHECK_EQUAL(write(pair[0], block, sizeof block), sizeof block);
        CHECK_EQUAL(write(pair[1], block, sizeof block), sizeof block);
    }
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

static int open_pidfd(void)
{
    return (int)syscall(SYS_pidfd_open, getpid(), O_EXCL /* PIDFD_THREAD */);
}

/* A child that goes to the freeze point while its parent waits for it in vfork. */
static int start_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        test_freeze_point();
        _exit(0);
    }
    return pid;
}

static int wait_for_ever(void *nothing)
{
    (void)nothing;
    while (pause() < 0)
        ;
    return 0;
}

static int share_with_child(int flags)
{
    static _Alignas(16) char stack[65536];
    return clone(wait_for_ever, stack + sizeof stack, flags | SIGCHLD, NULL);
}

static int share_descriptors(void)
{
    return share_with_child(CLONE_FILES);
}

static int share_folder(void)
{
    return share_with_child(CLONE_FS);
}

static int share_memory(void)
{
    return share_with_child(CLONE_VM);
}

/* A child that holds a right which the root has not: refused by its own name and number. */
static int open_in_child(void)
{
    int ready[2];
    char byte;
    CHECK(pipe(ready) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(open_pidfd() >= 0 && write(ready[1], "r", 1) == 1);
        wait_for_ever(NULL);
    }
    CHECK_EQUAL(read(ready[0], &byte, 1), 1);
    return pid;
}

static int stop_child(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        wait_for_ever(NULL);
    CHECK(kill(pid, SIGSTOP) == 0);
    return waitpid(pid, &status, WUNTRACED) == pid ? 0 : -1;
}

static int open_userfaultfd(void)
{
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1);
}

static int open_namespace(void)
{
    return open("/proc/self/ns/pid", O_RDONLY);
}

static const struct test_maker makers[] = {
    {"io_uring", open_io_uring},
    {"lock-on-code", lock_code},
    {"lease", take_lease},
    {"api-unread", do_not_read},
    {"sysv-memory", attach_shared_memory},
    {"full-sockets", fill_sockets},
    {"semaphores", make_semaphores},
    {"message-queue", make_message_queue},
    {"inotify-event", leave_event},
    {"tmp-too-big", fill_tmp},
    {"lost-right", send_closed},
    {"vfork", start_vfork},
    {"shared-descriptors", share_descriptors},
    {"shared-folder", share_folder},
    {"shared-memory", share_memory},
    {"child-pidfd", open_in_child},
    {"stopped-child", stop_child},
    {"pidfd", open_pidfd},
    {"userfaultfd", open_userfaultfd},
    {"namespace", open_namespace},
};

int main(int argc, char **argv)
{
    return test_refusal(argc, argv, makers, sizeof makers / sizeof *makers);
}
