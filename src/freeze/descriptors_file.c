/* What was opened by a path: files, folders, devices; and files that have no path any more. */
#include "freeze/descriptors.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define WRITE_MAX (64u << 20)    /* one op's share of a file's contents */
#define PATCH_BYTES (256u << 10) /* how much is read at a time */
#define HUGETLBFS_MAGIC_NUMBER 0x958458f6
#define O_TMPFILE_ONLY (O_TMPFILE & ~O_DIRECTORY)
#define DELETED_SUFFIX " (deleted)"

static bool begins_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* The flags to open it with again. */
static int open_flags(const struct description *o)
{
    int flags = o->flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_ASYNC);
    if (!S_ISDIR(o->st.st_mode))
        flags &= ~(O_DIRECTORY | O_TMPFILE_ONLY);
    return flags;
}

static void restore_position(struct descriptors *d, const struct description *o)
{
    if (o->position != 0 && o->fd_count > 0)
        plan_expect_value(descriptors_call(d, SYS_lseek, plan_literal((uint64_t)o->fds[0]),
                              plan_literal(o->position), plan_literal(SEEK_SET)),
            (int64_t)o->position);
}

static int open_by_path(struct descriptors *d, struct description *o, struct plan_arg path, struct error *err)
{
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD), path,
                              plan_literal((uint64_t)(open_flags(o) | (close_on_exec ? O_CLOEXEC : 0)))));
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    if (!(o->flags & O_PATH) && S_ISREG(o->st.st_mode))
        restore_position(d, o);
    return 0;
}

/* ---- contents ---- */

static int write_extent(struct freeze *f, struct plan *plan, int source, struct plan_arg at, uint64_t from,
    uint64_t len, struct error *err)
{
    CLEANUP_FREE uint8_t *chunk = xcalloc(1, PATCH_BYTES);
    uint64_t offset = f->image->bulk_bytes;
    for (uint64_t done = 0; done < len;) {
        size_t want = len - done < PATCH_BYTES ? (size_t)(len - done) : PATCH_BYTES;
        ssize_t got = pread(source, chunk, want, (off_t)(from + done));
        if (got <= 0)
            return error_system(err, "cannot read a file's contents");
        if (f->request->put_pages(f->request->put_context, chunk, (size_t)got, err) < 0)
            return -1;
        done += (uint64_t)got;
    }
    f->image->bulk_bytes += len;
    plan_expect_value(
        plan_call(plan, SYS_pwrite64, at, plan_bulk(offset), plan_literal(len), plan_literal(from)),
        (int64_t)len);
    return 0;
}

int descriptors_write_contents(struct freeze *f, struct plan *plan, int source, struct plan_arg at,
    uint64_t size, uint64_t *total, struct error *err)
{
    uint64_t end = 0;
    while (end < size) {
        off_t from = lseek(source, (off_t)end, SEEK_DATA);
        if (from < 0 && errno == ENXIO)
            break;
        off_t hole = from < 0 ? -1 : lseek(source, from, SEEK_HOLE);
        if (hole < 0)
            return error_system(err, "cannot find the data of a file");
        uint64_t len = (uint64_t)(hole - from) < WRITE_MAX ? (uint64_t)(hole - from) : WRITE_MAX;
        if ((uint64_t)from + len > size)
            len = size - (uint64_t)from;
        *total += len;
        if (*total > DESCRIPTORS_CONTENT_MAX)
            return tracee_refuse(&f->tracee, err,
                "its files in /tmp, deleted files and shared memory hold more than %llu MiB",
                DESCRIPTORS_CONTENT_MAX >> 20);
        if (write_extent(f, plan, source, at, (uint64_t)from, len, err) < 0)
            return -1;
        end = (uint64_t)from + len;
    }
    if (end < size)
        plan_call(plan, SYS_ftruncate, at, plan_literal(size));
    return 0;
}

/* ---- files that are there at the thaw ---- */

/* Whether the path leads the process to this very file. */
static bool path_is_true(const struct descriptors *d, const struct description *o)
{
    struct stat st;
    return o->link[0] == '/' &&
           fstatat(d->root_fd, o->link[1] ? o->link + 1 : ".", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_dev == o->st.st_dev && st.st_ino == o->st.st_ino;
}

static bool on_read_only_mount(const struct description *o)
{
    struct statvfs about;
    return fstatvfs(o->copy, &about) == 0 && (about.f_flag & ST_RDONLY);
}

/* Where clones see the same writable files: what the process knows of a file must still be so at the thaw. Who
 * only appends knows nothing of it. */
static void rely_on(struct descriptors *d, const struct description *o)
{
    bool appends = (o->flags & O_ACCMODE) == O_WRONLY && (o->flags & O_APPEND);
    if (S_ISREG(o->st.st_mode) && !(o->flags & O_PATH) && !appends)
        image_note_file(d->image, o->link, (uint64_t)o->st.st_size,
            o->st.st_mtim.tv_sec * 1000000000l + o->st.st_mtim.tv_nsec);
}

/* The path that leads to it in a clone, or NULL with the reason. */
static const char *lasting_path(struct descriptors *d, const struct description *o, struct error *err)
{
    if (tmp_files_is_device(d->f->tmp_files, o->st.st_dev)) {
        const char *path = tmp_files_find(d->f->tmp_files, o->st.st_dev, o->st.st_ino);
        if (!path)
            descriptors_refuse(d, o, err, "is a deleted folder or special file, which cannot be frozen");
        return path;
    }
    if (begins_with(o->link, "/proc/"))
        return o->link;
    if (!path_is_true(d, o)) {
        descriptors_refuse(d, o, err, "has no path by which a clone could open it again");
        return NULL;
    }
    if (d->f->request->host_files) {
        rely_on(d, o);
    } else if (!on_read_only_mount(o) && !S_ISDIR(o->st.st_mode)) {
        descriptors_refuse(
            d, o, err, "is on a writable file system other than /tmp, which is not part of a snapshot");
        return NULL;
    }
    return o->link;
}

static bool file_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return S_ISREG(o->st.st_mode);
}

