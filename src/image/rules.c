#include "image/rules.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the system's headers may be too old to name. */
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define ADVICE_GUARD_INSTALL 102
#define PRCTL_SET_VMA 0x53564d41
#define PRCTL_SET_MDWE 65
#define ARCH_REQ_XCOMP_PERMISSION 0x1023
#define TIMERFD_SET_TICKS 0x40085400
#define FILE_ADD_SEALS 1033
#define FILE_SET_PIPE_SIZE 1031

#define SANDBOX_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define MOVE_FROM_EMPTY_PATH 4
#define ONE_SLOT(slot) (1 << (slot))
#define CGROUP_SLOTS \
    (ONE_SLOT(PLAN_SLOT_CGROUP_0) | ONE_SLOT(PLAN_SLOT_CGROUP_1) | ONE_SLOT(PLAN_SLOT_CGROUP_2))
#define STREAM_SLOTS \
    (ONE_SLOT(PLAN_SLOT_LOG) | ONE_SLOT(PLAN_SLOT_STDIN) | ONE_SLOT(PLAN_SLOT_STDOUT) | \
        ONE_SLOT(PLAN_SLOT_STDERR))
#define GROUPS_BYTES_MAX 262144
#define EPOLL_EVENT_BYTES 12

static const int16_t ADVICE[] = {MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTFORK, MADV_MERGEABLE, MADV_HUGEPAGE,
    MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_WIPEONFORK, ADVICE_GUARD_INSTALL, -1};
static const int16_t SOCKET_LEVELS[] = {
    IPPROTO_IP, SOL_SOCKET, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6, SOL_NETLINK, -1};
static const int16_t FILE_WORDS[] = {F_SETFD, F_SETFL, FILE_SET_PIPE_SIZE, FILE_ADD_SEALS, -1};
static const int16_t FILE_LOCKS[] = {F_SETLK, F_OFD_SETLK, -1};
/* PR_SET_*: one value each. */
static const int16_t PROCESS_WORDS[] = {PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_SECUREBITS,
    PR_SET_TIMERSLACK, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, -1};
static const int16_t THREAD_WORDS[] = {
    PR_SET_PDEATHSIG, PR_SET_TSC, PR_SET_SECUREBITS, PR_SET_TIMERSLACK, -1};
static const int16_t THREAD_PAIRS[] = {PR_MCE_KILL, PR_SET_SPECULATION_CTRL, -1};
static const int16_t RELEASE_WORDS[] = {PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PRCTL_SET_MDWE, -1};
static const int16_t THREAD_REGISTERS[] = {ARCH_SET_FS, ARCH_SET_GS, 0x1012 /* ARCH_SET_CPUID */, -1};

/* One line each. */
/* clang-format off */
#define ZERO {RULE_ZERO}
#define ANY {RULE_ANY}
#define IS(value) {RULE_IS, (value)}
#define MAX(value) {RULE_MAX, (value)}
#define BITS(value) {RULE_BITS, (value)}
#define LIST(values) {RULE_LIST, 0, (values)}
#define PID {RULE_PID}
#define FD {RULE_FD}
#define MADE {RULE_MADE}
#define SLOTS(mask) {RULE_SLOTS, (mask)}
#define TEXT {RULE_TEXT}
#define PATH {RULE_PATH}
#define HERE {RULE_IS, AT_FDCWD}
#define IN(bytes) {RULE_IN, (bytes)}
#define IN_LEN(argument) {RULE_IN_LEN, (argument)}
#define FILE_LEN(argument) {RULE_FILE_LEN, (argument)}
#define OUT(bytes) {RULE_OUT, (bytes)}
#define OUT_LEN(argument) {RULE_OUT_LEN, (argument)}
#define MEMORY(length_argument) {RULE_MEMORY, (length_argument)}
#define POINTER {RULE_POINTER}
#define VALUE {RULE_VALUE}
#define CALL(plans, name, ...) \
    { \
        PLAN_SYSCALL, SYS_##name, (plans), \
        { \
            __VA_ARGS__ \
        } \
    }
#define DO(plans, kind, ...) \
    { \
        (kind), 0, (plans), \
        { \
            __VA_ARGS__ \
        } \
    }
/* clang-format on */

/* Settings that a fork inherits are in the template plan; in a tree in the process plans. */
#define T RULE_TEMPLATE
#define S RULE_SANDBOX
#define P RULE_PROCESS
#define H RULE_THREAD
#define R RULE_RELEASE

