/* Building a template takes three processes:
 *
 *   caller --fork--> feeder: a new time namespace; forks the template as the caller's child (CLONE_PARENT), then
 *                      |     writes the page stream into a pipe and ends
 *                      `---> template: fills the arena, enters its own sandbox, gives up all rights but those a
 *                            thaw needs, and jumps to the blob, which unmaps everything else and runs the plan
 *
 * With a pager the feeder becomes that instead (pager/pager.h), and says when the template is ready.
 */
#include "thaw/template.h"

#include "base/clock.h"
#include "base/fd.h"
#include "thaw/arena.h"
#include "thaw/template_private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES_PIPE_BYTES (1 << 20)
#define MOVE_FROM_EMPTY_PATH 0x4 /* MOVE_MOUNT_F_EMPTY_PATH of linux/mount.h */
#define SANDBOX_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define RSEQ_AREA_BYTES 32

/* What the feeder and the template process work with. */
struct build {
    const struct template_options *options;
    int socket; /* the template's end */
    int pages_read, pages_write;
    int ring;         /* an io_uring of its own, or -1 */
    int pager_socket; /* the pager's end to the caller; -1: no pager */
    int paging[2];    /* between template [0] and pager [1] */
};

static __attribute__((noreturn)) void fail_build(const struct build *b, const struct error *err)
{
    struct blob_reply reply = {
        .kind = BLOB_FAILED, .failed = -(err->errno_value ? err->errno_value : EINVAL)};
    struct error ignored;
    snprintf(reply.text, sizeof reply.text, "%s", err->text);
    reply.pid = (int32_t)err->kind;
    if (fd_send_message(b->socket, &reply, sizeof reply, NULL, 0, &ignored) < 0)
        _exit(BLOB_EXIT_STATUS - 1);
    _exit(BLOB_EXIT_STATUS);
}

/* The template's process: rights. */

static int enter_sandbox(const struct template_options *o, struct error *err)
{
    if (setns(o->init_pidfd, SANDBOX_NAMESPACES) < 0)
        return error_system(err, "cannot enter the template's sandbox");
    if (o->code_tree_fd >= 0 &&
        syscall(SYS_move_mount, o->code_tree_fd, "", AT_FDCWD, o->code_path, MOVE_FROM_EMPTY_PATH) < 0)
        return error_system(err, "cannot mount the function's code at %s", o->code_path);
    if (chdir("/") < 0)
        return error_system(err, "cannot go to the sandbox's root folder");
    return 0;
}

