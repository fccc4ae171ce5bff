#include "thaw/feeder.h"

#include "base/fd.h"
#include "thaw/template_private.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEPT_MAX 16

/* What it is told, once. Beside it are the file with what is said of the snapshot, the pipe for the eager pages, and the descriptors of
 * the source. */
struct order {
    uint64_t bytes; /* of the file */
    uint32_t record, pad;
};
enum order_fd { ORDER_ABOUT, ORDER_PAGES, ORDER_SOURCE };
_Static_assert(ORDER_SOURCE + FEEDER_FDS_MAX <= FD_MESSAGE_MAX, "an order is one message");

static __attribute__((noreturn)) void fail(int socket, const struct error *why)
{
    struct pager_word word = {.kind = PAGER_FAILED, .error = why->kind};
    struct error ignored;
    snprintf(word.text, sizeof word.text, "%s", why->text);
    (void)!fd_send_message(socket, &word, sizeof word, NULL, 0, &ignored);
    _exit(1);
}

static int prepare(
    const struct feeder_options *o, struct pager_options *options, pid_t parent, struct error *err)
{
    int kept[KEPT_MAX] = {options->warden_fd, options->template_fd};
    size_t count = 2;
    prctl(PR_SET_NAME, "thaw-feeder");
    if (die_with_parent(parent, err) < 0)
        return -1;
    o->prepare(o->context);
    options->hold_fd = pager_open_hold();
    if (pager_give_hold(options->hold_fd, options->template_fd, err) < 0)
        return -1;
    if (options->hold_fd >= 0)
        kept[count++] = options->hold_fd;
    for (size_t i = 0; i < o->fd_count && count < KEPT_MAX; i++)
        kept[count++] = o->fds[i];
    fd_close_others(kept, count);
    return 0;
}

static int open_source(const struct feeder_options *o, const struct order *order, const int *fds,
    size_t fd_count, struct pager_options *out, struct error *err)
{
    static struct image image;
    struct bytes about = {NULL, order->bytes};
    void *mapped = mmap(NULL, order->bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fds[ORDER_ABOUT], 0);
    if (mapped == MAP_FAILED)
        return error_system(err, "cannot map what is said of a snapshot");
    about.data = mapped;
    close(fds[ORDER_ABOUT]);
    out->image = &image;
    out->record = (enum pager_recording)order->record;
    out->pages_fd = fds[ORDER_PAGES];
    int result =
        o->open(o->context, about, fds + ORDER_SOURCE, fd_count - ORDER_SOURCE, &image, &out->source, err);
    munmap(mapped, order->bytes);
    return result;
}

static __attribute__((noreturn)) void run(
    const struct feeder_options *o, int socket, int template_fd, pid_t parent)
{
    struct error err = {0};
    struct order order = {0};
    struct pager_options options = {.warden_fd = socket, .template_fd = template_fd};
    int fds[FD_MESSAGE_MAX];
    size_t count = 0;
    if (prepare(o, &options, parent, &err) < 0)
        fail(socket, &err);
    ssize_t n = fd_recv_message(socket, &order, sizeof order, fds, &count, &err);
    if (n == 0)
        _exit(0); /* nobody needs it any more */
    if (n == sizeof order && count < ORDER_SOURCE)
        error_set(&err, ERROR_INTERNAL, "a feeder is told without descriptors");
    if (n < 0 || count < ORDER_SOURCE || open_source(o, &order, fds, count, &options, &err) < 0)
        fail(socket, &err);
    pager_run(&options);
}

static int make_pair(int *ours, int *its, struct error *err)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        return error_system(err, "cannot make a socket pair for a pager");
    *ours = sockets[0];
    *its = sockets[1];
    return 0;
}

struct feeder *feeder_start(const struct feeder_options *options, struct error *err)
{
    struct feeder *f = xcalloc(1, sizeof *f);
    *f = (struct feeder){.socket = -1, .paging = -1};
    CLEANUP_FD int socket = -1, template_fd = -1;
    if (make_pair(&f->socket, &socket, err) == 0 && make_pair(&f->paging, &template_fd, err) == 0) {
        pid_t parent = getpid();
        f->pid = fork();
        if (f->pid == 0)
            run(options, socket, template_fd, parent);
        if (f->pid > 0)
            return f;
        error_system(err, "cannot fork a feeder");
    }
    fd_close(&f->socket);
    fd_close(&f->paging);
    free(f);
    return NULL;
}

int feeder_tell(const struct feeder *f, const struct template_options *o, int pages_fd, struct error *err)
{
    const struct order order = {.bytes = o->about.len, .record = o->record_hot_set};
    int fds[FD_MESSAGE_MAX];
    CLEANUP_FD int file = memfd_create("about", MFD_CLOEXEC);
    if (file < 0)
        return error_system(err, "cannot make a memory file for a feeder");
    if (fd_write_all(file, o->about.data, o->about.len, err) < 0)
        return -1;
    fds[ORDER_ABOUT] = file;
    fds[ORDER_PAGES] = pages_fd;
    for (size_t i = 0; i < o->about_fd_count && i < FEEDER_FDS_MAX; i++)
        fds[ORDER_SOURCE + i] = o->about_fds[i];
    return fd_send_message(f->socket, &order, sizeof order, fds, ORDER_SOURCE + o->about_fd_count, err);
}

pid_t feeder_pid(const struct feeder *f)
{
    return f->pid;
}

bool feeder_lives(const struct feeder *f)
{
    struct pollfd end = {.fd = f->socket};
    return poll(&end, 1, 0) == 0;
}

void feeder_free(struct feeder **slot)
{
    struct feeder *f = *slot;
    if (f == NULL)
        return;
    *slot = NULL;
    kill(f->pid, SIGKILL);
    close(f->socket);
    close(f->paging);
    free(f);
}
