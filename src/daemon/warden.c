/* The warden's loop: what it watches, and how it ends.
 *
 *   serving --SIGTERM--> stopping: the front is asked to drain and end --the front ended--> everything ends,
 * 0
 *      '-----------the front ended, or broke a rule of the wire-----------------------------> everything
 * ends, -1
 */
#include "daemon/warden.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/role.h"
#include "daemon/warden_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAIN_GRACE_SECONDS 5     /* more than the front gives itself */
#define IMPATIENCE_NS 1000000000u /* between two signals, for the second to mean "at once" */
#define LAST_WAIT_NS 5000000000u  /* what was killed may take so long at the end, and then dying sandboxes */
#define LAST_POLL_US 1000

/* A handler with an eventfd, and no blocked signals: what is blocked would be blocked in functions, too. */
static int signal_fd = -1;
static pid_t signal_pid;

static void on_signal(int number)
{
    (void)number;
    int saved = errno;
    /* Children that have not yet changed their handlers must not stop us. */
    if (getpid() == signal_pid)
        (void)!eventfd_write(signal_fd, 1);
    errno = saved;
}

void warden_fail(struct warden *w, const char *format, ...)
{
    if (!w->failed) {
        va_list args;
        va_start(args, format);
        vsnprintf(w->failure.text, sizeof w->failure.text, format, args);
        va_end(args);
        w->failure.kind = ERROR_INTERNAL;
    }
    w->failed = true;
    loop_stop(w->loop);
}

/* A clone whose template died before it told us of it: nobody else would wait for it, and its sandbox could not
 * end. */
static void reap_stranger(struct warden *w)
{
    siginfo_t child = {0};
    if (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) < 0 || child.si_pid == 0)
        return;
    pid_t pid = child.si_pid;
    if (pid != w->options->front_pid && !env_has_pid(w, pid) && !worker_has_pid(w, pid) &&
        !courier_has_pid(w, pid) && !builders_has_pid(w, pid) && !template_has_pid(w, pid))
        waitpid(pid, NULL, 0);
}

static void tick(void *context)
{
    struct warden *w = context;
    reap_stranger(w);
    size_t dying = sandbox_host_tick(w->options->host);
    template_reap(w);
    if (dying > 0 || !LIST_EMPTY(&w->zombies))
        warden_tick_soon(w);
}

void warden_tick_soon(struct warden *w)
{
    if (w->tick_timer == NULL)
        loop_timer_set(w->loop, &w->tick_timer, clock_monotonic_ns() + WARDEN_TICK_NS, tick, w);
}

void warden_front_ready(struct warden *w)
{
    w->front_ready = true;
    role_notify("READY=1\nSTATUS=Serving");
    log_info("ready");
}

static void drain_is_over(void *context)
{
    struct warden *w = context;
    log_warning("the front has not ended yet: killing it");
    pidfd_send_signal(w->options->front_pidfd, SIGKILL, NULL, 0);
}

static void stop_asked(void *context, uint32_t events)
{
    (void)events;
    struct warden *w = context;
    eventfd_t count;
    (void)!eventfd_read(signal_fd, &count);
    if (w->stopping) {
        /* Asked again, by somebody who is impatient; not the same wish that came twice, as timeout(1) does it. */
        if (clock_monotonic_ns() - w->stopping_ns >= IMPATIENCE_NS)
            drain_is_over(w);
        return;
    }
    w->stopping = true;
    w->stopping_ns = clock_monotonic_ns();
    log_info("stopping: waiting for running invocations, at most %u s", w->options->drain_seconds);
    role_notify("STOPPING=1\nSTATUS=Waiting for running invocations");
    pidfd_send_signal(w->options->front_pidfd, SIGTERM, NULL, 0);
    uint64_t patience = (uint64_t)(w->options->drain_seconds + DRAIN_GRACE_SECONDS) * 1000000000u;
    loop_timer_set(w->loop, &w->drain_timer, clock_monotonic_ns() + patience, drain_is_over, w);
}