/* The files that the snapshot maps must be the ones it was frozen with. */
static int check_files(const struct image *image, struct error *err)
{
    for (uint32_t i = 0; i < image->file_count; i++) {
        const struct image_file *file = &image->files[i];
        struct stat now;
        if (stat(file->path, &now) < 0)
            return error_set(err, ERROR_UNSUPPORTED, "%s, which the snapshot maps, is gone", file->path);
        if ((uint64_t)now.st_size != file->bytes ||
            now.st_mtim.tv_sec * 1000000000l + now.st_mtim.tv_nsec != file->modified_ns)
            return error_set(
                err, ERROR_UNSUPPORTED, "%s was changed since the snapshot was frozen", file->path);
    }
    return 0;
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

static int drop_rights(const struct template_options *o, struct error *err)
{
    for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
        if (prctl(PR_CAPBSET_DROP, capability) < 0 && errno != EINVAL)
            return error_system(err, "cannot drop capability %d from the bounding set", capability);
    if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0 || setresgid(o->gid, o->gid, o->gid) < 0 ||
        setresuid(o->uid, o->uid, o->uid) < 0)
        return error_system(err, "cannot become user %u", o->uid);
    if (keep_thaw_capabilities(err) < 0)
        return -1;
    if (prctl(PR_SET_KEEPCAPS, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_system(err, "cannot set no-new-privileges");
    if (o->template_filter != NULL &&
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, o->template_filter) < 0)
        return error_system(err, "cannot attach the system call filter");
    return 0;
}

/* Dies with the caller; set after the change of user, which clears it. */
static int die_with_parent(pid_t parent, struct error *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return error_system(err, "cannot ask to die with the parent");
    if (getppid() != parent)
        return error_set(err, ERROR_SYSTEM, "the parent is gone already");
    return 0;
}

/* Descriptors: only the control socket and the page pipe stay, at and above the floor; below it, place
 * holders make the kernel number what arrives with requests above all that a clone will open. */
static int arrange_descriptors(struct build *b, int floor, struct error *err)
{
    int top = floor > 64 ? floor : 64;
    int *kept[] = {&b->socket, &b->pages_read, &b->ring, &b->paging[0]}, last = 0;
    for (size_t i = 0; i < countof(kept); i++) {
        if (*kept[i] < 0)
            continue;
        *kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, top + 8);
        if (*kept[i] < 0)
            return error_system(err, "cannot move the template's descriptors above %d", top);
        last = *kept[i] > last ? *kept[i] : last;
    }
    syscall(SYS_close_range, 0, top + 7, 0);
    syscall(SYS_close_range, last + 1, ~0u, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null != 0)
        return error_system(err, "cannot open /dev/null as place holder");
    for (int fd = 1; fd < floor; fd++)
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

/* The filter of the clones goes where the blob still finds it when all else is unmapped. */
static int put_clone_filter(struct blob_control *control, const struct sock_fprog *filter, struct error *err)
{
    if (filter == NULL)
        return 0;
    if (filter->len > BLOB_FILTER_MAX)
        return error_set(err, ERROR_INTERNAL, "the clones' system call filter is too long");
    memcpy(control->filter_code, filter->filter, filter->len * sizeof *filter->filter);
    control->filter = (struct blob_filter){filter->len, (uint64_t)control->filter_code};
    return 0;
}

/* Pages that come from a file need no feeder: the pipe's end then says that it has introduced us. Whoever waits for
 * the template must not hear of it being ready before. */
static int take_page_file(struct build *b, struct error *err)
{
    char byte;
    close(b->pages_write);
    while (read(b->pages_read, &byte, 1) < 0)
        if (errno != EINTR)
            return error_system(err, "cannot wait for the feeder");
    b->pages_read = b->options->pages_fd;
    return 0;
}

/* The pager serves this process's memory: it gets a hold of it, and what it cannot know. */
static int hand_to_pager(const struct build *b, const struct arena *arena, struct error *err)
{
    if (b->pager_socket < 0)
        return 0;
    const struct pager_hello hello = {.bulk_address = arena->control->bulk};
    CLEANUP_FD int memory = pager_open_memory(err);
    if (memory < 0)
        return -1;
    return fd_send_message(b->paging[0], &hello, sizeof hello, &memory, 1, err);
}

static __attribute__((noreturn)) void run_template(struct build *b, pid_t parent)
{
    const struct template_options *o = b->options;
    struct error err = {0};
    struct arena arena;
    /* The arena first: inside the sandbox /proc does not show this process. */
    if (arena_build(&arena, o->image, &err) < 0 || hand_to_pager(b, &arena, &err) < 0 ||
        put_clone_filter(arena.control, o->clone_filter, &err) < 0 || enter_sandbox(o, &err) < 0 ||
        check_files(o->image, &err) < 0 || (o->stream_pages == NULL && take_page_file(b, &err) < 0))
        fail_build(b, &err);
    prctl(PR_SET_NAME, "thaw-template");
    /* Made while it has all rights, as then what it pins counts against no limit. Without, clones are slower. */
    struct io_uring_params ring = {0};
    b->ring = (int)syscall(SYS_io_uring_setup, 1, &ring);
    if (arrange_descriptors(b, (int)o->image->descriptor_floor, &err) < 0 ||
        (!o->keep_rights && drop_rights(o, &err) < 0) || die_with_parent(parent, &err) < 0)
        fail_build(b, &err);
    arena.control->control_fd = b->socket;
    arena.control->pages_fd = b->pages_read;
    arena.control->ring_fd = b->ring;
    arena.control->paging_fd = b->paging[0];
    arena.control->descriptor_floor = (int32_t)o->image->descriptor_floor;
    forget_libc();
    jump_to_blob(&arena);
}

/* The feeder's process. */

/* CLOCK_MONOTONIC and CLOCK_BOOTTIME must not go back for the function: where this machine's are behind the
 * snapshot's (it was booted anew), a time namespace puts them forward to what they would be by now. */
static int set_time_offsets(const struct image *image, struct error *err)
{
    uint64_t wall = clock_wall_ms();
    uint64_t passed_ns = wall > image->wall_ms ? (wall - image->wall_ms) * 1000000u : 0;
    uint64_t monotonic = clock_monotonic_ns(), boottime = clock_read_ns(CLOCK_BOOTTIME);
    uint64_t add_monotonic =
        monotonic < image->monotonic_ns ? image->monotonic_ns + passed_ns - monotonic : 0;
    uint64_t add_boottime = boottime < image->boottime_ns ? image->boottime_ns + passed_ns - boottime : 0;
    char text[128];
    if (unshare(CLONE_NEWTIME) < 0)
        return error_system(err, "cannot make a time namespace");
    snprintf(text, sizeof text, "monotonic %lu %lu\nboottime %lu %lu\n", add_monotonic / 1000000000u,
        add_monotonic % 1000000000u, add_boottime / 1000000000u, add_boottime % 1000000000u);
    return file_write_control(AT_FDCWD, "/proc/self/timens_offsets", text, err);
}

static pid_t fork_sibling(void)
{
    struct clone_args args = {.flags = CLONE_PARENT};
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static __attribute__((noreturn)) void become_pager(const struct build *b)
{
    const struct pager_options options = {.image = b->options->image,
        .source = b->options->pages,
        .record = b->options->record_hot_set,
        .warden_fd = b->pager_socket,
        .template_fd = b->paging[1],
        .pages_fd = b->pages_write};
    pager_run(&options);
}

static __attribute__((noreturn)) void run_feeder(struct build *b, pid_t parent)
{
    const struct template_options *o = b->options;
    struct error err = {0};
    if (die_with_parent(parent, &err) < 0 || set_time_offsets(o->image, &err) < 0)
        fail_build(b, &err);
    if (b->pager_socket >= 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b->paging) < 0) {
        error_system(&err, "cannot make a socket pair for a pager");
        fail_build(b, &err);
    }
    pid_t pid = fork_sibling();
    if (pid < 0) {
        error_system(&err, "cannot fork the template process");
        fail_build(b, &err);
    }
    if (pid == 0)
        run_template(b, parent);
    struct blob_reply started = {.kind = BLOB_STARTED, .pid = pid};
    if (fd_send_message(b->socket, &started, sizeof started, NULL, 0, &err) < 0)
        _exit(1);
    if (o->stream_pages == NULL)
        _exit(0); /* which the template waits for */
    if (b->pager_socket >= 0)
        become_pager(b);
    close(b->pages_read);
    signal(SIGPIPE, SIG_IGN);
    if (o->stream_pages(o->stream_context, b->pages_write, &err) < 0 && err.errno_value != EPIPE)
        fail_build(b, &err);
    _exit(0);
}

/* The caller's side. */

static int open_channels(int sockets[2], int pages[2], struct error *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return error_system(err, "cannot make a socket pair for a template");
    if (pipe2(pages, O_CLOEXEC) < 0) {
        error_system(err, "cannot make a pipe for a template");
        close(sockets[0]);
        close(sockets[1]);
        return -1;
    }
    fcntl(pages[1], F_SETPIPE_SZ, PAGES_PIPE_BYTES); /* a smaller pipe is only slower */
    return 0;
}

/* The first message says which process is the template, or why there is none. */
static int wait_for_start(struct template *t, struct error *err)
{
    struct blob_reply reply;
    int fds[FD_MESSAGE_MAX];
    size_t fd_count;
    ssize_t n = fd_recv_message(t->socket, &reply, sizeof reply, fds, &fd_count, err);
    if (n < 0)
        return -1;
    if (n != sizeof reply)
        return error_set(err, ERROR_SYSTEM, "the template's builder died at once");
    if (reply.kind == BLOB_FAILED)
        return error_set(err, (enum error_kind)reply.pid, "%s", reply.text);
    if (reply.kind != BLOB_STARTED || reply.pid <= 0)
        return error_set(err, ERROR_INTERNAL, "the template speaks before its builder");
    t->pid = reply.pid;
    return 0;
}

/* A second socket, for what the pager has to say. */
static int open_pager_channel(struct template *t, int *theirs, struct error *err)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return error_system(err, "cannot make a socket pair for a pager");
    t->pager = sockets[0];
    *theirs = sockets[1];
    t->both = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (t->both < 0 || epoll_ctl(t->both, EPOLL_CTL_ADD, t->socket, &event) < 0 ||
        epoll_ctl(t->both, EPOLL_CTL_ADD, t->pager, &event) < 0)
        return error_system(err, "cannot watch a template's sockets");
    return 0;
}

