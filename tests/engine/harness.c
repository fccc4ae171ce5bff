/* Freezes and thaws one test program: see README.md. Prints "ok NAME" or what failed, and exits 0 or 1. */
#include "arena.h"
#include "pages.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "freeze/freeze.h"
#include "image/image.h"
#include "sandbox/filter.h"
#include "thaw/template.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLONES_MAX 64
#define SILENT_MAX 8 /* connections that say nothing */
#define OUTPUT_MAX (1u << 20)
#define MANIFEST_MAX (1u << 30)
#define TEST_SECONDS 120
#define NICE_MOST 10 /* tests raise the value that they find by some, and 19 is the end */

struct options {
    const char *folder; /* of the test programs */
    const char *refuse; /* the freeze must fail, with this in its error's text */
    int clones;
    bool one_by_one; /* the next clone starts when the one before has ended */
    bool early;      /* answer before the freeze */
    bool stopped;    /* send SIGSTOP before the freeze */
    bool sandboxed;  /* the original too runs under the sandbox's system call filter */
    int broken; /* this process of the snapshot cannot be restored, which must end all of the clone; -1: none */
    bool print_plan, timings;
    bool filtered;          /* clones run under the sandbox's system call filter */
    bool lazy;              /* with a pager, first without and then with a hot set */
    unsigned slow_ms;       /* every chunk comes from afar, and takes so long */
    unsigned damaged;       /* the chunk after so many is damaged, which must be told */
    bool pager_dies;        /* it is killed, which must be told */
    uint64_t older_seconds; /* pretend that the machine of the freeze had been up for longer than this one */
    const char *unlisted;   /* a folder of this name cannot be read */
    char **argv;
};

struct clone {
    struct arena arena;
    pid_t pid;
    int pidfd, log, report, connection;
    uint64_t asked_ns;
    struct buffer output;
    int status;
    bool done, waiting; /* waiting: at the barrier */
};

static bool complete; /* all pages are in the template */
static struct options options = {.clones = 3, .broken = -1};

static void __attribute__((noreturn)) fail(const char *what, const char *why)
{
    printf("not ok %s: %s: %s\n", options.argv[0], what, why);
    fflush(stdout);
    exit(1);
}

#define MUST(call, what) \
    do { \
        if ((call) < 0) \
            fail(what, strerror(errno)); \
    } while (0)
#define MUST_OR(call, err, what) \
    do { \
        if ((call) < 0) \
            fail(what, (err).text); \
    } while (0)

/* ---- the original ---- */

struct original {
    struct arena arena;
    pid_t pid;
    int log, connection; /* log: the pipe's read end */
    uint16_t port;       /* the source port of its connection */
    char request[4096];
    size_t request_len;
};

static void dump_log(int log)
{
    char text[4096];
    ssize_t got;
    fcntl(log, F_SETFL, O_NONBLOCK);
    while ((got = read(log, text, sizeof text)) > 0)
        printf("%.*s", (int)got, text);
}

/* Reads one request, up to its empty line. Returns 0 at the end of the stream. */
static size_t read_request(int connection, char *request, size_t size)
{
    size_t len = 0;
    while (len < 4 || memcmp(request + len - 4, "\r\n\r\n", 4) != 0) {
        if (len == size)
            fail("the request", "is too long");
        ssize_t got = read(connection, request + len, 1);
        if (got <= 0)
            return 0;
        len += (size_t)got;
    }
    return len;
}

/* Accepts until one connection has something to say; the silent ones stay open, for as long as this process
 * runs. Returns -1 when `end` (a log's or a pidfd's) says that the program is gone. */