static void front_ended(void *context, uint32_t events)
{
    (void)events;
    struct warden *w = context;
    int status = 0;
    loop_unwatch(&w->front_watch);
    waitpid(w->options->front_pid, &status, 0);
    bool in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    /* Before it is ready, it does not yet take the signal as a wish. */
    bool early = !w->front_ready && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    if (w->stopping && (in_order || early))
        loop_stop(w->loop);
    else if (WIFSIGNALED(status))
        warden_fail(w, "the front was killed by signal %d", WTERMSIG(status));
    else
        warden_fail(w, "the front ended with status %d", WEXITSTATUS(status));
}

static int watch_signals(struct warden *w, struct error *err)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    signal_pid = getpid();
    if (signal_fd < 0 || sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0)
        return error_system(err, "cannot watch for signals");
    w->signal_watch = loop_watch_fd(w->loop, signal_fd, EPOLLIN, stop_asked, w, err);
    return w->signal_watch == NULL ? -1 : 0;
}

static int begin(struct warden *w, struct error *err)
{
    struct sysinfo machine;
    if (sysinfo(&machine) < 0)
        return error_system(err, "cannot ask for the size of the memory");
    w->budget =
        budget_new(w->options->template_budget > 0 ? w->options->template_budget
                                                   : (uint64_t)machine.totalram * machine.mem_unit / 2);
    TAILQ_INIT(&w->waiting);
    TAILQ_INIT(&w->templates);
    STAILQ_INIT(&w->outgoing);
    STAILQ_INIT(&w->freezes);
    if (watch_signals(w, err) < 0)
        return -1;
    w->wire_watch = loop_watch_fd(w->loop, w->options->wire_fd, EPOLLIN, warden_wire_event, w, err);
    if (w->wire_watch == NULL)
        return -1;
    w->front_watch = loop_watch_fd(w->loop, w->options->front_pidfd, EPOLLIN, front_ended, w, err);
    if (w->front_watch == NULL)
        return -1;
    pool_open(w);
    builders_open(w);
    courier_begin(w);
    key_resume_rotation(w);
    return 0;
}

void warden_reap_killed(pid_t pid, const char *what, uint64_t deadline_ns)
{
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (clock_monotonic_ns() > deadline_ns) {
            log_warning("%s, process %d, does not die of SIGKILL", what, pid);
            return;
        }
        usleep(LAST_POLL_US);
    }
}

/* Whatever is left of the front and of everything that was made for it. */
static void end_all(struct warden *w)
{
    if (w->front_watch != NULL) {
        loop_unwatch(&w->front_watch);
        pidfd_send_signal(w->options->front_pidfd, SIGKILL, NULL, 0);
        waitpid(w->options->front_pid, NULL, 0);
    }
    pool_close(w);
    builders_close(w);
    snapshot_free_all(w);
    worker_end_all(w);
    courier_end(w); /* workers that are let finish may need it */
    key_free(w);
    uint64_t deadline_ns = clock_monotonic_ns() + LAST_WAIT_NS;
    env_free_all(w, deadline_ns);
    template_free_all(w, deadline_ns);
    deadline_ns = clock_monotonic_ns() + LAST_WAIT_NS;
    while (sandbox_host_tick(w->options->host) > 0 && clock_monotonic_ns() < deadline_ns)
        usleep(LAST_POLL_US);
    warden_outgoing_free(w);
}

int warden_run(const struct warden_options *options, struct error *err)
{
    static struct warden warden;
    struct warden *w = &warden;
    *w = (struct warden){.options = options};
    w->loop = loop_new(err);
    if (w->loop == NULL)
        return -1;
    int result = begin(w, err);
    if (result == 0)
        result = loop_run(w->loop, err);
    if (result == 0 && w->failed) {
        *err = w->failure;
        result = -1;
    }
    end_all(w);
    budget_free(w->budget);
    loop_free(w->loop);
    fd_close(&signal_fd);
    return result;
}