static void close_template(struct template *t)
{
    close(t->socket);
    fd_close(&t->pager);
    fd_close(&t->both);
    free(t);
}

struct template *template_start(const struct template_options *options, struct error *err)
{
    int sockets[2], pages[2], result = 0;
    if (open_channels(sockets, pages, err) < 0)
        return NULL;
    struct template *t = xcalloc(1, sizeof *t);
    *t = (struct template){
        .socket = sockets[0], .memory_bytes = options->image->page_bytes, .pager = -1, .both = -1};
    struct build build = {options, sockets[1], pages[0], pages[1], -1, -1, {-1, -1}};
    if (options->pages != NULL && pager_can_serve(options->image))
        result = open_pager_channel(t, &build.pager_socket, err);
    pid_t parent = getpid();
    t->feeder = result == 0 ? fork() : -1;
    if (t->feeder == 0) {
        close(sockets[0]);
        run_feeder(&build, parent);
    }
    if (result == 0 && t->feeder < 0)
        result = error_system(err, "cannot fork a template's builder");
    close(sockets[1]);
    close(pages[0]);
    close(pages[1]);
    fd_close(&build.pager_socket);
    if (result == 0)
        result = wait_for_start(t, err);
    if (result < 0) {
        template_reap_feeder(t);
        close_template(t);
        return NULL;
    }
    if (t->pager >= 0) {
        t->keeper = t->feeder;
        t->feeder = 0;
    }
    return t;
}