static int accept_speaker(int listener, struct pollfd end, uint16_t *port)
{
    struct pollfd waits[2 + SILENT_MAX] = {{listener, POLLIN, 0}, end};
    nfds_t count = 2;
    for (;;) {
        MUST(poll(waits, count, -1), "poll");
        for (nfds_t i = 2; i < count; i++) {
            struct sockaddr_in peer;
            socklen_t peer_len = sizeof peer;
            if (waits[i].revents == 0)
                continue;
            MUST(getpeername(waits[i].fd, (struct sockaddr *)&peer, &peer_len), "getpeername");
            *port = ntohs(peer.sin_port);
            return waits[i].fd;
        }
        if (waits[0].revents & POLLIN) {
            if (count == countof(waits))
                fail("the program", "has too many connections");
            waits[count] = (struct pollfd){accept4(listener, NULL, NULL, SOCK_CLOEXEC), POLLIN, 0};
            MUST(waits[count++].fd, "accept");
        } else if (waits[1].revents) {
            return -1;
        }
    }
}

static void original_start(struct original *o)
{
    struct error err;
    int pipe_fds[2];
    MUST_OR(arena_start(&o->arena, &err), err, "arena");
    int code_tree = arena_code_tree(options.folder, &err);
    MUST_OR(code_tree, err, "code");
    MUST(pipe2(pipe_fds, O_CLOEXEC), "pipe");
    MUST(fchown(pipe_fds[1], ARENA_UID, ARENA_GID), "fchown"); /* so that it can open /dev/stdout */
    const struct sock_fprog *filter = options.sandboxed ? sandbox_filter_full(&err) : NULL;
    if (options.sandboxed && !filter)
        fail("the filter", err.text);
    MUST_OR(
        arena_spawn(&o->arena, options.argv, code_tree, pipe_fds[1], filter, &o->pid, &err), err, "spawn");
    close(code_tree);
    close(pipe_fds[1]);
    o->log = pipe_fds[0];

    o->connection = accept_speaker(o->arena.listener, (struct pollfd){o->log, 0, 0}, &o->port);
    if (o->connection < 0) {
        dump_log(o->log);
        fail("the program", "ended before its freeze point");
    }
    o->request_len = read_request(o->connection, o->request, sizeof o->request);
    if (o->request_len == 0) {
        dump_log(o->log);
        fail("the program", "closed its connection");
    }
}

/* Sends bytes that the program does not read, and waits until they are there. */
static void answer_early(const struct original *o)
{
    int unsent = 1;
    MUST(write(o->connection, "early", 5), "write");
    while (unsent > 0) {
        MUST(ioctl(o->connection, SIOCOUTQ, &unsent), "SIOCOUTQ");
        usleep(1000);
    }
}

static void stop_original(const struct original *o)
{
    int status;
    MUST(kill(o->pid, SIGSTOP), "kill");
    MUST(waitpid(o->pid, &status, WUNTRACED), "waitpid");
    if (!WIFSTOPPED(status))
        fail("the program", "did not stop");
}

static int put_pages(
    void *context, uint64_t space, uint64_t address, const void *data, size_t len, struct error *err)
{
    (void)space;
    (void)address;
    return fd_write_all(*(const int *)context, data, len, err);
}

/* In a process of its own: freezes, and writes the manifest, or else the error, to `out`. */
static void __attribute__((noreturn)) freeze_worker(const struct original *o, int out, int pages)
{
    struct error err = {0};
    struct freeze_replay replay = {o->port, {(const uint8_t *)o->request, o->request_len}};
    struct freeze_request request = {
        .pid = o->pid,
        .api_port = ARENA_PORT,
        .replays = &replay,
        .replay_count = 1,
        .code_path = ARENA_CODE_PATH,
        .uid = ARENA_UID,
        .gid = ARENA_GID,
        .filter_count = options.sandboxed,
        .log_fd = o->log,
        .put_pages = put_pages,
        .put_context = &pages,
    };
    struct image image = {0};
    struct buffer manifest = {0};
    int status = 1;
    uint64_t from_ns = clock_monotonic_ns();
    int frozen = freeze_process(&request, &image, &err);
    if (options.timings)
        printf("# freeze %.3f ms\n", (double)(clock_monotonic_ns() - from_ns) / 1e6);
    if (frozen == 0) {
        image_encode(&manifest, &image);
        status = fd_write_all(out, manifest.data, manifest.len, &err) == 0 ? 0 : 2;
    } else if (fd_write_all(out, err.text, strlen(err.text), &err) < 0) {
        status = 2;
    }
    image_free(&image);
    buffer_free(&manifest);
    exit(status); /* not _exit: a sanitizer may have something to say about leaks */
}

