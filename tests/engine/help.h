/* Short questions that many engine test programs ask. Each answers true or false, for CHECK. */
#pragma once

#include "engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

static inline bool test_put(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fchmod(fd, mode) == 0;
    return close(fd) == 0 && good;
}

/* The next read gives just this text. */
static inline bool test_reads(int fd, const char *text)
{
    char got[4096];
    ssize_t n = read(fd, got, sizeof got);
    return n == (ssize_t)strlen(text) && memcmp(got, text, (size_t)n) == 0;
}

/* The whole file at `path` is this text. */
static inline bool test_holds(const char *path, const char *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && test_reads(fd, text);
    close(fd);
    return good;
}

static inline bool test_writes(int fd, const char *text)
{
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* The end of the stream. */
static inline bool test_ends(int fd)
{
    char byte;
    return read(fd, &byte, 1) == 0;
}

/* What poll says at once, of all that it can say. */
static inline int test_poll(int fd)
{
    struct pollfd wait = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP, 0};
    return poll(&wait, 1, 0) < 0 ? -1 : wait.revents;
}

/* Nothing can be read now, though something may come: asked without waiting. */
static inline bool test_is_idle(int fd)
{
    return (test_poll(fd) & (POLLIN | POLLHUP | POLLERR | POLLRDHUP)) == 0;
}

static inline bool test_has_flag(int fd, int flag)
{
    return (fcntl(fd, F_GETFL) & flag) == flag;
}

static inline bool test_is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

/* A number that was closed is free, or the connection to the harness has got it. */
static inline bool test_is_closed(int fd)
{
    return fd == test_connection || !test_is_open(fd);
}

/* What this clone sends from one end arrives at the other, while all clones that are alive do the same, and
 * nothing of theirs. */
static inline bool test_is_own(int from, int to)
{
    char text[16];
    snprintf(text, sizeof text, "clone %d", test_clone_index);
    if (!test_writes(from, text))
        return false;
    test_barrier();
    return test_reads(to, text) && test_is_idle(to);
}
