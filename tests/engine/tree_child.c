/* A child and a grandchild, connected to their parents by pipes and a socket pair, which share memory, a memfd, a
 * file's offset and an epoll with them. After the thaw they go on, and end with the status that they should.
 *
 * conformance: other processes | children and grandchildren, with their numbers | kept | each with its own memory
 * conformance: other processes | pipes, socket pairs, shared memory, memfds, file offsets and epolls between parent and child | kept | they are of one object again
 */
#include "engine.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct board { /* shared anonymous memory */
    volatile int parent_wrote, child_wrote, grandchild_wrote;
};

static struct board *board;
static volatile int *memory_file; /* a memfd, mapped before the fork: one object in all */
static int to_child[2], pair[2], offset_fd, epoll_fd;
static int private_value = 1;

static int read_number(int fd)
{
    int value = -1;
    CHECK_EQUAL(read(fd, &value, sizeof value), sizeof value);
    return value;
}

static void write_number(int fd, int value)
{
    CHECK_EQUAL(write(fd, &value, sizeof value), sizeof value);
}

/* Waits for its parent to close the pipe. */
static void run_grandchild(int end)
{
    char byte;
    private_value = 3;
    CHECK_EQUAL(read(end, &byte, 1), 0);
    CHECK_EQUAL(private_value, 3);
    CHECK_EQUAL(board->child_wrote, 22);
    board->grandchild_wrote = 33;
    memory_file[2] = 333;
    _exit(33);
}

static void run_child(pid_t parent)
{
    int status, end[2];
    pid_t self = getpid();
    private_value = 2;
    close(to_child[1]);
    close(pair[0]);
    CHECK(pipe(end) == 0);
    pid_t grandchild = fork();
    if (grandchild == 0) {
        close(end[1]);
        run_grandchild(end[0]);
    }
    close(end[0]);
    write_number(pair[1], grandchild);
    /* Here it is frozen. */
    test_clone_index = read_number(to_child[0]);
    CHECK_EQUAL(private_value, 2);
    CHECK_EQUAL(getpid(), self);
    CHECK_EQUAL(getppid(), parent);
    CHECK_EQUAL(board->parent_wrote, 11 + test_clone_index);
    CHECK_EQUAL(memory_file[0], 111 + test_clone_index);
    board->child_wrote = 22;
    memory_file[1] = 222;
    /* The offset is shared with the parent, who has read 4 bytes more meanwhile. */
    char four[5] = "";
    CHECK_EQUAL(read(offset_fd, four, 4), 4);
    CHECK_EQUAL(strcmp(four, "ijkl"), 0);
    close(end[1]);
    CHECK_EQUAL(waitpid(grandchild, &status, 0), grandchild);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
    CHECK_EQUAL(board->grandchild_wrote, 33);
    CHECK_EQUAL(memory_file[2], 333);
    write_number(pair[1], 4444);
    _exit(22);
}

static void make_shared(void)
{
    board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(board != MAP_FAILED);
    int fd = memfd_create("shared", 0);
    CHECK(ftruncate(fd, 4096) == 0);
    memory_file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory_file != MAP_FAILED);
    close(fd);
    offset_fd = open("/tmp/text", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(write(offset_fd, "abcdefghijklmnop", 16), 16);
    CHECK_EQUAL(lseek(offset_fd, 4, SEEK_SET), 4);
    CHECK(pipe(to_child) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
    CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pair[0], &event) == 0);
}

int main(void)
{
    int status;
    char four[5] = "";
    struct epoll_event event;
    make_shared();
    pid_t self = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0)
        run_child(self);
    close(to_child[0]);
    close(pair[1]);
    pid_t grandchild = read_number(pair[0]);
    test_freeze_point();
    CHECK_EQUAL(getpid(), self);
    CHECK_EQUAL(private_value, 1);
    CHECK_EQUAL(kill(child, 0), 0);
    CHECK_EQUAL(kill(grandchild, 0), 0);
    CHECK_EQUAL(epoll_wait(epoll_fd, &event, 1, 0), 0);
    board->parent_wrote = 11 + test_clone_index;
    memory_file[0] = 111 + test_clone_index;
    test_barrier();
    CHECK_EQUAL(board->parent_wrote, 11 + test_clone_index);
    CHECK_EQUAL(read(offset_fd, four, 4), 4);
    CHECK_EQUAL(strcmp(four, "efgh"), 0);
    write_number(to_child[1], test_clone_index);
    CHECK_EQUAL(epoll_wait(epoll_fd, &event, 1, 10000), 1);
    CHECK_EQUAL(event.data.u64, 77);
    CHECK_EQUAL(read_number(pair[0]), 4444);
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 22);
    CHECK_EQUAL(memory_file[1], 222);
    CHECK_EQUAL(waitpid(-1, &status, 0), -1);
    CHECK_EQUAL(errno, ECHILD);
    return 0;
}
