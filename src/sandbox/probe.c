/* Reads as a table: every row is one thing to try, in a child process of its own that may end as it likes. */
#include "sandbox/probe.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/landlock.h>
#include <linux/membarrier.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <mntent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRY_SECONDS 10 /* then a try is given up */
#define FILE_BYTES (256 * 1024)

/* Newer than the headers of Debian 12; see the kernel's include/uapi/linux/{fs,prctl,membarrier}.h. */
struct pagemap_scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct pagemap_region {
    uint64_t start, end, categories;
};
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct pagemap_scan)
#define PAGEMAP_PRESENT 8u
#define TIMER_RESTORE_IDS 77
#define TIMER_RESTORE_IDS_GET 2
#define MEMBARRIER_GET_REGISTRATIONS 512
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif

/* What a try says; the detail lies in memory shared with the parent. */
typedef enum probe_state probe_try(char detail[PROBE_DETAIL_BYTES]);

static void PRINTF_LIKE(2, 3) say(char detail[PROBE_DETAIL_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, PROBE_DETAIL_BYTES, format, arguments);
    va_end(arguments);
}

/* The kernel said no: whether that is its last word depends on who asked. */
static enum probe_state refused(char detail[PROBE_DETAIL_BYTES], const char *call)
{
    bool for_lack_of_rights = (errno == EPERM || errno == EACCES) && geteuid() != 0;
    const char *name = strerrorname_np(errno);
    say(detail, "%s: %s%s", call, name ? name : "?", for_lack_of_rights ? ", try as root" : "");
    return for_lack_of_rights ? PROBE_UNKNOWN : PROBE_MISSING;
}

static char *read_text(const char *path)
{
    struct buffer text = {0};
    if (file_read(AT_FDCWD, path, &text, FILE_BYTES, NULL) < 0) {
        buffer_free(&text);
        return xstrdup("");
    }
    buffer_append_u8(&text, 0);
    return (char *)text.data;
}

/* A child that sleeps until this process ends. */
static pid_t fork_sleeper(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(TRY_SECONDS);
        while (getppid() == parent) /* it may have ended before it was named above */
            pause();
        _exit(0);
    }
    return pid;
}

static bool exited_well(pid_t pid)
{
    int status;
    return pid > 0 && waitpid(pid, &status, __WALL) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- the machine and our rights ---- */

static enum probe_state try_machine(char detail[PROBE_DETAIL_BYTES])
{
    struct utsname name;
    if (uname(&name) < 0)
        return refused(detail, "uname");
    say(detail, "Linux %.60s on %.20s", name.release, name.machine);
    return strcmp(name.machine, "x86_64") == 0 ? PROBE_PRESENT : PROBE_MISSING;
}

static bool capability_held(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[2] = {{0}};
    if (syscall(SYS_capget, &header, held) < 0)
        return false;
    return held[capability / 32].effective & (1u << (capability % 32));
}

static enum probe_state try_rights(char detail[PROBE_DETAIL_BYTES])
{
    static const struct {
        unsigned number;
        const char *name;
    } needed[] = {{CAP_SYS_ADMIN, "sys_admin"}, {CAP_SYS_PTRACE, "sys_ptrace"},
        {CAP_SYS_CHROOT, "sys_chroot"}, {CAP_NET_ADMIN, "net_admin"}, {CAP_SETUID, "setuid"},
        {CAP_SETGID, "setgid"}, {CAP_SETPCAP, "setpcap"}, {CAP_KILL, "kill"}, {CAP_CHOWN, "chown"},
        {CAP_DAC_OVERRIDE, "dac_override"}, {CAP_MKNOD, "mknod"}};
    if (geteuid() != 0) {
        say(detail, "user %u: what needs root could not be tried", geteuid());
        return PROBE_UNKNOWN;
    }
    char lacking[PROBE_DETAIL_BYTES] = "";
    for (size_t i = 0; i < countof(needed); i++)
        if (!capability_held(needed[i].number))
            snprintf(lacking + strlen(lacking), sizeof lacking - strlen(lacking), " %s", needed[i].name);
    say(detail, lacking[0] ? "root, without%s" : "root%s", lacking);
    return lacking[0] ? PROBE_MISSING : PROBE_PRESENT;
}

static enum probe_state try_resource_right(char detail[PROBE_DETAIL_BYTES])
{
    say(detail, "CAP_SYS_RESOURCE");
    if (capability_held(CAP_SYS_RESOURCE))
        return PROBE_PRESENT;
    return geteuid() == 0 ? PROBE_MISSING : PROBE_UNKNOWN;
}

/* ---- processes ---- */

static enum probe_state try_set_tid(char detail[PROBE_DETAIL_BYTES])
{
    struct clone_args init = {.flags = CLONE_NEWPID, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &init, sizeof init);
    if (pid < 0)
        return refused(detail, "clone3(CLONE_NEWPID)");
    if (pid == 0) {
        pid_t wanted = 4711;
        struct clone_args args = {
            .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&wanted, .set_tid_size = 1};
        pid_t got = (pid_t)syscall(SYS_clone3, &args, sizeof args);
        if (got == 0)
            _exit(0);
        if (got < 0)
            (void)refused(detail, "clone3(set_tid)");
        _exit(got == wanted ? 0 : 1);
    }
    return exited_well(pid) ? PROBE_PRESENT : PROBE_MISSING;
}

static enum probe_state try_pidfd(char detail[PROBE_DETAIL_BYTES])
{
    int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0)
        return refused(detail, "pidfd_open");
    if (syscall(SYS_pidfd_send_signal, self, 0, NULL, 0) < 0)
        return refused(detail, "pidfd_send_signal");
    int source = memfd_create("probe", MFD_CLOEXEC);
    if (syscall(SYS_pidfd_getfd, self, source, 0) < 0)
        return refused(detail, "pidfd_getfd");
    return PROBE_PRESENT;
}