/* Freezes the original, and kills it. Returns false when the freeze failed; the text is then in `out`. */
static bool original_freeze(struct original *o, struct buffer *out, int pages)
{
    struct error err;
    int status, out_fd = memfd_create("manifest", MFD_CLOEXEC);
    MUST(out_fd, "memfd_create");
    fflush(stdout);
    pid_t worker = fork();
    MUST(worker, "fork");
    if (worker == 0)
        freeze_worker(o, out_fd, pages);
    MUST(waitpid(worker, &status, 0), "waitpid");
    MUST(kill(o->pid, SIGKILL), "kill");
    MUST(waitpid(o->pid, NULL, 0), "waitpid");
    MUST(lseek(out_fd, 0, SEEK_SET), "lseek");
    MUST_OR(fd_read_all(out_fd, out, MANIFEST_MAX, &err), err, "the manifest");
    close(out_fd);
    close(o->connection);
    dump_log(o->log);
    close(o->log);
    arena_stop(&o->arena);
    if (WIFSIGNALED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 1))
        fail("the freeze worker", "died");
    return WEXITSTATUS(status) == 0;
}

/* ---- the clones ---- */

static struct template_event wait_template(struct template *t)
{
    for (;;) {
        struct template_event event = template_next(t);
        if (event.kind != TEMPLATE_NOTHING)
            return event;
        struct pollfd wait = {template_fd(t), POLLIN, 0};
        MUST(poll(&wait, 1, -1), "poll");
    }
}

static void print_pager_timings(const struct pager_figures *f, uint64_t from_ns)
{
    printf("# pager: began %.3f ms, read %.3f ms, mapped %.3f ms, registered %.3f ms, ready %.3f ms; "
           "%lu hot pages of %lu\n",
        (double)(f->began_ns - from_ns) / 1e6, (double)(f->read_ns - from_ns) / 1e6,
        (double)(f->mapped_ns - from_ns) / 1e6, (double)(f->registered_ns - from_ns) / 1e6,
        (double)(f->ready_ns - from_ns) / 1e6, f->hot_pages, f->lazy_pages);
}

static struct template *template_begin(const struct image *image, struct pages *pages, struct arena *arena)
{
    struct error err;
    struct pager_source source;
    MUST_OR(arena_start(arena, &err), err, "the template's arena");
    int code_tree = arena_code_tree(options.folder, &err);
    MUST_OR(code_tree, err, "code");
    pages_source(pages, &source);
    struct template_options about = {
        .image = image,
        .stream_pages = pages_stream,
        .stream_context = pages,
        .pages = options.lazy ? &source : NULL,
        .init_pidfd = arena->init_pidfd,
        .code_tree_fd = code_tree,
        .code_path = ARENA_CODE_PATH,
        .rights = {.uid = ARENA_UID, .gid = ARENA_GID},
    };
    if (options.filtered) {
        about.rights.filter = sandbox_filter_template(&err);
        about.clone_filter = sandbox_filter_clone();
        about.early_clone_filter = sandbox_filter_early_clone();
        if (!about.rights.filter)
            fail("the filter", err.text);
    }
    struct builder *ahead =
        options.lazy ? builder_start(&about.rights, &err) : NULL; /* else it is made by template_start */
    about.builder = &ahead;
    uint64_t from_ns = clock_monotonic_ns();
    struct template *t = template_start(&about, &err);
    if (!t)
        fail("template_start", err.text);
    arena_stranger.pid = template_keeper_pid(t);
    close(code_tree);
    struct template_event event = wait_template(t);
    if (event.kind != TEMPLATE_READY)
        fail("the template", event.error.text);
    if (options.timings)
        printf("# template %.3f ms\n", (double)(clock_monotonic_ns() - from_ns) / 1e6);
    if (options.timings && options.lazy)
        print_pager_timings(&event.figures, from_ns);
    return t;
}

