/* Shared mappings: what a fork would share between clones is made anew in each. Two mappings of one object
 * (by device and inode), and a descriptor of it, must be of one object again. */
#include "freeze/descriptors.h"
#include "freeze/family.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

static bool is_anonymous(const struct mapping *m)
{
    /* The second when prctl(PR_SET_VMA) has named it. */
    return (m->deleted && strcmp(m->path, "/dev/zero") == 0) || strncmp(m->path, "[anon_shmem:", 12) == 0;
}

static bool is_memfd(const struct mapping *m)
{
    return strncmp(m->path, "/memfd:", 7) == 0;
}

static bool is_system_v(const struct mapping *m)
{
    return strncmp(m->path, "/SYSV", 5) == 0;
}

bool freeze_handles_shared(const struct freeze *f, const struct mapping *m)
{
    if (!m->shared)
        return false;
    return is_anonymous(m) || is_memfd(m) || is_system_v(m) ||
           (f->request->host_tmp ? m->deleted : strncmp(m->path, "/tmp/", 5) == 0);
}

static bool same_object(const struct mapping *a, const struct mapping *b)
{
    return b->shared && a->device == b->device && a->inode == b->inode;
}

/* Where the object is found while its mappings are made. */
struct object {
    int at;          /* a descriptor of the clone */
    bool temporary;  /* to be closed after */
    uint64_t unlink; /* + 1: a path in the data area to be unlinked after; 0: none */
    struct stat st;
};

/* Whether any process writes to it. */
static bool needs_writing(const struct family *family, const struct mapping *first)
{
    for (size_t p = 0; p < family->live_count; p++) {
        const struct mappings *all = &family->freezes[p].mappings;
        for (size_t i = 0; i < all->count; i++)
            if (same_object(first, &all->list[i]) && (all->list[i].protection & PROT_WRITE))
                return true;
    }
    return false;
}

/* A descriptor of the process that is of this object: one that can write, if there is any. */
static const struct description *find_descriptor(const struct descriptors *d, const struct stat *st)
{
    const struct description *found = NULL;
    for (size_t i = 0; i < d->count; i++) {
        const struct description *o = &d->list[i];
        if (o->st.st_dev != st->st_dev || o->st.st_ino != st->st_ino || (o->flags & O_PATH) ||
            (o->flags & O_ACCMODE) == O_WRONLY)
            continue;
        if (!found || (o->flags & O_ACCMODE) == O_RDWR)
            found = o;
    }
    return found;
}

static int open_path(struct descriptors *d, struct object *object, const char *path, int flags)
{
    object->temporary = true;
    object->at = descriptors_expect(
        d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
               plan_data(image_put_string(d->image, path)), plan_literal((uint64_t)(flags | O_CLOEXEC))));
    return 0;
}

static int find_object(struct descriptors *d, const struct freeze *f, const struct mapping *m,
    struct object *object, struct error *err)
{
    char name[64];
    uint64_t path_data;
    snprintf(
        name, sizeof name, "map_files/%llx-%llx", (unsigned long long)m->start, (unsigned long long)m->end);
    CLEANUP_FD int source = openat(f->tracee.proc_fd, name, O_RDONLY | O_CLOEXEC);
    if (source < 0 || fstat(source, &object->st) < 0)
        return error_system(
            err, "cannot read the shared mapping at %llx (%s)", (unsigned long long)m->start, m->path);

    bool write = needs_writing(d->f->family, m);
    const struct description *o = find_descriptor(d, &object->st);
    if (o && (!write || (o->flags & O_ACCMODE) == O_RDWR)) {
        object->at = o->fds[0];
        return 0;
    }
    if (o) {
        snprintf(name, sizeof name, "/proc/self/fd/%d", o->fds[0]);
        return open_path(d, object, name, O_RDWR);
    }
    object->temporary = true;
    if (is_anonymous(m) || is_memfd(m) || d->f->request->host_tmp) {
        object->at = descriptors_make_memfd(
            d, is_anonymous(m) ? "/memfd:shared" : m->path, &object->st, source, true, err);
        return object->at < 0 ? -1 : 0;
    }
    const char *path = tmp_files_find(d->f->tmp_files, object->st.st_dev, object->st.st_ino);
    if (path)
        return open_path(d, object, path, write ? O_RDWR : O_RDONLY);
    object->at = descriptors_make_deleted(d, m->path, &object->st, source, true, &path_data, err);
    object->unlink = path_data + 1;
    return object->at < 0 ? -1 : 0;
}

