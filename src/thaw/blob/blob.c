/* The freestanding part: it runs in the template process and in every clone, in memory that belongs to no snapshot,
 * without libc, and only interprets plans. It holds no state of a function and makes no decision of its own.
 *
 *   builder:   clear -> say WAITING -> take over the arena of a template, and go on there as one
 *   template:  clear -> enter its sandbox -> template plan -> settle -> say READY (with a pager: to it, and wait until its first pages are in)
 *              -> for ever: advice while nothing is asked for (with a pager: once all pages are in);
 *              a request -> fork into its sandbox -> say CLONED
 *   clone:     process plan -> one thread for each frozen thread -> thread plans -> release plan -> report ->
 *              every thread: rt_sigreturn
 *   a clone of several processes: the root's process plan forks its children, their plans fork theirs; each then
 *              does as above, waits until all are ready, and the root reports
 */
#include "thaw/blob/blob.h"
#include "thaw/blob/syscall_x86_64.h"

#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/futex.h>
#include <linux/sched.h>

#define call0(n) raw_syscall(n, 0, 0, 0, 0, 0, 0)
#define call1(n, a) raw_syscall(n, (uint64_t)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) raw_syscall(n, (uint64_t)(a), (uint64_t)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) raw_syscall(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), 0, 0, 0)
#define call4(n, a, b, c, d) raw_syscall(n, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d), 0, 0)

#define SECCOMP_SET_FILTER 1
#define SECCOMP_SYNC_THREADS 1
#define SCM_RIGHTS_TYPE 1
#define SOL_SOCKET_LEVEL 1
#define MSG_NO_SIGNAL 0x4000
#define MSG_CLOSE_ON_EXEC 0x40000000
#define CLOCK_MONOTONIC_ID 1
#define POLL_IN 1
#define ADVICE_DONT_NEED 4
#define ADVICE_COLLAPSE 25
#define ADVICE_POPULATE_WRITE 23
#define PAGE_BYTES 4096
#define HUGE_BYTES (2ull << 20)
#define HUGE_BYTES_AT_ONCE (64 * HUGE_BYTES)
#define RING_REGISTER_BUFFERS 0
#define QUIET_FIRST_MS 50 /* without a request, before the first piece of advice is followed */
#define QUIET_NEXT_MS 1
#define WAIT_FOR_OTHERS_SECONDS 20
#define PROT_READ_WRITE 3
#define PROT_NOTHING 0
#define MAP_RING 2 /* MAP_PRIVATE: what is written to it is the writer's own */
#define USER_END 0x7ffffffff000ull
#define MAP_SHARED_FIXED 0x31 /* MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS */
#define SHARED_BYTES 4096
#define SIGNAL_KILL 9
#define NO_OP 0xffffffffu
#define PAGING_MAPPED 'm'  /* PAGER_SAYS_MAPPED */
#define MAP_ARENA 0x104022 /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE */
#define PROT_READ_EXECUTE 5
#define DUPLICATE_ABOVE 1030 /* F_DUPFD_CLOEXEC */
#define CLOSE_ON_EXEC 02000000
#define AT_WORKING_FOLDER (-100)

struct failure {
    int64_t result;
    uint32_t which, op;
};

struct message_header { /* struct msghdr */
    uint64_t name;
    uint32_t name_bytes, pad1;
    uint64_t parts, part_count, control, control_bytes;
    uint32_t flags, pad2;
};
struct message_part { /* struct iovec */
    uint64_t base, bytes;
};
struct rights { /* struct cmsghdr with descriptors */
    uint64_t bytes;
    int32_t level, type;
    int32_t fds[8];
};

