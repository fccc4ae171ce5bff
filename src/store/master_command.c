/* A master key that a program prints. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "store/master_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 32

/* Splits `words` where blanks are. */
static int split(char *text, char *words[WORDS_MAX + 1], struct error *err)
{
    size_t count = 0;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t\n", &rest); word != NULL; word = strtok_r(NULL, " \t\n", &rest)) {
        if (count == WORDS_MAX)
            return error_set(
                err, ERROR_LIMIT, "the command for the master key has more than %d words", WORDS_MAX);
        words[count++] = word;
    }
    words[count] = NULL;
    return count > 0 ? 0 : error_set(err, ERROR_INVALID, "the command for the master key names no program");
}

/* In the child. Of a group of its own, so that a wrapper's children end with it. */
static _Noreturn void run(char *const words[], int out, int status_fd)
{
    struct error err = {0};
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nothing >= 0 && dup2(nothing, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0) {
        fcntl(status_fd, F_SETFD, FD_CLOEXEC);
        execv(words[0], words);
    }
    error_system(&err, "cannot run %s", words[0]);
    (void)!write(status_fd, &err, sizeof err);
    _exit(127);
}

/* What it prints until it closes its output; -1 when that takes too long or is too long. */
static int read_output(int fd, uint64_t deadline_ns, struct buffer *out, struct error *err)
{
    for (;;) {
        char block[MASTER_OUTPUT_BYTES_MAX + 1];
        uint64_t now = clock_monotonic_ns();
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int left_ms = now < deadline_ns ? (int)((deadline_ns - now) / 1000000 + 1) : 0;
        int ready = poll(&wait, 1, left_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return error_set(err, ERROR_LIMIT, "it took longer than %d s", MASTER_COMMAND_SECONDS);
        ssize_t n = read(fd, block, sizeof block);
        if (n <= 0)
            return n == 0 ? 0 : error_system(err, "cannot read what it prints");
        buffer_append(out, block, (size_t)n);
        OPENSSL_cleanse(block, sizeof block);
        if (out->len > MASTER_OUTPUT_BYTES_MAX)
            return error_set(err, ERROR_INVALID, "it printed more than %d bytes", MASTER_OUTPUT_BYTES_MAX);
    }
}

/* Its status, within what is left of its time; whatever is left of its group is killed. */
static int await_end(pid_t pid, uint64_t deadline_ns, struct error *err)
{
    CLEANUP_FD int pidfd = pidfd_open(pid, 0);
    uint64_t now = clock_monotonic_ns();
    struct pollfd wait = {.fd = pidfd, .events = POLLIN};
    int status = 0;
    while (pidfd >= 0 && now < deadline_ns && poll(&wait, 1, (int)((deadline_ns - now) / 1000000 + 1)) < 0 &&
           errno == EINTR)
        now = clock_monotonic_ns();
    bool ended = waitpid(pid, &status, WNOHANG) == pid;
    kill(-pid, SIGKILL);
    if (!ended) {
        waitpid(pid, &status, 0);
        return error_set(err, ERROR_LIMIT, "it did not end within %d s", MASTER_COMMAND_SECONDS);
    }
    if (WIFSIGNALED(status))
        return error_set(err, ERROR_INVALID, "it was killed by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return error_set(err, ERROR_INVALID, "it ended with status %d", WEXITSTATUS(status));
    return 0;
}

static int run_words(char *const words[], struct buffer *out, struct error *err)
{
    int output[2], exec_status[2];
    if (pipe2(output, O_CLOEXEC) < 0)
        return error_system(err, "cannot make a pipe");
    CLEANUP_FD int output_read = output[0];
    if (pipe2(exec_status, O_CLOEXEC) < 0) {
        close(output[1]);
        return error_system(err, "cannot make a pipe");
    }
    CLEANUP_FD int status_read = exec_status[0];
    uint64_t deadline_ns = clock_monotonic_ns() + MASTER_COMMAND_SECONDS * 1000000000ull;
    pid_t pid = fork();
    if (pid == 0)
        run(words, output[1], exec_status[1]);
    close(output[1]);
    close(exec_status[1]);
    if (pid < 0)
        return error_system(err, "cannot fork");
    setpgid(pid, pid); /* whoever is first */
    struct error read_error = {0}, end_error = {0};
    int started = fd_await_exec(status_read, err);
    int result = started < 0 ? -1 : read_output(output_read, deadline_ns, out, &read_error);
    if (result < 0)
        kill(-pid, SIGKILL);
    int ended = await_end(pid, deadline_ns, &end_error);
    if (started < 0)
        return -1;
    if (err != NULL && result < 0)
        *err = read_error;
    else if (err != NULL && ended < 0)
        *err = end_error;
    return result < 0 || ended < 0 ? -1 : 0;
}

int master_run_command(const char *command, uint8_t key[MASTER_KEY_BYTES], struct error *err)
{
    CLEANUP_FREE char *text = xstrdup(command);
    char *words[WORDS_MAX + 1];
    CLEANUP_BUFFER struct buffer out = {0};
    if (split(text, words, err) < 0)
        return -1;
    int result = run_words(words, &out, err);
    if (result == 0 && !master_parse_key((const char *)out.data, out.len, key))
        result = error_set(err, ERROR_INVALID,
            "what it printed is no master key: that is 64 hex digits, or 32 bytes in base64");
    if (out.data != NULL)
        OPENSSL_cleanse(out.data, out.capacity);
    return result < 0 ? error_prefix(err, "the command for the master key, %s", words[0]) : 0;
}
