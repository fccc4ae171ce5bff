/* Descriptors of several processes: each at its own numbers, with its own close-on-exec flag, though the files are
 * shared; locks of processes and of descriptions; epolls whose members only one of them has; signals of a
 * descriptor that go to another process; a connection and a waiting message between them.
 *
 * conformance: other processes | locks of several processes on one file | kept | each has its own, as before
 * conformance: other processes | an epoll with members that only one of its processes has, or none any more | kept |
 * conformance: other processes | descriptors at other numbers in each process, with flags of their own | kept |
 * conformance: other processes | messages with descriptors that wait for another process | kept |
 * conformance: other processes | pidfds of children and parents, also in epolls | kept | they tell of the end of the clone's own processes
 */
#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define CHILD_NUMBER 200

static int control[2], mail[2], shared_epoll, file_fd, flock_fd, deleted_fd, notify[2], stream_listener;
static volatile sig_atomic_t seen;

static void see(int number)
{
    (void)number;
    seen++;
}

static struct flock range(short type, off_t start, off_t len)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
}

/* Who holds the range, as the kernel says to somebody else. */
static pid_t holder(int fd, off_t start)
{
    struct flock ask = range(F_WRLCK, start, 1);
    CHECK(fcntl(fd, F_GETLK, &ask) == 0);
    return ask.l_type == F_UNLCK ? 0 : ask.l_pid;
}

static void say(char byte)
{
    CHECK_EQUAL(write(control[1], &byte, 1), 1);
}

static void await(int fd, char wanted)
{
    char byte;
    CHECK_EQUAL(read(fd, &byte, 1), 1);
    CHECK_EQUAL(byte, wanted);
}

static void add(int epoll, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

static void send_descriptor(int sock, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } rights = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec part = {(char *)"fd", 2};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    memcpy(CMSG_DATA(&rights.header), &fd, sizeof fd);
    CHECK_EQUAL(sendmsg(sock, &message, 0), 2);
}

static int take_descriptor(int sock)
{
    int fd = -1;
    char text[2];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } rights;
    struct iovec part = {text, 2};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    CHECK_EQUAL(recvmsg(sock, &message, 0), 2);
    memcpy(&fd, CMSG_DATA(&rights.header), sizeof fd);
    return fd;
}

