#include "freeze/tracee.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRATCH_BYTES 4096
#define STATUS_BYTES 65536
#define STOP_PATIENCE_US 5000000

int tracee_refuse(const struct tracee *t, struct error *err, const char *format, ...)
{
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(err, ERROR_UNSUPPORTED, "process %d (%s): %s", t->inner_pid, t->name, text);
}

int tracee_proc_file(const struct tracee *t, const char *name, struct buffer *out, struct error *err)
{
    return file_read(t->proc_fd, name, out, 256u << 20, err);
}

/* The value after "Key:" in a /proc/PID/status text, or NULL. */
static const char *status_value(const char *status, const char *key)
{
    const char *at = strstr(status, key);
    return at == NULL ? NULL : at + strlen(key);
}

/* NSpid lists the id in each pid namespace, the innermost last. */
static int read_inner_id(const struct tracee *t, const char *path, pid_t *inner, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    if (file_read(t->proc_fd, path, &status, STATUS_BYTES, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    const char *ids = status_value((const char *)status.data, "\nNSpid:");
    if (ids == NULL)
        return error_set(err, ERROR_UNSUPPORTED, "this kernel does not tell NSpid in /proc/PID/status");
    for (char *end;; ids = end) {
        long id = strtol(ids, &end, 10);
        if (end == ids)
            return 0;
        *inner = (pid_t)id;
    }
}

/* A thread in the middle of vfork, or of a system call that waits for a device, does not stop until that is
 * over. */
static int wait_for_stop(const struct tracee *t, pid_t tid, int *status, struct error *err)
{
    for (int waited_us = 0, pause_us = 20; waited_us < STOP_PATIENCE_US; waited_us += pause_us) {
        pid_t stopped = waitpid(tid, status, __WALL | WNOHANG);
        if (stopped < 0)
            return error_system(err, "cannot wait for thread %d to stop", tid);
        if (stopped == tid)
            return 0;
        usleep((useconds_t)pause_us);
        pause_us = pause_us < 1000 ? 2 * pause_us : pause_us;
    }
    return tracee_refuse(t, err,
        "thread %d does not stop: it is in a system call that cannot be interrupted, such as vfork", tid);
}

/* After PTRACE_INTERRUPT: wait until the thread is in its trap. A signal that was on its way stops it first;
 * it is let through (its handler is entered, as it would be without us). Such a stop may have used up the
 * interrupt (any trap clears a pending one), so that another is asked for; the trap then follows at once. */
static int wait_for_trap(const struct tracee *t, pid_t tid, struct error *err)
{
    for (int tries = 0; tries < 200; tries++) {
        int status;
        if (wait_for_stop(t, tid, &status, err) < 0)
            return -1;
        if (!WIFSTOPPED(status))
            return error_set(err, ERROR_NOT_FOUND, "thread %d ended before it could be stopped", tid);
        if (status >> 16 == PTRACE_EVENT_STOP) {
            if (WSTOPSIG(status) == SIGTRAP)
                return 0;
            return tracee_refuse(t, err, "thread %d is stopped by a job control signal", tid);
        }
        if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || ptrace(PTRACE_CONT, tid, 0, WSTOPSIG(status)) < 0)
            return error_system(err, "cannot let a signal through to thread %d", tid);
    }
    return tracee_refuse(t, err, "thread %d gets signals faster than it can be stopped", tid);
}

/* Why PTRACE_SEIZE failed; errno tells less. */
static int explain_no_trace(const struct tracee *t, pid_t tid, struct error *err)
{
    error_system(err, "cannot trace thread %d", tid);
    struct error ignored;
    CLEANUP_BUFFER struct buffer status = {0};
    if (err->errno_value != EPERM || tracee_proc_file(t, "status", &status, &ignored) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    const char *state = status_value((const char *)status.data, "\nState:");
    const char *tracer = status_value((const char *)status.data, "\nTracerPid:");
    if (tracer != NULL && atoi(tracer) != 0)
        return tracee_refuse(t, err, "it is traced by another process");
    if (tid == t->pid && state != NULL && strchr("ZX", state[strspn(state, " \t")]) != NULL)
        return tracee_refuse(t, err, "its first thread has ended while others run, which cannot be frozen");
    return -1;
}

static int stop_thread(const struct tracee *t, pid_t tid, struct error *err)
{
    const unsigned long options = (t->kill_with_us ? PTRACE_O_EXITKILL : 0) | PTRACE_O_SUSPEND_SECCOMP;
    if (ptrace(PTRACE_SEIZE, tid, 0, options) < 0)
        return explain_no_trace(t, tid, err);
    if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        return error_system(err, "cannot interrupt thread %d", tid);
    return wait_for_trap(t, tid, err);
}

static bool is_stopped_already(const struct tracee *t, pid_t tid)
{
    for (size_t i = 0; i < t->thread_count; i++)
        if (t->threads[i].tid == tid)
            return true;
    return false;
}

static int add_thread(struct tracee *t, pid_t tid, struct error *err)
{
    struct tracee_thread thread = {.tid = tid};
    char path[64];
    snprintf(path, sizeof path, "task/%d/status", tid);
    if (stop_thread(t, tid, err) < 0 || read_inner_id(t, path, &thread.inner_tid, err) < 0)
        return -1;
    if (tracee_read_thread(t, &thread, err) < 0)
        return -1;
    t->threads = xrealloc(t->threads, (t->thread_count + 1) * sizeof *t->threads);
    t->threads[t->thread_count++] = thread;
    return 0;
}

/* One pass over /proc/PID/task: stop what is not stopped yet. *added says whether there was any. */
static int stop_new_threads(struct tracee *t, bool *added, struct error *err)
{
    *added = false;
    int fd = openat(t->proc_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL)
        return error_system(err, "cannot list the threads of process %d", t->pid);
    int result = 0;
    struct dirent *entry = NULL;
    while (result == 0 && (errno = 0, entry = readdir(folder)) != NULL) {
        pid_t tid = atoi(entry->d_name);
        if (tid <= 0 || is_stopped_already(t, tid))
            continue;
        *added = true;
        result = add_thread(t, tid, err);
        /* A thread that ended between the listing and the stop is no fault: the next pass will not see it. */
        if (result < 0 && (err->errno_value == ESRCH || err->kind == ERROR_NOT_FOUND))
            result = 0;
    }
    if (result == 0 && errno != 0)
        result = error_system(err, "cannot list all threads of process %d", t->pid);
    closedir(folder);
    return result;
}

static int stop_all_threads(struct tracee *t, struct error *err)
{
    if (add_thread(t, t->pid, err) < 0)
        return -1;
    for (bool added = true; added;)
        if (stop_new_threads(t, &added, err) < 0)
            return -1;
    return 0;
}

/* Find "[vdso]" in the maps, and in it the two bytes of a `syscall` instruction. */
static int find_syscall_instruction(struct tracee *t, struct error *err)
{
    CLEANUP_BUFFER struct buffer maps = {0};
    if (tracee_proc_file(t, "maps", &maps, err) < 0)
        return -1;
    buffer_append_u8(&maps, 0);
    char *line = strstr((char *)maps.data, "[vdso]");
    while (line != NULL && line > (char *)maps.data && line[-1] != '\n')
        line--;
    unsigned long start, end;
    uint8_t code[16384];
    if (line == NULL || sscanf(line, "%lx-%lx", &start, &end) != 2 || end - start > sizeof code)
        return tracee_refuse(t, err, "it has no vDSO to run system calls from");
    if (tracee_read(t, start, code, end - start, err) < 0)
        return -1;
    const uint8_t *found = memmem(code, end - start, "\x0f\x05", 2);
    if (found == NULL)
        return tracee_refuse(t, err, "its vDSO holds no syscall instruction");
    t->syscall_address = start + (uint64_t)(found - code);
    return 0;
}

static int map_scratch(struct tracee *t, struct error *err)
{
    long address;
    if (tracee_call(t, &address, err, SYS_mmap, 0, SCRATCH_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0) < 0)
        return -1;
    if (address < 0 && address > -4096)
        return tracee_refuse(t, err, "it has no room for one more page: %s", strerror((int)-address));
    t->scratch = (uint64_t)address;
    return 0;
}

static int open_process(struct tracee *t, struct error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", t->pid);
    t->proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (t->proc_fd < 0)
        return error_system(err, "cannot look at process %d", t->pid);
    t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
    if (t->pidfd < 0)
        return error_system(err, "cannot get a pidfd of process %d", t->pid);
    CLEANUP_BUFFER struct buffer name = {0};
    if (tracee_proc_file(t, "comm", &name, err) < 0)
        return -1;
    snprintf(t->name, sizeof t->name, "%.*s", (int)strcspn((char *)name.data, "\n"), (char *)name.data);
    return read_inner_id(t, "status", &t->inner_pid, err);
}

int tracee_stop(struct tracee *t, pid_t pid, bool kill_with_us, struct error *err)
{
    *t = (struct tracee){.pid = pid, .pidfd = -1, .proc_fd = -1, .kill_with_us = kill_with_us};
    if (open_process(t, err) == 0 && stop_all_threads(t, err) == 0 && find_syscall_instruction(t, err) == 0)
        return 0;
    if (!kill_with_us)
        tracee_release(t);
    tracee_close(t);
    return -1;
}

/* Registers and masks are the thread's own again after each call. A call that the stop interrupted is started
 * again by the kernel, which finds its number and result as it left them. */
void tracee_release(struct tracee *t)
{
    struct error ignored;
    long result;
    if (t->scratch != 0 && t->thread_count > 0)
        (void)!tracee_call(t, &result, &ignored, SYS_munmap, t->scratch, SCRATCH_BYTES);
    for (size_t i = 0; i < t->thread_count; i++)
        ptrace(PTRACE_DETACH, t->threads[i].tid, 0, 0);
}

void tracee_kill(struct tracee *t)
{
    (void)syscall(SYS_pidfd_send_signal, t->pidfd, SIGKILL, NULL, 0);
}

void tracee_close(struct tracee *t)
{
    fd_close(&t->pidfd);
    fd_close(&t->proc_fd);
    free(t->threads);
    t->threads = NULL;
    t->thread_count = 0;
}

int tracee_read(const struct tracee *t, uint64_t address, void *out, size_t len, struct error *err)
{
    struct iovec local = {out, len}, remote = {(void *)address, len};
    if (process_vm_readv(t->pid, &local, 1, &remote, 1, 0) == (ssize_t)len)
        return 0;
    /* Pages without read permission are only readable through /proc/PID/mem. */
    CLEANUP_FD int mem = openat(t->proc_fd, "mem", O_RDONLY | O_CLOEXEC);
    size_t done = 0;
    while (mem >= 0 && done < len) {
        ssize_t n = pread(mem, (char *)out + done, len - done, (off_t)(address + done));
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (done == len)
        return 0;
    return error_system(err, "cannot read %zu bytes of process %d at %#lx", len, t->inner_pid, address);
}

int tracee_write(const struct tracee *t, uint64_t address, const void *data, size_t len, struct error *err)
{
    struct iovec local = {(void *)data, len}, remote = {(void *)address, len};
    if (process_vm_writev(t->pid, &local, 1, &remote, 1, 0) == (ssize_t)len)
        return 0;
    return error_system(err, "cannot write %zu bytes of process %d at %#lx", len, t->inner_pid, address);
}

static int set_registers(pid_t tid, struct user_regs_struct *registers, struct error *err)
{
    struct iovec view = {registers, sizeof *registers};
    if (ptrace(PTRACE_SETREGSET, tid, 1 /* NT_PRSTATUS */, &view) < 0)
        return error_system(err, "cannot set the registers of thread %d", tid);
    return 0;
}

/* Step over one instruction. The thread's signals are all blocked meanwhile, so that nothing else happens. */
static int step_once(pid_t tid, struct error *err)
{
    uint64_t blocked, all = ~0ull;
    if (ptrace(PTRACE_GETSIGMASK, tid, sizeof blocked, &blocked) < 0 ||
        ptrace(PTRACE_SETSIGMASK, tid, sizeof all, &all) < 0)
        return error_system(err, "cannot block the signals of thread %d", tid);
    int status;
    if (ptrace(PTRACE_SINGLESTEP, tid, 0, 0) < 0 || waitpid(tid, &status, __WALL) < 0)
        return error_system(err, "cannot step thread %d", tid);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return error_set(
            err, ERROR_INTERNAL, "thread %d stopped with status %#x instead of a step", tid, status);
    if (ptrace(PTRACE_SETSIGMASK, tid, sizeof blocked, &blocked) < 0)
        return error_system(err, "cannot restore the signal mask of thread %d", tid);
    return 0;
}

int tracee_syscall(struct tracee *t, size_t index, long *result, struct error *err, long number,
    size_t arg_count, const uint64_t *args)
{
    const struct tracee_thread *thread = &t->threads[index];
    uint64_t a[6] = {0};
    memcpy(a, args, arg_count * sizeof *a);
    struct user_regs_struct call = thread->registers;
    call.rip = t->syscall_address;
    call.rax = (unsigned long long)number;
    call.orig_rax = (unsigned long long)-1; /* no interrupted call of the thread's own may be restarted now */
    call.rdi = a[0];
    call.rsi = a[1];
    call.rdx = a[2];
    call.r10 = a[3];
    call.r8 = a[4];
    call.r9 = a[5];
    if (set_registers(thread->tid, &call, err) < 0 || step_once(thread->tid, err) < 0)
        return -1;
    struct iovec view = {&call, sizeof call};
    if (ptrace(PTRACE_GETREGSET, thread->tid, 1 /* NT_PRSTATUS */, &view) < 0)
        return error_system(err, "cannot read the result of a system call in thread %d", thread->tid);
    *result = (long)call.rax;
    struct user_regs_struct original = thread->registers;
    return set_registers(thread->tid, &original, err);
}

int tracee_get_scratch(struct tracee *t, uint64_t *address, struct error *err)
{
    if (t->scratch == 0 && map_scratch(t, err) < 0)
        return -1;
    *address = t->scratch;
    return 0;
}

int tracee_query(struct tracee *t, size_t index, void *out, size_t len, struct error *err, long number,
    int pointer_at, const uint64_t args[4])
{
    long result;
    uint64_t all[4] = {args[0], args[1], args[2], args[3]};
    if (tracee_get_scratch(t, &all[pointer_at], err) < 0 ||
        tracee_syscall(t, index, &result, err, number, 4, all) < 0)
        return -1;
    if (result < 0)
        return error_set(err, ERROR_SYSTEM, "system call %ld in thread %d: %s", number,
            t->threads[index].inner_tid, strerror((int)-result));
    return tracee_read(t, all[pointer_at], out, len, err);
}

int tracee_ask(struct tracee *t, long *result, struct error *err, long number, uint64_t a, uint64_t b)
{
    const uint64_t args[] = {a, b, 0, 0, 0};
    return tracee_syscall(t, 0, result, err, number, 5, args);
}

int tracee_get_fd(const struct tracee *t, int fd, struct error *err)
{
    int copy = (int)syscall(SYS_pidfd_getfd, t->pidfd, fd, 0);
    if (copy < 0)
        return error_system(err, "cannot get descriptor %d of process %d", fd, t->inner_pid);
    return copy;
}
