/* thaw process freeze. */
#include "process/process.h"

#include "base/clock.h"
#include "base/fd.h"
#include "freeze/freeze.h"
#include "process/command.h"
#include "process/folder.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct process_run {
    struct command command;
    regex_t wanted;
    bool has_wanted;
};

/* What the worker tells. */
struct outcome {
    struct error error;
    struct process_frozen frozen;
};

static void tell(const struct process_freeze_options *o, const char *text)
{
    if (o->progress)
        o->progress(o->progress_context, text);
}

/* ---- a program that runs already ---- */

static bool same_namespace(pid_t pid, const char *name)
{
    struct stat ours, theirs;
    CLEANUP_FREE char *their_path = xasprintf("/proc/%d/ns/%s", pid, name);
    CLEANUP_FREE char *our_path = xasprintf("/proc/self/ns/%s", name);
    return stat(their_path, &theirs) == 0 && stat(our_path, &ours) == 0 && ours.st_dev == theirs.st_dev &&
           ours.st_ino == theirs.st_ino;
}

/* Its clones will live among our files and in our network, as it must then, too. */
static int check_surroundings(pid_t pid, struct error *err)
{
    static const struct {
        const char *name, *what;
    } checks[] = {{"mnt", "files"}, {"net", "network"}, {"user", "users"}, {"uts", "host name"},
        {"pid", "process numbers"}, {"time", "clocks"}};
    for (size_t i = 0; i < countof(checks); i++)
        if (!same_namespace(pid, checks[i].name))
            return error_set(err, ERROR_UNSUPPORTED,
                "process %d lives in another %s namespace (a container?): its clones would not see its %s; "
                "run thaw "
                "inside, or start the program with 'thaw process freeze -- COMMAND'",
                pid, checks[i].name, checks[i].what);
    return 0;
}

/* Its standard streams that lead outside: terminals, pipes, sockets. Files and devices are opened again. */
static size_t find_streams(int pidfd, struct freeze_stream streams[3])
{
    size_t count = 0;
    for (int number = 0; number < 3; number++) {
        struct stat about;
        int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
        if (fd < 0)
            continue;
        bool outside =
            fstat(fd, &about) == 0 && (isatty(fd) || S_ISFIFO(about.st_mode) || S_ISSOCK(about.st_mode));
        if (outside)
            streams[count++] = (struct freeze_stream){number, fd};
        else
            close(fd);
    }
    return count;
}

/* ---- the worker ---- */

static int put_pages(
    void *context, uint64_t space, uint64_t address, const void *data, size_t len, struct error *err)
{
    (void)space;
    (void)address;
    return folder_put_pages(context, data, len, err);
}

static void read_name(pid_t pid, char name[16])
{
    CLEANUP_BUFFER struct buffer text = {0};
    CLEANUP_FREE char *path = xasprintf("/proc/%d/comm", pid);
    if (file_read(-1, path, &text, 64, NULL) == 0)
        snprintf(name, 16, "%.*s", (int)text.len - 1, (const char *)text.data);
}

static int write_folder(const struct process_freeze_options *o, struct freeze_request *request,
    struct folder_writer *folder, struct process_frozen *frozen, struct error *err)
{
    struct image image = {0};
    CLEANUP_BUFFER struct buffer manifest = {0};
    struct folder_settings settings = {.private_network = o->private_network, .private_tmp = o->private_tmp};
    memcpy(settings.name, frozen->name, sizeof settings.name);
    uint64_t began_ns = clock_monotonic_ns();
    request->put_pages = put_pages;
    request->put_context = folder;
    if (freeze_process(request, &image, err) < 0)
        return -1;
    frozen->stopped_ns = clock_monotonic_ns() - began_ns;
    frozen->pid = image.processes[0].pid;
    frozen->page_bytes = image.page_bytes;
    frozen->bulk_bytes = image.bulk_bytes;
    for (uint32_t i = 0; i < image.process_count; i++) {
        frozen->processes += image.processes[i].thread_count > 0;
        frozen->threads += image.processes[i].thread_count;
        frozen->descriptors += image.processes[i].descriptor_count;
    }
    image_encode(&manifest, &image);
    image_free(&image);
    frozen->manifest_bytes = manifest.len;
    return folder_commit(folder, &manifest, &settings, err);
}

static void work(const struct process_freeze_options *o, const struct command *c, pid_t pid, int pidfd,
    struct folder_writer *folder, struct outcome *out)
{
    struct freeze_stream streams[3];
    struct freeze_request request = {
        .pid = pid,
        .log_fd = -1,
        .streams = streams,
        .own_credentials = true,
        .host_files = true,
        .host_tmp = !o->private_tmp,
        .spare = o->leave_running ? FREEZE_SPARE_ALWAYS
                 : o->pid > 0     ? FREEZE_SPARE_ON_FAILURE
                                  : FREEZE_SPARE_NEVER,
    };
    if (o->pid > 0) {
        request.stream_count = find_streams(pidfd, streams);
    } else {
        for (int i = 0; i < 3; i++)
            if (c->ends[i] >= 0)
                streams[request.stream_count++] = (struct freeze_stream){i, c->ends[i]};
    }
    read_name(pid, out->frozen.name);
    if (write_folder(o, &request, folder, &out->frozen, &out->error) < 0)
        folder_discard(folder);
}

