/* What was opened by a path: files, folders, devices. */
#include "freeze/descriptors.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define WRITE_MAX (64u << 20)    /* one op's share of a file's contents */
#define PATCH_BYTES (256u << 10) /* how much is read at a time */
#define O_TMPFILE_ONLY (O_TMPFILE & ~O_DIRECTORY)

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

void descriptors_restore_position(struct descriptors *d, const struct description *o)
{
    if (o->position != 0 && o->fd_count > 0)
        plan_expect_value(descriptors_call(d, SYS_lseek, plan_literal((uint64_t)o->fds[0]),
                              plan_literal(o->position), plan_literal(SEEK_SET)),
            (int64_t)o->position);
}

int descriptors_open_by_path(
    struct descriptors *d, struct description *o, struct plan_arg path, struct error *err)
{
    int at = descriptors_next(d);
    bool close_on_exec = descriptors_cloexec_for(o, at);
    descriptors_expect(d, descriptors_call(d, SYS_openat, plan_literal((uint64_t)AT_FDCWD), path,
                              plan_literal((uint64_t)(open_flags(o) | (close_on_exec ? O_CLOEXEC : 0)))));
    if (descriptors_place_one(d, o, at, close_on_exec, err) < 0)
        return -1;
    if (!(o->flags & O_PATH) && S_ISREG(o->st.st_mode))
        descriptors_restore_position(d, o);
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
        if (f->request->put_pages(
                f->request->put_context, FREEZE_BULK_SPACE, offset + done, chunk, (size_t)got, err) < 0)
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

/* Of /proc a clone has at this moment only what is of its first process and of the sandbox's own: others, its
 * other threads and their descriptors come later. */
static bool proc_is_there(struct descriptors *d, const struct description *o, struct error *err)
{
    long pid = 0, thread = 0;
    long own = d->f->process->pid;
    sscanf(o->link, "/proc/%ld/task/%ld", &pid, &thread);
    if (pid != 0 && pid != 1 && pid != own)
        descriptors_refuse(d, o, err, "is a file of /proc of another process, which cannot be frozen");
    else if (thread != 0 && thread != own)
        descriptors_refuse(d, o, err, "is a file of /proc of another thread, which cannot be frozen");
    else if (strstr(o->link, "/fdinfo/") || strstr(o->link, "/map_files/"))
        descriptors_refuse(
            d, o, err, "is a file of /proc of what is made anew after it, which cannot be frozen");
    else
        return true;
    return false;
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
        return proc_is_there(d, o, err) ? o->link : NULL;
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

/* The kernel writes the text of such a file when it is read or sought in, and keeps what it has written: that must
 * be when the process is as it was, at the very end. */
static int proc_restore(struct descriptors *d, struct description *o, const char *path, struct error *err)
{
    uint64_t position = o->position;
    /* They are root's, while entering the sandbox has made the process undumpable. */
    descriptors_call(d, SYS_prctl, plan_literal(PR_SET_DUMPABLE), plan_literal(1));
    o->position = 0;
    int result = descriptors_open_by_path(d, o, plan_data(image_put_string(d->image, path)), err);
    o->position = position;
    descriptors_note(d, o, "%s, at %llu", path, (unsigned long long)position);
    if (result < 0 || position == 0 || o->holding_count == 0)
        return result;
    const struct holding *h = &o->holdings[0];
    struct plan_op *op = plan_call(&h->who->process->release_plan, SYS_lseek, plan_literal((uint64_t)h->fd),
        plan_literal(position), plan_literal(SEEK_SET));
    op->subject = (uint16_t)h->fd;
    plan_expect_value(op, (int64_t)position);
    return 0;
}

static int file_restore(struct descriptors *d, struct description *o, struct error *err)
{
    const char *path = lasting_path(d, o, err);
    if (!path)
        return -1;
    if (begins_with(path, "/proc/"))
        return proc_restore(d, o, path, err);
    /* It may have been opened before its owner took rights away. */
    int mode = o->flags & O_ACCMODE;
    mode_t needed = (mode != O_WRONLY ? S_IRUSR : 0) | (mode != O_RDONLY ? S_IWUSR : 0);
    bool loan = tmp_files_is_device(d->f->tmp_files, o->st.st_dev) && (o->st.st_mode & needed) != needed;
    struct plan_arg path_data = plan_data(image_put_string(d->image, path));
    struct plan_arg here = plan_literal((uint64_t)AT_FDCWD);
    if (loan)
        descriptors_call(d, SYS_fchmodat, here, path_data, plan_literal((o->st.st_mode & 07777) | needed));
    if (descriptors_open_by_path(d, o, path_data, err) < 0)
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
    if (descriptors_open_by_path(d, o, plan_data(image_put_string(d->image, path)), err) < 0)
        return -1;
    descriptors_restore_position(d, o);
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
    return descriptors_open_by_path(d, o, plan_data(image_put_string(d->image, path)), err);
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
    return descriptors_open_by_path(d, o, plan_data(image_put_string(d->image, o->link)), err);
}

const struct descriptor_kind descriptor_kind_device = {"device", device_is, NULL, device_restore, NULL};