static uint64_t now_ns(void)
{
    int64_t time[2];
    call2(__NR_clock_gettime, CLOCK_MONOTONIC_ID, time);
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

static long read_all(int fd, uint64_t address, uint64_t bytes)
{
    while (bytes > 0) {
        long n = call3(__NR_read, fd, address, bytes);
        if (n <= 0)
            return n < 0 ? n : -5; /* the stream ended early: EIO */
        address += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* Pages of the snapshot, to their places. A stretch that fills huge pages gets them before it is filled: the first
 * page of each is touched, as the kernel makes a huge page of what is there. It may refuse, then they are small. */
static long read_pages(int fd, uint64_t address, uint64_t bytes)
{
    uint64_t end = address + bytes, huge_end = end & ~(HUGE_BYTES - 1);
    while (address < end) {
        uint64_t aligned = (address + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
        uint64_t stop = aligned < huge_end && aligned > address ? aligned : end;
        if (aligned == address && address < huge_end) {
            stop = huge_end - address > HUGE_BYTES_AT_ONCE ? address + HUGE_BYTES_AT_ONCE : huge_end;
            for (uint64_t at = address; at < stop; at += HUGE_BYTES)
                *(volatile uint8_t *)at = 0;
            call3(__NR_madvise, address, stop - address, ADVICE_COLLAPSE);
        } else if (stop - address > PAGE_BYTES) { /* all at once is cheaper than a fault for each */
            call3(__NR_madvise, address, stop - address, ADVICE_POPULATE_WRITE);
        }
        long result = read_all(fd, address, stop - address);
        if (result < 0)
            return result;
        address = stop;
    }
    return 0;
}

static long write_all(uint64_t fd, uint64_t address, uint64_t bytes)
{
    while (bytes > 0) {
        long n = call3(__NR_write, fd, address, bytes);
        if (n < 0)
            return n;
        address += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

static long copy(uint64_t to, uint64_t from, uint64_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
    return 0;
}

static long store(uint64_t address, uint64_t value, uint64_t width)
{
    if (width == 4)
        *(volatile uint32_t *)address = (uint32_t)value;
    else
        *(volatile uint64_t *)address = value;
    return 0;
}

static long load(uint64_t address, uint64_t width)
{
    return width == 4 ? *(volatile int32_t *)address : *(volatile int64_t *)address;
}

/* Values of the arguments. Returns 0 when one is a slot that this clone does not have: then the op is left
 * out. */
static int resolve(const struct blob_control *control, const struct plan_op *op, const int64_t *registers,
    uint64_t value[PLAN_ARGS])
{
    for (unsigned i = 0; i < PLAN_ARGS; i++) {
        value[i] = op->arg[i];
        if (op->arg_kind[i] == PLAN_DATA)
            value[i] += control->data;
        else if (op->arg_kind[i] == PLAN_BULK)
            value[i] += control->bulk;
        else if (op->arg_kind[i] == PLAN_REGISTER)
            value[i] = (uint64_t)registers[op->arg[i]];
        else if (op->arg_kind[i] == PLAN_SLOT) {
            value[i] = (uint64_t)(int64_t)control->slots[op->arg[i]];
            if (control->slots[op->arg[i]] < 0)
                return 0;
        }
    }
    return 1;
}

static int run_plan(struct blob_control *control, const struct blob_plan *plan, struct failure *failure);
static void run_process(void *context, uint64_t index);

/* ---- between the processes of a clone ---- */

static void wake_shared(uint32_t *futex)
{
    call3(__NR_futex, futex, FUTEX_WAKE, 0x7fffffff);
}

/* Until *futex has reached `wanted`; or one of the processes failed; or was killed, which nobody tells. */
static long wait_shared(struct blob_shared *shared, uint32_t *futex, uint32_t wanted)
{
    const int64_t patience[2] = {WAIT_FOR_OTHERS_SECONDS, 0};
    for (;;) {
        uint32_t seen = __atomic_load_n(futex, __ATOMIC_ACQUIRE);
        if (__atomic_load_n(&shared->failed, __ATOMIC_ACQUIRE))
            return -125; /* ECANCELED */
        if (seen >= wanted)
            return 0;
        long result = call4(__NR_futex, futex, FUTEX_WAIT, seen, patience);
        if (result == -110) /* ETIMEDOUT */
            return result;
    }
}

static long wait_for_others(struct blob_control *control, uint64_t barrier, uint64_t count)
{
    uint32_t *arrived = &control->shared->arrived[barrier];
    if (__atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL) == count) {
        wake_shared(arrived);
        return 0;
    }
    return wait_shared(control->shared, arrived, (uint32_t)count);
}

/* A child that is to be `index`, with its own number; it starts on the stack's top in its own copy of it. */
static __attribute__((noinline)) long fork_process(
    struct blob_control *control, uint64_t index, uint64_t flags, uint64_t exit_signal)
{
    const struct blob_process *child = &control->processes[index];
    uint64_t pid = (uint64_t)child->pid;
    struct failure failure;
    struct clone_args args = {
        .flags = flags,
        .exit_signal = exit_signal,
        .stack = control->stack,
        .stack_size = BLOB_STACK_BYTES,
        .set_tid = (uint64_t)&pid,
        .set_tid_size = 1,
    };
    if (run_plan(control, &child->hide, &failure) < 0)
        return failure.result;
    long result = raw_clone_run(&args, sizeof args, run_process, control, index);
    if (result >= 0 && run_plan(control, &child->show, &failure) < 0)
        return failure.result;
    return result;
}

/* ---- operations ---- */

static long run_op(struct blob_control *control, const struct plan_op *op, const uint64_t v[PLAN_ARGS])
{
    struct failure failure;
    switch (op->kind) {
    case PLAN_SYSCALL:
        return raw_syscall(op->number, v[0], v[1], v[2], v[3], v[4], v[5]);
    case PLAN_LAZY_PAGES:
        if (control->paging_fd >= 0)
            return 0;
        /* fall through */
    case PLAN_READ_PAGES:
        return read_pages(control->pages_fd, v[0], v[1]);
    case PLAN_STORE:
        return store(v[0], v[1], v[2]);
    case PLAN_LOAD:
        return load(v[0], v[1]);
    case PLAN_WRITE_ALL:
        return write_all(v[0], v[1], v[2]);
    case PLAN_COPY:
        return copy(v[0], v[1], v[2]);
    case PLAN_FORK:
        return fork_process(control, v[0], v[1], v[2]);
    case PLAN_BECOME:
        return run_plan(control, &control->processes[control->self].become, &failure) < 0 ? failure.result
                                                                                          : 0;
    case PLAN_BARRIER:
        return wait_for_others(control, v[0], v[1]);
    default:
        return -38; /* ENOSYS: the decoder lets no other kind through */
    }
}

static int is_failure(const struct plan_op *op, long result)
{
    if (op->expect == PLAN_EXPECT_VALUE)
        return result != op->expected;
    return op->expect == PLAN_EXPECT_SUCCESS && result < 0 && result > -4096;
}

static int run_ops(struct blob_control *control, const struct blob_plan *plan, uint32_t from, uint32_t to,
    int64_t *registers, struct failure *failure)
{
    for (uint32_t i = from; i < to; i++) {
        const struct plan_op *op = &plan->ops[i];
        uint64_t value[PLAN_ARGS];
        if (!resolve(control, op, registers, value))
            continue;
        long result = run_op(control, op, value);
        if (is_failure(op, result)) {
            *failure = (struct failure){result, plan->which, i};
            return -1;
        }
        if (op->save != 0)
            registers[op->save - 1] = result;
    }
    return 0;
}

static int run_plan(struct blob_control *control, const struct blob_plan *plan, struct failure *failure)
{
    int64_t registers[PLAN_REGISTERS];
    return run_ops(control, plan, 0, plan->count, registers, failure);
}

/* ---- a clone ---- */

/* The first failure of a clone is reported; then all its processes end. Who waits for the clone waits for its
 * root. */
static __attribute__((noreturn)) void give_up(
    struct blob_control *control, const struct failure *failure, uint32_t thread)
{
    struct blob_shared *shared = control->process_count > 1 ? control->shared : 0;
    if (!shared || !__atomic_exchange_n(&shared->failed, 1, __ATOMIC_ACQ_REL)) {
        control->report.magic = PLAN_REPORT_MAGIC;
        control->report.failed = failure->result < 0 ? (int32_t)failure->result : -1;
        control->report.plan = failure->which | thread << 8;
        control->report.op = failure->op;
        control->report.process = control->self;
        call3(__NR_write, control->slots[PLAN_SLOT_REPORT], &control->report, sizeof control->report);
    }
    if (shared) {
        for (unsigned i = 0; i < PLAN_BARRIERS; i++)
            wake_shared(&shared->arrived[i]);
        wake_shared(&shared->ready);
        wake_shared(&shared->go);
        if (control->self != 0)
            call2(__NR_kill, control->processes[0].pid, SIGNAL_KILL);
    }
    for (;;)
        call1(__NR_exit_group, BLOB_EXIT_STATUS);
}

static __attribute__((noreturn)) void give_up_for(struct blob_control *control, long result, uint32_t which)
{
    struct failure failure = {result < 0 ? result : -1, which, NO_OP};
    give_up(control, &failure, 0);
}

static void wait_until(uint32_t *futex, uint32_t wanted)
{
    for (;;) {
        uint32_t seen = __atomic_load_n(futex, __ATOMIC_ACQUIRE);
        if (seen == wanted)
            return;
        call4(__NR_futex, futex, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen, 0);
    }
}

static void wake_all(uint32_t *futex)
{
    call3(__NR_futex, futex, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0x7fffffff);
}

static void run_thread(void *context, uint64_t index)
{
    struct blob_control *control = context;
    const struct blob_process *process = &control->processes[control->self];
    const struct blob_thread *thread = &process->threads[index];
    struct failure failure;
    if (run_plan(control, &thread->plan, &failure) < 0)
        give_up(control, &failure, (uint32_t)index);
    if (__atomic_add_fetch(&control->threads_done, 1, __ATOMIC_ACQ_REL) == process->thread_count - 1)
        wake_all(&control->threads_done);
    wait_until(&control->go, 1);
    raw_sigreturn(thread->frame);
}

static void start_threads(struct blob_control *control, const struct blob_process *process)
{
    for (uint32_t i = 1; i < process->thread_count; i++) {
        uint64_t tid = (uint64_t)process->threads[i].tid;
        struct clone_args args = {
            .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
            .stack = control->thread_stacks + (uint64_t)(i - 1) * BLOB_THREAD_STACK_BYTES,
            .stack_size = BLOB_THREAD_STACK_BYTES,
            .set_tid = (uint64_t)&tid,
            .set_tid_size = 1,
        };
        long result = raw_clone_run(&args, sizeof args, run_thread, control, i);
        if (result < 0) {
            struct failure failure = {result, PLAN_THREAD, NO_OP};
            give_up(control, &failure, i);
        }
    }
}

static void attach_filter(struct blob_control *control, const struct blob_process *process)
{
    const struct blob_filter *filter = control->paging_fd >= 0 ? &control->early_filter : &control->filter;
    if (filter->length == 0)
        return;
    uint64_t flags = process->thread_count > 1 ? SECCOMP_SYNC_THREADS : 0;
    long result = call3(__NR_seccomp, SECCOMP_SET_FILTER, flags, filter);
    if (result != 0)
        give_up_for(control, result, PLAN_RELEASE);
}

/* The sandbox is entered, and where there are several processes the page that they share is made. */
static void enter_sandbox(
    struct blob_control *control, const struct blob_process *process, int64_t *registers)
{
    struct failure failure;
    call3(__NR_close_range, 0, control->descriptor_floor - 1, 0);
    /* What the template speaks and works with is not for a plan to find. */
    call1(__NR_close, control->control_fd);
    if (control->ring_fd >= 0)
        call1(__NR_close, control->ring_fd);
    if (control->process_count > 1) {
        long result = raw_syscall(__NR_mmap, (uint64_t)control->shared, SHARED_BYTES, PROT_READ_WRITE,
            MAP_SHARED_FIXED, (uint64_t)-1, 0);
        if (result != (long)control->shared)
            give_up_for(control, result, PLAN_PROCESS);
    }
    if (run_ops(control, &process->process, 0, control->sandbox_ops_end, registers, &failure) < 0)
        give_up(control, &failure, 0);
}

/* The last of several processes lets all go: the root, which tells that the clone is there. */
static void go_together(struct blob_control *control)
{
    struct blob_shared *shared = control->shared;
    long result;
    if (control->self == 0) {
        result = wait_shared(shared, &shared->ready, control->live_count - 1);
        if (result == 0) {
            control->report.threads_ns = now_ns();
            call3(__NR_write, control->slots[PLAN_SLOT_REPORT], &control->report, sizeof control->report);
            __atomic_store_n(&shared->go, 1, __ATOMIC_RELEASE);
            wake_shared(&shared->go);
        }
    } else {
        if (__atomic_add_fetch(&shared->ready, 1, __ATOMIC_ACQ_REL) == control->live_count - 1)
            wake_shared(&shared->ready);
        result = wait_shared(shared, &shared->go, 1);
    }
    if (result < 0)
        give_up_for(control, result, PLAN_RELEASE);
    call2(__NR_munmap, shared, SHARED_BYTES);
}

static void run_process(void *context, uint64_t index)
{
    struct blob_control *control = context;
    const struct blob_process *process = &control->processes[index];
    struct failure failure;
    struct plan_report *report = &control->report;
    int64_t registers[PLAN_REGISTERS];
    uint32_t from = 0;
    control->self = (uint32_t)index;
    if (index == 0) {
        report->magic = PLAN_REPORT_MAGIC;
        report->forked_ns = now_ns();
        enter_sandbox(control, process, registers);
        from = control->sandbox_ops_end;
        report->sandboxed_ns = now_ns();
    }
    if (run_ops(control, &process->process, from, process->process.count, registers, &failure) < 0)
        give_up(control, &failure, 0);
    if (process->thread_count == 0)
        give_up_for(control, -1, PLAN_PROCESS); /* its plan was to end by itself */
    report->descriptors_ns = now_ns();
    start_threads(control, process);
    if (run_plan(control, &process->threads[0].plan, &failure) < 0)
        give_up(control, &failure, 0);
    wait_until(&control->threads_done, process->thread_count - 1);
    report->threads_ns = now_ns();
    if (run_plan(control, &process->release, &failure) < 0)
        give_up(control, &failure, 0);
    attach_filter(control, process);
    if (control->process_count > 1)
        go_together(control);
    else
        call3(__NR_write, control->slots[PLAN_SLOT_REPORT], report, sizeof *report);
    call3(__NR_close_range, control->descriptor_floor, 0xffffffffu, 0);
    if (process->thread_count > 1) {
        __atomic_store_n(&control->go, 1, __ATOMIC_RELEASE);
        wake_all(&control->go);
    }
    raw_sigreturn(process->threads[0].frame);
}

/* ---- the template ---- */

/* One message, with a descriptor beside it where `fd` is one. */
static long send_message(int socket, const void *data, uint64_t bytes, int fd)
{
    struct rights rights = {
        .bytes = 16 + sizeof(int32_t), .level = SOL_SOCKET_LEVEL, .type = SCM_RIGHTS_TYPE};
    struct message_part part = {(uint64_t)data, bytes};
    struct message_header message = {.parts = (uint64_t)&part, .part_count = 1};
    rights.fds[0] = fd;
    if (fd >= 0) {
        message.control = (uint64_t)&rights;
        message.control_bytes = 24;
    }
    return call3(__NR_sendmsg, socket, &message, MSG_NO_SIGNAL);
}

static void reply(const struct blob_control *control, const struct blob_reply *answer, int fd)
{
    if (send_message(control->control_fd, answer, sizeof *answer, fd) < 0)
        call1(__NR_exit_group, 1); /* nobody is there to make clones for */
}

static long receive_message(
    int socket, struct message_part *parts, uint64_t part_count, struct rights *rights)
{
    struct message_header message = {
        .parts = (uint64_t)parts,
        .part_count = part_count,
        .control = (uint64_t)rights,
        .control_bytes = sizeof *rights,
    };
    return call3(__NR_recvmsg, socket, &message, MSG_CLOSE_ON_EXEC);
}

static void take_slots(struct blob_control *control, uint32_t mask, const int32_t *fds)
{
    for (unsigned slot = 0, next = 0; slot < PLAN_SLOT_COUNT; slot++)
        control->slots[slot] = mask & 1u << slot ? fds[next++] : -1;
}

/* One request from the control socket; its descriptors go into the slots, its ranges to their place. */
static void receive(struct blob_control *control, struct blob_request *request)
{
    struct rights rights = {0};
    struct message_part parts[] = {{(uint64_t)request, sizeof *request},
        {(uint64_t)control->ranges, BLOB_RANGES_MAX * sizeof(struct blob_range)}};
    long n = receive_message(control->control_fd, parts, 2, &rights);
    if (n < (long)sizeof *request ||
        (uint64_t)n != sizeof *request + request->range_count * sizeof(struct blob_range))
        call1(__NR_exit_group, 0);
    take_slots(control, request->slot_mask, rights.fds);
}

struct wait { /* struct pollfd */
    int32_t fd;
    int16_t events, happened;
};

/* Until all pages are in, or a request has come: then 0. Advice would meet memory that is not all there. */
static int is_complete(struct blob_control *control)
{
    uint8_t byte;
    while (control->paging_fd >= 0) {
        struct wait waits[] = {{control->control_fd, POLL_IN, 0}, {control->paging_fd, POLL_IN, 0}};
        call3(__NR_poll, waits, 2, -1);
        if (waits[0].happened)
            return 0;
        if (!waits[1].happened)
            continue;
        if (call3(__NR_read, control->paging_fd, &byte, 1) != 1)
            call1(__NR_exit_group, 1); /* the pager is gone, and pages are missing */
        call1(__NR_close, control->paging_fd);
        control->paging_fd = -1;
        call2(__NR_munmap, control->hold, PAGE_BYTES);
    }
    return 1;
}

/* Run what is left of the advice, one operation at a time, as long as no request comes. */
static void follow_advice(struct blob_control *control, uint32_t *done)
{
    struct failure failure;
    int64_t registers[PLAN_REGISTERS];
    int quiet_ms = QUIET_FIRST_MS;
    if (!is_complete(control))
        return;
    for (; *done < control->advice.count; ++*done) {
        struct wait wait = {.fd = control->control_fd, .events = POLL_IN};
        if (call3(__NR_poll, &wait, 1, quiet_ms) != 0)
            return;
        run_ops(control, &control->advice, *done, *done + 1, registers, &failure);
        quiet_ms = QUIET_NEXT_MS;
    }
}

/* Pages that are pinned for a device are never shared with a child: the fork copies them. So the pages that every
 * clone writes to are pinned, for a device that is never used. (Of a huge page all is pinned, and so copied.) */
static void own_ranges(const struct blob_control *control, uint32_t count)
{
    if (control->ring_fd < 0)
        return; /* this kernel offers none, or not to us */
    call4(__NR_io_uring_register, control->ring_fd, RING_REGISTER_BUFFERS, control->ranges, count);
    call3(__NR_madvise, control->ranges, BLOB_RANGES_MAX * sizeof(struct blob_range), ADVICE_DONT_NEED);
}

/* Fork into the sandbox's pid namespace, with the frozen process's own number there. The clone becomes a
 * child of our parent, who can wait for it. */
static void make_clone(struct blob_control *control, const struct blob_request *request)
{
    uint64_t pid = (uint64_t)control->processes[0].pid;
    int32_t pidfd = -1;
    struct clone_args args = {
        .flags = CLONE_PARENT | CLONE_PIDFD,
        .pidfd = (uint64_t)&pidfd,
        .set_tid = (uint64_t)&pid,
        .set_tid_size = 1,
    };
    long result = call2(__NR_setns, control->slots[PLAN_SLOT_INIT_PIDFD], CLONE_NEWPID);
    if (result == 0)
        result = call2(__NR_clone3, &args, sizeof args);
    if (result == 0)
        run_process(control, 0);
    struct blob_reply answer = {.kind = BLOB_CLONED, .cookie = request->cookie, .forked_ns = now_ns()};
    if (result < 0) {
        answer.kind = BLOB_FAILED;
        answer.failed = (int32_t)result;
        answer.plan = PLAN_PROCESS;
        answer.op = NO_OP;
    } else {
        answer.pid = (int32_t)result;
    }
    reply(control, &answer, pidfd);
    if (pidfd >= 0)
        call1(__NR_close, pidfd);
    for (unsigned slot = 0; slot < PLAN_SLOT_COUNT; slot++)
        if (control->slots[slot] >= 0)
            call1(__NR_close, control->slots[slot]);
}

/* The address spaces of all processes: each is built at its places and moved aside, the root's comes last. */
static int build_memory(struct blob_control *control, uint32_t *index, struct failure *failure)
{
    for (uint32_t i = 1; i <= control->process_count; i++) {
        *index = i % control->process_count;
        const struct blob_process *process = &control->processes[*index];
        if (run_plan(control, &process->template, failure) < 0 ||
            run_plan(control, &process->stash, failure) < 0)
            return -1;
    }
    return 0;
}

/* All is mapped: the pager fills in what is needed first, and tells our parent that we are ready. */
static void await_first_pages(const struct blob_control *control)
{
    uint8_t byte = PAGING_MAPPED;
    if (call3(__NR_write, control->paging_fd, &byte, 1) != 1 ||
        call3(__NR_read, control->paging_fd, &byte, 1) != 1)
        call1(__NR_exit_group, 1);
}

/* The snapshot maps these files, and nothing that has their names by now. */
static void check_files(const struct blob_control *control)
{
    for (uint32_t i = 0; i < control->file_count; i++) {
        const struct blob_file *file = &control->files[i];
        struct stat now;
        long result = call4(__NR_newfstatat, AT_WORKING_FOLDER, file->path, &now, 0);
        if (result == 0 && (uint64_t)now.st_size == file->bytes &&
            (int64_t)(now.st_mtime * 1000000000 + now.st_mtime_nsec) == file->modified_ns)
            continue;
        struct blob_reply answer = {.kind = BLOB_FAILED, .plan = BLOB_FILES, .failed = (int32_t)result};
        for (unsigned at = 0; at + 1 < sizeof answer.text && ((const char *)file->path)[at] != 0; at++)
            answer.text[at] = ((const char *)file->path)[at];
        reply(control, &answer, -1);
        for (;;)
            call1(__NR_exit_group, BLOB_EXIT_STATUS);
    }
}

/* The pager gets a hold of this memory, and what it cannot know: struct pager_hello. */
static void hand_to_pager(struct blob_control *control)
{
    if (control->paging_fd >= 0 &&
        send_message(control->paging_fd, &control->bulk, sizeof control->bulk, control->memory_fd) < 0)
        call1(__NR_exit_group, 1);
    if (control->memory_fd >= 0)
        call1(__NR_close, control->memory_fd);
    control->memory_fd = -1;
}

static int enter_own_sandbox(struct blob_control *control, struct failure *failure)
{
    int result = run_plan(control, &control->enter, failure);
    for (unsigned slot = 0; slot < PLAN_SLOT_COUNT; slot++)
        if (control->slots[slot] >= 0)
            call1(__NR_close, control->slots[slot]);
    return result;
}

/* ---- the builder ---- */

static __attribute__((noreturn)) void fail_to_build(const struct blob_control *control, long result)
{
    struct blob_reply answer = {.kind = BLOB_FAILED, .plan = BLOB_TAKE_OVER, .op = NO_OP};
    answer.failed = result < 0 ? (int32_t)result : -1;
    reply(control, &answer, -1);
    for (;;)
        call1(__NR_exit_group, BLOB_EXIT_STATUS);
}

/* What is its own lies above all that a clone opens, as does what arrives with requests: place holders are below. */
static long arrange_descriptors(struct blob_control *control)
{
    int32_t floor = control->descriptor_floor;
    int32_t above = (floor > BLOB_FLOOR ? floor : BLOB_FLOOR) + BLOB_ABOVE_FLOOR;
    int32_t *own[] = {&control->control_fd, &control->ring_fd, &control->memory_fd, &control->pages_fd,
        &control->paging_fd, &control->slots[PLAN_SLOT_INIT_PIDFD], &control->slots[PLAN_SLOT_CODE]};
    for (unsigned i = 0; i < sizeof own / sizeof *own; i++) {
        int32_t before = *own[i];
        if (before < 0 || before >= above)
            continue;
        long result = call3(__NR_fcntl, before, DUPLICATE_ABOVE, above);
        if (result < 0)
            return result;
        *own[i] = (int32_t)result;
        call1(__NR_close, before);
    }
    for (int32_t fd = BLOB_FLOOR; fd < floor; fd++) {
        long result = call3(__NR_dup3, 0, fd, CLOSE_ON_EXEC);
        if (result < 0)
            return result;
    }
    if (floor < BLOB_FLOOR)
        call3(__NR_close_range, floor, BLOB_FLOOR - 1, 0);
    return 0;
}

/* The arena comes as a file, which is forgotten: it is memory of this process alone, as all that follows. */
static long fill_arena(const struct blob_build *build, int fd)
{
    long result =
        raw_syscall(__NR_mmap, build->start, build->bytes, PROT_READ_WRITE, MAP_ARENA, (uint64_t)-1, 0);
    if (result != (long)build->start)
        return result < 0 ? result : -17; /* EEXIST */
    for (uint64_t done = 0; done < build->filled; done += (uint64_t)result) {
        result = call4(__NR_pread64, fd, build->start + done, build->filled - done, done);
        if (result <= 0)
            return result < 0 ? result : -5; /* EIO */
    }
    return call3(__NR_mprotect, build->start, build->code_bytes, PROT_READ_EXECUTE);
}

/* A page of the ring goes to where no snapshot has anything. The kernel takes no wish for that: it takes the highest gap that is
 * free, so all above ours is filled for the moment. */
static void map_ring(const struct blob_control *control, int ring)
{
    uint64_t above = control->hold + PAGE_BYTES;
    call2(__NR_munmap, control->hold, PAGE_BYTES);
    long filler = raw_syscall(__NR_mmap, above, USER_END - above, PROT_NOTHING, MAP_ARENA, (uint64_t)-1, 0);
    long page = raw_syscall(__NR_mmap, 0, PAGE_BYTES, PROT_NOTHING, MAP_RING, (uint64_t)ring, 0);
    if (page >= 0 && (uint64_t)page != control->hold)
        call2(__NR_munmap, page, PAGE_BYTES);
    if (filler >= 0)
        call2(__NR_munmap, above, USER_END - above);
}

/* What holds the userfaultfds of this memory and of its forks (pager/hold.c). Where it cannot be had (a kernel that offers none, or is
 * told to let nobody take it) keeper and pager hold them alone. */
static void take_hold(const struct blob_control *control)
{
    int32_t number; /* struct pager_hold */
    struct rights rights = {0};
    struct message_part part = {(uint64_t)&number, sizeof number};
    if (receive_message(control->paging_fd, &part, 1, &rights) != sizeof number)
        for (;;)
            call1(__NR_exit_group, 1); /* the pager is gone, and says why */
    if (number < 0)
        return;
    long ring = call3(__NR_pidfd_getfd, rights.fds[0], number, 0);
    if (ring >= 0) {
        map_ring(control, (int)ring);
        call1(__NR_close, ring);
    }
    call1(__NR_close, rights.fds[0]);
}

static __attribute__((noreturn)) void await_build(const struct blob_control *control)
{
    const struct blob_reply waiting = {.kind = BLOB_WAITING};
    struct blob_build build;
    struct rights rights = {0};
    struct message_part part = {(uint64_t)&build, sizeof build};
    reply(control, &waiting, -1);
    if (receive_message(control->control_fd, &part, 1, &rights) != sizeof build)
        for (;;)
            call1(__NR_exit_group, 0); /* nobody needs it any more */
    long result = fill_arena(&build, rights.fds[0]);
    if (result < 0)
        fail_to_build(control, result);
    struct blob_control *next = (struct blob_control *)build.control;
    const int32_t *fds = rights.fds;
    call1(__NR_close, *fds++);
    next->control_fd = control->control_fd;
    next->ring_fd = control->ring_fd;
    next->memory_fd = control->memory_fd;
    next->pages_fd = *fds++;
    next->paging_fd = build.is_paged ? *fds++ : -1;
    take_slots(next, build.slot_mask, fds);
    if (build.is_paged)
        take_hold(next);
    result = arrange_descriptors(next);
    if (result < 0)
        fail_to_build(next, result);
    raw_go_on(build.stack_top, build.start, next);
}

static int build_template(struct blob_control *control, uint32_t *process, struct failure *failure)
{
    if (run_plan(control, &control->clear, failure) < 0)
        return -1;
    if (control->waits)
        await_build(control);
    hand_to_pager(control);
    if (enter_own_sandbox(control, failure) < 0)
        return -1;
    check_files(control);
    return build_memory(control, process, failure) < 0 ? -1 : run_plan(control, &control->settle, failure);
}

__attribute__((section(".text.entry"), noreturn)) void blob_entry(struct blob_control *control)
{
    struct failure failure;
    struct blob_reply answer = {.kind = BLOB_READY};
    if (build_template(control, &answer.process, &failure) < 0) {
        answer.kind = BLOB_FAILED;
        answer.failed = failure.result < 0 ? (int32_t)failure.result : -1;
        answer.plan = failure.which;
        answer.op = failure.op;
        reply(control, &answer, -1);
        for (;;)
            call1(__NR_exit_group, BLOB_EXIT_STATUS);
    }
    call1(__NR_close, control->pages_fd);
    if (control->paging_fd >= 0)
        await_first_pages(control);
    else
        reply(control, &answer, -1);
    uint32_t advice_done = 0;
    for (;;) {
        struct blob_request request;
        follow_advice(control, &advice_done);
        receive(control, &request);
        if (request.range_count > 0)
            own_ranges(control, request.range_count);
        else
            make_clone(control, &request);
    }
}
