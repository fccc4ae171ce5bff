/* thaw process thaw. */
#include "process/process.h"

#include "base/clock.h"
#include "base/fd.h"
#include "process/command.h"
#include "process/folder.h"
#include "thaw/template.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what cannot be there twice ---- */

#define LISTENS_AT "listens at "

static bool has_own_network(const struct folder *f, const struct process_thaw_options *o)
{
    return o->network == PROCESS_NETWORK_PRIVATE ||
           (o->network == PROCESS_NETWORK_AS_FROZEN && f->settings.private_network);
}

/* A socket's name in the file system is taken from whoever has left it there, but not from one who listens. */
static bool somebody_listens(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(path) >= sizeof address.sun_path)
        return false;
    memcpy(address.sun_path, path, strlen(path));
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN ||
           errno == EPROTOTYPE;
}

static int check_listener(const struct folder *f, const struct process_thaw_options *o,
    const struct image_descriptor *d, struct error *err)
{
    const char *at = d->detail + strlen(LISTENS_AT);
    bool is_file = at[0] == '/' && !(f->settings.private_tmp && strncmp(at, "/tmp/", 5) == 0);
    if (o->count > 1 && (is_file || !has_own_network(f, o)))
        return error_set(err, ERROR_UNSUPPORTED,
            "%s: descriptor %d %s, and %u clones cannot all listen there: thaw one%s", f->settings.name,
            d->fd, d->detail, o->count,
            is_file ? "" : ", or give each a network of its own with --network private");
    if (is_file && somebody_listens(at))
        return error_set(err, ERROR_CONFLICT,
            "%s: descriptor %d %s, where somebody listens already: end that first", f->settings.name, d->fd,
            d->detail);
    return 0;
}

static int check_listeners(const struct folder *f, const struct process_thaw_options *o, struct error *err)
{
    for (uint32_t p = 0; p < f->image.process_count; p++) {
        const struct image_process *process = &f->image.processes[p];
        for (uint32_t i = 0; i < process->descriptor_count; i++)
            if (strncmp(process->descriptors[i].detail, LISTENS_AT, strlen(LISTENS_AT)) == 0 &&
                check_listener(f, o, &process->descriptors[i], err) < 0)
                return -1;
    }
    return 0;
}

/* ---- building ---- */

static int start_keepers(struct process_clones *c, const struct process_thaw_options *o,
    const struct folder_settings *settings, struct error *err)
{
    const struct keeper_options about = {
        .private_network = o->network == PROCESS_NETWORK_AS_FROZEN ? settings->private_network
                                                                   : o->network == PROCESS_NETWORK_PRIVATE,
        .private_tmp = settings->private_tmp,
        .dies_with_us = o->wait,
    };
    for (unsigned i = 0; i < c->count; i++)
        if (keeper_start(&c->keepers[i], &about, err) < 0)
            return -1;
    return 0;
}

static int next_event(
    struct template *t, enum template_event_kind wanted, struct template_event *event, struct error *err)
{
    struct pollfd wait = {template_fd(t), POLLIN, 0};
    for (;;) {
        *event = template_next(t);
        if (event->kind == wanted)
            return 0;
        if (event->kind != TEMPLATE_NOTHING) {
            *err = event->error;
            return -1;
        }
        if (poll(&wait, 1, -1) < 0 && errno != EINTR)
            return error_system(err, "cannot wait for the template");
    }
}

static struct template *build(struct process_clones *c, struct folder *f, struct error *err)
{
    struct template_event ready;
    const struct template_options about = {
        .image = &f->image,
        .pages_fd = f->pages_fd,
        .init_pidfd = c->keepers[0].pidfd,
        .code_tree_fd = -1,
        .rights = {.keep = true},
    };
    struct template *t = template_start(&about, err);
    if (t == NULL)
        return NULL;
    if (next_event(t, TEMPLATE_READY, &ready, err) == 0)
        return t;
    template_free(&t);
    return NULL;
}

/* ---- clones ---- */

static int read_report(const struct folder *f, struct process_clone *clone, int report, struct error *err)
{
    char text[400];
    ssize_t got;
    while ((got = read(report, &clone->report, sizeof clone->report)) < 0 && errno == EINTR)
        ;
    if (got != sizeof clone->report || clone->report.magic != PLAN_REPORT_MAGIC)
        return error_set(err, ERROR_SYSTEM, "the clone of %s died before it was whole", f->settings.name);
    if (clone->report.failed == 0)
        return 0;
    template_explain_failure(&f->image, &clone->report, text, sizeof text);
    return error_set(err, ERROR_UNSUPPORTED, "%s cannot be thawed here: %s%s", f->settings.name, text,
        clone->report.failed == -EADDRINUSE ? "; end what listens there, or use --network private" : "");
}

