/* The root file systems of front and courier: a small tmpfs with the few folders that each needs mounted into it. */
#include "base/fd.h"
#include "daemon/role.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define WRITABLE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
#define DEVICE (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)

/* What is mounted where. A tree is taken (detached) while the old root is still there, and attached later. */
struct planned_mount {
    char source[PATH_MAX], link[PATH_MAX]; /* `link` is set where the source is one: it is made anew */
    const char *target;                    /* below the new root */
    uint64_t attributes;
    bool recursive, is_file, optional; /* `optional`: may be missing */
    int tree_fd;
};

#define PLANNED_MAX 20
struct plan_of_mounts {
    struct planned_mount list[PLANNED_MAX];
    size_t count;
    const char *const *folders; /* made first */
    size_t folder_count;
    bool has_proc;
};

static struct planned_mount *plan_mount(
    struct plan_of_mounts *plan, const char *source, const char *target, uint64_t attributes)
{
    struct planned_mount *m = &plan->list[plan->count++];
    *m = (struct planned_mount){.target = target, .attributes = attributes, .tree_fd = -1};
    snprintf(m->source, sizeof m->source, "%s", source);
    return m;
}

static void plan_read_only(struct plan_of_mounts *plan, const char *source, const char *target)
{
    struct planned_mount *m = plan_mount(plan, source, target, READ_ONLY);
    m->recursive = m->optional = true;
}

static void plan_devices(struct plan_of_mounts *plan)
{
    static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/urandom"};
    for (size_t i = 0; i < countof(devices); i++)
        plan_mount(plan, devices[i], devices[i], DEVICE)->is_file = true;
}

static void make_front_plan(struct plan_of_mounts *plan, const char *data_dir, const char *runtimes_dir)
{
    static const char *const folders[] = {"data", "dev", "proc", "tmp", "old"};
    static const char *const data_folders[][2] = {{"catalog", ROLE_FRONT_DATA "/catalog"},
        {"logs", ROLE_FRONT_DATA "/logs"}, {"code", ROLE_FRONT_DATA "/code"}};
    /* Links to /usr on a merged system; folders of their own elsewhere. */
    static const char *const system_folders[] = {"/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/lib32"};
    *plan = (struct plan_of_mounts){.folders = folders, .folder_count = countof(folders), .has_proc = true};
    for (size_t i = 0; i < countof(data_folders); i++) {
        char source[PATH_MAX];
        snprintf(source, sizeof source, "%s/%s", data_dir, data_folders[i][0]);
        plan_mount(plan, source, data_folders[i][1], WRITABLE);
    }
    for (size_t i = 0; i < countof(system_folders); i++)
        plan_read_only(plan, system_folders[i], system_folders[i]);
    char runtimes[PATH_MAX];
    if (realpath(runtimes_dir, runtimes) != NULL)
        plan_read_only(plan, runtimes, ROLE_FRONT_RUNTIMES);
    plan_devices(plan);
}

/* The store's folder, what the resolver reads, and the certificates of authorities. Where the resolver's files are links, their
 * contents are taken. */
static void make_courier_plan(struct plan_of_mounts *plan, const char *data_dir, const char *ca)
{
    static const char *const folders[] = {"etc", "dev", "tmp", "old"};
    static const char *const files[] = {
        "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"};
    static const char *const certificates[] = {"/etc/ssl", "/etc/pki"};
    char source[PATH_MAX], real[PATH_MAX];
    *plan = (struct plan_of_mounts){.folders = folders, .folder_count = countof(folders)};
    snprintf(source, sizeof source, "%s/store", data_dir);
    plan_mount(plan, source, ROLE_COURIER_STORE, WRITABLE);
    for (size_t i = 0; i < countof(files); i++)
        if (realpath(files[i], real) != NULL)
            plan_mount(plan, real, files[i], READ_ONLY)->is_file = true;
    for (size_t i = 0; i < countof(certificates); i++)
        plan_read_only(plan, certificates[i], certificates[i]);
    if (ca != NULL)
        plan_mount(plan, ca, ROLE_COURIER_CA, READ_ONLY)->is_file = true;
    plan_devices(plan);
}