/* The report must name the process and the operation, and all of the clone be gone but zombies. */
static void __attribute__((noreturn))
check_broken(const struct image *image, struct clone *c, const char *text)
{
    const struct image_process *process = &image->processes[options.broken];
    char wanted[96], byte;
    snprintf(wanted, sizeof wanted, "process %d: operation %u of the process plan failed: %s", process->pid,
        process->process_plan.count - 1, strerror(EBADF));
    if (strcmp(text, wanted) != 0)
        fail("the report has other words", text);
    MUST(waitpid(c->pid, &c->status, 0), "waitpid");
    if (read(c->log, &byte, 1) != 0) /* all that could write to it are gone */
        fail("the clone", "ran on");
    printf("# %s\nok %s\n", text, options.argv[0]);
    exit(0);
}

static void read_report(const struct image *image, struct clone *c)
{
    struct plan_report report;
    char text[512];
    ssize_t got = read(c->report, &report, sizeof report);
    if (got != sizeof report) {
        dump_log(c->log);
        fail("a clone", "ended without a report");
    }
    if (report.magic != PLAN_REPORT_MAGIC)
        fail("a clone's report", "is malformed");
    if (report.failed != 0) {
        template_explain_failure(image, &report, text, sizeof text);
        if (options.broken < 0)
            fail("a clone", text);
        check_broken(image, c, text);
    }
    if (options.timings)
        printf("# asked to forked %.3f ms, sandbox %.3f ms, descriptors %.3f ms, threads %.3f ms\n",
            (double)(report.forked_ns - c->asked_ns) / 1e6,
            (double)(report.sandboxed_ns - report.forked_ns) / 1e6,
            (double)(report.descriptors_ns - report.sandboxed_ns) / 1e6,
            (double)(report.threads_ns - report.descriptors_ns) / 1e6);
    close(c->report);
}

/* Makes one clone, and takes its connection with the request that was replayed. */
static void clone_start(
    struct clone *c, struct template *t, const struct image *image, const struct original *o)
{
    struct error err;
    int log[2], report[2];
    *c = (struct clone){.connection = -1};
    MUST_OR(arena_start(&c->arena, &err), err, "arena");
    MUST(pipe2(log, O_CLOEXEC), "pipe");
    MUST(fchown(log[1], ARENA_UID, ARENA_GID), "fchown");
    MUST(pipe2(report, O_CLOEXEC), "pipe");
    int code_tree = arena_code_tree(options.folder, &err);
    MUST_OR(code_tree, err, "code");
    struct template_clone_args args = {.cookie = (uintptr_t)c};
    for (size_t i = 0; i < PLAN_SLOT_COUNT; i++)
        args.slots[i] = -1;
    args.slots[PLAN_SLOT_INIT_PIDFD] = c->arena.init_pidfd;
    args.slots[PLAN_SLOT_REPORT] = report[1];
    args.slots[PLAN_SLOT_LOG] = log[1];
    args.slots[PLAN_SLOT_CODE] = code_tree;
    c->asked_ns = clock_monotonic_ns();
    bool was_complete = complete;
    MUST_OR(template_clone(t, &args, &err), err, "template_clone");
    close(log[1]);
    close(report[1]);
    close(code_tree);
    c->log = log[0];
    c->report = report[0];
    struct template_event event = wait_template(t);
    while (event.kind == TEMPLATE_COMPLETE) {
        complete = true;
        event = wait_template(t);
    }
    if (event.kind != TEMPLATE_CLONED)
        fail("the clone", event.error.text);
    if (event.served != (options.lazy && !was_complete))
        fail("the clone", "is served by the pager when it should not, or the other way round");
    if (event.cookie != (uintptr_t)c)
        fail("the clone", "has another's cookie");
    c->pid = event.pid;
    c->pidfd = event.pidfd;
    read_report(image, c);

    uint16_t port;
    char request[sizeof o->request];
    c->connection = accept_speaker(c->arena.listener, (struct pollfd){c->pidfd, POLLIN, 0}, &port);
    if (c->connection < 0) {
        dump_log(c->log);
        fail("the clone", "ended without a connection");
    }
    if (port != o->port)
        fail("the clone's connection", "has another source port");
    if (read_request(c->connection, request, sizeof request) != o->request_len ||
        memcmp(request, o->request, o->request_len) != 0)
        fail("the clone's request", "is not the one that was sent before the freeze");
}