static int make_clone(
    struct process_clones *c, unsigned index, struct template *t, const struct folder *f, struct error *err)
{
    struct process_clone *clone = &c->list[index];
    struct template_event event;
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int report_read = pair[0];
    CLEANUP_FD int report_write = pair[1];
    struct template_clone_args args = {.cookie = index};
    for (size_t i = 0; i < PLAN_SLOT_COUNT; i++)
        args.slots[i] = -1;
    args.slots[PLAN_SLOT_INIT_PIDFD] = c->keepers[index].pidfd;
    args.slots[PLAN_SLOT_REPORT] = report_write;
    for (int i = 0; i < 3; i++)
        args.slots[PLAN_SLOT_STDIN + i] = i;
    clone->asked_ns = clock_monotonic_ns();
    if (template_clone(t, &args, err) < 0 || next_event(t, TEMPLATE_CLONED, &event, err) < 0)
        return -1;
    clone->pid = event.pid;
    clone->pidfd = event.pidfd;
    fd_close(&report_write);
    if (keeper_attend(&c->keepers[index], clone->pidfd, err) < 0 ||
        read_report(f, clone, report_read, err) < 0)
        return -1;
    clone->alive_ns = clock_monotonic_ns();
    return 0;
}

static void kill_clones(struct process_clones *c)
{
    for (unsigned i = 0; i < c->count; i++)
        if (c->list[i].pid > 0) {
            kill(c->list[i].pid, SIGKILL);
            waitpid(c->list[i].pid, NULL, 0);
            c->list[i].pid = 0;
        }
    for (unsigned i = 0; i < c->count; i++)
        keeper_stop(&c->keepers[i]);
}

/* Every standard stream must be there to be handed on. */
static int open_missing_streams(struct error *err)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return error_system(err, "cannot open /dev/null as a standard stream");
    return 0;
}

static int thaw_all(
    struct process_clones *c, struct folder *f, const struct process_thaw_options *o, struct error *err)
{
    c->read_ns = clock_monotonic_ns();
    if (image_check_machine(&f->image, err) < 0 || check_listeners(f, o, err) < 0 ||
        open_missing_streams(err) < 0 || start_keepers(c, o, &f->settings, err) < 0)
        return -1;
    for (int fd = 0; fd < 3; fd++)
        c->stream_flags[fd] = fcntl(fd, F_GETFL);
    c->prepared_ns = clock_monotonic_ns();
    struct template *t = build(c, f, err);
    if (t == NULL)
        return -1;
    c->built_ns = clock_monotonic_ns();
    int result = 0;
    for (unsigned i = 0; i < c->count && result == 0; i++)
        result = make_clone(c, i, t, f, err);
    pid_t template_process = template_pid(t);
    template_free(&t);
    while (waitpid(template_process, NULL, 0) < 0 && errno == EINTR)
        ;
    return result;
}

/* ---- their ends ---- */

static void note_end(struct process_clone *clone)
{
    siginfo_t end = {0};
    while (waitid(P_PIDFD, (id_t)clone->pidfd, &end, WEXITED) < 0 && errno == EINTR)
        ;
    clone->status = status_of(&end);
    clone->ended = true;
    fd_close(&clone->pidfd);
}

static int await_ends(struct process_clones *c, int signals, struct error *err)
{
    CLEANUP_FREE struct pollfd *waits = xcalloc(c->count + 1, sizeof *waits);
    CLEANUP_FREE int *pidfds = xcalloc(c->count, sizeof *pidfds);
    for (unsigned alive = c->count; alive > 0;) {
        for (unsigned i = 0; i < c->count; i++) {
            pidfds[i] = c->list[i].pidfd;
            waits[i] = (struct pollfd){pidfds[i], POLLIN, 0};
        }
        waits[c->count] = (struct pollfd){signals, POLLIN, 0};
        if (poll(waits, c->count + 1, -1) < 0 && errno != EINTR)
            return error_system(err, "cannot wait for the clones");
        if (waits[c->count].revents)
            signals_pass(signals, pidfds, c->count);
        for (unsigned i = 0; i < c->count; i++)
            if (!c->list[i].ended && waits[i].revents) {
                note_end(&c->list[i]);
                alive--;
            }
    }
    return 0;
}

