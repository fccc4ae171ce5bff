/* The contents of /tmp: the disk state of a snapshot. Folders come before what is in them; what other parts
 * of the plan still change (times of folders, modes that would shut us out) is set at the very end. */
#include "freeze/descriptors.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TMP_ENTRIES_MAX 65536
#define TMP_XATTRS_MAX 65536 /* bytes of names, and of one value */
#define TMP_FOLDER "/tmp"

struct tmp_entry {
    char *path; /* "/tmp/a/b" */
    struct stat st;
    bool made_by_bind;
};

struct tmp_files {
    int root_fd; /* of /tmp itself; -1 when there is none */
    struct stat root;
    struct tmp_entry *list;
    size_t count;
    uint64_t bytes;
    uint32_t umask;
    bool umask_cleared;
};

/* ---- asking ---- */

bool tmp_files_is_device(const struct tmp_files *t, dev_t device)
{
    return t->root_fd >= 0 && t->root.st_dev == device;
}

const char *tmp_files_find(const struct tmp_files *t, dev_t device, ino_t inode)
{
    if (!tmp_files_is_device(t, device))
        return NULL;
    if (inode == t->root.st_ino)
        return TMP_FOLDER;
    for (size_t i = 0; i < t->count; i++)
        if (t->list[i].st.st_ino == inode)
            return t->list[i].path;
    return NULL;
}

static struct tmp_entry *find_path(const struct tmp_files *t, const char *path)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->list[i].path, path) == 0)
            return &t->list[i];
    return NULL;
}

bool tmp_files_has_path(const struct tmp_files *t, const char *path)
{
    return find_path(t, path) != NULL;
}

bool tmp_files_any(const struct tmp_files *t)
{
    return t->count > 0;
}

uint64_t tmp_files_bytes(const struct tmp_files *t)
{
    return t->bytes;
}

void tmp_files_made_by_bind(struct freeze *f, const char *path)
{
    struct tmp_entry *e = find_path(f->tmp_files, path);
    if (e)
        e->made_by_bind = true;
}

/* ---- listing ---- */

/* A path relative to /tmp, for the ...at calls. */
static const char *relative(const struct tmp_entry *e)
{
    return e->path + strlen(TMP_FOLDER "/");
}

