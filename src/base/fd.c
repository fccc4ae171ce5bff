#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

void fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void fd_close_others(int *kept, size_t count)
{
    unsigned next = 0;
    qsort(kept, count, sizeof *kept, compare_numbers);
    for (size_t i = 0; i < count; i++) {
        if (kept[i] > (int)next)
            syscall(SYS_close_range, next, kept[i] - 1, 0);
        next = (unsigned)kept[i] + 1;
    }
    syscall(SYS_close_range, next, ~0u, 0);
}

int fd_steal(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

int fd_write_all(int fd, const void *data, size_t len, struct error *err)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_system(err, "cannot write %zu bytes", len);
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_read_full(int fd, void *data, size_t len, struct error *err)
{
    uint8_t *at = data;
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_system(err, "cannot read %zu bytes", len);
        if (n == 0)
            return error_set(err, ERROR_CORRUPT, "the file ends %zu bytes too early", len);
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int fd_read_all(int fd, struct buffer *out, size_t max, struct error *err)
{
    char block[16384];
    for (;;) {
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_system(err, "cannot read");
        if (n == 0)
            return 0;
        if ((size_t)n > max - out->len)
            return error_set(err, ERROR_LIMIT, "the file is longer than %zu bytes", max);
        buffer_append(out, block, (size_t)n);
    }
}

int file_read(int dir_fd, const char *path, struct buffer *out, size_t max, struct error *err)
{
    CLEANUP_FD int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot open %s", path);
    if (fd_read_all(fd, out, max, err) < 0)
        return error_prefix(err, "%s", path);
    return 0;
}

/* The folder that holds `path`, so that a rename in it can be made durable. */
static int open_parent(int dir_fd, const char *path)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slash[slash == parent] = '\0';
    return openat(dir_fd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int write_and_sync(int fd, const char *path, const void *data, size_t len, struct error *err)
{
    if (fd_write_all(fd, data, len, err) < 0)
        return error_prefix(err, "%s", path);
    if (fsync(fd) < 0)
        return error_system(err, "cannot make %s durable", path);
    return 0;
}

int file_write_atomic(
    int dir_fd, const char *path, const void *data, size_t len, mode_t mode, struct error *err)
{
    CLEANUP_FREE char *temporary = xasprintf("%s.tmp", path);
    CLEANUP_FD int fd =
        openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return error_system(err, "cannot create %s", temporary);
    if (write_and_sync(fd, temporary, data, len, err) < 0) {
        unlinkat(dir_fd, temporary, 0);
        return -1;
    }
    if (renameat(dir_fd, temporary, dir_fd, path) < 0) {
        error_system(err, "cannot rename %s into place", temporary);
        unlinkat(dir_fd, temporary, 0);
        return -1;
    }
    CLEANUP_FD int parent = open_parent(dir_fd, path);
    if (parent < 0 || fsync(parent) < 0)
        return error_system(err, "cannot make the folder of %s durable", path);
    return 0;
}

int file_write_control(int dir_fd, const char *path, const char *text, struct error *err)
{
    CLEANUP_FD int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot open %s", path);
    if (write(fd, text, strlen(text)) < 0)
        return error_system(err, "cannot write \"%s\" to %s", text, path);
    return 0;
}

int fd_send_message(
    int sock, const void *data, size_t len, const int *fds, size_t fd_count, struct error *err)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * FD_MESSAGE_MAX)];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > FD_MESSAGE_MAX)
        return error_set(err, ERROR_INTERNAL, "%zu descriptors in one message", fd_count);
    if (fd_count > 0) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do
        n = sendmsg(sock, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return error_set(err, ERROR_BUSY, "the socket is full");
    if (n < 0)
        return error_system(err, "cannot send a message of %zu bytes", len);
    return 0;
}

static void take_descriptors(struct msghdr *message, int fds[FD_MESSAGE_MAX], size_t *fd_count)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(header), count * sizeof(int));
        *fd_count = count;
    }
}

ssize_t fd_recv_message(
    int sock, void *data, size_t size, int fds[FD_MESSAGE_MAX], size_t *fd_count, struct error *err)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int) * FD_MESSAGE_MAX)];
    } control;
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    *fd_count = 0;
    for (size_t i = 0; i < FD_MESSAGE_MAX; i++)
        fds[i] = -1;
    ssize_t n;
    do
        n = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return error_set(err, ERROR_BUSY, "no message yet");
    if (n < 0)
        return error_system(err, "cannot receive a message");
    take_descriptors(&message, fds, fd_count);
    if (!(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return n;
    for (size_t i = 0; i < *fd_count; i++)
        fd_close(&fds[i]);
    *fd_count = 0;
    return error_set(
        err, ERROR_INVALID, "a message is longer than %zu bytes or carries too many descriptors", size);
}

int fd_await_exec(int status_fd, struct error *err)
{
    struct error outcome;
    ssize_t len;
    while ((len = read(status_fd, &outcome, sizeof outcome)) < 0 && errno == EINTR)
        ;
    if (len == 0)
        return 0;
    if (len != sizeof outcome)
        return error_set(err, ERROR_INTERNAL, "the outcome of a start was half told");
    if (err)
        *err = outcome;
    return -1;
}