static enum probe_state try_setns_pidfd(char detail[PROBE_DETAIL_BYTES])
{
    pid_t other = fork_sleeper();
    int pidfd = (int)syscall(SYS_pidfd_open, other, 0);
    int result = setns(pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP);
    enum probe_state state = result == 0 ? PROBE_PRESENT : refused(detail, "setns");
    kill(other, SIGKILL);
    return state;
}

static enum probe_state try_close_range(char detail[PROBE_DETAIL_BYTES])
{
    return syscall(SYS_close_range, 900u, 901u, 0) == 0 ? PROBE_PRESENT : refused(detail, "close_range");
}

static enum probe_state try_set_mm_map(char detail[PROBE_DETAIL_BYTES])
{
    CLEANUP_FREE char *stat = read_text("/proc/self/stat");
    /* Fields by their number in proc(5); the second may hold spaces but ends at the last ")". */
    uint64_t field[53] = {0};
    char *at = strrchr(stat, ')');
    for (size_t number = 3; at && number < countof(field); number++) {
        at = strchr(at + 1, ' ');
        field[number] = at ? strtoull(at + 1, NULL, 10) : 0;
    }
    struct prctl_mm_map map = {
        .start_code = field[26],
        .end_code = field[27],
        .start_stack = field[28],
        .start_data = field[45],
        .end_data = field[46],
        .start_brk = field[47],
        .brk = (uint64_t)(uintptr_t)sbrk(0),
        .arg_start = field[48],
        .arg_end = field[49],
        .env_start = field[50],
        .env_end = field[51],
        .exe_fd = (uint32_t)-1,
    };
    if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) < 0)
        return refused(detail, "prctl(PR_SET_MM_MAP)");
    return PROBE_PRESENT;
}

static enum probe_state try_kcmp(char detail[PROBE_DETAIL_BYTES])
{
    if (syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0) == 0)
        return PROBE_PRESENT;
    return refused(detail, "kcmp");
}

static enum probe_state try_timer_ids(char detail[PROBE_DETAIL_BYTES])
{
    if (prctl(TIMER_RESTORE_IDS, TIMER_RESTORE_IDS_GET, 0, 0, 0) >= 0)
        return PROBE_PRESENT;
    return refused(detail, "prctl(PR_TIMER_CREATE_RESTORE_IDS)");
}

static enum probe_state try_membarrier(char detail[PROBE_DETAIL_BYTES])
{
    if (syscall(SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0) >= 0)
        return PROBE_PRESENT;
    return refused(detail, "membarrier(GET_REGISTRATIONS)");
}

/* ---- namespaces and mounts ---- */

