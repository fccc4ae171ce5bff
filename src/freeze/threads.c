/* Threads: a plan for what the kernel keeps of each, and a frame from which rt_sigreturn restores the
 * registers, the extended state, the signal mask and the alternate stack (arch/x86/kernel/signal_64.c). */
#include "freeze/parts.h"
#include "image/machine.h"

#include "base/fd.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/futex.h>
#include <linux/ioprio.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Results of an interrupted system call that the kernel would act on before it returns to the program
 * (include/linux/errno.h). */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

#define XSTATE_MAX 65536
#define XFEATURE_TILE_DATA (1ull << 18)
#define FP_XSTATE_MAGIC1_VALUE 0x46505853u
#define FP_XSTATE_MAGIC2_VALUE 0x46505845u
#define SIGNALS_PER_PEEK 32

/* The kernel's own layout of a signal frame (uapi asm/sigcontext.h, asm-generic/ucontext.h). */
struct kernel_ucontext {
    uint64_t flags, link;
    struct {
        uint64_t sp;
        int32_t flags, pad;
        uint64_t size;
    } stack;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
    uint64_t sigmask;
};
struct signal_frame {
    uint64_t return_address;
    struct kernel_ucontext context;
    uint8_t siginfo[128];
};
#define CONTEXT_HAS_XSTATE 1
#define CONTEXT_HAS_SS 2
#define CONTEXT_STRICT_SS 4

/* Where fx_sw_bytes and the XSAVE header are inside the extended state. */
struct xstate_software {
    uint32_t magic1, extended_bytes;
    uint64_t features;
    uint32_t state_bytes, pad[7];
};
#define XSTATE_SOFTWARE_AT 464
#define XSTATE_HEADER_AT 512

