/* Files without a name: deleted ones, those that never had a name, and memfds. */
#include "freeze/descriptors.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define HUGETLBFS_MAGIC_NUMBER 0x958458f6
#define O_TMPFILE_ONLY (O_TMPFILE & ~O_DIRECTORY)
#define DELETED_SUFFIX " (deleted)"

static bool begins_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool is_memfd(const struct description *o)
{
    return S_ISREG(o->st.st_mode) && begins_with(o->link, "/memfd:");
}

/* In a /tmp that clones share, files without a name would need one for a moment, and get in each other's way:
 * they become memfds, which are files without a name, too. */
static bool becomes_memfd(const struct descriptors *d, const struct description *o)
{
    return is_memfd(o) || (d->f->request->host_tmp && S_ISREG(o->st.st_mode) && o->st.st_nlink == 0);
}

/* Readable whatever the process opened it for. */
static int open_source(struct descriptors *d, const struct description *o, struct error *err)
{
    char name[32];
    (void)d;
    snprintf(name, sizeof name, "fd/%d", o->holdings[0].fd);
    int fd = openat(o->holdings[0].who->tracee.proc_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot read %s", o->link);
    return fd;
}

static int write_contents(struct descriptors *d, int source, int at, const struct stat *st, struct error *err)
{
    struct plan *plan = &d->f->process->process_plan;
    uint32_t before = plan->count;
    int result = descriptors_write_contents(
        d->f, plan, source, plan_literal((uint64_t)at), (uint64_t)st->st_size, &d->content_bytes, err);
    for (uint32_t i = before; i < plan->count; i++)
        descriptors_mark(d, &plan->ops[i]);
    return result;
}

/* A path for it to have until everybody has opened it: its old one, if that is free and its folder there. */
static char *choose_path(const struct descriptors *d, const char *link, const struct stat *st)
{
    size_t len = strlen(link), suffix = strlen(DELETED_SUFFIX);
    char *path = xstrndup(link, len > suffix ? len - suffix : len);
    char *slash = strrchr(path, '/');
    CLEANUP_FREE char *folder = xstrndup(path, slash ? (size_t)(slash - path) : 0);
    if (begins_with(path, "/tmp/") && !tmp_files_has_path(d->f->tmp_files, path) &&
        (strcmp(folder, "/tmp") == 0 || tmp_files_has_path(d->f->tmp_files, folder)))
        return path;
    free(path);
    return xasprintf("/tmp/.deleted-%llu", (unsigned long long)st->st_ino);
}

/* What a file has beside its contents, set on the clone's descriptor `at`, times last. */
static int write_attributes(
    struct descriptors *d, const char *link, int source, int at, const struct stat *st, struct error *err)
{
    struct plan *plan = &d->f->process->process_plan;
    uint32_t before = plan->count;
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    int result = tmp_files_write_xattrs(d->f, source, link, plan_literal((uint64_t)at), err);
    for (uint32_t i = before; i < plan->count; i++)
        descriptors_mark(d, &plan->ops[i]);
    descriptors_call(d, SYS_utimensat, plan_literal((uint64_t)at), plan_literal(0),
        plan_data(image_put(d->image, times, sizeof times)), plan_literal(0));
    return result;
}

int descriptors_make_deleted(struct descriptors *d, const char *link, const struct stat *st, int source,
    bool close_on_exec, uint64_t *path_data, struct error *err)
{
    CLEANUP_FREE char *path = choose_path(d, link, st);
    *path_data = image_put_string(d->image, path);
    tmp_files_clear_umask(d->f);
    int at = descriptors_expect(
        d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD), plan_data(*path_data),
               plan_literal((uint64_t)(O_RDWR | O_CREAT | O_EXCL | (close_on_exec ? O_CLOEXEC : 0))),
               plan_literal((st->st_mode & 0777) | S_IRUSR | S_IWUSR)));
    if (write_contents(d, source, at, st, err) < 0 || write_attributes(d, link, source, at, st, err) < 0)
        return -1;
    return at;
}