static enum probe_state try_unshare(int flag, char detail[PROBE_DETAIL_BYTES])
{
    return unshare(flag) == 0 ? PROBE_PRESENT : refused(detail, "unshare");
}

static enum probe_state try_pid_namespace(char detail[PROBE_DETAIL_BYTES])
{
    return try_unshare(CLONE_NEWPID, detail);
}

static enum probe_state try_mount_namespace(char detail[PROBE_DETAIL_BYTES])
{
    return try_unshare(CLONE_NEWNS, detail);
}

static enum probe_state try_net_namespace(char detail[PROBE_DETAIL_BYTES])
{
    return try_unshare(CLONE_NEWNET, detail);
}

static enum probe_state try_ipc_namespace(char detail[PROBE_DETAIL_BYTES])
{
    return try_unshare(CLONE_NEWIPC, detail);
}

static enum probe_state try_uts_namespace(char detail[PROBE_DETAIL_BYTES])
{
    return try_unshare(CLONE_NEWUTS, detail);
}

static enum probe_state try_cgroup_namespace(char detail[PROBE_DETAIL_BYTES])
{
    return try_unshare(CLONE_NEWCGROUP, detail);
}

/* A clock that is a thousand seconds ahead in a child. */
static enum probe_state try_time_namespace(char detail[PROBE_DETAIL_BYTES])
{
    struct timespec here, there;
    if (unshare(CLONE_NEWTIME) < 0)
        return refused(detail, "unshare");
    if (file_write_control(AT_FDCWD, "/proc/self/timens_offsets", "monotonic 1000 0", NULL) < 0)
        return refused(detail, "timens_offsets");
    clock_gettime(CLOCK_MONOTONIC, &here);
    pid_t pid = fork();
    if (pid == 0) {
        clock_gettime(CLOCK_MONOTONIC, &there);
        _exit(there.tv_sec - here.tv_sec >= 1000 ? 0 : 1);
    }
    if (exited_well(pid))
        return PROBE_PRESENT;
    say(detail, "the offset has no effect");
    return PROBE_MISSING;
}

static enum probe_state try_detached_mounts(char detail[PROBE_DETAIL_BYTES])
{
    if (unshare(CLONE_NEWNS) < 0)
        return refused(detail, "unshare");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return refused(detail, "mount");
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return refused(detail, "open_tree");
    struct mount_attr read_only = {.attr_set = MOUNT_ATTR_RDONLY};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &read_only, sizeof read_only) < 0)
        return refused(detail, "mount_setattr");
    if (syscall(SYS_move_mount, tree, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return refused(detail, "move_mount");
    return PROBE_PRESENT;
}

/* ---- ptrace and seccomp ---- */

static pid_t seize_sleeper(void)
{
    pid_t pid = fork_sleeper();
    int status;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
        return -1;
    return waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status) ? pid : -1;
}

static enum probe_state try_ptrace(char detail[PROBE_DETAIL_BYTES])
{
    struct {
        uint64_t pointer;
        uint32_t size, signature, flags, pad;
    } rseq;
    pid_t pid = seize_sleeper();
    if (pid < 0)
        return refused(detail, "ptrace(PTRACE_SEIZE)");
    long len = ptrace(PTRACE_GET_RSEQ_CONFIGURATION, pid, sizeof rseq, &rseq);
    enum probe_state state = len > 0 ? PROBE_PRESENT : refused(detail, "ptrace(GET_RSEQ_CONFIGURATION)");
    kill(pid, SIGKILL);
    return state;
}

static enum probe_state try_suspend_seccomp(char detail[PROBE_DETAIL_BYTES])
{
    pid_t pid = seize_sleeper();
    if (pid < 0)
        return refused(detail, "ptrace(PTRACE_SEIZE)");
    long result = ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_SUSPEND_SECCOMP);
    enum probe_state state = result == 0 ? PROBE_PRESENT : refused(detail, "ptrace(SUSPEND_SECCOMP)");
    kill(pid, SIGKILL);
    return state;
}

static enum probe_state try_seccomp(char detail[PROBE_DETAIL_BYTES])
{
    struct error err = {0};
    const struct sock_fprog *filter = sandbox_filter_full(&err);
    if (!filter) {
        say(detail, "%.100s", err.text);
        return PROBE_MISSING;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return refused(detail, "prctl(PR_SET_NO_NEW_PRIVS)");
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) < 0)
        return refused(detail, "seccomp");
    if (syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS)
        return PROBE_PRESENT;
    say(detail, "the filter has no effect");
    return PROBE_MISSING;
}

