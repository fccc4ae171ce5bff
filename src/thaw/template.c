/* Building a template takes three processes:
 *
 *   caller --fork--> builder (thaw/builder.h), which was made ahead or is made now: it is told what to build, and becomes the
 *      |             template: takes over the arena that the caller has filled, enters its own sandbox, runs the plan
 *      '-----fork--> feeder: writes the page stream into a pipe and ends
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
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES_PIPE_BYTES (1 << 20)

/* What a template is built with, beside the options; the caller's ends are in the template. */
struct build {
    const struct template_options *options;
    int pages_read, pages_write;
    bool is_paged;
    int pager_socket; /* the end to the caller of a pager that is to be forked, or -1 */
    int paging[2];    /* between template [0] and pager [1] */
};

/* The builder. */

/* It says first that it waits, or why it cannot. */
static int await_builder(const struct template *t, struct error *err)
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
    if (reply.kind != BLOB_WAITING)
        return error_set(err, ERROR_INTERNAL, "the template speaks before its builder");
    return 0;
}

/* CLOCK_MONOTONIC and CLOCK_BOOTTIME must not go back for the function: where this machine's are behind the
 * snapshot's (it was booted anew), a time namespace puts them forward to what they would be by now. The builder's children
 * will be the first in it. */
static int set_time_offsets(const struct template *t, const struct image *image, struct error *err)
{
    uint64_t wall = clock_wall_ms();
    uint64_t passed_ns = wall > image->wall_ms ? (wall - image->wall_ms) * 1000000u : 0;
    uint64_t monotonic = clock_monotonic_ns(), boottime = clock_read_ns(CLOCK_BOOTTIME);
    uint64_t add_monotonic =
        monotonic < image->monotonic_ns ? image->monotonic_ns + passed_ns - monotonic : 0;
    uint64_t add_boottime = boottime < image->boottime_ns ? image->boottime_ns + passed_ns - boottime : 0;
    char text[128], path[64];
    if (add_monotonic == 0 && add_boottime == 0)
        return 0;
    if (await_builder(t, err) < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/%d/timens_offsets", t->pid);
    snprintf(text, sizeof text, "monotonic %lu %lu\nboottime %lu %lu\n", add_monotonic / 1000000000u,
        add_monotonic % 1000000000u, add_boottime / 1000000000u, add_boottime % 1000000000u);
    return file_write_control(AT_FDCWD, path, text, err);
}

static int take_builder(struct template *t, const struct template_options *o, struct error *err)
{
    struct builder *b = o->builder == NULL ? NULL : steal_pointer(*o->builder);
    if (b == NULL)
        b = builder_start(&o->rights, err);
    if (b == NULL)
        return -1;
    t->socket = b->socket;
    t->pid = b->pid;
    free(b);
    return 0;
}

/* The filters of the clones go where the blob still finds them when all else is unmapped. */
static int put_clone_filter(
    struct blob_filter *out, uint64_t *code, const struct sock_fprog *filter, struct error *err)
{
    if (filter == NULL)
        return 0;
    if (filter->len > BLOB_FILTER_MAX)
        return error_set(err, ERROR_INTERNAL, "the clones' system call filter is too long");
    memcpy(code, filter->filter, filter->len * sizeof *filter->filter);
    *out = (struct blob_filter){filter->len, (uint64_t)code};
    return 0;
}

static int send_build(
    const struct template *t, const struct build *b, const struct arena *arena, struct error *err)
{
    const struct template_options *o = b->options;
    struct blob_build build = {.start = arena->start,
        .bytes = arena->bytes,
        .filled = arena->filled,
        .code_bytes = arena->code_bytes,
        .control = (uint64_t)arena->control,
        .stack_top = arena->stack_top,
        .slot_mask = 1u << PLAN_SLOT_INIT_PIDFD | (o->code_tree_fd >= 0 ? 1u << PLAN_SLOT_CODE : 0),
        .is_paged = b->is_paged};
    CLEANUP_FD int file = memfd_create("arena", MFD_CLOEXEC);
    if (file < 0)
        return error_system(err, "cannot make a memory file for a template");
    if (fd_write_all(file, (const void *)arena->start, arena->filled, err) < 0)
        return -1;
    int fds[FD_MESSAGE_MAX] = {file, b->pages_read >= 0 ? b->pages_read : o->pages_fd}, count = 2;
    if (build.is_paged)
        fds[count++] = b->paging[0];
    fds[count++] = o->init_pidfd;
    if (o->code_tree_fd >= 0)
        fds[count++] = o->code_tree_fd;
    return fd_send_message(t->socket, &build, sizeof build, fds, (size_t)count, err);
}

/* Its arena is filled here, at the addresses that it will have there. */
static int begin_build(const struct template *t, const struct build *b, struct error *err)
{
    const struct template_options *o = b->options;
    struct arena arena;
    if (set_time_offsets(t, o->image, err) < 0 || arena_build(&arena, o->image, o->code_path, err) < 0)
        return -1;
    struct blob_control *control = arena.control;
    int result = put_clone_filter(&control->filter, control->filter_code, o->clone_filter, err);
    if (result == 0)
        result =
            put_clone_filter(&control->early_filter, control->early_filter_code, o->early_clone_filter, err);
    if (result == 0)
        result = send_build(t, b, &arena, err);
    arena_unmap(&arena);
    return result;
}

/* The feeder's process. */

static __attribute__((noreturn)) void become_pager(const struct build *b)
{
    const struct pager_options options = {.image = b->options->image,
        .source = b->options->pages,
        .record = b->options->record_hot_set,
        .warden_fd = b->pager_socket,
        .template_fd = b->paging[1],
        .pages_fd = b->pages_write,
        .hold_fd = pager_open_hold()};
    struct error ignored; /* the template is gone, which says why itself */
    if (pager_give_hold(options.hold_fd, options.template_fd, &ignored) < 0)
        _exit(1);
    pager_run(&options);
}

static __attribute__((noreturn)) void run_feeder(const struct template *t, struct build *b, pid_t parent)
{
    const struct template_options *o = b->options;
    struct error err = {0};
    if (b->is_paged)
        become_pager(b);
    if (die_with_parent(parent, &err) < 0)
        _exit(1);
    close(t->socket);
    close(b->pages_read);
    signal(SIGPIPE, SIG_IGN);
    if (o->stream_pages(o->stream_context, b->pages_write, &err) < 0)
        *t->feeder_error = err;
    _exit(0);
}

static int map_feeder_error(struct template *t, struct error *err)
{
    void *mapped =
        mmap(NULL, sizeof *t->feeder_error, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return error_system(err, "cannot map shared memory");
    t->feeder_error = mapped;
    return 0;
}

static int start_feeder(struct template *t, struct build *b, struct error *err)
{
    pid_t parent = getpid();
    if (!b->is_paged && map_feeder_error(t, err) < 0)
        return -1;
    t->feeder = fork();
    if (t->feeder == 0)
        run_feeder(t, b, parent);
    return t->feeder < 0 ? error_system(err, "cannot fork the process that reads a template's pages") : 0;
}

/* The caller's side. */

static int open_pages(struct build *b, struct error *err)
{
    int pages[2];
    if (pipe2(pages, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe for a template");
    fcntl(pages[1], F_SETPIPE_SZ, PAGES_PIPE_BYTES); /* a smaller pipe is only slower */
    b->pages_read = pages[0];
    b->pages_write = pages[1];
    return 0;
}

static int watch_pager(struct template *t, struct error *err)
{
    struct epoll_event event = {.events = EPOLLIN};
    t->both = epoll_create1(EPOLL_CLOEXEC);
    if (t->both < 0 || epoll_ctl(t->both, EPOLL_CTL_ADD, t->socket, &event) < 0 ||
        epoll_ctl(t->both, EPOLL_CTL_ADD, t->pager, &event) < 0)
        return error_system(err, "cannot watch a template's sockets");
    return 0;
}

static int fork_pager(struct template *t, struct build *b, struct error *err)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b->paging) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return error_system(err, "cannot make a socket pair for a pager");
    t->pager = sockets[0];
    b->pager_socket = sockets[1];
    return start_feeder(t, b, err);
}

static int take_feeder(struct template *t, struct build *b, struct error *err)
{
    CLEANUP_FREE struct feeder *f = steal_pointer(*b->options->feeder);
    t->pager = f->socket;
    t->feeder = f->pid;
    b->paging[0] = f->paging;
    return feeder_tell(f, b->options, b->pages_write, err);
}

static int start_pager(struct template *t, struct build *b, struct error *err)
{
    const struct template_options *o = b->options;
    bool is_there = o->feeder != NULL && *o->feeder != NULL;
    b->is_paged = true;
    if ((is_there ? take_feeder(t, b, err) : fork_pager(t, b, err)) < 0)
        return -1;
    return watch_pager(t, err);
}

static void close_template(struct template *t)
{
    fd_close(&t->socket);
    fd_close(&t->pager);
    fd_close(&t->both);
    if (t->feeder_error != NULL)
        munmap(t->feeder_error, sizeof *t->feeder_error);
    free(t);
}

/* The pager first, as it has more to do than the template until both have to meet. */
static int start(struct template *t, struct build *b, struct error *err)
{
    const struct template_options *o = b->options;
    if (take_builder(t, o, err) < 0)
        return -1;
    if (o->stream_pages != NULL && open_pages(b, err) < 0)
        return -1;
    bool is_paged = o->pages != NULL && pager_can_serve(o->image);
    if (is_paged && start_pager(t, b, err) < 0)
        return -1;
    if (!is_paged && o->stream_pages != NULL && start_feeder(t, b, err) < 0)
        return -1;
    return begin_build(t, b, err);
}

static void give_up(struct template *t)
{
    template_reap_feeder(t);
    if (t->pid > 0) {
        kill(t->pid, SIGKILL);
        waitpid(t->pid, NULL, 0);
    }
    close_template(t);
}

struct template *template_start(const struct template_options *options, struct error *err)
{
    struct template *t = xcalloc(1, sizeof *t);
    *t = (struct template){.socket = -1, .memory_bytes = options->image->page_bytes, .pager = -1, .both = -1};
    struct build build = {options, -1, -1, false, -1, {-1, -1}};
    int result = start(t, &build, err);
    int *theirs[] = {
        &build.pages_read, &build.pages_write, &build.pager_socket, &build.paging[0], &build.paging[1]};
    for (size_t i = 0; i < countof(theirs); i++)
        fd_close(theirs[i]);
    if (result < 0) {
        give_up(t);
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