int template_fd(const struct template *t)
{
    return t->both >= 0 ? t->both : t->socket;
}

pid_t template_keeper_pid(const struct template *t)
{
    return t->keeper;
}

pid_t template_pid(const struct template *t)
{
    return t->pid;
}

uint64_t template_memory_bytes(const struct template *t)
{
    return t->memory_bytes;
}

int template_clone(struct template *t, const struct template_clone_args *args, struct error *err)
{
    struct blob_request request = {.cookie = args->cookie};
    int fds[PLAN_SLOT_COUNT];
    size_t count = 0;
    for (unsigned slot = 0; slot < PLAN_SLOT_COUNT; slot++) {
        if (args->slots[slot] < 0)
            continue;
        request.slot_mask |= 1u << slot;
        fds[count++] = args->slots[slot];
    }
    if (fd_send_message(t->socket, &request, sizeof request, fds, count, err) < 0)
        return -1;
    t->asked++;
    return 0;
}

void template_served(struct template *t)
{
    const char byte = PAGER_SERVED;
    if (t->pager >= 0)
        (void)send(t->pager, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int template_own_pages(struct template *t, const struct working_set *set, struct error *err)
{
    CLEANUP_BUFFER struct buffer packet = {0};
    const struct blob_request request = {
        .range_count = set->count < BLOB_RANGES_MAX ? set->count : BLOB_RANGES_MAX};
    if (request.range_count == 0)
        return 0;
    buffer_append(&packet, &request, sizeof request);
    buffer_append(&packet, set->ranges, request.range_count * sizeof *set->ranges);
    return fd_send_message(t->socket, packet.data, packet.len, NULL, 0, err);
}

pid_t template_steal_pid(struct template *t)
{
    pid_t pid = t->pid;
    t->pid = 0;
    return pid;
}

void template_free(struct template **slot)
{
    struct template *t = *slot;
    if (t == NULL)
        return;
    *slot = NULL;
    template_reap_feeder(t);
    if (t->pid > 0)
        kill(t->pid, SIGKILL);
    close_template(t);
}