static enum probe_state try_landlock(char detail[PROBE_DETAIL_BYTES])
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 0)
        return refused(detail, "landlock_create_ruleset");
    say(detail, "version %ld", version);
    return PROBE_PRESENT;
}

/* ---- memory ---- */

static enum probe_state try_memfd(char detail[PROBE_DETAIL_BYTES])
{
    return memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING) >= 0 ? PROBE_PRESENT
                                                                       : refused(detail, "memfd_create");
}

static enum probe_state try_userfaultfd(char detail[PROBE_DETAIL_BYTES])
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return refused(detail, "userfaultfd");
    struct uffdio_api api = {.api = UFFD_API,
        .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
                    UFFD_FEATURE_EVENT_UNMAP};
    if (ioctl(fd, UFFDIO_API, &api) < 0)
        return refused(detail, "UFFDIO_API");
    say(detail, "tells of forks, of moved and of unmapped memory");
    return PROBE_PRESENT;
}

static enum probe_state try_pagemap_scan(char detail[PROBE_DETAIL_BYTES])
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *area = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (area == MAP_FAILED || fd < 0)
        return refused(detail, "open");
    area[0] = 1;
    struct pagemap_region found[2];
    struct pagemap_scan scan = {
        .size = sizeof scan,
        .start = (uint64_t)(uintptr_t)area,
        .end = (uint64_t)(uintptr_t)area + 2 * page,
        .vec = (uint64_t)(uintptr_t)found,
        .vec_len = countof(found),
        .category_mask = PAGEMAP_PRESENT,
        .return_mask = PAGEMAP_PRESENT,
    };
    return ioctl(fd, PAGEMAP_SCAN_CALL, &scan) == 1 ? PROBE_PRESENT : refused(detail, "PAGEMAP_SCAN");
}

static enum probe_state try_large_reservation(char detail[PROBE_DETAIL_BYTES])
{
    void *area = mmap(NULL, 256ul << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return area != MAP_FAILED ? PROBE_PRESENT : refused(detail, "mmap of 256 GB");
}

static enum probe_state try_huge_pages(char detail[PROBE_DETAIL_BYTES])
{
    CLEANUP_FREE char *modes = read_text("/sys/kernel/mm/transparent_hugepage/enabled");
    const char *begin = strchr(modes, '['), *end = begin ? strchr(begin, ']') : NULL;
    if (!end) {
        say(detail, "not built into this kernel");
        return PROBE_MISSING;
    }
    say(detail, "%.*s", (int)(end - begin - 1), begin + 1);
    return strstr(detail, "never") ? PROBE_MISSING : PROBE_PRESENT;
}

/* ---- network and cgroups ---- */

static enum probe_state try_tcp_repair(char detail[PROBE_DETAIL_BYTES])
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0)
        return refused(detail, "setsockopt(TCP_REPAIR)");
    return PROBE_PRESENT;
}

static enum probe_state try_cgroup_controllers(char detail[PROBE_DETAIL_BYTES])
{
    static const char *const names[] = {"cpu", "memory", "pids"};
    const char *where[countof(names)] = {0};
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *mount; mounts && (mount = getmntent(mounts));) {
        bool v2 = strcmp(mount->mnt_type, "cgroup2") == 0;
        if (!v2 && strcmp(mount->mnt_type, "cgroup") != 0)
            continue;
        char path[512];
        snprintf(path, sizeof path, "%s/cgroup.controllers", mount->mnt_dir);
        CLEANUP_FREE char *offered = v2 ? read_text(path) : xstrdup("");
        for (char *word = strtok(offered, " \n"); word; word = strtok(NULL, " \n"))
            for (size_t i = 0; i < countof(names); i++)
                if (strcmp(word, names[i]) == 0)
                    where[i] = "v2";
        for (size_t i = 0; i < countof(names); i++)
            if (!v2 && !where[i] && hasmntopt(mount, names[i]))
                where[i] = "v1";
    }
    if (mounts)
        endmntent(mounts);
    bool all = true;
    for (size_t i = 0; i < countof(names); i++) {
        size_t len = strlen(detail);
        snprintf(detail + len, PROBE_DETAIL_BYTES - len, "%s%s %s", i ? ", " : "", names[i],
            where[i] ? where[i] : "missing");
        all = all && where[i];
    }
    return all ? PROBE_PRESENT : PROBE_MISSING;
}