/* An absolute time-out makes a second call wait for the same moment. */
static bool can_start_over(const struct user_regs_struct *r)
{
    if (r->orig_rax == SYS_futex)
        return (r->rsi & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET;
    return r->orig_rax == SYS_poll && (int)r->rdx < 0;
}

/* What the kernel would have done to the registers on the way back to the program. */
static void settle_interrupted_call(struct user_regs_struct *r)
{
    if ((long long)r->orig_rax < 0)
        return;
    long result = (long)r->rax;
    bool again = result == -ERESTARTSYS || result == -ERESTARTNOINTR || result == -ERESTARTNOHAND ||
                 (result == -ERESTART_RESTARTBLOCK && can_start_over(r));
    if (again) {
        r->rax = r->orig_rax;
        r->rip -= 2;
    } else if (result == -ERESTART_RESTARTBLOCK) {
        r->rax = (unsigned long long)-EINTR;
    }
}

static void fill_context(struct kernel_ucontext *c, const struct user_regs_struct *r)
{
    *c = (struct kernel_ucontext){
        .flags = CONTEXT_HAS_XSTATE | CONTEXT_HAS_SS | CONTEXT_STRICT_SS,
        .r8 = r->r8,
        .r9 = r->r9,
        .r10 = r->r10,
        .r11 = r->r11,
        .r12 = r->r12,
        .r13 = r->r13,
        .r14 = r->r14,
        .r15 = r->r15,
        .rdi = r->rdi,
        .rsi = r->rsi,
        .rbp = r->rbp,
        .rbx = r->rbx,
        .rdx = r->rdx,
        .rax = r->rax,
        .rcx = r->rcx,
        .rsp = r->rsp,
        .rip = r->rip,
        .eflags = r->eflags,
        .cs = (uint16_t)r->cs,
        .gs = (uint16_t)r->gs,
        .fs = (uint16_t)r->fs,
        .ss = (uint16_t)r->ss,
    };
}

/* The extended state as ptrace gives it, made into what a signal frame holds: the software bytes that say how
 * long it is, and the second magic number behind it. */
static int put_xstate(
    struct freeze *f, const struct tracee_thread *thread, uint64_t *offset, struct error *err)
{
    CLEANUP_FREE uint8_t *state = xcalloc(1, XSTATE_MAX);
    struct iovec view = {state, XSTATE_MAX - 64}; /* room for the magic number behind it */
    if (ptrace(PTRACE_GETREGSET, thread->tid, 0x202 /* NT_X86_XSTATE */, &view) < 0)
        return error_system(err, "cannot read the extended registers of thread %d", thread->inner_tid);
    uint64_t in_use;
    memcpy(&in_use, state + XSTATE_HEADER_AT, sizeof in_use);
    if (in_use & XFEATURE_TILE_DATA)
        return tracee_refuse(
            &f->tracee, err, "thread %d uses AMX tiles, which cannot be frozen yet", thread->inner_tid);
    size_t bytes = machine_xstate_bytes();
    struct xstate_software software = {
        .magic1 = FP_XSTATE_MAGIC1_VALUE,
        .extended_bytes = (uint32_t)bytes + 4,
        .features = machine_xstate_features(),
        .state_bytes = (uint32_t)bytes,
    };
    memcpy(state + XSTATE_SOFTWARE_AT, &software, sizeof software);
    uint32_t magic2 = FP_XSTATE_MAGIC2_VALUE;
    memcpy(state + bytes, &magic2, sizeof magic2);
    *offset = image_put_aligned(f->image, state, bytes + 4, 64);
    return 0;
}

static int read_alternate_stack(
    struct freeze *f, size_t index, struct kernel_ucontext *context, struct error *err)
{
    return tracee_query(&f->tracee, index, &context->stack, sizeof context->stack, err, SYS_sigaltstack, 1,
        (const uint64_t[4]){0});
}

static int put_frame(
    struct freeze *f, size_t index, const struct user_regs_struct *registers, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    struct signal_frame frame = {0};
    uint64_t xstate = 0;
    fill_context(&frame.context, registers);
    if (read_alternate_stack(f, index, &frame.context, err) < 0 || put_xstate(f, thread, &xstate, err) < 0)
        return -1;
    if (ptrace(PTRACE_GETSIGMASK, thread->tid, sizeof frame.context.sigmask, &frame.context.sigmask) < 0)
        return error_system(err, "cannot read the signal mask of thread %d", thread->inner_tid);
    uint64_t at = image_put_aligned(f->image, &frame, sizeof frame, 64);
    f->process->threads[index].frame = at;
    /* The frame holds the address of the extended state: known when the template is built. */
    plan_do(&f->process->template_plan, PLAN_STORE,
        plan_data(at + offsetof(struct signal_frame, context) + offsetof(struct kernel_ucontext, fpstate)),
        plan_data(xstate), plan_literal(8));
    return 0;
}

static int plan_pointers(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    struct plan *plan = &f->process->threads[index].plan;
    uint64_t clear_tid, robust_list = 0, robust_bytes = 0;
    plan_call(plan, SYS_arch_prctl, plan_literal(ARCH_SET_FS), plan_literal(thread->registers.fs_base));
    if (thread->registers.gs_base != 0)
        plan_call(plan, SYS_arch_prctl, plan_literal(ARCH_SET_GS), plan_literal(thread->registers.gs_base));
    if (tracee_query(&f->tracee, index, &clear_tid, sizeof clear_tid, err, SYS_prctl, 1,
            (const uint64_t[4]){PR_GET_TID_ADDRESS}) < 0)
        return -1;
    plan_call(plan, SYS_set_tid_address, plan_literal(clear_tid));
    if (syscall(SYS_get_robust_list, thread->tid, &robust_list, &robust_bytes) < 0)
        return error_system(err, "cannot read the robust list of thread %d", thread->inner_tid);
    if (robust_list != 0)
        plan_call(plan, SYS_set_robust_list, plan_literal(robust_list), plan_literal(robust_bytes));
    return 0;
}

static void plan_rseq(struct freeze *f, size_t index)
{
    const struct __ptrace_rseq_configuration *rseq = &f->tracee.threads[index].rseq;
    if (rseq->rseq_abi_pointer != 0)
        plan_call(&f->process->threads[index].plan, SYS_rseq, plan_literal(rseq->rseq_abi_pointer),
            plan_literal(rseq->rseq_abi_size), plan_literal(rseq->flags), plan_literal(rseq->signature));
}

/* The CPUs it may run on, where it has chosen other ones than its process was given; and its I/O priority. */
static int plan_processors(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    struct plan *plan = &f->process->threads[index].plan;
    cpu_set_t ours, theirs;
    if (sched_getaffinity(0, sizeof ours, &ours) < 0 ||
        sched_getaffinity(thread->tid, sizeof theirs, &theirs) < 0)
        return error_system(err, "cannot read the processors of thread %d", thread->inner_tid);
    if (!CPU_EQUAL(&ours, &theirs))
        plan_call(plan, SYS_sched_setaffinity, plan_literal(0), plan_literal(sizeof theirs),
            plan_data(image_put(f->image, &theirs, sizeof theirs)));
    long priority = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread->tid);
    if (priority < 0)
        return error_system(err, "cannot read the I/O priority of thread %d", thread->inner_tid);
    if (IOPRIO_PRIO_CLASS(priority) != IOPRIO_CLASS_NONE)
        plan_call(plan, SYS_ioprio_set, plan_literal(IOPRIO_WHO_PROCESS), plan_literal(0),
            plan_literal((uint64_t)priority));
    return 0;
}

