/* Locks on files of /tmp, which nobody else can contend for in a fresh sandbox. Locks on files that sandboxes
 * have in common, and leases, refuse the freeze. */
#include "freeze/descriptors.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>

static int restore_range(struct descriptors *d, const struct description *o, int command, bool write,
    const char *start, const char *end)
{
    struct flock range = {
        .l_type = write ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = strtoll(start, NULL, 10)};
    if (strcmp(end, "EOF") != 0)
        range.l_len = strtoll(end, NULL, 10) - range.l_start + 1;
    descriptors_late_call(d, SYS_fcntl, plan_literal((uint64_t)o->fds[0]), plan_literal((uint64_t)command),
        plan_data(image_put(d->image, &range, sizeof range)));
    return 0;
}

/* One line of fdinfo: "1: POSIX  ADVISORY  WRITE 12 00:1a:34 0 EOF". They come last: closing any descriptor
 * of a file would drop the process's POSIX locks on it. */
static int restore_lock(
    struct descriptors *d, const struct description *o, const char *line, struct error *err)
{
    char kind[16], how[16], access[16], start[32], end[32];
    if (sscanf(line, " %*d: %15s %15s %15s %*s %*s %31s %31s", kind, how, access, start, end) != 5)
        return descriptors_refuse(d, o, err, "holds a lock that is not understood");
    bool write = strcmp(access, "WRITE") == 0;
    bool known = strcmp(how, "ADVISORY") == 0 && (write || strcmp(access, "READ") == 0);
    if (!known || !tmp_files_is_device(d->f->tmp_files, o->st.st_dev) || o->fd_count == 0)
        return descriptors_refuse(
            d, o, err, "holds a lock or lease (%s %s), which cannot be frozen", kind, access);
    if (strcmp(kind, "POSIX") == 0)
        return restore_range(d, o, F_SETLK, write, start, end);
    if (strcmp(kind, "OFDLCK") == 0)
        return restore_range(d, o, F_OFD_SETLK, write, start, end);
    if (strcmp(kind, "FLOCK") != 0)
        return descriptors_refuse(
            d, o, err, "holds a lock or lease (%s %s), which cannot be frozen", kind, access);
    descriptors_late_call(d, SYS_flock, plan_literal((uint64_t)o->fds[0]),
        plan_literal((uint64_t)((write ? LOCK_EX : LOCK_SH) | LOCK_NB)));
    return 0;
}

int descriptors_restore_locks(struct descriptors *d, struct description *o, struct error *err)
{
    const char *line;
    for (size_t i = 0; (line = descriptors_info_line(o, "lock:", i)); i++)
        if (restore_lock(d, o, line, err) < 0)
            return -1;
    return 0;
}