int descriptors_make_memfd(struct descriptors *d, const char *link, const struct stat *st, int source,
    bool close_on_exec, struct error *err)
{
    const char *base = begins_with(link, "/memfd:") ? link + strlen("/memfd:") : strrchr(link, '/') + 1;
    size_t len = strlen(base), suffix = strlen(DELETED_SUFFIX);
    bool has_suffix = len > suffix && strcmp(base + len - suffix, DELETED_SUFFIX) == 0;
    CLEANUP_FREE char *name = xstrndup(base, has_suffix ? len - suffix : len);
    struct statfs about;
    if (fstatfs(source, &about) == 0 && about.f_type == HUGETLBFS_MAGIC_NUMBER)
        return tracee_refuse(
            &d->f->tracee, err, "%s is memory in huge pages of hugetlbfs, which cannot be frozen", link);
    int seals = fcntl(source, F_GET_SEALS);
    unsigned flags = (close_on_exec ? MFD_CLOEXEC : 0) | (seals == F_SEAL_SEAL ? 0 : MFD_ALLOW_SEALING);
    int at = descriptors_expect(d, descriptors_call(d, SYS_memfd_create,
                                       plan_data(image_put_string(d->image, name)), plan_literal(flags)));
    if (write_contents(d, source, at, st, err) < 0 || write_attributes(d, link, source, at, st, err) < 0)
        return -1;
    if ((st->st_mode & 07777) != 0777)
        descriptors_call(d, SYS_fchmod, plan_literal((uint64_t)at), plan_literal(st->st_mode & 07777));
    return at;
}

static bool same_file(const struct description *a, const struct description *b)
{
    return a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino;
}

/* All the other descriptions of the same file, opened by `path`. */
static int restore_others(
    struct descriptors *d, struct description *o, struct plan_arg path, struct error *err)
{
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        if (other->restored || other == o || other->kind != o->kind || !same_file(o, other))
            continue;
        d->subject = descriptors_shown_fd(other);
        if (descriptors_open_by_path(d, other, path, err) < 0)
            return -1;
        descriptors_note(d, other, "%s, at %llu", other->link, (unsigned long long)other->position);
    }
    d->subject = descriptors_shown_fd(o);
    return 0;
}

/* What was created read-write becomes the description itself, or else makes place for one that is opened. */
static int settle_created(struct descriptors *d, struct description *o, int at, bool close_on_exec,
    struct plan_arg path, struct error *err)
{
    if ((o->flags & O_ACCMODE) != O_RDWR || (o->flags & (O_PATH | O_SYNC | O_DSYNC))) {
        if ((at = descriptors_park(d, at, err)) < 0 || descriptors_open_by_path(d, o, path, err) < 0)
            return -1;
        descriptors_close(d, at);
        return 0;
    }
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, 0);
    descriptors_restore_position(d, o);
    return 0;
}

/* It was made with the rights that opening it needs; and writing takes away set-id bits. */
static void restore_mode(struct descriptors *d, const struct description *o)
{
    mode_t mode = o->st.st_mode & 07777;
    if (mode != ((mode & 0777) | S_IRUSR | S_IWUSR))
        descriptors_call(d, SYS_fchmod, plan_literal((uint64_t)o->fds[0]), plan_literal(mode));
}

static bool deleted_is(const struct descriptors *d, const struct description *o)
{
    return S_ISREG(o->st.st_mode) && o->st.st_nlink == 0 && !becomes_memfd(d, o);
}

/* Made with O_TMPFILE: it never had a name, and may still be given one. The kernel shows it as "#inode". */
static bool is_unnamed(const struct description *o)
{
    CLEANUP_FREE char *name = xasprintf("/#%llu" DELETED_SUFFIX, (unsigned long long)o->st.st_ino);
    const char *slash = strrchr(o->link, '/');
    return slash && strcmp(slash, name) == 0;
}

/* The description that it was made with, if there still is one: that can be made the same way. */
static struct description *find_maker(struct descriptors *d, struct description *o)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->list[i].kind == o->kind && same_file(o, &d->list[i]) && (d->list[i].flags & O_TMPFILE_ONLY))
            return &d->list[i];
    return o;
}