static void clone_answer(struct clone *c, int index)
{
    struct error err;
    char text[128];
    int len =
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nClone-Index: %d\r\n\r\n", index);
    if (fd_write_all(c->connection, text, (size_t)len, &err) < 0)
        printf("# clone %d: %s\n", index, err.text);
}

/* What the clones said that no two of them may say. */
static void note_unique(int index, const char *request, size_t len)
{
    static struct {
        char text[256];
        int index;
    } said[CLONES_MAX * 16];
    static size_t count;
    if (len < 12 || strncmp(request, "GET /unique/", 12) != 0)
        return;
    if (count == countof(said) || len >= sizeof said->text)
        fail("a clone", "says too much");
    for (size_t i = 0; i < count; i++)
        if (said[i].index != index && strncmp(said[i].text, request, len) == 0)
            fail("two clones have the same", request);
    snprintf(said[count].text, sizeof said->text, "%.*s", (int)len, request);
    said[count++].index = index;
}

/* Reads what comes from one clone: output, the barrier's request, its end. */
static void clone_serve(struct clone *c, int index, const struct pollfd *log, const struct pollfd *connection)
{
    char text[4096];
    if (log->revents) {
        ssize_t got = read(c->log, text, sizeof text);
        if (got > 0 && c->output.len < OUTPUT_MAX)
            buffer_append(&c->output, text, (size_t)got);
        if (got <= 0)
            fd_close(&c->log);
    }
    if (connection->revents) {
        size_t len = read_request(c->connection, text, sizeof text);
        note_unique(index, text, len);
        c->waiting = len > 0;
        if (!c->waiting)
            fd_close(&c->connection);
    }
    if (c->log < 0 && waitpid(c->pid, &c->status, 0) == c->pid)
        c->done = true;
}

/* Until all clones in the list have ended. */
static void clones_finish(struct clone *clones, int count, int first_index)
{
    for (;;) {
        struct pollfd waits[2 * CLONES_MAX];
        int alive = 0, waiting = 0;
        for (int i = 0; i < count; i++) {
            alive += !clones[i].done;
            waiting += !clones[i].done && clones[i].waiting;
        }
        if (alive == 0)
            return;
        for (int i = 0; i < count && waiting == alive; i++) {
            clones[i].waiting = false;
            if (!clones[i].done)
                clone_answer(&clones[i], first_index + i);
        }
        for (int i = 0; i < count; i++) {
            waits[2 * i] = (struct pollfd){clones[i].done ? -1 : clones[i].log, POLLIN, 0};
            waits[2 * i + 1] = (struct pollfd){clones[i].waiting ? -1 : clones[i].connection, POLLIN, 0};
        }
        MUST(poll(waits, (nfds_t)(2 * count), -1), "poll");
        for (int i = 0; i < count; i++)
            if (!clones[i].done)
                clone_serve(&clones[i], first_index + i, &waits[2 * i], &waits[2 * i + 1]);
    }
}

static bool clone_judge(struct clone *c, int index)
{
    bool good = WIFEXITED(c->status) && WEXITSTATUS(c->status) == 0;
    if (c->output.len > 0)
        printf("%.*s", (int)c->output.len, (const char *)c->output.data);
    if (WIFSIGNALED(c->status))
        printf("# clone %d was killed by signal %d (%s)\n", index, WTERMSIG(c->status),
            strsignal(WTERMSIG(c->status)));
    else if (!good)
        printf("# clone %d exited with %d\n", index, WEXITSTATUS(c->status));
    buffer_free(&c->output);
    fd_close(&c->connection);
    fd_close(&c->pidfd);
    arena_stop(&c->arena);
    return good;
}