const struct rule image_rules[] = {
    /* Memory. */
    DO(T, PLAN_READ_PAGES, MEMORY(1), ANY),
    DO(T, PLAN_LAZY_PAGES, MEMORY(1), ANY),
    CALL(T, mmap, MEMORY(1), ANY, MAX(7), ANY, IS(-1)),
    CALL(T, mmap, MEMORY(1), ANY, MAX(7), ANY, MADE, ANY),
    CALL(P, mmap, MEMORY(1), ANY, MAX(7), ANY, FD, ANY),
    CALL(T, mprotect, MEMORY(1), ANY, MAX(7)),
    CALL(T | P, madvise, MEMORY(1), ANY, LIST(ADVICE)),
    CALL(T | P, mseal, MEMORY(1), ANY),
    CALL(P, mlock2, MEMORY(1), ANY, BITS(MLOCK_ONFAULT)),
    CALL(R, mlockall, BITS(MCL_FUTURE | MCL_ONFAULT)),
    CALL(T, mbind, MEMORY(1), ANY, MAX(4), ZERO, ZERO),
    CALL(T, mbind, MEMORY(1), ANY, MAX(4), IN(8), IS(65)),
    CALL(T | P, prctl, IS(PRCTL_SET_VMA), ZERO, MEMORY(3), ANY, TEXT),
    CALL(P, pkey_alloc, ZERO),
    CALL(P, pkey_free, MAX(15)),
    CALL(P, pkey_mprotect, MEMORY(1), ANY, MAX(7), MAX(15)),
    CALL(T | P, memfd_create, TEXT, MAX(15)),
    CALL(T | P, close, MADE),

    /* Moving values. */
    DO(T | P | H | R, PLAN_STORE, OUT(8), VALUE, IS(8)),
    DO(T | P | H | R, PLAN_STORE, OUT(4), VALUE, IS(4)),
    DO(P | R, PLAN_LOAD, IN(4), IS(4)),
    DO(P | R, PLAN_LOAD, IN(8), IS(8)),
    DO(P, PLAN_WRITE_ALL, FD, IN_LEN(2), ANY),

    /* Entering the sandbox. */
    CALL(S, write, SLOTS(CGROUP_SLOTS), IN(1), IS(1)),
    CALL(S, setns, SLOTS(ONE_SLOT(PLAN_SLOT_INIT_PIDFD)), IS(SANDBOX_NAMESPACES)),
    CALL(S, move_mount, SLOTS(ONE_SLOT(PLAN_SLOT_CODE)), TEXT, HERE, PATH, IS(MOVE_FROM_EMPTY_PATH)),

    /* Processes. */
    DO(P, PLAN_FORK, ANY, BITS(CLONE_PARENT), MAX(64)),
    DO(P, PLAN_BECOME, ZERO),
    DO(P, PLAN_BARRIER, MAX(PLAN_BARRIERS - 1), ANY),
    CALL(P, setpgid, ZERO, ANY),
    CALL(P, setsid, ZERO),
    CALL(P, waitid, IS(P_PID), ANY, ZERO, BITS(WEXITED | __WALL | WNOWAIT)),
    CALL(P, rt_sigtimedwait, IN(8), ZERO, IN(16), IS(8)),
    CALL(P, rt_sigprocmask, IS(SIG_UNBLOCK), IN(8), ZERO, IS(8)),
    CALL(P, kill, PID, MAX(64)),
    CALL(P, exit_group, MAX(255)),

    /* Users and rights, of programs outside Lambda. */
    CALL(P, setgroups, MAX(GROUPS_BYTES_MAX / 4), IN(4)),
    CALL(P, setresgid, ANY, ANY, ANY),
    CALL(P, setresuid, ANY, ANY, ANY),
    CALL(P, setfsgid, ANY),
    CALL(P, setfsuid, ANY),
    CALL(H, capset, IN(8), IN(24)),
    CALL(H, prctl, IS(PR_CAP_AMBIENT), IS(PR_CAP_AMBIENT_RAISE), MAX(63)),

    /* Settings. */
    CALL(T | P, rt_sigaction, MAX(64), IN(32), ZERO, IS(8)),
    CALL(T | P | R, prlimit64, ZERO, MAX(15), IN(16)),
    CALL(T | P, umask, MAX(0777)),
    CALL(T | P | H, personality, ANY),
    CALL(T | P, arch_prctl, IS(ARCH_REQ_XCOMP_PERMISSION), MAX(63)),
    CALL(T | P, prctl, IS(PR_SET_MM), IS(PR_SET_MM_MAP), IN(sizeof(struct prctl_mm_map)),
        IS(sizeof(struct prctl_mm_map))),
    CALL(T | P, prctl, IS(PR_SET_THP_DISABLE), IS(1), MAX(2)),
    CALL(P, prctl, LIST(PROCESS_WORDS), ANY),
    CALL(H, prctl, LIST(THREAD_WORDS), ANY),
    CALL(H, prctl, LIST(THREAD_PAIRS), ANY, ANY),
    CALL(R, prctl, LIST(RELEASE_WORDS), ANY),
    CALL(P | H, prctl, IS(PR_SET_NAME), IN(16)),
    CALL(P, membarrier, ANY),
    CALL(P, chdir, PATH),

    /* Threads. */
    CALL(H, arch_prctl, LIST(THREAD_REGISTERS), POINTER),
    CALL(H, set_tid_address, POINTER),
    CALL(H, set_robust_list, POINTER, MAX(64)),
    CALL(H, rseq, POINTER, MAX(4096), ANY, ANY),
    CALL(H, sched_setattr, ZERO, IN(48), ZERO),
    CALL(H, sched_setaffinity, ZERO, MAX(4096), IN_LEN(1)),
    CALL(H, ioprio_set, IS(1), ZERO, ANY),
    CALL(H, rt_tgsigqueueinfo, PID, ANY, MAX(64), IN(128)),
    CALL(R, rt_sigqueueinfo, PID, MAX(64), IN(128)),

    /* Timers. */
    CALL(R, setitimer, MAX(2), IN(32), ZERO),
    CALL(R, timer_create, ANY, IN(64), OUT(4)),
    CALL(R, timer_delete, ANY),
    CALL(R, timer_settime, ANY, ZERO, IN(32), ZERO),

    /* Files. */
    CALL(T, openat, HERE, PATH, IS(O_RDONLY)),
    CALL(T, openat, HERE, PATH, IS(O_PATH)),
    CALL(P, openat, HERE, PATH, ANY, MAX(07777)),
    CALL(P, close, FD),
    CALL(P, close_range, ANY, ANY, ZERO),
    CALL(P, dup3, FD, ANY, BITS(O_CLOEXEC)),
    CALL(P, dup3, SLOTS(STREAM_SLOTS), ANY, BITS(O_CLOEXEC)),
    CALL(P, read, FD, OUT_LEN(2), ANY),
    CALL(P, write, FD, IN_LEN(2), ANY),
    CALL(P, pwrite64, FD, FILE_LEN(2), ANY, ANY),
    CALL(P | R, lseek, FD, ANY, MAX(4)),
    CALL(P, ftruncate, FD, ANY),
    CALL(P, fchmod, FD, MAX(07777)),
    CALL(P, fsetxattr, FD, TEXT, IN_LEN(3), ANY, ZERO),
    CALL(P, flock, FD, MAX(15)),
    CALL(P | R, fcntl, FD, LIST(FILE_WORDS), ANY),
    CALL(P, fcntl, FD, LIST(FILE_LOCKS), IN(32)),
    CALL(R, fcntl, FD, IS(F_SETOWN_EX), IN(8)),
    CALL(R, fcntl, FD, IS(F_SETSIG), MAX(64)),
    CALL(P, ioctl, FD, IS(FIONBIO), IN(4)),
    CALL(P, ioctl, FD, IS(TIMERFD_SET_TICKS), IN(8)),
    CALL(P, mkdir, PATH, MAX(07777)),
    CALL(P, mknodat, HERE, PATH, MAX(0177777), ZERO),
    CALL(P, symlink, TEXT, PATH),
    CALL(P, linkat, HERE, PATH, HERE, PATH, ZERO),
    CALL(P, unlink, PATH),
    CALL(P, fchmodat, HERE, PATH, MAX(07777)),
    CALL(P, fchownat, HERE, PATH, ANY, ANY, BITS(AT_SYMLINK_NOFOLLOW)),
    CALL(P, utimensat, HERE, PATH, IN(32), BITS(AT_SYMLINK_NOFOLLOW)),
    CALL(P, utimensat, FD, ZERO, IN(32), ZERO),

    /* Other descriptors. */
    CALL(P, pipe2, OUT(8), ANY),
    CALL(P, eventfd2, ANY, ANY),
    CALL(P, epoll_create1, BITS(EPOLL_CLOEXEC)),
    CALL(P, epoll_ctl, FD, IS(EPOLL_CTL_ADD), FD, IN(EPOLL_EVENT_BYTES)),
    CALL(P, signalfd4, IS(-1), IN(8), IS(8), ANY),
    CALL(P, timerfd_create, ANY, ANY),
    CALL(P, timerfd_settime, FD, MAX(3), IN(32), ZERO),
    CALL(P, inotify_init1, ANY),
    CALL(P, inotify_add_watch, FD, PATH, ANY),
    CALL(P, inotify_rm_watch, FD, ANY),
    CALL(P, pidfd_open, ANY, ANY),
    CALL(P, socket, ANY, ANY, ANY),
    CALL(P, socketpair, IS(AF_UNIX), ANY, ZERO, OUT(8)),
    CALL(P, bind, FD, IN_LEN(2), MAX(128)),
    CALL(P, connect, FD, IN_LEN(2), MAX(128)),
    CALL(P, listen, FD, ANY),
    CALL(P, accept4, FD, ZERO, ZERO, ANY),
    CALL(P, shutdown, FD, MAX(2)),
    CALL(P, setsockopt, FD, LIST(SOCKET_LEVELS), ANY, IN_LEN(4), MAX(4096)),
    CALL(P, sendto, FD, IN_LEN(2), ANY, BITS(MSG_NOSIGNAL | MSG_DONTWAIT), ZERO, ZERO),
    CALL(P, sendto, FD, IN_LEN(2), ANY, BITS(MSG_NOSIGNAL | MSG_DONTWAIT), IN_LEN(5), MAX(128)),
    CALL(P, sendmsg, FD, IN(56), BITS(MSG_NOSIGNAL | MSG_DONTWAIT)),
};
const size_t image_rule_count = countof(image_rules);
_Static_assert(countof(image_rules) <= RULES_MAX, "room for an index of them");
