#include "pager/uffd.h"

#include "pager/layout.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#define NOWHERE 0x10000ull /* the lowest address that can be asked for, which programs do not map */

static enum uffd_result result_of(int error)
{
    switch (error) {
    case EEXIST:
        return UFFD_EXISTS;
    case EAGAIN:
        return UFFD_CHANGING;
    case ENOENT:
        return UFFD_NOT_HERE;
    case ESRCH:
        return UFFD_GONE;
    case ENOMEM:
        return UFFD_FULL;
    default:
        return UFFD_FAILED;
    }
}

/* The kernel's `result` is the bytes that are done (some of them: EAGAIN, whatever the reason), or a negative error. */
static enum uffd_result judge(int returned, int64_t result, uint64_t *done)
{
    *done = result > 0 ? (uint64_t)result : 0;
    if (returned == 0)
        return UFFD_DONE;
    int error = result < 0 ? (int)-result : errno;
    /* After some pages the reason is not told: the next call will. */
    return *done > 0 ? UFFD_DONE : result_of(error);
}

enum uffd_result uffd_copy(int fd, uint64_t address, const void *from, uint64_t bytes, uint64_t *done)
{
    *done = 0;
    while (*done < bytes) {
        uint64_t more;
        struct uffdio_copy copy = {
            .dst = address + *done, .src = (uint64_t)from + *done, .len = bytes - *done};
        int returned = ioctl(fd, UFFDIO_COPY, &copy);
        enum uffd_result result = judge(returned, copy.copy, &more);
        *done += more;
        if (result != UFFD_DONE)
            return result;
    }
    return UFFD_DONE;
}

enum uffd_result uffd_zero(int fd, uint64_t address, uint64_t bytes, uint64_t *done)
{
    *done = 0;
    while (*done < bytes) {
        uint64_t more;
        struct uffdio_zeropage zero = {.range = {address + *done, bytes - *done}};
        int returned = ioctl(fd, UFFDIO_ZEROPAGE, &zero);
        enum uffd_result result = judge(returned, zero.zeropage, &more);
        *done += more;
        if (result != UFFD_DONE)
            return result;
    }
    return UFFD_DONE;
}

void uffd_wake(int fd, uint64_t address, uint64_t bytes)
{
    struct uffdio_range range = {address, bytes};
    (void)ioctl(fd, UFFDIO_WAKE, &range);
}

int uffd_register(int fd, uint64_t start, uint64_t end, struct error *err)
{
    struct uffdio_register range = {.range = {start, end - start}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
        return error_system(err, "cannot serve the memory at %#lx-%#lx", start, end);
    return 0;
}

enum uffd_result uffd_unregister(int fd, uint64_t start, uint64_t end)
{
    struct uffdio_range range = {start, end - start};
    if (ioctl(fd, UFFDIO_UNREGISTER, &range) == 0)
        return UFFD_DONE;
    return errno == ENOMEM ? UFFD_GONE : UFFD_NOT_HERE; /* ENOMEM: the address space is no more */
}

/* A copy from where we have no memory: it is refused, but the kernel looks at other things first. Returns its errno. */
static int copy_nothing(int fd)
{
    struct uffdio_copy copy = {.dst = NOWHERE, .src = NOWHERE, .len = LAYOUT_PAGE};
    return ioctl(fd, UFFDIO_COPY, &copy) < 0 ? errno : 0;
}

bool uffd_lives(int fd)
{
    int error = copy_nothing(fd);
    return error == ENOENT || error == EAGAIN || error == EEXIST || error == EFAULT || error == ENOMEM;
}

bool uffd_changes(int fd)
{
    return copy_nothing(fd) == EAGAIN;
}
