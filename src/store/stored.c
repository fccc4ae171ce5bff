#include "store/stored.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

int stored_failed(struct error *err, const char *what)
{
    switch (errno) {
    case ENOENT:
        return error_set(err, ERROR_NOT_FOUND, "the file is missing");
    case ELOOP:
    case ENOTDIR:
    case EISDIR:
    case ENXIO:
    case EACCES: /* of a pager, which may open files only, and those that all may read */
        return error_set(err, ERROR_CORRUPT, "it is not a regular file");
    case EIO:
        return error_set(err, ERROR_CORRUPT, "%s: %s", what, strerror(EIO));
    default:
        return error_system(err, "%s", what);
    }
}

int stored_size(int fd, uint64_t *size, struct error *err)
{
    struct stat about;
    if (fstat(fd, &about) < 0)
        return stored_failed(err, "cannot look at it");
    if (!S_ISREG(about.st_mode) || about.st_size < 0)
        return error_set(err, ERROR_CORRUPT, "it is not a regular file");
    *size = (uint64_t)about.st_size;
    return 0;
}

int stored_open(int dir_fd, const char *name, int *fd, uint64_t *size, struct error *err)
{
    *fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0)
        return stored_failed(err, "cannot open it");
    if (stored_size(*fd, size, err) == 0)
        return 0;
    fd_close(fd);
    return -1;
}

int stored_read(int fd, void *data, size_t len, struct error *err)
{
    struct error why;
    if (fd_read_full(fd, data, len, &why) == 0)
        return 0;
    if (why.errno_value == EIO)
        why.kind = ERROR_CORRUPT;
    if (err != NULL)
        *err = why;
    return -1;
}
