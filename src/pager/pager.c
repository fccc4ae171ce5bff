/* From the builder of a template to its keeper and its pager. */
#include "pager/private.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/wakeups.h"

#include <errno.h>
#include <link.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINGER_NS (10 * 1000000l)
#define PAGER_NAME "thaw-pager"

static void say_failure(int warden_fd, enum pager_word_kind kind, const struct error *why)
{
    struct pager_word word = {.kind = kind, .error = why->kind};
    struct error ignored;
    snprintf(word.text, sizeof word.text, "%s", why->text);
    if (fd_send_message(warden_fd, &word, sizeof word, NULL, 0, &ignored) < 0)
        return; /* the warden is gone, and so is whoever would be ended for this */
}

/* Until no address space is left that any of our descriptors serves. */
static void linger(void)
{
    const struct timespec pause = {.tv_nsec = LINGER_NS};
    for (;;) {
        bool living = false;
        for (int fd = 0; fd < PAGER_DESCRIPTORS_MAX && !living; fd++)
            living = uffd_lives(fd);
        if (!living)
            return;
        nanosleep(&pause, NULL);
    }
}

/* ---- the keeper ---- */

#define TAKE_NAME SIGUSR1

static void take_name(int signal)
{
    (void)signal;
    prctl(PR_SET_NAME, "thaw-keeper");
}

static __attribute__((noreturn)) void keep(const struct pager_options *o, pid_t pager)
{
    int status = 0;
    struct error err = {0};
    if (o->orders == NULL)
        take_name(TAKE_NAME);
    if (confine_calls(true, &err) < 0)
        say_failure(o->warden_fd, PAGER_DIED, &err);
    while (waitpid(pager, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        _exit(0);
    error_set(&err, ERROR_SYSTEM, "the pager was killed by signal %d", WTERMSIG(status));
    if (WIFEXITED(status))
        error_set(&err, ERROR_SYSTEM, "the pager ended with status %d", WEXITSTATUS(status));
    say_failure(o->warden_fd, PAGER_DIED, &err);
    linger();
    _exit(1);
}

/* ---- the pager ---- */

/* Which hot set is not known yet: then as many as there may be use for. */
static size_t helpers_of(const struct pager_options *o)
{
    return o->orders != NULL || decoding_is_helped(o->source) ? decoding_helpers_max() : 0;
}

/* What the template says; 0: nothing yet. */
static int hear_template(struct pager *p, void *out, size_t size, int *fd, bool wait, struct error *err)
{
    int fds[FD_MESSAGE_MAX];
    size_t count;
    struct pollfd ready = {p->template_fd, POLLIN, 0};
    if (!wait && poll(&ready, 1, 0) <= 0)
        return 0;
    ssize_t n = fd_recv_message(p->template_fd, out, size, fds, &count, err);
    if (n < 0)
        return -1;
    if (n != (ssize_t)size)
        return error_set(err, ERROR_SYSTEM, "the template ended before it was built");
    *fd = fds[0];
    return 1;
}

static int take_memory(struct pager *p, bool wait, struct error *err)
{
    int result = hear_template(p, &p->hello, sizeof p->hello, &p->memory_fd, wait, err);
    if (result <= 0)
        return result;
    if (p->memory_fd < 0)
        return error_set(err, ERROR_INTERNAL, "the template has not given its memory");
    layout_free(&p->layout);
    layout_make(&p->layout, p->options.image, p->hello.bulk_address);
    return 1;
}

int pager_register(struct pager *p, bool wait, struct error *err)
{
    char byte = 0;
    int none = -1, result = p->memory_fd >= 0 ? 1 : take_memory(p, wait, err);
    if (result <= 0)
        return result;
    result = hear_template(p, &byte, 1, &none, wait, err);
    if (result <= 0)
        return result;
    p->figures.mapped_ns = clock_monotonic_ns();
    p->template = p->spaces = space_new(&p->layout, p->memory_fd);
    p->space_count = 1;
    if (hold_add(p, p->memory_fd, err) < 0)
        return -1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p->template};
    if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->memory_fd, &event) < 0)
        return error_system(err, "cannot watch the template's memory");
    for (size_t i = 0; i < p->layout.region_count; i++)
        if (uffd_register(p->memory_fd, p->layout.regions[i].start, p->layout.regions[i].end, err) < 0)
            return -1;
    p->figures.registered_ns = clock_monotonic_ns();
    return 1;
}

/* While the template makes its mappings, the hot set is read. */
static int prepare(struct pager *p, struct error *err)
{
    layout_make(&p->layout, p->options.image, 0);
    p->figures.lazy_pages = p->layout.lazy_pages;
    p->touched = xcalloc(bits_words(p->layout.pages), sizeof *p->touched);
    if (chunk_check_all(p, err) < 0)
        return -1;
    return hot_bring(p, err);
}

