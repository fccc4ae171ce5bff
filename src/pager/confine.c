/* What keeper and pager may do: they are nobody, without capabilities; of the file system they see only what lies below
 * the folders that the source keeps open; and they have but the system calls that are listed here. */
#include "pager/private.h"

#include "base/bytes.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534
#define KEPT_MAX 64
#define LAST_CAPABILITY_MAX 63

static int compare_numbers(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static int close_others(
    const struct pager_source *source, const int *own, size_t own_count, struct error *err)
{
    int kept[KEPT_MAX];
    size_t count = 0;
    for (size_t i = 0; i < own_count + source->fd_count; i++) {
        if (count == countof(kept))
            return error_set(
                err, ERROR_LIMIT, "the source of the pages has more than %d descriptors", KEPT_MAX);
        kept[count++] = i < own_count ? own[i] : source->fds[i - own_count];
    }
    qsort(kept, count, sizeof *kept, compare_numbers);
    unsigned next = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept[i] > (int)next)
            syscall(SYS_close_range, next, kept[i] - 1, 0);
        next = (unsigned)kept[i] + 1;
    }
    syscall(SYS_close_range, next, ~0u, 0);
    return 0;
}

/* Kernels without landlock (before 5.13, or not configured) leave it out: the other borders stand. */
static int see_only_source(const struct pager_source *source, struct error *err)
{
    struct landlock_ruleset_attr all = {.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
    if (rules < 0)
        return 0;
    for (size_t i = 0; i < source->fd_count; i++) {
        struct stat about;
        struct landlock_path_beneath_attr below = {
            .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE, .parent_fd = source->fds[i]};
        if (fstat(source->fds[i], &about) < 0 || !S_ISDIR(about.st_mode))
            continue;
        if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0) {
            error_system(err, "cannot keep the store's folder open");
            close(rules);
            return -1;
        }
    }
    int result = (int)syscall(SYS_landlock_restrict_self, rules, 0);
    close(rules);
    return result < 0 ? error_system(err, "cannot give up the file system") : 0;
}

void confine_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= PAGER_DESCRIPTORS_MAX)
        return;
    files.rlim_cur = files.rlim_max < PAGER_DESCRIPTORS_MAX ? files.rlim_max : PAGER_DESCRIPTORS_MAX;
    setrlimit(RLIMIT_NOFILE, &files);
}

int confine_rights(const struct pager_options *options, const int *own, size_t own_count, struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (close_others(options->source, own, own_count, err) < 0)
        return -1;
    confine_raise_files();
    for (unsigned long i = 0; i <= LAST_CAPABILITY_MAX; i++)
        if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 && errno == EINVAL)
            break;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_system(err, "cannot set no-new-privileges");
    if (see_only_source(options->source, err) < 0)
        return -1;
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY) < 0 ||
        syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY) < 0 || syscall(SYS_capset, &header, none) < 0)
        return error_system(err, "cannot become nobody");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return error_system(err, "cannot hide from other processes of nobody");
    return 0;
}

static const unsigned short keeper_calls[] = {SYS_wait4, SYS_waitid, SYS_ioctl, SYS_sendmsg, SYS_sendto,
    SYS_clock_nanosleep, SYS_nanosleep, SYS_restart_syscall, SYS_exit, SYS_exit_group, SYS_rt_sigreturn};
/* Of these sigaltstack is for builds with sanitizers, whose threads end with it. */
static const unsigned short pager_calls[] = {SYS_read, SYS_write, SYS_ioctl, SYS_pread64, SYS_epoll_create1,
    SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl, SYS_poll, SYS_ppoll, SYS_close, SYS_openat, SYS_fstat,
    SYS_newfstatat, SYS_statx, SYS_lseek, SYS_fadvise64, SYS_readv, SYS_writev, SYS_sendmsg, SYS_recvmsg,
    SYS_socketpair, SYS_timerfd_settime, SYS_sendto, SYS_recvfrom, SYS_mmap, SYS_munmap, SYS_mremap,
    SYS_madvise, SYS_brk, SYS_clock_gettime, SYS_gettimeofday, SYS_clock_nanosleep, SYS_nanosleep,
    SYS_sched_yield, SYS_futex, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_memfd_create,
    SYS_ftruncate, SYS_fcntl, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_restart_syscall,
    SYS_sigaltstack, SYS_exit, SYS_exit_group};

/* The ring (hold.c) takes and gives back files, and does nothing else for the pager. */
static const struct sock_filter ring_calls[] = {
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 4),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IORING_REGISTER_FILES_UPDATE2, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

/* What a process that waited says of itself once it is told. (The low half of the argument, as this is little-endian.) */
static const struct sock_filter name_calls[] = {
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 5),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_NAME, 2, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

#define FILTER_HEAD 4
#define FILTER_MAX (FILTER_HEAD + countof(name_calls) + countof(ring_calls) + countof(pager_calls) + 2)

int confine_calls(bool keeper, struct error *err)
{
    const unsigned short *calls = keeper ? keeper_calls : pager_calls;
    size_t count = keeper ? countof(keeper_calls) : countof(pager_calls);
    struct sock_filter filter[FILTER_MAX] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    struct sock_filter *next = filter + FILTER_HEAD;
    memcpy(next, name_calls, sizeof name_calls);
    next += countof(name_calls);
    if (!keeper) {
        memcpy(next, ring_calls, sizeof ring_calls);
        next += countof(ring_calls);
    }
    for (size_t i = 0; i < count; i++)
        *next++ =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], (unsigned char)(count - i), 0);
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)(next - filter), filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        return error_system(err, "cannot attach a system call filter");
    return 0;
}
