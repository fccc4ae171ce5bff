#include "thaw/feeder.h"

#include "base/fd.h"
#include "thaw/template_private.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The first thing it is told. Beside it is the hot set, if there is one. */
struct opening {
    uint32_t len;
    uint8_t about[FEEDER_ABOUT_BYTES_MAX];
};
/* And the second. Beside it are the file with what is said of the snapshot, and the pipe for the eager pages. */
struct order {
    uint64_t bytes;       /* of the file */
    uint32_t record, pad; /* enum pager_recording */
};
enum order_fd { ORDER_ABOUT, ORDER_PAGES, ORDER_FDS };

/* In the feeder's processes. */
struct feeding {
    const struct feeder_options *options;
    void *prepared;
    int socket;
    struct image image;
};

/* As fd_recv_message; anything but so many bytes is an error, but for the end. */
static ssize_t receive(
    int socket, void *message, size_t size, int fds[FD_MESSAGE_MAX], size_t *fd_count, struct error *err)
{
    ssize_t n = fd_recv_message(socket, message, size, fds, fd_count, err);
    return n <= 0 || (size_t)n == size ? n
                                       : error_set(err, ERROR_INTERNAL, "a feeder is told something else");
}

static int await_hot(void *context, struct error *err)
{
    const struct feeding *f = context;
    const struct feeder_options *o = f->options;
    struct opening opening;
    int fds[FD_MESSAGE_MAX];
    size_t count = 0;
    ssize_t n = receive(f->socket, &opening, sizeof opening, fds, &count, err);
    if (n <= 0)
        return (int)n;
    int result = opening.len > sizeof opening.about || count > 1
                     ? error_set(err, ERROR_INTERNAL, "a feeder is told too much")
                     : o->open(f->prepared, (struct bytes){opening.about, opening.len}, fds[0], err);
    explicit_bzero(&opening, sizeof opening);
    return result < 0 ? -1 : 1;
}

static int await_rest(void *context, struct pager_options *options, struct error *err)
{
    struct feeding *f = context;
    const struct feeder_options *o = f->options;
    struct order order;
    int fds[FD_MESSAGE_MAX];
    size_t count = 0;
    ssize_t n = receive(f->socket, &order, sizeof order, fds, &count, err);
    if (n <= 0)
        return (int)n;
    if (count != ORDER_FDS)
        return error_set(err, ERROR_INTERNAL, "a feeder is told without descriptors");
    void *mapped = mmap(NULL, order.bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fds[ORDER_ABOUT], 0);
    if (mapped == MAP_FAILED)
        return error_system(err, "cannot map what is said of a snapshot");
    close(fds[ORDER_ABOUT]);
    options->image = &f->image;
    options->record = (enum pager_recording)order.record;
    options->pages_fd = fds[ORDER_PAGES];
    int result = o->complete(f->prepared, (struct bytes){mapped, order.bytes}, &f->image, err);
    munmap(mapped, order.bytes);
    return result < 0 ? -1 : 1;
}

static __attribute__((noreturn)) void fail(int socket, const struct error *why)
{
    struct pager_word word = {.kind = PAGER_FAILED, .error = why->kind};
    struct error ignored;
    snprintf(word.text, sizeof word.text, "%s", why->text);
    (void)!fd_send_message(socket, &word, sizeof word, NULL, 0, &ignored);
    _exit(1);
}

static __attribute__((noreturn)) void run(const struct feeder_options *o, int socket, int template_fd)
{
    static struct feeding feeding;
    static struct pager_orders orders = {
        .context = &feeding, .await_hot = await_hot, .await_rest = await_rest};
    struct error err = {0};
    struct pager_options options = {
        .orders = &orders, .warden_fd = socket, .template_fd = template_fd, .pages_fd = -1};
    feeding = (struct feeding){.options = o, .socket = socket};
    prctl(PR_SET_NAME, PAGER_FEEDER_NAME);
    feeding.prepared = o->prepare(o->context, &options.source, &err);
    options.hold_fd = pager_open_hold();
    if (feeding.prepared == NULL || pager_give_hold(options.hold_fd, template_fd, &err) < 0)
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
        f->pid = fork();
        if (f->pid == 0)
            run(options, socket, template_fd); /* which closes our ends: so it hears that nobody needs it */
        if (f->pid > 0)
            return f;
        error_system(err, "cannot fork a feeder");
    }
    fd_close(&f->socket);
    fd_close(&f->paging);
    free(f);
    return NULL;
}

/* Until it has got up its pager is kept from this processor: the kernel likes to put it there, as we seem to be about to sleep, and would
 * have us take turns, though another one may be idle. Without, it only takes longer. */
static bool keep_away(pid_t pid, cpu_set_t *usual)
{
    int here = sched_getcpu();
    if (pid == 0 || here < 0 || sched_getaffinity(pid, sizeof *usual, usual) < 0)
        return false;
    cpu_set_t others = *usual;
    CPU_CLR((size_t)here, &others);
    return CPU_COUNT(&others) > 0 && sched_setaffinity(pid, sizeof others, &others) == 0;
}

int feeder_open(const struct feeder *f, struct bytes about, int hot_fd, struct error *err)
{
    struct opening opening = {.len = (uint32_t)about.len};
    if (about.len > sizeof opening.about)
        return error_set(err, ERROR_INTERNAL, "a feeder cannot be told %zu bytes", about.len);
    memcpy(opening.about, about.data, about.len);
    cpu_set_t usual;
    bool is_away = keep_away(f->pager, &usual);
    int result = fd_send_message(f->socket, &opening, sizeof opening, &hot_fd, hot_fd >= 0, err);
    if (is_away)
        (void)!sched_setaffinity(f->pager, sizeof usual, &usual);
    explicit_bzero(&opening, sizeof opening);
    return result;
}

int feeder_tell(const struct feeder *f, const struct template_options *o, int pages_fd, struct error *err)
{
    const struct order order = {.bytes = o->about.len, .record = o->record_hot_set};
    CLEANUP_FD int file = memfd_create("about", MFD_CLOEXEC);
    if (file < 0)
        return error_system(err, "cannot make a memory file for a feeder");
    if (fd_write_all(file, o->about.data, o->about.len, err) < 0)
        return -1;
    const int fds[ORDER_FDS] = {[ORDER_ABOUT] = file, [ORDER_PAGES] = pages_fd};
    return fd_send_message(f->socket, &order, sizeof order, fds, ORDER_FDS, err);
}

pid_t feeder_pid(const struct feeder *f)
{
    return f->pid;
}

bool feeder_lives(struct feeder *f)
{
    struct pager_word word;
    ssize_t n = recv(f->socket, &word, sizeof word, MSG_DONTWAIT);
    if (n == sizeof word && word.kind == PAGER_WAITS && f->pager == 0) {
        f->pager = word.pid;
        n = recv(f->socket, &word, sizeof word, MSG_DONTWAIT);
    }
    return n < 0 && errno == EAGAIN;
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