static int run(struct pager *p, struct error *err)
{
    const char go = PAGER_SAYS_GO;
    struct epoll_event event = {.events = EPOLLIN};
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll_fd < 0 || epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->warden_fd, &event) < 0)
        return error_system(err, "cannot make an epoll");
    if (prepare(p, err) < 0)
        return -1;
    p->figures.ready_ns = clock_monotonic_ns();
    struct pager_word ready = {.kind = PAGER_READY, .figures = p->figures};
    if (fd_write_all(p->template_fd, &go, 1, err) < 0 ||
        fd_send_message(p->warden_fd, &ready, sizeof ready, NULL, 0, err) < 0)
        return -1;
    if (p->options.orders != NULL)
        tgkill(p->keeper, p->keeper, TAKE_NAME);
    hot_end(p);
    /* Without a hot set that could be used: anew. */
    p->records = p->hot.total == 0 || p->options.record == PAGER_RECORD_MORE;
    return pager_serve(p, err);
}

static int map_code(struct dl_phdr_info *object, size_t size, void *context)
{
    (void)size, (void)context;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uint64_t start = (object->dlpi_addr + segment->p_vaddr) / PAGER_PAGE_BYTES * PAGER_PAGE_BYTES;
        uint64_t end = object->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W))
            (void)!madvise((void *)start, end - start, MADV_POPULATE_READ);
    }
    return 0;
}

/* A process that was just forked has none of its code mapped, and no memory of its own. Best effort: it only takes longer. */
static void warm_up(struct pager *p)
{
    dl_iterate_phdr(map_code, NULL);
    if (p->hot.decoding != NULL)
        decoding_warm_up(p->hot.decoding);
}

static void begin_hot(struct pager *p)
{
    p->figures.began_ns = clock_monotonic_ns();
    if (p->hot.decoding != NULL && !decoding_begin(p->hot.decoding, decoding_is_helped(p->source)))
        decoding_free(steal_pointer(p->hot.decoding));
}

/* Until it knows of which snapshot. It ends with the keeper meanwhile, and exits when nobody needs it any more. */
static int await_orders(struct pager *p, struct error *err)
{
    const struct pager_orders *orders = p->options.orders;
    const struct pager_word waits = {.kind = PAGER_WAITS, .pid = getpid()};
    if (fd_send_message(p->warden_fd, &waits, sizeof waits, NULL, 0, err) < 0)
        _exit(0);
    int result = orders->await_hot(orders->context, err);
    if (result > 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        prctl(PR_SET_NAME, PAGER_NAME);
        begin_hot(p);
        hot_decode_ahead(p, p->warden_fd);
        result = orders->await_rest(orders->context, &p->options, err);
    }
    if (result == 0)
        _exit(0);
    return result;
}

static int begin(struct pager *p, struct error *err)
{
    const struct pager_options *o = &p->options;
    if (confine_calls(false, err) < 0)
        return -1;
    if (o->orders == NULL)
        begin_hot(p);
    else if (await_orders(p, err) < 0)
        return -1;
    p->pages_fd = o->pages_fd;
    p->chunk_states = xcalloc(o->source->chunk_count + 1, 1);
    p->chunk_fetches = xcalloc(o->source->chunk_count + 1, 1);
    return 0;
}

/* Exits with 0 when nothing is left that it serves. After a failure nobody is served, and nobody gets zeros instead. */
static __attribute__((noreturn)) void page(const struct pager_options *o, pid_t keeper)
{
    struct error err = {0};
    struct pager *p = xcalloc(1, sizeof *p);
    *p = (struct pager){.options = *o,
        .source = o->source,
        .warden_fd = o->warden_fd,
        .keeper = keeper,
        .template_fd = o->template_fd,
        .memory_fd = -1,
        .pages_fd = -1};
    prctl(PR_SET_NAME, o->orders == NULL ? PAGER_NAME : PAGER_FEEDER_NAME);
    if (o->orders != NULL && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper))
        _exit(1);
    wakeups_favor();
    if (o->orders != NULL || (o->record != PAGER_RECORD_ANEW && o->source->hot_take != NULL))
        p->hot.decoding = decoding_new(o->source, helpers_of(o));
    if (o->orders != NULL)
        warm_up(p);
    if (begin(p, &err) < 0 || run(p, &err) < 0) {
        say_failure(o->warden_fd, PAGER_FAILED, &err);
        hot_end(p);
        linger();
    }
    _exit(0);
}

void pager_run(const struct pager_options *o)
{
    const int all[] = {o->warden_fd, o->template_fd, o->pages_fd, o->hold_fd};
    int own[countof(all)];
    size_t own_count = 0;
    struct error err = {0};
    struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
    signal(SIGPIPE, SIG_IGN);
    signal(TAKE_NAME, take_name);
    prctl(PR_SET_PDEATHSIG, 0); /* what it serves dies with the warden, and it after that */
    if (o->source->confine != NULL)
        o->source->confine(o->source->context);
    for (size_t i = 0; i < countof(all); i++)
        if (all[i] >= 0)
            own[own_count++] = all[i];
    int result = confine_rights(o, own, own_count, &err);
    pid_t keeper = getpid();
    pid_t pager = result < 0 ? -1 : (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pager == 0)
        page(o, keeper);
    if (pager > 0)
        keep(o, pager);
    if (result == 0)
        error_system(&err, "cannot fork the pager");
    say_failure(o->warden_fd, PAGER_FAILED, &err);
    _exit(1);
}
