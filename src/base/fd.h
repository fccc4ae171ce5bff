/* File descriptors: cleanup, complete reads and writes, whole files written atomically, and messages that
 * carry descriptors over SOCK_SEQPACKET. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

void fd_close(int *fd); /* closes when >= 0, sets to -1, keeps errno */
#define CLEANUP_FD __attribute__((cleanup(fd_close)))
/* All descriptors of this process but these. `kept` is sorted. */
void fd_close_others(int *kept, size_t count);
int fd_steal(int *fd); /* returns the descriptor and leaves -1 behind */

MUST_CHECK int fd_write_all(int fd, const void *data, size_t len, struct error *err);
/* Reads exactly len bytes; an early end of file is ERROR_CORRUPT. */
MUST_CHECK int fd_read_full(int fd, void *data, size_t len, struct error *err);
/* Reads to the end, at most `max` bytes (more is ERROR_LIMIT). Works on /proc files. */
MUST_CHECK int fd_read_all(int fd, struct buffer *out, size_t max, struct error *err);
MUST_CHECK int file_read(int dir_fd, const char *path, struct buffer *out, size_t max, struct error *err);
/* write to PATH.tmp, fsync, rename to PATH, fsync the folder. */
MUST_CHECK int file_write_atomic(
    int dir_fd, const char *path, const void *data, size_t len, mode_t mode, struct error *err);
/* A plain write to an existing control file (cgroup, /proc): open, one write, close. */
MUST_CHECK int file_write_control(int dir_fd, const char *path, const char *text, struct error *err);

#define FD_MESSAGE_MAX 8 /* descriptors in one message */
/* One whole message with descriptors; blocks unless the socket is non-blocking (then ERROR_BUSY on EAGAIN).
 */
MUST_CHECK int fd_send_message(
    int sock, const void *data, size_t len, const int *fds, size_t fd_count, struct error *err);
/* Returns the message's length (0: the peer is gone), or -1. A message longer than `size` is ERROR_INVALID.
 * Descriptors arrive close-on-exec; *fd_count says how many, the rest of fds[FD_MESSAGE_MAX] is -1.
 * ERROR_BUSY when the socket is non-blocking and has nothing. */
MUST_CHECK ssize_t fd_recv_message(
    int sock, void *data, size_t size, int fds[FD_MESSAGE_MAX], size_t *fd_count, struct error *err);

/* Waits for the end of a close-on-exec pipe that a child holds until its exec: 0 when that succeeded, as the pipe then ends
 * without a word; -1 with the struct error that the child wrote when it did not. */
MUST_CHECK int fd_await_exec(int status_fd, struct error *err);