/* ptrace, and a process that could go on if we died, are for a child that dies with its work. */
static int freeze_in_worker(const struct process_freeze_options *o, const struct command *c, pid_t pid,
    int pidfd, struct process_frozen *frozen, struct error *err)
{
    struct folder_writer folder;
    if (folder_create(&folder, o->directory, err) < 0) {
        folder_discard(&folder);
        folder_close(&folder);
        return -1;
    }
    struct outcome *out = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t worker = out == MAP_FAILED ? -1 : fork();
    if (worker == 0) {
        work(o, c, pid, pidfd, &folder, out);
        _exit(0);
    }
    int status = -1, result = worker < 0 ? error_system(err, "cannot fork a worker") : 0;
    while (worker > 0 && waitpid(worker, &status, 0) < 0 && errno == EINTR)
        ;
    if (worker > 0 && status != 0)
        result = error_set(err, ERROR_INTERNAL, "the worker that freezes died (status %#x)", status);
    if (result < 0)
        folder_discard(&folder);
    else if (out->error.kind != ERROR_NONE)
        result = error_set(err, out->error.kind, "%s", out->error.text);
    if (result == 0)
        *frozen = out->frozen;
    if (out != MAP_FAILED)
        munmap(out, sizeof *out);
    folder_close(&folder);
    return result;
}

/* ---- the program of --pid ---- */

static int freeze_running(
    const struct process_freeze_options *o, struct process_frozen *frozen, struct error *err)
{
    CLEANUP_FD int pidfd = (int)syscall(SYS_pidfd_open, o->pid, 0);
    if (pidfd < 0)
        return error_system(err, "there is no process %d to freeze", o->pid);
    if (check_surroundings(o->pid, err) < 0)
        return -1;
    if (o->after_ms > 0) {
        struct pollfd end = {pidfd, POLLIN, 0};
        tell(o, "waiting");
        if (poll(&end, 1, (int)o->after_ms) > 0)
            return error_set(err, ERROR_NOT_FOUND, "process %d ended before it was to be frozen", o->pid);
    }
    tell(o, "freezing");
    if (freeze_in_worker(o, NULL, o->pid, pidfd, frozen, err) < 0)
        return -1;
    if (!o->leave_running) {
        struct pollfd end = {pidfd, POLLIN, 0};
        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        while (poll(&end, 1, -1) < 0 && errno == EINTR)
            ;
    }
    return 0;
}

/* ---- a command ---- */

static int await_moment(
    const struct process_freeze_options *o, struct command *c, int *status, struct error *err)
{
    bool ended = false;
    uint64_t until = o->after_ms > 0 ? clock_monotonic_ns() + o->after_ms * 1000000u : 0;
    tell(o, o->until_output ? "waiting for the program's output" : "waiting");
    if (command_pump(c, until, &ended, status, err) < 0)
        return -1;
    if (!ended && command_settle(c, &ended, status, err) < 0)
        return -1;
    if (ended)
        return error_set(
            err, ERROR_NOT_FOUND, "the program ended, with status %d, before it was to be frozen", *status);
    return 0;
}

static int compile(struct process_run *run, const char *pattern, struct error *err)
{
    char text[200];
    if (pattern == NULL)
        return 0;
    int result = regcomp(&run->wanted, pattern, REG_EXTENDED | REG_NEWLINE | REG_NOSUB);
    run->has_wanted = result == 0;
    run->command.wanted = &run->wanted;
    if (result == 0)
        return 0;
    regerror(result, &run->wanted, text, sizeof text);
    return error_set(err, ERROR_INVALID, "--until-output '%s' is no regular expression: %s", pattern, text);
}

static int freeze_command(const struct process_freeze_options *o, struct process_run *run,
    struct process_frozen *frozen, int *status, struct error *err)
{
    const struct keeper_options keeper = {o->private_network, o->private_tmp, .dies_with_us = true};
    struct command *c = &run->command;
    tell(o, "starting");
    if (command_start(c, o->command, &keeper, err) < 0)
        return -1;
    if (compile(run, o->until_output, err) < 0 || await_moment(o, c, status, err) < 0)
        return -1;
    tell(o, "freezing");
    if (freeze_in_worker(o, c, c->pid, c->pidfd, frozen, err) < 0)
        return -1;
    c->wanted = NULL;
    c->matched = false;
    command_drain(c);
    return 0;
}

int process_freeze(const struct process_freeze_options *o, struct process_frozen *frozen,
    struct process_run **run, int *status, struct error *err)
{
    *frozen = (struct process_frozen){0};
    *run = NULL;
    if (o->pid > 0)
        return freeze_running(o, frozen, err);
    struct process_run *r = xcalloc(1, sizeof *r);
    int result = freeze_command(o, r, frozen, status, err);
    if (result < 0 || !o->leave_running) {
        process_run_free(&r);
        return result;
    }
    frozen->running = true;
    *run = r;
    return 0;
}

int process_attend(struct process_run *run, int *status, struct error *err)
{
    bool ended = false;
    while (!ended)
        if (command_pump(&run->command, 0, &ended, status, err) < 0)
            return -1;
    return 0;
}

void process_run_free(struct process_run **slot)
{
    struct process_run *run = *slot;
    *slot = NULL;
    if (!run)
        return;
    command_free(&run->command);
    if (run->has_wanted)
        regfree(&run->wanted);
    free(run);
}