static int unnamed_restore(struct descriptors *d, struct description *o, struct error *err)
{
    o = find_maker(d, o);
    CLEANUP_FD int source = open_source(d, o, err);
    if (source < 0)
        return -1;
    bool is_maker = o->flags & O_TMPFILE_ONLY,
         close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    int flags = is_maker ? o->flags & ~(O_APPEND | O_DIRECT | O_ASYNC) : O_TMPFILE | O_RDWR;
    char path[32];
    tmp_files_clear_umask(d->f);
    int at = descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                                       plan_data(image_put_string(d->image, "/tmp")),
                                       plan_literal((uint64_t)(flags | (close_on_exec ? O_CLOEXEC : 0))),
                                       plan_literal((o->st.st_mode & 0777) | S_IRUSR | S_IWUSR)));
    if (write_contents(d, source, at, &o->st, err) < 0 ||
        write_attributes(d, o->link, source, at, &o->st, err) < 0)
        return -1;
    if (is_maker) {
        if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
            return -1;
        descriptors_set_flags(d, o, flags);
        descriptors_restore_position(d, o);
    } else {
        at = descriptors_park(d, at, err);
        snprintf(path, sizeof path, "/proc/self/fd/%d", at);
        if (at < 0 || descriptors_open_by_path(d, o, plan_data(image_put_string(d->image, path)), err) < 0)
            return -1;
        descriptors_close(d, at);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", o->fds[0]);
    if (restore_others(d, o, plan_data(image_put_string(d->image, path)), err) < 0)
        return -1;
    restore_mode(d, o);
    descriptors_note(
        d, o, "%s, %lld bytes, at %llu", o->link, (long long)o->st.st_size, (unsigned long long)o->position);
    return 0;
}

static int deleted_restore(struct descriptors *d, struct description *o, struct error *err)
{
    if (is_unnamed(o))
        return unnamed_restore(d, o, err);
    CLEANUP_FD int source = open_source(d, o, err);
    uint64_t path;
    if (source < 0)
        return -1;
    bool close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    int at = descriptors_make_deleted(d, o->link, &o->st, source, close_on_exec, &path, err);
    if (at < 0 || settle_created(d, o, at, close_on_exec, plan_data(path), err) < 0 ||
        restore_others(d, o, plan_data(path), err) < 0)
        return -1;
    restore_mode(d, o);
    descriptors_call(d, SYS_unlink, plan_data(path));
    descriptors_note(
        d, o, "%s, %lld bytes, at %llu", o->link, (long long)o->st.st_size, (unsigned long long)o->position);
    return 0;
}

const struct descriptor_kind descriptor_kind_deleted = {
    "deleted file", deleted_is, NULL, deleted_restore, NULL};

static bool memfd_is(const struct descriptors *d, const struct description *o)
{
    return becomes_memfd(d, o);
}

/* Seals that forbid writing come before the shared mappings (of which then none can write), the others after:
 * they would forbid the mappings that were there before them. */
static void restore_seals(struct descriptors *d, const struct description *o, int seals)
{
    struct plan_arg fd = plan_literal((uint64_t)o->fds[0]);
    if (seals <= 0 || seals == F_SEAL_SEAL)
        return;
    if (seals & F_SEAL_WRITE)
        descriptors_call(d, SYS_fcntl, fd, plan_literal(F_ADD_SEALS), plan_literal((uint64_t)seals));
    else
        descriptors_late_call(d, SYS_fcntl, fd, plan_literal(F_ADD_SEALS), plan_literal((uint64_t)seals));
}

static int memfd_restore(struct descriptors *d, struct description *o, struct error *err)
{
    char path[32];
    /* The one that was created with it, if the process still has it: that is the one that can take seals. */
    for (size_t i = 0; i < d->count && (o->flags & O_ACCMODE) != O_RDWR; i++)
        if (same_file(o, &d->list[i]) && (d->list[i].flags & O_ACCMODE) == O_RDWR)
            o = &d->list[i];
    CLEANUP_FD int source = open_source(d, o, err);
    if (source < 0)
        return -1;
    int seals = fcntl(source, F_GET_SEALS);
    if ((o->flags & O_ACCMODE) != O_RDWR && seals > 0 && seals != F_SEAL_SEAL)
        return descriptors_refuse(d, o, err, "is sealed, and no descriptor is left that could seal it again");
    bool close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    int at = descriptors_make_memfd(d, o->link, &o->st, source, close_on_exec, err);
    if (at < 0)
        return -1;
    snprintf(
        path, sizeof path, "/proc/self/fd/%d", (o->flags & O_ACCMODE) == O_RDWR ? o->fds[0] : d->max_fd + 1);
    struct plan_arg path_data = plan_data(image_put_string(d->image, path));
    if (settle_created(d, o, at, close_on_exec, path_data, err) < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", o->fds[0]);
    if (restore_others(d, o, plan_data(image_put_string(d->image, path)), err) < 0)
        return -1;
    restore_seals(d, o, seals);
    descriptors_note(
        d, o, "%s, %lld bytes, at %llu", o->link, (long long)o->st.st_size, (unsigned long long)o->position);
    return 0;
}

const struct descriptor_kind descriptor_kind_memfd = {"memfd", memfd_is, NULL, memfd_restore, NULL};