static bool run_clones(struct template *t, const struct image *image, const struct original *o)
{
    static struct clone clones[CLONES_MAX];
    bool good = true;
    int together = options.one_by_one ? 1 : options.clones;
    for (int first = 0; first < options.clones; first += together) {
        for (int i = 0; i < together; i++)
            clone_start(&clones[i], t, image, o);
        for (int i = 0; i < together; i++)
            clone_answer(&clones[i], first + i);
        clones_finish(clones, together, first);
        for (int i = 0; i < together; i++)
            good &= clone_judge(&clones[i], first + i);
    }
    return good;
}

/* ---- on demand ---- */

static void await_keeper(pid_t keeper, int wanted)
{
    int status = arena_stranger.status;
    if (arena_stranger.pid >= 0)
        MUST(waitpid(keeper, &status, 0), "waitpid of the keeper");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != wanted)
        fail("the keeper", "ended in another way");
}

static void template_end(struct template *t, struct arena *arena, int keeper_status)
{
    pid_t process = template_pid(t), keeper = template_keeper_pid(t);
    template_free(&t);
    waitpid(process, NULL, 0);
    if (keeper > 0)
        await_keeper(keeper, keeper_status);
    arena_stop(arena);
}

/* The pager ends when it has nothing left to do: all pages in, and no clone left that it serves. */
static bool pager_has_ended(const struct template *t)
{
    if (arena_stranger.pid < 0)
        return true;
    int status;
    if (waitpid(template_keeper_pid(t), &status, WNOHANG) != template_keeper_pid(t))
        return false;
    arena_stranger = (struct arena_stranger){-1, status};
    return true;
}

static struct template_event wait_for(struct template *t, enum template_event_kind kind)
{
    struct template_event event = wait_template(t);
    while (event.kind == TEMPLATE_COMPLETE && kind != TEMPLATE_COMPLETE)
        event = wait_template(t);
    if (event.kind != kind)
        fail("the template said something else", event.error.text);
    return event;
}

/* What the first clone has used, as the hot set of the next template. */
static void take_hot_set(struct template *t, struct pages *pages)
{
    static struct pager_run runs[PAGER_HOT_RUNS_MAX];
    struct template_event event = {0};
    template_served(t);
    while (event.kind != TEMPLATE_SERVING) {
        struct pollfd wait = {template_fd(t), POLLIN, 0};
        MUST(poll(&wait, 1, 10), "poll");
        bool ended = pager_has_ended(t);
        event = template_next(t);
        if (event.kind == TEMPLATE_NOTHING && ended)
            return;
        if (event.kind != TEMPLATE_NOTHING && event.kind != TEMPLATE_COMPLETE &&
            event.kind != TEMPLATE_SERVING)
            fail("the template said something else", event.error.text);
    }
    printf("# %lu faults, %lu of zeros, %lu chunks, %lu pages of the first clone\n", event.figures.faults,
        event.figures.zero_faults, event.figures.chunks_read, event.figures.missed_pages);
    event = wait_for(t, TEMPLATE_HOT_SET);
    ssize_t got = pread(event.hot_set_fd, runs, sizeof runs, 0);
    MUST(got, "reading the hot set");
    close(event.hot_set_fd);
    pages->hot = runs;
    pages->hot_count = (size_t)got / sizeof *runs;
    if (pages->hot_count == 0)
        fail("the hot set", "is empty");
}

/* No mapping of a template may still be one that is served. */
static void check_not_served(const struct template *t)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/smaps", template_pid(t));
    FILE *smaps = fopen(path, "re");
    if (!smaps)
        fail(path, strerror(errno));
    while (fgets(line, sizeof line, smaps))
        if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " um"))
            fail("a mapping of the template", "is still served");
    (void)fclose(smaps);
}

/* First without a hot set, where nothing comes that is not touched; then with what was recorded, and the rest streamed in
 * while the clones run; then with all pages in. */
static bool run_lazily(const struct image *image, struct pages *pages, const struct original *o)
{
    struct arena arena;
    struct template *t = template_begin(image, pages, &arena);
    bool good = run_clones(t, image, o);
    take_hot_set(t, pages);
    template_end(t, &arena, 0);
    pages->streams = true;
    complete = false;
    t = template_begin(image, pages, &arena);
    good = run_clones(t, image, o) && good;
    if (!complete)
        wait_for(t, TEMPLATE_COMPLETE);
    complete = true;
    check_not_served(t);
    options.clones = 1;
    good = run_clones(t, image, o) && good;
    template_end(t, &arena, 0);
    return good;
}

