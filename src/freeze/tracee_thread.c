/* What must be known of a thread at the very moment when it was stopped, before any call is made in it. */
#include "freeze/tracee.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* include/uapi/linux/ptrace.h, kernel 6.4 and newer. */
#define PTRACE_GET_DISPATCH 0x4211
struct dispatch_config {
    uint64_t mode, selector, offset, len;
};

/* include/uapi/linux/rseq.h */
struct rseq_section {
    uint32_t version, flags;
    uint64_t start, length, abort;
};
#define RSEQ_SECTION_POINTER_AT 8

/* A thread that was inside a restartable sequence is sent to its abort handler, as the kernel does when it moves one. The
 * kernel itself would do so at the first call that is made in the thread: it forgets the sequence then, and puts the
 * handler into registers that are overwritten after that call. */
static int leave_restartable_sequence(const struct tracee *t, struct tracee_thread *thread, struct error *err)
{
    struct __ptrace_rseq_configuration *rseq = &thread->rseq;
    uint64_t pointer;
    struct rseq_section section;
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, thread->tid, sizeof *rseq, rseq) < 0)
        return error_system(err, "cannot read the rseq registration of thread %d", thread->inner_tid);
    if (rseq->rseq_abi_pointer == 0)
        return 0;
    if (tracee_read(t, rseq->rseq_abi_pointer + RSEQ_SECTION_POINTER_AT, &pointer, sizeof pointer, err) < 0)
        return -1;
    if (pointer == 0)
        return 0;
    if (tracee_read(t, pointer, &section, sizeof section, err) < 0)
        return -1;
    if (thread->registers.rip - section.start < section.length)
        thread->registers.rip = section.abort;
    return 0;
}

/* With syscall user dispatch, calls made in the thread might become signals. */
static int refuse_dispatch(const struct tracee *t, const struct tracee_thread *thread, struct error *err)
{
    struct dispatch_config dispatch = {0};
    if (ptrace((enum __ptrace_request)PTRACE_GET_DISPATCH, thread->tid, sizeof dispatch, &dispatch) < 0)
        return 0; /* an older kernel, from which it cannot be known */
    if (dispatch.mode == 0)
        return 0;
    return tracee_refuse(
        t, err, "thread %d uses syscall user dispatch, which cannot be frozen", thread->inner_tid);
}

int tracee_read_thread(const struct tracee *t, struct tracee_thread *thread, struct error *err)
{
    struct iovec registers = {&thread->registers, sizeof thread->registers};
    if (ptrace(PTRACE_GETREGSET, thread->tid, 1 /* NT_PRSTATUS */, &registers) < 0)
        return error_system(err, "cannot read the registers of thread %d", thread->tid);
    if (refuse_dispatch(t, thread, err) < 0)
        return -1;
    return leave_restartable_sequence(t, thread, err);
}
