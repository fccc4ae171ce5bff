#include "process/command.h"

#include "base/clock.h"
#include "base/fd.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK_BYTES 65536
#define LOWEST_SPARE_FD 10
#define SETTLE_STEP_MS 2
#define SETTLE_DEPTH_MAX 16 /* generations that are looked at */

/* ---- starting ---- */

static void reset_signals(const sigset_t *mask)
{
    for (int number = 1; number < NSIG; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
}

static int arrange_streams(const int theirs[3], int *status_fd, struct error *err)
{
    int moved[4];
    for (int i = 0; i < 4; i++) {
        moved[i] = fcntl(i < 3 ? theirs[i] : *status_fd, F_DUPFD_CLOEXEC, LOWEST_SPARE_FD);
        if (moved[i] < 0)
            return error_system(err, "cannot copy a descriptor");
    }
    for (int i = 0; i < 3; i++)
        if (dup2(moved[i], i) < 0)
            return error_system(err, "cannot set standard streams");
    *status_fd = moved[3];
    if (syscall(SYS_close_range, 3, (unsigned)*status_fd - 1, 0) < 0 ||
        syscall(SYS_close_range, (unsigned)*status_fd + 1, ~0u, 0) < 0)
        return error_system(err, "cannot close descriptors");
    return 0;
}

_Noreturn static void run_child(
    const struct command *c, char *const *argv, const int theirs[3], const char *folder, int status_fd)
{
    struct error outcome = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (keeper_enter(&c->keeper, &outcome) == 0 && arrange_streams(theirs, &status_fd, &outcome) == 0) {
        setsid();
        reset_signals(&c->mask_before);
        if (chdir(folder) < 0) {
            (void)error_system(&outcome, "cannot go to the working folder %s", folder);
        } else {
            prctl(PR_SET_PDEATHSIG, 0); /* the keeper ends it with us */
            execvp(argv[0], argv);
            (void)error_system(&outcome, "cannot run %s", argv[0]);
            outcome.kind = ERROR_INVALID;
            outcome.errno_value = errno;
        }
    }
    _exit(fd_write_all(status_fd, &outcome, sizeof outcome, NULL) < 0 ? 126 : 127);
}

static int make_pipes(struct command *c, int theirs[3], struct error *err)
{
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) < 0)
            return error_system(err, "cannot make a pipe");
        theirs[i] = pair[i == 0 ? 0 : 1];
        c->ends[i] = pair[i == 0 ? 1 : 0];
        fcntl(c->ends[i], F_SETFL, O_NONBLOCK | (i == 0 ? O_WRONLY : O_RDONLY));
    }
    return 0;
}

