/* pidfds of the processes that are frozen together (or of the process itself). Whose process is still to be forked
 * when the root makes what is for all, is opened by each of its holders when all are born: a description of this
 * kind has no state that they could miss to share. */
#include "freeze/descriptors.h"
#include "freeze/family.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#define PIDFD_OF_THREAD O_EXCL /* PIDFD_THREAD */

static bool pidfd_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return strncmp(o->link, "anon_inode:[pidfd]", 18) == 0 || strncmp(o->link, "pidfd:", 6) == 0;
}

/* fdinfo names it as we see it: "Pid: 123", -1 when it was waited for. */
static const struct relative *find_process(const struct descriptors *d, const struct description *o)
{
    uint64_t pid;
    const struct family *family = d->f->family;
    if (!descriptors_info_number(o, "Pid:", 10, &pid))
        return NULL;
    for (size_t i = 0; i < family->count; i++)
        if (family->list[i].pid == (pid_t)pid && family->list[i].kind != IMAGE_HELPER)
            return &family->list[i];
    return NULL;
}

static int pidfd_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const struct relative *process = find_process(d, o);
    if (process == NULL || (o->flags & PIDFD_OF_THREAD))
        return descriptors_refuse(
            d, o, err, "is a pidfd, which cannot be frozen: it names a process or thread that is made anew");
    uint64_t flags = o->flags & O_NONBLOCK;
    descriptors_note(d, o, "of process %d", process->inner);
    if (d->f->in_tree) {
        o->opened_by_each = o->restored = true;
        o->opened_flags = flags;
        o->opened_pid = process->inner;
        d->f->family->waits_for_births = true;
        return 0;
    }
    int at = descriptors_expect(
        d, descriptors_call(d, SYS_pidfd_open, plan_literal((uint64_t)process->inner), plan_literal(flags)));
    return descriptors_place_one(d, o, at, true, err);
}

const struct descriptor_kind descriptor_kind_pidfd = {"pidfd", pidfd_is, NULL, pidfd_restore, NULL};