static int add_entry(struct freeze *f, struct tmp_files *t, int folder_fd, const char *folder,
    const char *name, struct error *err)
{
    if (t->count == TMP_ENTRIES_MAX)
        return tracee_refuse(&f->tracee, err, "/tmp holds more than %d files", TMP_ENTRIES_MAX);
    t->list = xrealloc(t->list, (t->count + 1) * sizeof *t->list);
    struct tmp_entry *e = &t->list[t->count];
    *e = (struct tmp_entry){.path = xasprintf("%s/%s", folder, name)};
    t->count++;
    if (fstatat(folder_fd, name, &e->st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_system(err, "cannot look at %s", e->path);
    if (e->st.st_dev != t->root.st_dev)
        return tracee_refuse(&f->tracee, err, "%s is another file system, mounted in /tmp", e->path);
    if (e->st.st_uid != f->uid || e->st.st_gid != f->gid)
        return tracee_refuse(&f->tracee, err, "%s belongs to user %u and group %u, not to the process's user",
            e->path, e->st.st_uid, e->st.st_gid);
    if (S_ISCHR(e->st.st_mode) || S_ISBLK(e->st.st_mode))
        return tracee_refuse(&f->tracee, err, "%s is a device", e->path);
    if (strlen(e->path) >= 4096)
        return tracee_refuse(&f->tracee, err, "a path in /tmp is longer than 4095 bytes");
    return 0;
}

static int list_folder(
    struct freeze *f, struct tmp_files *t, const char *path, const char *name, struct error *err)
{
    int fd = openat(t->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder)
        return error_system(err, "cannot list %s", path);
    /* `path` is in the list that grows. */
    CLEANUP_FREE char *own_path = xstrdup(path);
    int result = 0;
    struct dirent *entry = NULL;
    while (result == 0 && (errno = 0, entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = add_entry(f, t, fd, own_path, entry->d_name, err);
    if (result == 0 && errno != 0)
        result = error_system(err, "cannot list all of %s", own_path);
    closedir(folder);
    return result;
}

static int list_all(struct freeze *f, struct tmp_files *t, struct error *err)
{
    if (list_folder(f, t, TMP_FOLDER, ".", err) < 0)
        return -1;
    for (size_t i = 0; i < t->count; i++)
        if (S_ISDIR(t->list[i].st.st_mode) &&
            list_folder(f, t, t->list[i].path, relative(&t->list[i]), err) < 0)
            return -1;
    return 0;
}

/* ---- making ---- */

static struct plan_arg here(void)
{
    return plan_literal((uint64_t)AT_FDCWD);
}

void tmp_files_clear_umask(struct freeze *f)
{
    if (!f->tmp_files->umask_cleared)
        plan_call(&f->process->process_plan, SYS_umask, plan_literal(0));
    f->tmp_files->umask_cleared = true;
}

static uint64_t put_times(struct freeze *f, const struct stat *st)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    return image_put(f->image, times, sizeof times);
}

int tmp_files_write_xattrs(
    struct freeze *f, int source, const char *path, struct plan_arg at, struct error *err)
{
    ssize_t length = flistxattr(source, NULL, 0);
    if (length < 0 && errno != ENOTSUP)
        return error_system(err, "cannot read the attributes of %s", path);
    if (length <= 0)
        return 0;
    CLEANUP_FREE char *names = xcalloc(1, (size_t)length);
    if ((length = flistxattr(source, names, (size_t)length)) < 0)
        return error_system(err, "cannot read the attributes of %s", path);
    CLEANUP_FREE uint8_t *value = xcalloc(1, TMP_XATTRS_MAX);
    for (const char *name = names; name < names + length; name += strlen(name) + 1) {
        ssize_t size = fgetxattr(source, name, value, TMP_XATTRS_MAX);
        if (size < 0)
            return error_system(err, "cannot read the attribute %s of %s", name, path);
        if (strncmp(name, "user.", 5) != 0)
            return tracee_refuse(
                &f->tracee, err, "%s has the attribute %s, which cannot be frozen", path, name);
        plan_call(&f->process->process_plan, SYS_fsetxattr, at, plan_data(image_put_string(f->image, name)),
            plan_data(image_put(f->image, value, (size_t)size)), plan_literal((uint64_t)size),
            plan_literal(0));
    }
    return 0;
}

/* Attributes of a folder, which is made with all its owner's rights. */
static int make_folder_xattrs(
    struct freeze *f, struct tmp_files *t, const struct tmp_entry *e, uint64_t path, struct error *err)
{
    struct plan *plan = &f->process->process_plan;
    CLEANUP_FD int source = openat(t->root_fd, relative(e), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (source < 0)
        return error_system(err, "cannot read the attributes of %s", e->path);
    uint32_t before = plan->count;
    plan_save(plan_call(plan, SYS_openat, here(), plan_data(path), plan_literal(O_RDONLY | O_CLOEXEC)), 0);
    uint32_t opened = plan->count;
    if (tmp_files_write_xattrs(f, source, e->path, plan_register(0), err) < 0)
        return -1;
    if (plan->count == opened)
        plan->count = before; /* it has none */
    else
        plan_call(plan, SYS_close, plan_register(0));
    return 0;
}

/* Register 0 of `plan` is the file's descriptor until it is closed again. */
static int make_contents(struct freeze *f, struct plan *plan, int source, const char *path,
    uint64_t path_data, const struct stat *st, uint64_t *bytes, struct error *err)
{
    mode_t mode = st->st_mode & 0777;
    /* Attributes cannot be given to a file that its owner may not write to. */
    bool loan = !(mode & S_IWUSR) && flistxattr(source, NULL, 0) > 0;
    plan_save(plan_call(plan, SYS_openat, here(), plan_data(path_data),
                  plan_literal(O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC),
                  plan_literal(loan ? mode | S_IWUSR : mode)),
        0);
    if (descriptors_write_contents(f, plan, source, plan_register(0), (uint64_t)st->st_size, bytes, err) < 0)
        return error_prefix(err, "%s", path);
    if (tmp_files_write_xattrs(f, source, path, plan_register(0), err) < 0)
        return -1;
    if (loan)
        plan_call(plan, SYS_fchmod, plan_register(0), plan_literal(mode));
    plan_call(plan, SYS_utimensat, plan_register(0), plan_literal(0), plan_data(put_times(f, st)));
    plan_call(plan, SYS_close, plan_register(0));
    return 0;
}

static int make_file(struct freeze *f, struct tmp_files *t, size_t index, struct error *err)
{
    const struct tmp_entry *e = &t->list[index];
    struct plan *plan = &f->process->process_plan;
    uint64_t path = image_put_string(f->image, e->path);
    for (size_t i = 0; e->st.st_nlink > 1 && i < index; i++)
        if (t->list[i].st.st_ino == e->st.st_ino) {
            plan_call(plan, SYS_linkat, here(), plan_data(image_put_string(f->image, t->list[i].path)),
                here(), plan_data(path), plan_literal(0));
            return 0;
        }
    CLEANUP_FD int source = openat(t->root_fd, relative(e), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (source < 0)
        return error_system(err, "cannot read %s", e->path);
    return make_contents(f, plan, source, e->path, path, &e->st, &t->bytes, err);
}

static int make_symlink(struct freeze *f, struct tmp_files *t, const struct tmp_entry *e, struct error *err)
{
    char target[4096];
    ssize_t len = readlinkat(t->root_fd, relative(e), target, sizeof target - 1);
    if (len < 0)
        return error_system(err, "cannot read %s", e->path);
    target[len] = 0;
    uint64_t path = image_put_string(f->image, e->path);
    plan_call(&f->process->process_plan, SYS_symlink, plan_data(image_put_string(f->image, target)),
        plan_data(path));
    plan_call(&f->process->process_plan, SYS_utimensat, here(), plan_data(path),
        plan_data(put_times(f, &e->st)), plan_literal(AT_SYMLINK_NOFOLLOW));
    return 0;
}

static int make_entry(struct freeze *f, struct tmp_files *t, size_t index, struct error *err)
{
    const struct tmp_entry *e = &t->list[index];
    struct plan *plan = &f->process->process_plan;
    uint64_t path;
    switch (e->st.st_mode & S_IFMT) {
    case S_IFDIR:
        path = image_put_string(f->image, e->path);
        plan_call(plan, SYS_mkdir, plan_data(path), plan_literal((e->st.st_mode & 0777) | S_IRWXU));
        return make_folder_xattrs(f, t, e, path, err);
    case S_IFREG:
        return make_file(f, t, index, err);
    case S_IFLNK:
        return make_symlink(f, t, e, err);
    case S_IFIFO:
        plan_call(plan, SYS_mknodat, here(), plan_data(image_put_string(f->image, e->path)),
            plan_literal(S_IFIFO | (e->st.st_mode & 0777)), plan_literal(0));
        return 0;
    case S_IFSOCK: /* by bind, or at the end */
        return 0;
    default:
        return tracee_refuse(&f->tracee, err, "%s is a file of an unknown type", e->path);
    }
}

/* What is left: sockets that nobody is bound to, and modes and times that earlier ops would have spoilt. */
static void finish_entry(struct freeze *f, const struct tmp_entry *e)
{
    struct plan *plan = &f->process->process_plan;
    mode_t mode = e->st.st_mode & 07777, made = mode & 0777;
    if (S_ISLNK(e->st.st_mode))
        return;
    uint64_t path = image_put_string(f->image, e->path);
    if (S_ISDIR(e->st.st_mode))
        made |= S_IRWXU;
    if (S_ISSOCK(e->st.st_mode)) {
        made = 0777;
        if (!e->made_by_bind)
            plan_call(
                plan, SYS_mknodat, here(), plan_data(path), plan_literal(S_IFSOCK | 0777), plan_literal(0));
    }
    if (mode != made)
        plan_call(plan, SYS_fchmodat, here(), plan_data(path), plan_literal(mode));
    if (!S_ISREG(e->st.st_mode))
        plan_call(
            plan, SYS_utimensat, here(), plan_data(path), plan_data(put_times(f, &e->st)), plan_literal(0));
}

void tmp_files_finish(struct freeze *f)
{
    struct tmp_files *t = f->tmp_files;
    if (f->in_tree && t->umask_cleared) /* it was set since */
        plan_call(&f->process->process_plan, SYS_umask, plan_literal(0));
    /* What is deepest first: a folder may take away the right to enter it. */
    for (size_t i = t->count; i-- > 0;)
        finish_entry(f, &t->list[i]);
    if (t->umask_cleared)
        plan_call(&f->process->process_plan, SYS_umask, plan_literal(t->umask));
}

/* ---- all of it ---- */

static int read_umask(struct freeze *f, struct tmp_files *t, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    if (tracee_proc_file(&f->tracee, "status", &status, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    const char *line = strstr((const char *)status.data, "\nUmask:");
    if (!line)
        return error_set(err, ERROR_SYSTEM, "/proc/PID/status does not tell the umask");
    t->umask = (uint32_t)strtoul(line + 7, NULL, 8);
    return 0;
}

int freeze_tmp_files(struct freeze *f, struct error *err)
{
    struct tmp_files *t = xcalloc(1, sizeof *t);
    f->tmp_files = t;
    t->root_fd = -1;
    if (descriptors_refuse_events(f, err) < 0)
        return -1;
    if (f->request->host_tmp)
        return read_umask(f, t, err);
    t->root_fd = openat(f->tracee.proc_fd, "root" TMP_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->root_fd < 0 && errno != ENOENT)
        return error_system(err, "cannot open /tmp of process %d", f->tracee.pid);
    if (t->root_fd >= 0 && (fstat(t->root_fd, &t->root) < 0 || list_all(f, t, err) < 0))
        return -1;
    if (read_umask(f, t, err) < 0)
        return -1;
    if (t->count > 0)
        tmp_files_clear_umask(f);
    for (size_t i = 0; i < t->count; i++)
        if (make_entry(f, t, i, err) < 0)
            return -1;
    return 0;
}

void freeze_forget_files(struct freeze *f)
{
    struct tmp_files *t = f->tmp_files;
    freeze_forget_descriptors(f);
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++)
        free(t->list[i].path);
    free(t->list);
    fd_close(&t->root_fd);
    free(t);
    f->tmp_files = NULL;
}