static int take_tree(struct planned_mount *m, struct error *err)
{
    unsigned recursive = m->recursive ? AT_RECURSIVE : 0;
    /* Only top-level names are links (/bin to usr/bin), and those mean the same in the new root. */
    if (readlink(m->source, m->link, sizeof m->link - 1) > 0)
        return 0;
    m->tree_fd =
        open_tree(AT_FDCWD, m->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | recursive);
    if (m->tree_fd < 0 && m->optional && errno == ENOENT)
        return 0;
    if (m->tree_fd < 0)
        return error_system(err, "cannot take the tree at %s", m->source);
    struct mount_attr attributes = {.attr_set = m->attributes};
    if (mount_setattr(m->tree_fd, "", AT_EMPTY_PATH | recursive, &attributes, sizeof attributes) < 0)
        return error_system(err, "cannot restrict the tree at %s", m->source);
    return 0;
}

/* Runs in the new root's top folder. */
static int attach_tree(const struct planned_mount *m, struct error *err)
{
    const char *target = m->target + 1;
    if (m->link[0] != '\0' && symlink(m->link, target) < 0)
        return error_system(err, "cannot make the link %s", m->target);
    if (m->tree_fd < 0)
        return 0;
    if (m->is_file) {
        CLEANUP_FD int file = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
        if (file < 0)
            return error_system(err, "cannot make %s", m->target);
    } else if (mkdir(target, 0755) < 0) {
        return error_system(err, "cannot make %s", m->target);
    }
    if (move_mount(m->tree_fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return error_system(err, "cannot mount %s", m->target);
    return 0;
}

static int fill_root(const struct plan_of_mounts *plan, struct error *err)
{
    for (size_t i = 0; i < plan->folder_count; i++)
        if (mkdir(plan->folders[i], 0755) < 0)
            return error_system(err, "cannot make /%s", plan->folders[i]);
    if (chmod("tmp", 01777) < 0)
        return error_system(err, "cannot open /tmp to all");
    for (size_t i = 0; i < plan->count; i++)
        if (attach_tree(&plan->list[i], err) < 0)
            return -1;
    /* Without it the front works too; a host may forbid it. */
    if (plan->has_proc && mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
                              "hidepid=2,subset=pid") < 0)
        rmdir("proc");
    return 0;
}

static int change_root(struct error *err)
{
    if (syscall(SYS_pivot_root, ".", "old") < 0 || chdir("/") < 0)
        return error_system(err, "cannot change the root");
    if (umount2("/old", MNT_DETACH) < 0 || rmdir("/old") < 0)
        return error_system(err, "cannot let go of the old root");
    if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return error_system(err, "cannot restrict the new root");
    return 0;
}

static int enter_root(struct plan_of_mounts *plan, struct error *err)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return error_system(err, "cannot make a private view of the file system");
    for (size_t i = 0; i < plan->count; i++)
        if (take_tree(&plan->list[i], err) < 0)
            return -1;
    /* Any folder will do as the place of the new root: nobody else sees it there. */
    if (mount("thaw-root", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=0755") < 0 ||
        chdir("/tmp") < 0)
        return error_system(err, "cannot mount the new root");
    if (fill_root(plan, err) < 0 || change_root(err) < 0)
        return -1;
    for (size_t i = 0; i < plan->count; i++)
        fd_close(&plan->list[i].tree_fd);
    return 0;
}

int role_enter_front_root(const char *data_dir, const char *runtimes_dir, struct error *err)
{
    static struct plan_of_mounts plan;
    make_front_plan(&plan, data_dir, runtimes_dir);
    return enter_root(&plan, err);
}

int role_enter_courier_root(const char *data_dir, const char *ca, struct error *err)
{
    static struct plan_of_mounts plan;
    make_courier_plan(&plan, data_dir, ca);
    return enter_root(&plan, err);
}