/* Into the v2 cgroup that we are in already, so that nothing moves. */
static enum probe_state try_clone_into_cgroup(char detail[PROBE_DETAIL_BYTES])
{
    CLEANUP_FREE char *own = read_text("/proc/self/cgroup");
    const char *line = strstr(own, "0::/");
    char path[1024] = "";
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    for (struct mntent *mount; mounts && line && !path[0] && (mount = getmntent(mounts));)
        if (strcmp(mount->mnt_type, "cgroup2") == 0)
            snprintf(path, sizeof path, "%s%.*s", mount->mnt_dir, (int)strcspn(line + 3, "\n"), line + 3);
    if (mounts)
        endmntent(mounts);
    if (!path[0]) {
        say(detail, "no cgroup v2 tree is mounted");
        return PROBE_MISSING;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)fd};
    pid_t pid = fd < 0 ? -1 : (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        _exit(0);
    return exited_well(pid) ? PROBE_PRESENT : refused(detail, "clone3(CLONE_INTO_CGROUP)");
}

/* ---- runtimes ---- */

static enum probe_state try_python(char detail[PROBE_DETAIL_BYTES])
{
    glob_t found = {0};
    (void)glob("/usr/bin/python3.[0-9]*", 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *name = strrchr(found.gl_pathv[i], '/') + 1;
        size_t len = strlen(detail);
        bool plain = strspn(name + strlen("python3."), "0123456789") == strlen(name + strlen("python3."));
        if (plain && access(found.gl_pathv[i], X_OK) == 0)
            snprintf(detail + len, PROBE_DETAIL_BYTES - len, "%s%s", len ? ", " : "", name);
    }
    globfree(&found);
    if (detail[0])
        return PROBE_PRESENT;
    say(detail, "none in /usr/bin");
    return PROBE_MISSING;
}