static void run_child(void)
{
    struct epoll_event events[4];
    int own[2], lost[2];
    close(control[0]);
    CHECK(pipe(own) == 0 && pipe(lost) == 0);
    CHECK_EQUAL(dup2(own[0], CHILD_NUMBER), CHILD_NUMBER);
    add(shared_epoll, CHILD_NUMBER, 1);
    /* A member whose number is closed, while a duplicate keeps it alive. */
    int other = dup(lost[0]);
    add(shared_epoll, lost[0], 2);
    close(lost[0]);
    CHECK(fcntl(file_fd, F_SETFD, FD_CLOEXEC) == 0);
    struct flock lock = range(F_WRLCK, 10, 5);
    CHECK(fcntl(file_fd, F_SETLK, &lock) == 0);
    CHECK(flock(flock_fd, LOCK_EX) == 0);
    /* A connection to the parent's listener, which it has not accepted yet. */
    struct sockaddr_un name = {AF_UNIX, "/tmp/listener"};
    int stream = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(connect(stream, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK_EQUAL(write(stream, "early", 5), 5);
    /* SIGIO of this pipe goes to the parent. */
    struct f_owner_ex owner = {F_OWNER_PID, getppid()};
    CHECK(fcntl(notify[0], F_SETOWN_EX, &owner) == 0 && fcntl(notify[0], F_SETSIG, SIGUSR2) == 0);
    CHECK(fcntl(notify[0], F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
    int parent_pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    CHECK(parent_pidfd >= 0);
    say('r');
    await(control[1], 'g'); /* frozen here */
    CHECK_EQUAL(syscall(SYS_pidfd_send_signal, parent_pidfd, 0, NULL, 0), 0);
    struct pollfd parent_end = {parent_pidfd, POLLIN, 0};
    CHECK_EQUAL(poll(&parent_end, 1, 0), 0);
    CHECK_EQUAL(holder(file_fd, 0), getppid());
    CHECK_EQUAL(holder(file_fd, 10), 0);
    CHECK_EQUAL(fcntl(file_fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(epoll_wait(shared_epoll, events, 4, 0), 0);
    CHECK_EQUAL(write(own[1], "x", 1), 1);
    CHECK_EQUAL(epoll_wait(shared_epoll, events, 4, -1), 1);
    CHECK_EQUAL(events[0].data.u64, 1);
    CHECK_EQUAL(read(CHILD_NUMBER, &own, 1), 1);
    CHECK_EQUAL(write(lost[1], "x", 1), 1);
    CHECK_EQUAL(epoll_wait(shared_epoll, events, 4, -1), 1);
    CHECK_EQUAL(events[0].data.u64, 2);
    CHECK_EQUAL(read(other, &lost, 1), 1);
    char text[8] = "";
    CHECK_EQUAL(pread(deleted_fd, text, 7, 0), 7);
    CHECK_EQUAL(strcmp(text, "deleted"), 0);
    CHECK_EQUAL(write(notify[1], "x", 1), 1);
    CHECK_EQUAL(write(stream, "later", 5), 5);
    int sent = take_descriptor(mail[1]);
    CHECK_EQUAL(pread(sent, text, 4, 0), 4);
    CHECK_EQUAL(strncmp(text, "file", 4), 0);
    say('d');
    await(control[1], 'e');
    _exit(5);
}

static void make_files(void)
{
    struct sockaddr_un name = {AF_UNIX, "/tmp/listener"};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, control) == 0 && pipe(notify) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, mail) == 0);
    file_fd = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    flock_fd = open("/tmp/flock", O_RDWR | O_CREAT, 0600);
    deleted_fd = open("/tmp/deleted", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(write(file_fd, "file", 4), 4);
    CHECK_EQUAL(write(deleted_fd, "deleted", 7), 7);
    CHECK(unlink("/tmp/deleted") == 0);
    shared_epoll = epoll_create1(0);
    add(shared_epoll, control[0], 3);
    stream_listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(
        bind(stream_listener, (struct sockaddr *)&name, sizeof name) == 0 && listen(stream_listener, 5) == 0);
}

int main(void)
{
    int status;
    char text[16] = "";
    make_files();
    signal(SIGUSR2, see);
    pid_t child = fork();
    if (child == 0)
        run_child();
    close(control[1]);
    struct flock lock = range(F_WRLCK, 0, 5);
    CHECK(fcntl(file_fd, F_SETLK, &lock) == 0);
    await(control[0], 'r');
    CHECK_EQUAL(holder(file_fd, 10), child);
    send_descriptor(mail[0], file_fd);
    int child_pidfd = (int)syscall(SYS_pidfd_open, child, 0);
    int pidfd_epoll = epoll_create1(0);
    add(pidfd_epoll, child_pidfd, 9);
    test_freeze_point();
    CHECK_EQUAL(holder(file_fd, 10), child);
    CHECK_EQUAL(holder(file_fd, 0), 0);
    CHECK_EQUAL(fcntl(file_fd, F_GETFD), 0);
    CHECK_EQUAL(fcntl(CHILD_NUMBER, F_GETFD), -1);
    int again = open("/tmp/flock", O_RDWR);
    CHECK_EQUAL(flock(again, LOCK_EX | LOCK_NB), -1);
    test_barrier();
    CHECK_EQUAL(write(control[0], "g", 1), 1);
    await(control[0], 'd');
    CHECK_EQUAL(seen, 1);
    int stream = accept(stream_listener, NULL, NULL);
    CHECK(stream >= 0);
    CHECK_EQUAL(read(stream, text, 10), 10);
    CHECK_EQUAL(strcmp(text, "earlylater"), 0);
    struct epoll_event event;
    CHECK_EQUAL(epoll_wait(pidfd_epoll, &event, 1, 0), 0);
    CHECK_EQUAL(syscall(SYS_pidfd_send_signal, child_pidfd, 0, NULL, 0), 0);
    CHECK_EQUAL(write(control[0], "e", 1), 1);
    CHECK_EQUAL(epoll_wait(pidfd_epoll, &event, 1, -1), 1);
    CHECK_EQUAL(event.data.u64, 9);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    /* The child's lock has gone with it; the description's stays, as it is shared. */
    CHECK_EQUAL(holder(file_fd, 10), 0);
    CHECK_EQUAL(flock(again, LOCK_EX | LOCK_NB), -1);
    CHECK(flock(flock_fd, LOCK_UN) == 0 && flock(again, LOCK_EX | LOCK_NB) == 0);
    return 0;
}