/* Name, scheduling policy, nice value and CPU mask, where they are not what a new thread has. */
static int plan_identity(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    struct image_thread *out = &f->process->threads[index];
    CLEANUP_BUFFER struct buffer name = {0};
    char path[64];
    snprintf(path, sizeof path, "task/%d/comm", thread->tid);
    if (tracee_proc_file(&f->tracee, path, &name, err) < 0)
        return -1;
    /* A name may hold a line's end itself; the last one is the file's. */
    snprintf(out->name, sizeof out->name, "%.*s", name.len > 0 ? (int)name.len - 1 : 0, (char *)name.data);
    uint64_t name_at = image_put(f->image, out->name, sizeof out->name);
    plan_call(&out->plan, SYS_prctl, plan_literal(PR_SET_NAME), plan_data(name_at));

    struct sched_attr_values {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {0}, ours = {0};
    if (syscall(SYS_sched_getattr, thread->tid, &attributes, sizeof attributes, 0) < 0)
        return error_system(err, "cannot read the scheduling of thread %d", thread->inner_tid);
    if (syscall(SYS_sched_getattr, 0, &ours, sizeof ours, 0) < 0)
        return error_system(err, "cannot read our own scheduling");
    if (attributes.policy != SCHED_OTHER || attributes.nice != 0 || attributes.flags != 0 ||
        attributes.runtime != ours.runtime) /* a time slice of its own */
        plan_call(&out->plan, SYS_sched_setattr, plan_literal(0),
            plan_data(image_put(f->image, &attributes, sizeof attributes)), plan_literal(0));
    return plan_processors(f, index, err);
}

/* Queued signals, of the thread itself or (shared) of the process: sent again to oneself while all are
 * blocked. */
int freeze_pending_signals(struct freeze *f, size_t index, bool shared, struct plan *plan, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    siginfo_t queue[SIGNALS_PER_PEEK];
    struct __ptrace_peeksiginfo_args peek = {
        .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0, .nr = SIGNALS_PER_PEEK};
    for (;;) {
        long n = ptrace(PTRACE_PEEKSIGINFO, thread->tid, &peek, queue);
        if (n < 0)
            return error_system(err, "cannot read the pending signals of thread %d", thread->inner_tid);
        for (long i = 0; i < n; i++) {
            struct plan_arg info = plan_data(image_put(f->image, &queue[i], sizeof queue[i]));
            struct plan_arg signal = plan_literal((uint64_t)queue[i].si_signo);
            struct plan_arg process = plan_literal((uint64_t)f->tracee.inner_pid);
            if (shared)
                plan_call(plan, SYS_rt_sigqueueinfo, process, signal, info);
            else
                plan_call(plan, SYS_rt_tgsigqueueinfo, process, plan_literal((uint64_t)thread->inner_tid),
                    signal, info);
        }
        if (n < SIGNALS_PER_PEEK)
            return 0;
        peek.off += (uint64_t)n;
    }
}

/* Threads that took their descriptors or working folder for themselves (unshare) would need them restored
 * apart. */
static int refuse_unshared(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    long files = syscall(SYS_kcmp, f->tracee.pid, thread->tid, KCMP_FILES, 0, 0);
    long folder = syscall(SYS_kcmp, f->tracee.pid, thread->tid, KCMP_FS, 0, 0);
    if (files < 0 || folder < 0)
        return error_system(err, "cannot compare thread %d with its process", thread->inner_tid);
    if (files == 0 && folder == 0)
        return 0;
    return tracee_refuse(&f->tracee, err, "thread %d has %s of its own, which cannot be frozen yet",
        thread->inner_tid, files != 0 ? "descriptors" : "a working folder");
}

static int freeze_thread(struct freeze *f, size_t index, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    struct image_thread *out = &f->process->threads[index];
    struct user_regs_struct registers = thread->registers;
    out->tid = thread->inner_tid;
    out->stop_syscall = (long long)registers.orig_rax < 0 ? -1 : (int64_t)registers.orig_rax;
    settle_interrupted_call(&registers);
    if (refuse_unshared(f, index, err) < 0 || plan_pointers(f, index, err) < 0 ||
        plan_identity(f, index, err) < 0 || freeze_thread_settings(f, index, err) < 0 ||
        freeze_pending_signals(f, index, false, &out->plan, err) < 0)
        return -1;
    plan_rseq(f, index);
    freeze_thread_rights(f, &out->plan);
    out->stop_address = registers.rip;
    return put_frame(f, index, &registers, err);
}

int freeze_threads(struct freeze *f, struct error *err)
{
    if (f->tracee.thread_count > IMAGE_THREADS_MAX)
        return tracee_refuse(&f->tracee, err, "it has %zu threads, and at most %d can be frozen",
            f->tracee.thread_count, IMAGE_THREADS_MAX);
    f->process->threads = xcalloc(f->tracee.thread_count, sizeof *f->process->threads);
    f->process->thread_count = (uint32_t)f->tracee.thread_count;
    for (size_t i = 0; i < f->tracee.thread_count; i++)
        if (freeze_thread(f, i, err) < 0)
            return -1;
    return 0;
}