static const struct probe_row {
    const char *name;
    enum probe_need need;
    probe_try *try;
    const char *when_missing;
} rows[] = {
    {"x86-64", PROBE_REQUIRED, try_machine,
        "The engine knows the registers and system calls of x86-64 only."},
    {"root rights", PROBE_REQUIRED, try_rights,
        "The warden makes namespaces, mounts and cgroups and traces processes: run thawd as root with these "
        "capabilities."},
    {"raising hard limits", PROBE_OPTIONAL, try_resource_right,
        "A function cannot get more open files or locked memory than the daemon itself was given."},
    {"clone3 with set_tid", PROBE_REQUIRED, try_set_tid,
        "Threads cannot be given back the ids they were frozen with."},
    {"pidfd, pidfd_getfd", PROBE_REQUIRED, try_pidfd,
        "Processes cannot be named safely, nor their descriptors looked at while they are frozen."},
    {"setns by pidfd", PROBE_REQUIRED, try_setns_pidfd, "A clone cannot enter its sandbox."},
    {"close_range", PROBE_REQUIRED, try_close_range,
        "Descriptors of the daemon could not be kept from functions."},
    {"pid namespaces", PROBE_REQUIRED, try_pid_namespace, "Functions cannot be kept apart."},
    {"mount namespaces", PROBE_REQUIRED, try_mount_namespace, "Functions cannot get a root of their own."},
    {"net namespaces", PROBE_REQUIRED, try_net_namespace,
        "Functions cannot get a loopback network of their own."},
    {"ipc namespaces", PROBE_REQUIRED, try_ipc_namespace,
        "Functions would share message queues and semaphores."},
    {"uts namespaces", PROBE_REQUIRED, try_uts_namespace, "Functions would see the machine's name."},
    {"cgroup namespaces", PROBE_REQUIRED, try_cgroup_namespace,
        "Functions would see the machine's cgroup tree."},
    {"time namespaces", PROBE_REQUIRED, try_time_namespace,
        "A thawed function's monotonic clock could go back, which many programs do not survive."},
    {"detached mounts", PROBE_REQUIRED, try_detached_mounts,
        "A function's code cannot be attached to a ready sandbox."},
    {"cgroup controllers", PROBE_REQUIRED, try_cgroup_controllers,
        "Memory, processor and process limits cannot be set: mount cgroup v2 or v1 with cpu, memory and "
        "pids."},
    {"CLONE_INTO_CGROUP", PROBE_OPTIONAL, try_clone_into_cgroup,
        "A process must be moved to its cgroup after it was made, which takes a little longer."},
    {"ptrace with rseq", PROBE_REQUIRED, try_ptrace, "A function cannot be frozen."},
    {"ptrace suspends seccomp", PROBE_REQUIRED, try_suspend_seccomp,
        "A function under a seccomp filter cannot be asked for its state, and so not be frozen."},
    {"seccomp filters", PROBE_REQUIRED, try_seccomp, "Functions could use every system call of the kernel."},
    {"landlock", PROBE_OPTIONAL, try_landlock, "The front process cannot lock itself out of other files."},
    {"PR_SET_MM_MAP", PROBE_REQUIRED, try_set_mm_map,
        "A template cannot take over the heap and argument addresses of its snapshot."},
    {"kcmp", PROBE_REQUIRED, try_kcmp,
        "Descriptors that share one open file cannot be recognised at a freeze."},
    {"memfd", PROBE_REQUIRED, try_memfd, "Shared memory of a snapshot cannot be made anew."},
    {"large reservations", PROBE_OPTIONAL, try_large_reservation,
        "Runtimes that reserve hundreds of gigabytes (ASP.NET) do not start: see vm.overcommit_memory."},
    {"PAGEMAP_SCAN", PROBE_OPTIONAL, try_pagemap_scan,
        "Finding the pages of a snapshot takes longer (Linux 6.7 has it)."},
    {"userfaultfd", PROBE_OPTIONAL, try_userfaultfd,
        "The first thaw of a snapshot waits until all of it is loaded."},
    {"transparent huge pages", PROBE_OPTIONAL, try_huge_pages,
        "Forking a template with much memory takes several times longer: set them to madvise."},
    {"membarrier registrations", PROBE_OPTIONAL, try_membarrier,
        "Functions that use membarrier (.NET) may stop after a thaw (Linux 6.3 has it)."},
    {"timer ids", PROBE_OPTIONAL, try_timer_ids,
        "POSIX timers of a function get their ids back by counting up (Linux 6.15 has better)."},
    {"TCP_REPAIR", PROBE_OPTIONAL, try_tcp_repair,
        "The state of loopback connections cannot be read at a freeze."},
    {"Python interpreters", PROBE_OPTIONAL, try_python,
        "Functions with a python3.N runtime need that interpreter in /usr/bin."},
};

struct shared_answer {
    bool given;
    enum probe_state state;
    char detail[PROBE_DETAIL_BYTES];
};

static void run_row(const struct probe_row *row, struct shared_answer *answer, struct probe_result *result)
{
    *answer = (struct shared_answer){0};
    pid_t pid = fork();
    if (pid == 0) {
        alarm(TRY_SECONDS);
        answer->state = row->try(answer->detail);
        answer->given = true;
        _exit(0);
    }
    bool ended = pid > 0 && waitpid(pid, NULL, 0) == pid;
    *result = (struct probe_result){
        .name = row->name, .need = row->need, .state = PROBE_MISSING, .when_missing = row->when_missing};
    memcpy(result->detail, answer->detail, sizeof result->detail);
    if (ended && answer->given)
        result->state = answer->state;
    else
        say(result->detail, "the try did not end well");
}

void sandbox_probe(struct probe_report *report)
{
    _Static_assert(countof(rows) <= PROBE_RESULTS_MAX, "a report holds every row");
    *report = (struct probe_report){.count = countof(rows), .usable = true};
    struct shared_answer *answer =
        mmap(NULL, sizeof *answer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (answer == MAP_FAILED)
        abort(); /* as out of memory does elsewhere, see xcalloc */
    for (size_t i = 0; i < countof(rows); i++) {
        run_row(&rows[i], answer, &report->results[i]);
        if (rows[i].need == PROBE_REQUIRED && report->results[i].state == PROBE_MISSING)
            report->usable = false;
    }
    munmap(answer, sizeof *answer);
}