static int file_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const char *path = lasting_path(d, o, err);
    if (!path)
        return -1;
    /* It may have been opened before its owner took rights away. */
    int mode = o->flags & O_ACCMODE;
    mode_t needed = (mode != O_WRONLY ? S_IRUSR : 0) | (mode != O_RDONLY ? S_IWUSR : 0);
    bool loan = tmp_files_is_device(d->f->tmp_files, o->st.st_dev) && (o->st.st_mode & needed) != needed;
    struct plan_arg path_data = plan_data(image_put_string(d->image, path));
    struct plan_arg here = plan_literal((uint64_t)AT_FDCWD);
    if (loan)
        descriptors_call(d, SYS_fchmodat, here, path_data, plan_literal((o->st.st_mode & 07777) | needed));
    if (open_by_path(d, o, path_data, err) < 0)
        return -1;
    if (loan)
        descriptors_call(d, SYS_fchmodat, here, path_data, plan_literal(o->st.st_mode & 07777));
    descriptors_note(d, o, "%s, at %llu", path, (unsigned long long)o->position);
    return 0;
}

const struct descriptor_kind descriptor_kind_file = {"file", file_is, NULL, file_restore, NULL};

/* ---- folders ---- */

static bool folder_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return S_ISDIR(o->st.st_mode);
}

/* The order of names in a folder of /tmp is not the same in a clone, so that a half-read one cannot go on. */
static int folder_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const char *path = lasting_path(d, o, err);
    if (!path)
        return -1;
    uint64_t entry[512];
    bool in_tmp = tmp_files_is_device(d->f->tmp_files, o->st.st_dev);
    if (in_tmp && o->position != 0 && syscall(SYS_getdents64, o->copy, entry, sizeof entry) != 0)
        return descriptors_refuse(d, o, err, "is a folder of /tmp that has been read in part");
    if (open_by_path(d, o, plan_data(image_put_string(d->image, path)), err) < 0)
        return -1;
    restore_position(d, o);
    descriptors_note(d, o, "%s", path);
    return 0;
}

const struct descriptor_kind descriptor_kind_folder = {"folder", folder_is, NULL, folder_restore, NULL};

/* ---- O_PATH ---- */

static bool path_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    return (o->flags & O_PATH) && o->link[0] == '/';
}

static int path_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const char *path = S_ISCHR(o->st.st_mode) && path_is_true(d, o) ? o->link : lasting_path(d, o, err);
    if (!path)
        return -1;
    descriptors_note(d, o, "%s, as a path only", path);
    return open_by_path(d, o, plan_data(image_put_string(d->image, path)), err);
}

const struct descriptor_kind descriptor_kind_path = {"path", path_is, NULL, path_restore, NULL};

/* ---- devices ---- */

static bool device_is(const struct descriptors *d, const struct description *o)
{
    (void)d;
    unsigned minor_number = minor(o->st.st_rdev);
    return S_ISCHR(o->st.st_mode) && major(o->st.st_rdev) == 1 &&
           (minor_number == 3 || minor_number == 5 || minor_number == 7 || minor_number == 8 ||
               minor_number == 9);
}

static int device_restore(struct descriptors *d, struct description *o, struct error *err)
{
    if (!path_is_true(d, o))
        return descriptors_refuse(d, o, err, "is a device that the sandbox does not show under this path");
    descriptors_note(d, o, "%s", o->link);
    return open_by_path(d, o, plan_data(image_put_string(d->image, o->link)), err);
}

const struct descriptor_kind descriptor_kind_device = {"device", device_is, NULL, device_restore, NULL};

/* ---- files without a name, and memfds ---- */

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
    if (write_contents(d, source, at, st, err) < 0)
        return -1;
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    descriptors_call(d, SYS_utimensat, plan_literal((uint64_t)at), plan_literal(0),
        plan_data(image_put(d->image, times, sizeof times)));
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
    if (write_contents(d, source, at, st, err) < 0)
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
        if (open_by_path(d, other, path, err) < 0)
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
        if ((at = descriptors_park(d, at, err)) < 0 || open_by_path(d, o, path, err) < 0)
            return -1;
        descriptors_close(d, at);
        return 0;
    }
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    descriptors_set_flags(d, o, 0);
    restore_position(d, o);
    return 0;
}

static bool deleted_is(const struct descriptors *d, const struct description *o)
{
    return S_ISREG(o->st.st_mode) && o->st.st_nlink == 0 && !becomes_memfd(d, o);
}

static int deleted_restore(struct descriptors *d, struct description *o, struct error *err)
{
    CLEANUP_FD int source = open_source(d, o, err);
    uint64_t path;
    if (source < 0)
        return -1;
    bool close_on_exec = descriptors_cloexec_for(o, descriptors_next(d));
    int at = descriptors_make_deleted(d, o->link, &o->st, source, close_on_exec, &path, err);
    if (at < 0 || settle_created(d, o, at, close_on_exec, plan_data(path), err) < 0 ||
        restore_others(d, o, plan_data(path), err) < 0)
        return -1;
    if ((o->st.st_mode & 0600) != 0600)
        descriptors_call(d, SYS_fchmodat, plan_literal((uint64_t)AT_FDCWD), plan_data(path),
            plan_literal(o->st.st_mode & 07777));
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