static void kill_pager(const struct template *t)
{
    char path[64];
    struct error err;
    struct buffer children = {0};
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", template_keeper_pid(t), template_keeper_pid(t));
    MUST_OR(file_read(AT_FDCWD, path, &children, 64, &err), err, "the keeper's children");
    buffer_append(&children, "", 1);
    MUST(kill(atoi((char *)children.data), SIGKILL), "kill");
    buffer_free(&children);
}

/* The pager loses a page, or its life: that is told, and the clone waits and does not see anything else. */
static bool run_lost(const struct image *image, struct pages *pages, const struct original *o)
{
    static struct clone clone;
    struct arena arena;
    int status;
    struct template *t = template_begin(image, pages, &arena);
    clone_start(&clone, t, image, o);
    if (options.pager_dies)
        kill_pager(t);
    clone_answer(&clone, 0);
    struct template_event event = wait_for(t, TEMPLATE_PAGES_LOST);
    printf("# %s\n", event.error.text);
    if (!strstr(event.error.text, options.pager_dies ? "was killed by signal 9" : "is damaged"))
        fail("what was lost", "is told in other words");
    MUST(kill(clone.pid, SIGKILL), "kill");
    MUST(waitpid(clone.pid, &status, 0), "waitpid");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail("a clone", "ran on without its pages");
    template_end(t, &arena, options.pager_dies ? 1 : 0);
    arena_stop(&clone.arena);
    return true;
}

/* ---- main ---- */

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {{"folder", required_argument, NULL, 'f'},
        {"refuse", required_argument, NULL, 'r'}, {"clones", required_argument, NULL, 'n'},
        {"one-by-one", no_argument, NULL, '1'}, {"plan", no_argument, NULL, 'p'},
        {"unlisted", required_argument, NULL, 'U'}, {"timings", no_argument, NULL, 't'},
        {"filtered", no_argument, NULL, 's'}, {"early", no_argument, NULL, 'e'},
        {"older", required_argument, NULL, 'o'}, {"stopped", no_argument, NULL, 'S'},
        {"sandboxed", no_argument, NULL, 'b'}, {"broken", required_argument, NULL, 'B'},
        {"lazy", no_argument, NULL, 'l'}, {"slow", required_argument, NULL, 'w'},
        {"damaged", required_argument, NULL, 'd'}, {"pager-dies", no_argument, NULL, 'k'},
        {NULL, 0, NULL, 0}};
    int letter;
    while ((letter = getopt_long(argc, argv, "+f:r:n:o:1ptseSb", known, NULL)) >= 0) {
        switch (letter) {
        case 'f':
            options.folder = optarg;
            break;
        case 'r':
            options.refuse = optarg;
            break;
        case 'n':
            options.clones = atoi(optarg);
            break;
        case '1':
            options.one_by_one = true;
            break;
        case 'p':
            options.print_plan = true;
            break;
        case 't':
            options.timings = true;
            break;
        case 'o':
            options.older_seconds = strtoull(optarg, NULL, 10);
            break;
        case 'e':
            options.early = true;
            break;
        case 'S':
            options.stopped = true;
            break;
        case 'b':
            options.sandboxed = true;
            break;
        case 'B':
            options.broken = atoi(optarg);
            break;
        case 's':
            options.filtered = true;
            break;
        case 'l':
            options.lazy = true;
            break;
        case 'w':
            options.lazy = true;
            options.slow_ms = (unsigned)atoi(optarg);
            break;
        case 'd':
            options.lazy = true;
            options.damaged = (unsigned)atoi(optarg);
            break;
        case 'k':
            options.lazy = options.pager_dies = true;
            break;
        case 'U':
            options.unlisted = optarg;
            break;
        default:
            exit(2);
        }
    }
    options.argv = argv + optind;
    if (!options.folder || optind == argc || options.clones < 1 || options.clones > CLONES_MAX) {
        fprintf(stderr,
            "usage: engine_harness --folder DIR [--clones N] [--one-by-one] [--refuse TEXT] [--plan] "
            "[--timings] [--filtered] [--early] [--stopped] [--sandboxed] [--broken PROCESS] [--older "
            "SECONDS] [--lazy] [--slow MS] [--damaged CHUNKS] [--pager-dies] [--unlisted FOLDER] PROGRAM "
            "[ARGUMENT...]\n");
        exit(2);
    }
}

