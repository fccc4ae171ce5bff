/* Locks on files of /tmp, which nobody else can contend for in a fresh sandbox. Locks on files that sandboxes
 * have in common, and leases, refuse the freeze. */
#include "freeze/descriptors.h"

#include "base/bytes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>

/* In a tree, a lock of the description is made through what stands for it, and one of the process by the process
 * itself when it has closed all else that it could lose it by. */
static void plan_lock(struct descriptors *d, const struct description *o, const struct holding *h,
    bool of_process, long number, struct plan_arg a, struct plan_arg b)
{
    bool by_itself = of_process && h->who->in_tree;
    struct plan *plan = by_itself ? &h->who->locks : &d->late;
    struct plan_arg fd = plan_literal((uint64_t)(by_itself ? h->fd : o->fds[0]));
    plan_call(plan, number, fd, a, b)->subject = (uint16_t)h->fd;
}

static void restore_range(struct descriptors *d, const struct description *o, const struct holding *h,
    int command, bool write, const char *start, const char *end)
{
    struct flock range = {
        .l_type = write ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET, .l_start = strtoll(start, NULL, 10)};
    if (strcmp(end, "EOF") != 0)
        range.l_len = strtoll(end, NULL, 10) - range.l_start + 1;
    plan_lock(d, o, h, command == F_SETLK, SYS_fcntl, plan_literal((uint64_t)command),
        plan_data(image_put(d->image, &range, sizeof range)));
}

/* One line of fdinfo: "1: POSIX  ADVISORY  WRITE 12 00:1a:34 0 EOF". They come last: closing any descriptor
 * of a file would drop the process's POSIX locks on it. */
static int restore_lock(struct descriptors *d, const struct description *o, const struct holding *h,
    const char *line, struct error *err)
{
    char kind[16], how[16], access[16], start[32], end[32];
    if (sscanf(line, " %*d: %15s %15s %15s %*s %*s %31s %31s", kind, how, access, start, end) != 5)
        return descriptors_refuse(d, o, err, "holds a lock that is not understood");
    bool write = strcmp(access, "WRITE") == 0;
    bool known = strcmp(how, "ADVISORY") == 0 && (write || strcmp(access, "READ") == 0);
    if (!known || !tmp_files_is_device(d->f->tmp_files, o->st.st_dev))
        return descriptors_refuse(
            d, o, err, "holds a lock or lease (%s %s), which cannot be frozen", kind, access);
    if (strcmp(kind, "POSIX") == 0) {
        restore_range(d, o, h, F_SETLK, write, start, end);
        return 0;
    }
    /* All descriptors of the description tell of its own locks. */
    if (h->who != o->holdings[0].who)
        return 0;
    if (strcmp(kind, "OFDLCK") == 0) {
        restore_range(d, o, h, F_OFD_SETLK, write, start, end);
        return 0;
    }
    if (strcmp(kind, "FLOCK") != 0)
        return descriptors_refuse(
            d, o, err, "holds a lock or lease (%s %s), which cannot be frozen", kind, access);
    plan_lock(d, o, h, false, SYS_flock, plan_literal((uint64_t)((write ? LOCK_EX : LOCK_SH) | LOCK_NB)),
        plan_literal(0));
    return 0;
}

/* One descriptor of each process: a process's others tell the same. */
static bool tells_first(const struct description *o, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (o->holdings[i].who == o->holdings[index].who)
            return false;
    return true;
}

int descriptors_restore_locks(struct descriptors *d, struct description *o, struct error *err)
{
    for (size_t k = 0; k < o->holding_count; k++) {
        const struct holding *h = &o->holdings[k];
        const char *line;
        for (size_t i = 0; tells_first(o, k) && (line = descriptors_text_line(&h->info, "lock:", i)); i++)
            if (restore_lock(d, o, h, line, err) < 0)
                return -1;
    }
    return 0;
}