int process_wait(struct process_clones *c, int *status, struct error *err)
{
    int result = await_ends(c, c->signals, err);
    /* A clone that had its streams non-blocking has made ours so, which whoever started us does not expect. */
    for (int fd = 0; fd < 3; fd++)
        fcntl(fd, F_SETFL, c->stream_flags[fd]);
    *status = 0;
    for (unsigned i = 0; i < c->count && *status == 0; i++)
        *status = c->list[i].status;
    return result;
}

/* ---- all of it ---- */

static int thaw_here(const struct process_thaw_options *o, struct process_clones *c, struct error *err)
{
    struct folder folder;
    c->began_ns = clock_monotonic_ns();
    int result = folder_open(&folder, o->directory, err);
    if (result == 0) {
        memcpy(c->name, folder.settings.name, sizeof c->name);
        c->page_bytes = folder.image.page_bytes;
        result = thaw_all(c, &folder, o, err);
    }
    folder_free(&folder);
    if (result < 0)
        kill_clones(c);
    return result;
}

/* What a guardian tells: this, and when there is no error the list of clones. */
struct outcome {
    struct error error;
    struct process_clones clones;
};

/* The parent of clones that nobody waits for: reaps them, and ends with the last. */
_Noreturn static void guard(const struct process_thaw_options *o, struct process_clones *c, int out)
{
    struct outcome outcome = {0};
    setsid();
    prctl(PR_SET_NAME, "thaw-guardian");
    bool thawed = thaw_here(o, c, &outcome.error) == 0;
    outcome.clones = *c;
    if (fd_write_all(out, &outcome, sizeof outcome, NULL) < 0 || !thawed ||
        fd_write_all(out, c->list, c->count * sizeof *c->list, NULL) < 0)
        _exit(1);
    /* Whoever reads the clones' output must see its end. */
    syscall(SYS_close_range, 0, 2, 0);
    fd_close(&out);
    (void)!await_ends(c, -1, &outcome.error);
    _exit(0);
}

static int thaw_guarded(const struct process_thaw_options *o, struct process_clones *c, struct error *err)
{
    int pair[2];
    struct outcome outcome;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int from_guardian = pair[0];
    CLEANUP_FD int to_us = pair[1];
    pid_t guardian = fork();
    if (guardian < 0)
        return error_system(err, "cannot fork");
    if (guardian == 0)
        guard(o, c, fd_steal(&to_us));
    fd_close(&to_us);
    if (fd_read_full(from_guardian, &outcome, sizeof outcome, err) < 0)
        return error_prefix(err, "the clones' guardian died");
    if (outcome.error.kind != ERROR_NONE)
        return error_set(err, outcome.error.kind, "%s", outcome.error.text);
    outcome.clones.list = c->list;
    outcome.clones.keepers = c->keepers;
    outcome.clones.signals = -1;
    *c = outcome.clones;
    if (fd_read_full(from_guardian, c->list, c->count * sizeof *c->list, err) < 0)
        return -1;
    for (unsigned i = 0; i < c->count; i++) {
        c->list[i].pidfd = -1; /* the guardian's */
        c->keepers[i] = KEEPER_NONE;
    }
    return 0;
}

int process_thaw(const struct process_thaw_options *o, struct process_clones *c, struct error *err)
{
    *c = (struct process_clones){.count = o->count, .signals = -1};
    c->list = xcalloc(o->count, sizeof *c->list);
    c->keepers = xcalloc(o->count, sizeof *c->keepers);
    for (unsigned i = 0; i < o->count; i++) {
        c->list[i].pidfd = -1;
        c->keepers[i] = KEEPER_NONE;
    }
    /* From here on: a clone may answer, and somebody send it a signal, before we come to wait. */
    int result = 0;
    if (o->wait && (c->signals = signals_take(&c->mask_before, err)) < 0)
        result = -1;
    if (result == 0)
        result = o->wait ? thaw_here(o, c, err) : thaw_guarded(o, c, err);
    if (result < 0)
        process_clones_free(c);
    return result;
}

void process_clones_free(struct process_clones *c)
{
    for (unsigned i = 0; c->list && i < c->count; i++) {
        fd_close(&c->list[i].pidfd);
        keeper_release(&c->keepers[i]);
    }
    if (c->signals >= 0)
        sigprocmask(SIG_SETMASK, &c->mask_before, NULL);
    fd_close(&c->signals);
    free(steal_pointer(c->list));
    free(steal_pointer(c->keepers));
}

int process_print(struct buffer *out, const char *directory, bool plan, bool json, struct error *err)
{
    struct folder folder;
    int result = folder_open(&folder, directory, err);
    if (result == 0)
        image_print(out, &folder.image, plan, json);
    folder_free(&folder);
    return result;
}