/* In the place of the C library's, for all that is linked into this program. */
struct dirent *readdir(DIR *folder)
{
    static struct dirent *(*real)(DIR *);
    char path[64], link[4096];
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "readdir64");
    snprintf(path, sizeof path, "/proc/self/fd/%d", dirfd(folder));
    ssize_t len = options.unlisted == NULL ? -1 : readlink(path, link, sizeof link - 1);
    link[len < 0 ? 0 : len] = '\0';
    const char *name = strrchr(link, '/');
    if (name == NULL || strcmp(name + 1, options.unlisted) != 0)
        return real(folder);
    errno = EIO;
    return NULL;
}

/* For whoever runs the tests with `nice`: nicer than this is of no use, as everything would be equally nice. */
static void leave_room_for_nice_values(void)
{
    if (getpriority(PRIO_PROCESS, 0) > NICE_MOST && setpriority(PRIO_PROCESS, 0, NICE_MOST) < 0)
        fail("the nice value that this was started with is too high, and lowering it needs CAP_SYS_NICE",
            strerror(errno));
}

int main(int argc, char **argv)
{
    struct original original = {0};
    struct buffer manifest = {0};
    struct image image = {0};
    struct arena template_arena;
    struct error err;

    read_options(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    leave_room_for_nice_values();
    alarm(TEST_SECONDS); /* a hang is a failure; everything started here dies with this process */
    int pages = memfd_create("pages", MFD_CLOEXEC);
    MUST(pages, "memfd_create");

    original_start(&original);
    if (options.early)
        answer_early(&original);
    if (options.stopped)
        stop_original(&original);
    bool frozen = original_freeze(&original, &manifest, pages);
    if (!frozen)
        buffer_append(&manifest, "", 1);
    if (options.refuse) {
        if (frozen)
            fail("the freeze", "did not refuse");
        if (!strstr((char *)manifest.data, options.refuse))
            fail("the freeze refused with other words", (char *)manifest.data);
        printf("# %s\nok %s\n", (char *)manifest.data, options.argv[0]);
        buffer_free(&manifest);
        close(pages);
        return 0;
    }
    if (!frozen)
        fail("the freeze", (char *)manifest.data);
    MUST_OR(image_decode(&image, (struct bytes){manifest.data, manifest.len}, &err), err, "the manifest");
    MUST_OR(image_check_machine(&image, &err), err, "the machine");
    image.monotonic_ns += options.older_seconds * 1000000000u;
    image.boottime_ns += options.older_seconds * 1000000000u;
    if (options.broken >= 0)
        plan_call(&image.processes[options.broken].process_plan, SYS_close, plan_literal((uint64_t)-1));
    if (options.print_plan) {
        struct buffer text = {0};
        image_print(&text, &image, true, false);
        printf("%.*s", (int)text.len, (char *)text.data);
        buffer_free(&text);
    }

    struct pages source = {.fd = pages, .slow_ms = options.slow_ms, .break_after = options.damaged};
    bool good;
    if (options.damaged > 0 || options.pager_dies) {
        good = run_lost(&image, &source, &original);
    } else if (options.lazy && pager_can_serve(&image)) {
        good = run_lazily(&image, &source, &original);
    } else {
        options.lazy = false;
        struct template *t = template_begin(&image, &source, &template_arena);
        good = run_clones(t, &image, &original);
        template_end(t, &template_arena, 0);
    }
    image_free(&image);
    buffer_free(&manifest);
    close(pages);
    printf("%s %s\n", good ? "ok" : "not ok", options.argv[0]);
    return good ? 0 : 1;
}