static int spawn(struct command *c, char *const *argv, const int theirs[3], struct error *err)
{
    int pair[2];
    CLEANUP_FREE char *folder = getcwd(NULL, 0);
    if (!folder)
        return error_system(err, "cannot tell the working folder");
    if (pipe2(pair, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int from_child = pair[0];
    CLEANUP_FD int to_parent = pair[1];
    c->pid = keeper_fork(&c->keeper, &c->pidfd, err);
    if (c->pid == 0)
        run_child(c, argv, theirs, folder, to_parent);
    fd_close(&to_parent);
    if (c->pid < 0)
        return c->pid = 0, -1;
    return fd_await_exec(from_child, err);
}

int command_start(
    struct command *c, char *const *argv, const struct keeper_options *options, struct error *err)
{
    int theirs[3] = {-1, -1, -1};
    *c = (struct command){
        .keeper = KEEPER_NONE, .pidfd = -1, .ends = {-1, -1, -1}, .signals = -1, .reads_own_stdin = true};
    signal(SIGPIPE, SIG_IGN);
    c->signals = signals_take(&c->mask_before, err);
    int result = c->signals < 0 ? -1 : keeper_start(&c->keeper, options, err);
    if (result == 0)
        result = make_pipes(c, theirs, err);
    if (result == 0)
        result = spawn(c, argv, theirs, err);
    for (int i = 0; i < 3; i++)
        fd_close(&theirs[i]);
    if (result == 0)
        result = keeper_attend(&c->keeper, c->pidfd, err);
    if (result < 0)
        command_free(c);
    return result;
}

/* ---- passing on ---- */

static void look_at(struct command *c, int stream, const char *data, size_t len)
{
    struct buffer *seen = &c->seen[stream];
    if (!c->wanted || c->matched)
        return;
    if (seen->len > COMMAND_LOOKBACK_BYTES) {
        size_t kept = COMMAND_LOOKBACK_BYTES / 2;
        memmove(seen->data, seen->data + seen->len - kept, kept);
        seen->len = kept;
    }
    for (size_t i = 0; i < len; i++)
        buffer_append_u8(seen, data[i] == '\0' ? ' ' : (uint8_t)data[i]);
    buffer_append_u8(seen, 0);
    c->matched = regexec(c->wanted, (const char *)seen->data, 0, NULL, 0) == 0;
    seen->len--;
}

/* Returns false when nothing was there. */
static bool pass_output(struct command *c, int stream)
{
    char chunk[CHUNK_BYTES];
    ssize_t got = read(c->ends[stream], chunk, sizeof chunk);
    if (got < 0)
        return false;
    if (got == 0) {
        fd_close(&c->ends[stream]);
        return false;
    }
    look_at(c, stream, chunk, (size_t)got);
    /* Nobody may be there to read it: that is no reason to stop the program. */
    (void)!fd_write_all(stream, chunk, (size_t)got, NULL);
    return true;
}

static void send_input(struct command *c)
{
    ssize_t sent = write(c->ends[0], c->unsent.data, c->unsent.len);
    if (sent < 0 && errno == EAGAIN)
        return;
    if (sent < 0) { /* the program has closed its end */
        fd_close(&c->ends[0]);
        c->reads_own_stdin = false;
        sent = (ssize_t)c->unsent.len;
    }
    memmove(c->unsent.data, c->unsent.data + sent, c->unsent.len - (size_t)sent);
    c->unsent.len -= (size_t)sent;
}

/* The end of our own input is not passed on: the program waits for more, and is frozen waiting. */
static void take_input(struct command *c)
{
    char chunk[CHUNK_BYTES];
    ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
    if (got > 0) {
        buffer_append(&c->unsent, chunk, (size_t)got);
        send_input(c);
    } else if (got == 0 || errno != EINTR) {
        c->reads_own_stdin = false;
    }
}

enum { WAIT_INPUT, WAIT_SEND, WAIT_OUT, WAIT_ERR, WAIT_END, WAIT_SIGNAL, WAIT_COUNT };

/* One turn; returns whether the command has ended. */
static bool turn(struct command *c, int timeout_ms)
{
    bool idle = c->unsent.len == 0;
    struct pollfd waits[WAIT_COUNT] = {
        [WAIT_INPUT] = {c->reads_own_stdin && idle ? STDIN_FILENO : -1, POLLIN, 0},
        [WAIT_SEND] = {idle ? -1 : c->ends[0], POLLOUT, 0},
        [WAIT_OUT] = {c->ends[1], POLLIN, 0},
        [WAIT_ERR] = {c->ends[2], POLLIN, 0},
        [WAIT_END] = {c->pidfd, POLLIN, 0},
        [WAIT_SIGNAL] = {c->signals, POLLIN, 0},
    };
    if (poll(waits, WAIT_COUNT, timeout_ms) <= 0)
        return false;
    if (waits[WAIT_INPUT].revents)
        take_input(c);
    if (waits[WAIT_SEND].revents)
        send_input(c);
    if (waits[WAIT_OUT].revents)
        pass_output(c, 1);
    if (waits[WAIT_ERR].revents)
        pass_output(c, 2);
    if (waits[WAIT_SIGNAL].revents)
        signals_pass(c->signals, &c->pidfd, 1);
    return waits[WAIT_END].revents != 0;
}

static int reap(struct command *c, int *status, struct error *err)
{
    siginfo_t end = {0};
    command_drain(c);
    while (waitid(P_PIDFD, (id_t)c->pidfd, &end, WEXITED) < 0)
        if (errno != EINTR)
            return error_system(err, "cannot wait for the program");
    c->pid = 0;
    *status = status_of(&end);
    return 0;
}

int command_pump(struct command *c, uint64_t until_ns, bool *ended, int *status, struct error *err)
{
    for (;;) {
        uint64_t now = clock_monotonic_ns();
        if (c->matched || (until_ns != 0 && now >= until_ns)) {
            *ended = false;
            return 0;
        }
        int timeout_ms = until_ns == 0 ? -1 : (int)((until_ns - now) / 1000000 + 1);
        if (turn(c, timeout_ms)) {
            *ended = true;
            return reap(c, status, err);
        }
    }
}

void command_drain(struct command *c)
{
    for (int stream = 1; stream <= 2; stream++)
        while (c->ends[stream] >= 0 && pass_output(c, stream))
            ;
}

/* ---- its moment ---- */

static bool thread_sleeps(int tasks, const char *name)
{
    CLEANUP_BUFFER struct buffer text = {0};
    CLEANUP_FREE char *path = xasprintf("%s/stat", name);
    if (file_read(tasks, path, &text, 4096, NULL) < 0)
        return true; /* it has ended */
    buffer_append_u8(&text, 0);
    const char *at = strrchr((const char *)text.data, ')');
    return at != NULL && strlen(at) > 2 && (at[2] == 'S' || at[2] == 'I' || at[2] == 'Z');
}

static bool all_sleep(pid_t pid, int depth);

/* Its children, as far as they can be seen. */
static bool children_sleep(int tasks, const char *name, int depth)
{
    CLEANUP_BUFFER struct buffer text = {0};
    CLEANUP_FREE char *path = xasprintf("%s/children", name);
    if (depth == SETTLE_DEPTH_MAX || file_read(tasks, path, &text, 65536, NULL) < 0)
        return true;
    buffer_append_u8(&text, 0);
    char *at = (char *)text.data;
    for (char *end;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at)
            return true;
        if (!all_sleep((pid_t)pid, depth + 1))
            return false;
    }
}

static bool all_sleep(pid_t pid, int depth)
{
    CLEANUP_FREE char *path = xasprintf("/proc/%d/task", pid);
    DIR *folder = opendir(path);
    bool asleep = true;
    if (!folder)
        return true; /* it has ended */
    for (struct dirent *entry; asleep && (entry = readdir(folder));)
        if (isdigit((unsigned char)entry->d_name[0]))
            asleep = thread_sleeps(dirfd(folder), entry->d_name) &&
                     children_sleep(dirfd(folder), entry->d_name, depth);
    closedir(folder);
    return asleep;
}

int command_settle(struct command *c, bool *ended, int *status, struct error *err)
{
    int sleeps = 0;
    *ended = false;
    for (int waited = 0; waited < COMMAND_SETTLE_MS && sleeps < 3 && !*ended; waited += SETTLE_STEP_MS) {
        uint64_t until = clock_monotonic_ns() + SETTLE_STEP_MS * 1000000ull;
        while (!*ended && clock_monotonic_ns() < until)
            *ended = turn(c, SETTLE_STEP_MS);
        sleeps = c->unsent.len == 0 && all_sleep(c->pid, 0) ? sleeps + 1 : 0;
    }
    return *ended ? reap(c, status, err) : 0;
}

void command_free(struct command *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    keeper_stop(&c->keeper);
    fd_close(&c->pidfd);
    for (int i = 0; i < 3; i++) {
        fd_close(&c->ends[i]);
        buffer_free(&c->seen[i]);
    }
    buffer_free(&c->unsent);
    if (c->signals >= 0)
        sigprocmask(SIG_SETMASK, &c->mask_before, NULL);
    fd_close(&c->signals);
}
