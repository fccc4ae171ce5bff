/* What happens between the fork of a builder and its blob:
 *
 *   caller --fork--> builder: a time namespace for its children, a userfaultfd of its memory, an arena of its own, its
 *                    descriptors, rights given up, the C library forgotten --> the blob, which unmaps everything else,
 *                    says BLOB_WAITING and waits for a struct blob_build
 */
#include "thaw/builder.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "pager/pager.h"
#include "thaw/arena.h"
#include "thaw/template_private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RSEQ_AREA_BYTES 32

/* What it keeps open. */
struct own {
    int socket;
    int ring;   /* an io_uring, or -1 */
    int memory; /* a userfaultfd, or -1 */
};

static __attribute__((noreturn)) void fail(int socket, const struct error *err)
{
    struct blob_reply reply = {
        .kind = BLOB_FAILED, .failed = -(err->errno_value ? err->errno_value : EINVAL)};
    struct error ignored;
    snprintf(reply.text, sizeof reply.text, "%s", err->text);
    reply.pid = (int32_t)err->kind;
    if (fd_send_message(socket, &reply, sizeof reply, NULL, 0, &ignored) < 0)
        _exit(BLOB_EXIT_STATUS - 1);
    _exit(BLOB_EXIT_STATUS);
}

/* What a thaw needs: to enter namespaces (SYS_ADMIN, SYS_CHROOT, and SYS_PTRACE as the sandbox's init is
 * another user's process) and to choose thread ids (CHECKPOINT_RESTORE). Each clone gives these up before the
 * function runs. */
static int keep_thaw_capabilities(struct error *err)
{
    static const int kept[] = {CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    for (size_t i = 0; i < countof(kept); i++) {
        data[kept[i] / 32].permitted |= 1u << kept[i] % 32;
        data[kept[i] / 32].effective |= 1u << kept[i] % 32;
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return error_system(err, "cannot give up capabilities");
    return 0;
}

static int drop_rights(const struct template_rights *r, struct error *err)
{
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
        if (prctl(PR_CAPBSET_DROP, capability) < 0 && errno != EINVAL)
            return error_system(err, "cannot drop capability %d from the bounding set", capability);
    if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0 || setresgid(r->gid, r->gid, r->gid) < 0 ||
        setresuid(r->uid, r->uid, r->uid) < 0)
        return error_system(err, "cannot become user %u", r->uid);
    if (keep_thaw_capabilities(err) < 0)
        return -1;
    if (prctl(PR_SET_KEEPCAPS, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_system(err, "cannot set no-new-privileges");
    if (r->filter != NULL && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, r->filter) < 0)
        return error_system(err, "cannot attach the system call filter");
    return 0;
}

int die_with_parent(pid_t parent, struct error *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return error_system(err, "cannot ask to die with the parent");
    if (getppid() != parent)
        return error_set(err, ERROR_SYSTEM, "the parent is gone already");
    return 0;
}

/* Only its own stay, above BLOB_FLOOR; below it, place holders make the kernel number what arrives with requests above all that
 * a clone will open. The blob arranges that anew where a snapshot needs another floor. */
static int arrange_descriptors(struct own *own, struct error *err)
{
    int *slots[] = {&own->socket, &own->ring, &own->memory}, kept[countof(slots)];
    size_t count = 0;
    for (size_t i = 0; i < countof(slots); i++) {
        if (*slots[i] >= 0)
            kept[count++] = *slots[i];
    }
    fd_close_others(kept, count);
    for (size_t i = 0; i < countof(slots); i++) {
        int before = *slots[i], above = BLOB_FLOOR + BLOB_ABOVE_FLOOR;
        if (before < 0)
            continue;
        *slots[i] = fcntl(before, F_DUPFD_CLOEXEC, above);
        if (*slots[i] < 0)
            return error_system(err, "cannot move a builder's descriptors above %d", above);
        close(before);
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null != 0)
        return error_system(err, "cannot open /dev/null as place holder");
    for (int fd = 1; fd < BLOB_FLOOR; fd++)
        if (dup3(null, fd, O_CLOEXEC) < 0)
            return error_system(err, "cannot fill descriptor %d", fd);
    return 0;
}

/* What the C library registered for this thread must not be written to once its memory is gone. */
static void forget_libc(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    uint64_t everything = ~0ull;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &everything, NULL, sizeof everything);
    for (int signal = 1; signal <= 64; signal++) {
        uint64_t plain[4] = {0};
        syscall(SYS_rt_sigaction, signal, plain, NULL, 8);
    }
    stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(&none, NULL);
    if (__rseq_size > 0)
        syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, RSEQ_AREA_BYTES,
            1 /* unregister */, RSEQ_SIG);
    syscall(SYS_set_robust_list, NULL, 24);
    syscall(SYS_set_tid_address, NULL);
}

static __attribute__((noreturn)) void jump_to_blob(const struct arena *arena)
{
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "call *%1\n\t"
                     "ud2" ::"r"(arena->stack_top),
                     "r"(arena->entry), "D"(arena->control)
                     : "memory");
    __builtin_unreachable();
}

static int prepare(struct own *own, struct arena *arena, const struct template_rights *rights, pid_t parent,
    struct error *err)
{
    struct error ignored;
    struct io_uring_params ring = {0};
    prctl(PR_SET_NAME, "thaw-builder");
    /* The offsets of its clocks are a snapshot's, and are set later, from outside. */
    if (unshare(CLONE_NEWTIME) < 0)
        return error_system(err, "cannot make a time namespace");
    own->memory = pager_open_memory(&ignored); /* where it cannot be had nobody asks for a pager */
    /* Made while it has all rights, as then what it pins counts against no limit. Without, clones are slower. */
    own->ring = (int)syscall(SYS_io_uring_setup, 1, &ring);
    if (arena_build_waiting(arena, err) < 0 || arrange_descriptors(own, err) < 0 ||
        (!rights->keep && drop_rights(rights, err) < 0))
        return -1;
    return die_with_parent(parent, err); /* after the change of user, which clears it */
}

static __attribute__((noreturn)) void run(int socket, const struct template_rights *rights, pid_t parent)
{
    struct own own = {socket, -1, -1};
    struct error err = {0};
    struct arena arena;
    if (prepare(&own, &arena, rights, parent, &err) < 0)
        fail(own.socket, &err);
    arena.control->control_fd = own.socket;
    arena.control->ring_fd = own.ring;
    arena.control->memory_fd = own.memory;
    forget_libc();
    jump_to_blob(&arena);
}

struct builder *builder_start(const struct template_rights *rights, struct error *err)
{
    int sockets[2];
    if (arena_prepare(err) < 0)
        return NULL;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0) {
        error_system(err, "cannot make a socket pair for a template");
        return NULL;
    }
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        run(sockets[1], rights, parent);
    close(sockets[1]);
    if (pid < 0) {
        error_system(err, "cannot fork a template's builder");
        close(sockets[0]);
        return NULL;
    }
    struct builder *b = xcalloc(1, sizeof *b);
    *b = (struct builder){.socket = sockets[0], .pid = pid};
    return b;
}

pid_t builder_pid(const struct builder *b)
{
    return b->pid;
}

bool builder_lives(const struct builder *b)
{
    struct pollfd end = {.fd = b->socket};
    return poll(&end, 1, 0) == 0;
}

void builder_free(struct builder **slot)
{
    struct builder *b = *slot;
    if (b == NULL)
        return;
    *slot = NULL;
    kill(b->pid, SIGKILL);
    close(b->socket);
    free(b);
}