static int map(struct freeze *f, struct plan *plan, const struct mapping *m, int at, struct error *err)
{
    struct plan_arg start = plan_literal(m->start), len = plan_literal(m->end - m->start);
    struct plan_op *op = plan_call(plan, SYS_mmap, start, len, plan_literal((uint64_t)m->protection),
        plan_literal(MAP_SHARED | MAP_FIXED_NOREPLACE), plan_literal((uint64_t)at), plan_literal(m->offset));
    plan_expect_value(op, (int64_t)m->start);
    const struct {
        bool wanted;
        int advice;
    } advices[] = {{m->dont_fork, MADV_DONTFORK}, {m->dont_dump, MADV_DONTDUMP},
        {m->huge_page, MADV_HUGEPAGE}, {m->no_huge_page, MADV_NOHUGEPAGE}, {m->sequential, MADV_SEQUENTIAL},
        {m->random, MADV_RANDOM}};
    for (size_t i = 0; i < countof(advices); i++)
        if (advices[i].wanted)
            plan_call(plan, SYS_madvise, start, len, plan_literal((uint64_t)advices[i].advice));
    if (freeze_guards(f, m, plan, err) < 0)
        return -1;
    if (m->locked)
        plan_call(plan, SYS_mlock2, start, len, plan_literal(m->lock_on_fault ? MLOCK_ONFAULT : 0));
    if (m->sealed)
        plan_call(plan, SYS_mseal, start, len, plan_literal(0));
    return 0;
}

/* The object's mappings in all processes, of which `m` is the first. */
static int restore_object(
    struct descriptors *d, const struct freeze *owner, const struct mapping *m, struct error *err)
{
    const struct family *family = d->f->family;
    bool in_tree = d->f->in_tree;
    struct object object = {.at = -1};
    if (find_object(d, owner, m, &object, err) < 0)
        return -1;
    if (in_tree && object.temporary)
        object.at = descriptors_keep_for_all(d, object.at);
    for (size_t p = 0; p < family->live_count; p++) {
        struct freeze *f = &family->freezes[p];
        for (size_t i = 0; i < f->mappings.count; i++)
            if (same_object(m, &f->mappings.list[i]) && map(f, in_tree ? &f->maps : &f->process->process_plan,
                                                            &f->mappings.list[i], object.at, err) < 0)
                return -1;
    }
    if (object.temporary && !in_tree)
        descriptors_close(d, object.at);
    if (object.unlink != 0)
        descriptors_call(d, SYS_unlink, plan_data(object.unlink - 1));
    return 0;
}

/* Objects that were seen already. */
struct seen {
    const struct mapping **list;
    size_t count;
};

static bool is_first_of_object(struct seen *seen, const struct mapping *m)
{
    for (size_t i = 0; i < seen->count; i++)
        if (same_object(m, seen->list[i]))
            return false;
    seen->list = xrealloc(seen->list, (seen->count + 1) * sizeof *seen->list);
    seen->list[seen->count++] = m;
    return true;
}

static int restore_objects_of(
    struct descriptors *d, const struct freeze *f, struct seen *seen, struct error *err)
{
    for (size_t i = 0; i < f->mappings.count; i++) {
        const struct mapping *m = &f->mappings.list[i];
        if (m->shared && is_system_v(m))
            return tracee_refuse(
                &f->tracee, err, "it has attached System V shared memory, which cannot be frozen");
        if (freeze_handles_shared(f, m) && is_first_of_object(seen, m) && restore_object(d, f, m, err) < 0)
            return -1;
    }
    return 0;
}

int freeze_shared_memory(struct freeze *f, struct error *err)
{
    struct descriptors *d = f->descriptors;
    struct seen seen = {0};
    int result = freeze_refuse_ipc_objects(f, err);
    d->subject = -1;
    for (size_t p = 0; p < f->family->live_count && result == 0; p++)
        result = restore_objects_of(d, &f->family->freezes[p], &seen, err);
    free(seen.list);
    if (result == 0 && d->max_fd > descriptors_highest())
        return tracee_refuse(&f->tracee, err, "it has too many descriptors and shared memories");
    f->image->descriptor_floor = (uint32_t)(d->max_fd + 1 + DESCRIPTORS_PARKED_MAX);
    return result;
}

void freeze_finish_files(struct freeze *f)
{
    struct descriptors *d = f->descriptors;
    descriptors_append_plan(&f->process->process_plan, &d->late);
    tmp_files_finish(f);
    descriptors_append_plan(&f->process->process_plan, &d->last);
}

bool freeze_files_wait(const struct freeze *f)
{
    return f->descriptors->late.count > 0 || f->descriptors->last.count > 0 || tmp_files_any(f->tmp_files);
}
