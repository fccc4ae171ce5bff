#include "sandbox/root.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define LD_CACHE_BYTES (16 * 1024 * 1024)
/* The new root is first mounted here, over something that every machine has and that the builder, alone in
 * its mount namespace, does not need any more. */
#define STAGE "/proc"

static const char *const folders[] = {
    "usr", "etc", "dev", "proc", "tmp", "opt", "run", "home", "var", "var/task", "var/runtime", "var/tmp"};

/* On a merged-/usr system (all that we support to build on) these are links; else they are bound. */
static const char *const usr_links[] = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"};

/* What interpreters and TLS libraries read in /etc, where the host has it. */
static const char *const etc_patterns[] = {"/etc/ssl", "/etc/alternatives", "/etc/ca-certificates",
    "/etc/pki", "/etc/python3*", "/etc/java-*", "/etc/mime.types"};

static const struct {
    const char *path;
    unsigned major, minor;
} devices[] = {
    {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};

static const struct {
    const char *path, *target;
} links[] = {{"dev/fd", "/proc/self/fd"}, {"dev/stdin", "/proc/self/fd/0"}, {"dev/stdout", "/proc/self/fd/1"},
    {"dev/stderr", "/proc/self/fd/2"}, {"etc/mtab", "/proc/self/mounts"},
    {"etc/os-release", "../usr/lib/os-release"},
    /* Node looks for what a module imports in the folders above the module, and nowhere else. */
    {"var/node_modules", "runtime/node/node_modules"}};

static const struct {
    const char *path, *text;
} files[] = {
    {"etc/hosts",
        "127.0.0.1 localhost sandbox.localdomain " ROOT_HOSTNAME "\n::1 localhost sandbox.localdomain\n"},
    {"etc/hostname", ROOT_HOSTNAME "\n"},
    {"etc/resolv.conf", ""},
    {"etc/host.conf", "multi on\n"},
    {"etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n"
                          "protocols: files\nnetworks: files\n"},
};

static int write_new(int root, const char *path, const void *data, size_t len, struct error *err)
{
    CLEANUP_FD int fd = openat(root, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_system(err, "cannot make /%s in the sandbox root", path);
    return fd_write_all(fd, data, len, err);
}

static int write_accounts(int root, const struct sandbox_host_options *options, struct error *err)
{
    char text[512];
    snprintf(text, sizeof text,
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        "sbx_user%u:x:%u:%u::/home/sbx_user%u:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        options->uid, options->uid, options->gid, options->uid);
    if (write_new(root, "etc/passwd", text, strlen(text), err) < 0)
        return -1;
    snprintf(
        text, sizeof text, "root:x:0:\nsbx_user%u:x:%u:\nnogroup:x:65534:\n", options->gid, options->gid);
    return write_new(root, "etc/group", text, strlen(text), err);
}

/* A file's copy costs no mount, and every mount is copied for every sandbox. */
static int copy_ld_cache(int root, struct error *err)
{
    CLEANUP_BUFFER struct buffer cache = {0};
    if (access("/etc/ld.so.cache", R_OK) < 0)
        return 0;
    if (file_read(AT_FDCWD, "/etc/ld.so.cache", &cache, LD_CACHE_BYTES, err) < 0)
        return -1;
    return write_new(root, "etc/ld.so.cache", cache.data, cache.len, err);
}

static int make_device(
    int root, const char *path, unsigned major_number, unsigned minor_number, struct error *err)
{
    if (mknodat(root, path, S_IFCHR | 0666, makedev(major_number, minor_number)) == 0)
        return 0;
    if (errno != EPERM)
        return error_system(err, "cannot make /%s in the sandbox root", path);
    /* Where a container forbids making device nodes, those that are there can still be bound. */
    char host_path[64], stage_path[64];
    snprintf(host_path, sizeof host_path, "/%s", path);
    snprintf(stage_path, sizeof stage_path, STAGE "/%s", path);
    if (write_new(root, path, "", 0, err) < 0)
        return -1;
    if (mount(host_path, stage_path, NULL, MS_BIND, NULL) < 0)
        return error_system(err, "cannot bind %s into the sandbox root", host_path);
    return 0;
}

static int fill(int root, const struct sandbox_host_options *options, struct error *err)
{
    umask(0); /* the builder is a process of its own */
    for (size_t i = 0; i < countof(folders); i++)
        if (mkdirat(root, folders[i], 0755) < 0)
            return error_system(err, "cannot make /%s in the sandbox root", folders[i]);
    for (size_t i = 0; i < countof(devices); i++)
        if (make_device(root, devices[i].path, devices[i].major, devices[i].minor, err) < 0)
            return -1;
    for (size_t i = 0; i < countof(links); i++)
        if (symlinkat(links[i].target, root, links[i].path) < 0)
            return error_system(err, "cannot make /%s in the sandbox root", links[i].path);
    for (size_t i = 0; i < countof(files); i++)
        if (write_new(root, files[i].path, files[i].text, strlen(files[i].text), err) < 0)
            return -1;
    if (write_accounts(root, options, err) < 0)
        return -1;
    return copy_ld_cache(root, err);
}

static int make_read_only(const char *path, uint64_t flags, struct error *err)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY | flags};
    if (syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &attributes, sizeof attributes) < 0)
        return error_system(err, "cannot make %s read-only for sandboxes", path);
    return 0;
}

static int bind_read_only(const char *source, const char *target, struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, STAGE "/%s", target);
    if (mount(source, path, NULL, MS_BIND, NULL) < 0)
        return error_system(err, "cannot bind %s into the sandbox root", source);
    return make_read_only(path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
}

