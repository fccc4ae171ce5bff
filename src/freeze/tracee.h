/* The process that is being frozen: stopped with ptrace, all threads; read; and made to run system calls of
 * ours (in its first thread, at a `syscall` instruction of its vDSO), after which its registers are as they
 * were. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

struct tracee_thread {
    pid_t tid;       /* as we see it */
    pid_t inner_tid; /* in the innermost pid namespace */
    struct user_regs_struct
        registers; /* as it was stopped; of a restartable sequence, where that aborts to */
    struct __ptrace_rseq_configuration rseq;
};

struct tracee {
    pid_t pid, inner_pid;
    int pidfd;
    int proc_fd;                   /* /proc/PID, for openat */
    struct tracee_thread *threads; /* [0] is the first thread */
    size_t thread_count;
    uint64_t syscall_address; /* a `syscall` instruction inside the vDSO */
    uint64_t scratch;         /* a page of ours inside the process; 0 until it was asked for */
    char name[16];            /* comm, for error texts */
    bool kill_with_us;
};

/* Stop every thread (also such as are being created meanwhile). Fails when the process is gone or a zombie; what
 * was stopped then runs on or, with `kill_with_us`, dies when this process does. */
MUST_CHECK int tracee_stop(struct tracee *t, pid_t pid, bool kill_with_us, struct error *err);
/* Let it run on as if nothing had happened. */
void tracee_release(struct tracee *t);
void tracee_kill(struct tracee *t);
/* Close our descriptors. The process stays stopped, and dies with the tracer. */
void tracee_close(struct tracee *t);

MUST_CHECK int tracee_read(
    const struct tracee *t, uint64_t address, void *out, size_t len, struct error *err);
MUST_CHECK int tracee_write(
    const struct tracee *t, uint64_t address, const void *data, size_t len, struct error *err);
/* Registers and what else is known only before a call is made in the thread (tracee_thread.c). Refuses what would make such
 * calls go wrong. */
MUST_CHECK int tracee_read_thread(const struct tracee *t, struct tracee_thread *thread, struct error *err);
/* Run one system call in thread `index`. *result is what it returned (-errno for failure); returns -1 only
 * when it could not be run. Missing arguments are 0. */
MUST_CHECK int tracee_syscall(struct tracee *t, size_t index, long *result, struct error *err, long number,
    size_t arg_count, const uint64_t *args);
#define tracee_call(t, result, err, number, ...) \
    tracee_syscall(t, 0, result, err, number, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t), \
        (const uint64_t[]){__VA_ARGS__})

/* A read-write page inside the process for the pointer arguments of such calls. Ask for it only after the
 * mappings were read, as it adds one. */
MUST_CHECK int tracee_get_scratch(struct tracee *t, uint64_t *address, struct error *err);

/* A call in thread `index` that must succeed, whose argument number `pointer_at` points to the scratch page:
 * reads what it wrote there. The other arguments come from `args`. */
MUST_CHECK int tracee_query(struct tracee *t, size_t index, void *out, size_t len, struct error *err,
    long number, int pointer_at, const uint64_t args[4]);
/* A call of the first thread without pointers; *result is what it gave. */
MUST_CHECK int tracee_ask(
    struct tracee *t, long *result, struct error *err, long number, uint64_t a, uint64_t b);

/* A copy of the process's descriptor `fd` in our own process (pidfd_getfd): shares the open file description.
 */
MUST_CHECK int tracee_get_fd(const struct tracee *t, int fd, struct error *err);
/* Reads /proc/PID/<name> whole. */
MUST_CHECK int tracee_proc_file(
    const struct tracee *t, const char *name, struct buffer *out, struct error *err);
/* error_set with kind ERROR_UNSUPPORTED and "process PID (name): " in front: what refuses a freeze. */
int tracee_refuse(const struct tracee *t, struct error *err, const char *format, ...) PRINTF_LIKE(3, 4);
