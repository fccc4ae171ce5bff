/* Long jobs run in a child each: it inherits what it needs, and tells its result over a pipe as it ends. */
#include "daemon/warden_private.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACKGROUND_NICENESS 10

struct worker {
    LIST_ENTRY(worker) entry;
    struct warden *warden;
    pid_t pid;
    int pidfd, result_fd;
    struct loop_watch *watch;
    struct worker_job job;
};

static void free_worker(struct worker *worker)
{
    LIST_REMOVE(worker, entry);
    loop_unwatch(&worker->watch);
    fd_close(&worker->pidfd);
    fd_close(&worker->result_fd);
    free(worker);
}

static void worker_ended(void *context, uint32_t events)
{
    (void)events;
    struct worker *worker = context;
    struct worker_result result = {0};
    struct error err = {0};
    int status = 0;
    waitpid(worker->pid, &status, 0);
    if (fd_read_full(worker->result_fd, &result, sizeof result, &err) < 0)
        error_set(&result.error, ERROR_INTERNAL, "the process that did it ended too early (wait status 0x%x)",
            status);
    result.error.text[sizeof result.error.text - 1] = '\0';
    struct warden *w = worker->warden;
    struct worker_job job = worker->job;
    free_worker(worker);
    job.done(w, job.context, &result);
}

/* In the child. */
static _Noreturn void run_body(const struct worker_job *job, int result_fd, pid_t parent)
{
    struct worker_result result = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    if (getppid() != parent)
        _exit(1);
    if (job->background)
        setpriority(PRIO_PROCESS, 0, BACKGROUND_NICENESS);
    job->body(job->context, &result);
    /* Smaller than a pipe's atomic write: it arrives whole or not at all. */
    _exit(write(result_fd, &result, sizeof result) != sizeof result);
}

int worker_start(struct warden *w, const struct worker_job *job, struct error *err)
{
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    pid_t parent = getpid();
    struct worker *worker = xcalloc(1, sizeof *worker);
    *worker = (struct worker){.warden = w, .pidfd = -1, .result_fd = pipe_fds[0], .job = *job};
    worker->pid = fork();
    if (worker->pid == 0)
        run_body(job, pipe_fds[1], parent);
    close(pipe_fds[1]);
    LIST_INSERT_HEAD(&w->workers, worker, entry);
    if (worker->pid < 0) {
        error_system(err, "cannot fork");
        free_worker(worker);
        return -1;
    }
    worker->pidfd = pidfd_open(worker->pid, 0);
    if (worker->pidfd >= 0)
        worker->watch = loop_watch_fd(w->loop, worker->pidfd, EPOLLIN, worker_ended, worker, err);
    else
        error_system(err, "cannot watch a child");
    if (worker->watch != NULL)
        return 0;
    kill(worker->pid, SIGKILL);
    waitpid(worker->pid, NULL, 0);
    free_worker(worker);
    return -1;
}

bool worker_has_pid(struct warden *w, pid_t pid)
{
    const struct worker *worker;
    LIST_FOREACH (worker, &w->workers, entry)
        if (worker->pid == pid)
            return true;
    return false;
}

void worker_end_all(struct warden *w)
{
    struct worker *next;
    for (struct worker *worker = LIST_FIRST(&w->workers); worker != NULL; worker = next) {
        next = LIST_NEXT(worker, entry);
        if (!worker->job.finish)
            kill(worker->pid, SIGKILL);
        worker_ended(worker, 0);
    }
}