static int bind_etc(int root, struct error *err)
{
    glob_t found = {0};
    for (size_t i = 0; i < countof(etc_patterns); i++)
        (void)glob(etc_patterns[i], i ? GLOB_APPEND : 0, NULL, &found);
    int result = 0;
    for (size_t i = 0; i < found.gl_pathc && result == 0; i++) {
        const char *source = found.gl_pathv[i], *target = source + 1;
        struct stat about;
        if (stat(source, &about) < 0)
            continue;
        if (S_ISDIR(about.st_mode))
            result = mkdirat(root, target, 0755) < 0 ? error_system(err, "cannot make %s", source) : 0;
        else
            result = write_new(root, target, "", 0, err);
        if (result == 0)
            result = bind_read_only(source, target, err);
    }
    globfree(&found);
    return result;
}

static int bind_usr_folders(int root, struct error *err)
{
    for (size_t i = 0; i < countof(usr_links); i++) {
        char path[16], target[PATH_MAX];
        snprintf(path, sizeof path, "/%s", usr_links[i]);
        ssize_t len = readlink(path, target, sizeof target - 1);
        if (len >= 0) {
            target[len] = 0;
            if (symlinkat(target, root, usr_links[i]) < 0)
                return error_system(err, "cannot make the link %s in the sandbox root", path);
        } else if (errno == EINVAL) {
            if (mkdirat(root, usr_links[i], 0755) < 0)
                return error_system(err, "cannot make %s in the sandbox root", path);
            if (bind_read_only(path, usr_links[i], err) < 0)
                return -1;
        }
    }
    return 0;
}

/* Swaps the builder's root for the stage, and lets go of all the host's mounts. */
static int pivot(struct error *err)
{
    if (chdir(STAGE) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return error_system(err, "cannot make the sandbox root the root");
    if (umount2(".", MNT_DETACH) < 0)
        return error_system(err, "cannot leave the host's root");
    return chdir("/") < 0 ? error_system(err, "cannot enter the sandbox root") : 0;
}

static int build(const struct sandbox_host_options *options, struct error *err)
{
    if (unshare(CLONE_NEWNS) < 0)
        return error_system(err, "cannot make a mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return error_system(err, "cannot make mounts private");
    if (mount("thaw-root", STAGE, "tmpfs", MS_NOSUID, "mode=0755") < 0)
        return error_system(err, "cannot mount a tmpfs for the sandbox root");
    CLEANUP_FD int root = open(STAGE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_system(err, "cannot open the sandbox root");
    if (fill(root, options, err) < 0)
        return -1;
    if (bind_read_only("/usr", "usr", err) < 0)
        return -1;
    if (bind_usr_folders(root, err) < 0)
        return -1;
    if (bind_etc(root, err) < 0)
        return -1;
    if (options->runtimes_dir && bind_read_only(options->runtimes_dir, "var/runtime", err) < 0)
        return -1;
    if (make_read_only(STAGE, 0, err) < 0) /* its /dev needs its device nodes: no nodev here */
        return -1;
    return pivot(err);
}

int root_build(const struct sandbox_host_options *options, struct error *err)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int from_child = pair[0];
    CLEANUP_FD int to_parent = pair[1];
    CLEANUP_FD int hold = -1;
    /* The child must live until its namespace was opened: it waits for the end of a second pipe. */
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int wait_end = pair[0];
    hold = pair[1];
    pid_t pid = fork();
    if (pid < 0)
        return error_system(err, "cannot fork");
    if (pid == 0) {
        struct error outcome = {0};
        char byte;
        fd_close(&hold);
        (void)build(options, &outcome);
        if (fd_write_all(to_parent, &outcome, sizeof outcome, NULL) == 0)
            (void)!read(wait_end, &byte, 1);
        _exit(0);
    }
    fd_close(&to_parent);
    fd_close(&wait_end);
    struct error outcome;
    int namespace = -1;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    if (fd_read_full(from_child, &outcome, sizeof outcome, err) == 0) {
        if (outcome.kind != ERROR_NONE)
            (void)error_set(err, outcome.kind, "%s", outcome.text);
        else if ((namespace = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            (void)error_system(err, "cannot open the mount namespace of the sandbox root");
    }
    fd_close(&hold);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return namespace;
}

int root_enter_copy(int base_fd, struct error *err)
{
    if (setns(base_fd, CLONE_NEWNS) < 0)
        return error_system(err, "cannot enter the sandbox root");
    if (unshare(CLONE_NEWNS) < 0)
        return error_system(err, "cannot copy the sandbox root");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return error_system(err, "cannot mount /proc in a sandbox");
    char options[96];
    snprintf(options, sizeof options, "mode=1777,size=%um,nr_inodes=%u", SANDBOX_DEFAULT_TMP_MB,
        SANDBOX_TMP_INODES);
    if (mount("tmp", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options) < 0)
        return error_system(err, "cannot mount /tmp in a sandbox");
    int fd = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot open /tmp in a sandbox");
    return fd;
}

int root_resize_tmp(int tmp_fd, uint32_t tmp_mb, struct error *err)
{
    char size[24];
    snprintf(size, sizeof size, "%um", tmp_mb);
    CLEANUP_FD int context = (int)syscall(SYS_fspick, tmp_fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
    if (context < 0)
        return error_system(err, "cannot pick /tmp of a sandbox");
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
        syscall(SYS_fsconfig, context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
        return error_system(err, "cannot make /tmp of a sandbox %u MB large", tmp_mb);
    return 0;
}
