/* The courier, as the warden keeps it: started with the rest, started again when it dies.
 *
 * The warden holds both ends of the control socket, and gives the courier's end to each courier in turn: clients put one end of a
 * new pair into it, which the next courier finds there if there is none at the moment. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/role.h"
#include "daemon/warden_private.h"
#include "origin/sigv4.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#define RESTART_FIRST_MS 20 /* then twice as long each time */
#define RESTART_MAX_MS 5000
#define GOOD_LIFE_NS 10000000000ull /* of a courier that did not die at once */
#define NS_PER_MS 1000000ull

static void start(struct warden *w);

static void restart(void *context)
{
    start(context);
}

static void start_later(struct warden *w)
{
    struct courier_keeping *k = &w->courier;
    loop_timer_set(w->loop, &k->restart_timer, clock_monotonic_ns() + k->restart_ms * NS_PER_MS, restart, w);
    k->restart_ms = k->restart_ms * 2 < RESTART_MAX_MS ? k->restart_ms * 2 : RESTART_MAX_MS;
}

static void courier_ended(void *context, uint32_t events)
{
    (void)events;
    struct warden *w = context;
    struct courier_keeping *k = &w->courier;
    int status = 0;
    waitpid(k->pid, &status, 0);
    loop_unwatch(&k->watch);
    fd_close(&k->pidfd);
    k->pid = 0;
    store_discard_fetched(w->options->store);
    log_warning("the courier ended (%s %d): starting it again", WIFSIGNALED(status) ? "signal" : "status",
        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (clock_monotonic_ns() - k->started_ns > GOOD_LIFE_NS)
        k->restart_ms = RESTART_FIRST_MS;
    start_later(w);
}

static void start(struct warden *w)
{
    struct courier_keeping *k = &w->courier;
    const struct warden_options *o = w->options;
    struct error err = {0};
    k->started_ns = clock_monotonic_ns();
    if (role_start_courier(
            o->courier.argv, o->courier.control_end, o->courier.credentials, &k->pid, &k->pidfd, &err) == 0)
        k->watch = loop_watch_fd(w->loop, k->pidfd, EPOLLIN, courier_ended, w, &err);
    if (k->watch != NULL)
        return;
    log_warning("the courier cannot be started: %s", err.text);
    courier_end(w);
    start_later(w);
}

void courier_begin(struct warden *w)
{
    w->courier = (struct courier_keeping){.pidfd = -1, .restart_ms = RESTART_FIRST_MS};
    if (w->options->courier.argv != NULL)
        start(w);
}

bool courier_has_pid(const struct warden *w, pid_t pid)
{
    return w->courier.pid == pid;
}

void courier_end(struct warden *w)
{
    struct courier_keeping *k = &w->courier;
    loop_timer_cancel(&k->restart_timer);
    loop_unwatch(&k->watch);
    if (k->pid > 0) {
        kill(k->pid, SIGKILL);
        waitpid(k->pid, NULL, 0);
        fd_close(&k->pidfd);
    }
    k->pid = 0;
}
