/* The kernel gives zeros for missing pages once the last descriptor of a userfaultfd is closed. Keeper and pager share one table of
 * descriptors; were both killed in the same instant, it would be gone, and whoever waits for a page would read zeros until the
 * warden has killed it. So the memory that is served holds the descriptors, too:
 *
 *   an io_uring, through which no I/O is ever done, has each userfaultfd in its table of files;
 *   the template maps one page of it, and a fork inherits that: the ring ends with the last address space that has it.
 *
 * The process that is served cannot close what it has no descriptor of, and its death comes first. The template takes the ring out of
 * the pager's table (pidfd_getfd), as sockets do not carry such ones. */
#include "pager/private.h"

#include "base/fd.h"

#include <linux/io_uring.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int pager_open_hold(void)
{
    struct io_uring_params params = {0};
    struct rlimit files;
    confine_raise_files();
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return -1;
    struct io_uring_rsrc_register table = {.flags = IORING_RSRC_REGISTER_SPARSE,
        .nr = files.rlim_cur < PAGER_DESCRIPTORS_MAX ? (uint32_t)files.rlim_cur : PAGER_DESCRIPTORS_MAX};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
    if (ring >= 0 && syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES2, &table, sizeof table) == 0)
        return ring;
    if (ring >= 0)
        close(ring);
    return -1;
}

int pager_give_hold(int hold_fd, int template_fd, struct error *err)
{
    CLEANUP_FD int self = hold_fd >= 0 ? pidfd_open(getpid(), 0) : -1;
    const struct pager_hold told = {.hold = self >= 0 ? hold_fd : -1};
    return fd_send_message(template_fd, &told, sizeof told, &self, self >= 0, err);
}

/* The place of a descriptor in the ring's table is its number. */
static int put(int ring, int place, int fd)
{
    struct io_uring_rsrc_update2 update = {.offset = (uint32_t)place, .data = (uint64_t)&fd, .nr = 1};
    return (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES_UPDATE2, &update, sizeof update);
}

int hold_add(const struct pager *p, int fd, struct error *err)
{
    if (p->options.hold_fd >= 0 && put(p->options.hold_fd, fd, fd) != 1)
        return error_system(err, "cannot hold the memory of a clone");
    return 0;
}

void hold_close(const struct pager *p, int *fd)
{
    if (*fd >= 0 && p->options.hold_fd >= 0)
        (void)!put(p->options.hold_fd, *fd, -1); /* what stays there ends with the ring */
    fd_close(fd);
}
