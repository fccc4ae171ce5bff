/* A plan: a flat list of system calls with their arguments and expected results, which the freestanding blob
 * (thaw/blob) interprets. Freeze compiles process state into plans; `thaw inspect --plan` prints them.
 * This header is shared with the blob: fixed-size types only, nothing of libc.
 *
 * A snapshot has these plans, run in this order:
 *   template   once per machine, in the parked template process: memory, signal handlers, limits
 *   process    in each clone, by its first thread: sandbox, descriptors, shared memory, timers
 *   thread[i]  in each clone, by thread i (0 is the first thread): what the kernel keeps per thread
 *   release    in each clone, by its first thread, when all threads have finished theirs: what must be last
 * Where there are several processes each has all of these; a process plan then forks the process's children.
 * Then each thread returns into the function with rt_sigreturn, to the very instruction where it was frozen.
 */
#pragma once

#include <stdint.h>

#define PLAN_REGISTERS 16
#define PLAN_ARGS 6

/* What an argument is. */
enum plan_arg_kind {
    PLAN_LITERAL = 0, /* the value itself */
    PLAN_DATA,        /* an offset into the snapshot's data area: becomes an address */
    PLAN_BULK,        /* the same into the bulk area: contents of files, which travel with the pages */
    PLAN_SLOT,        /* a per-clone descriptor, see enum plan_slot */
    PLAN_REGISTER,    /* the saved result of an earlier operation of the same plan */
};

enum plan_op_kind {
    PLAN_SYSCALL = 0,
    /* arg[0] address, arg[1] length: fill with the next bytes of the page stream (template plan only). */
    PLAN_READ_PAGES,
    /* The same, for pages that may come when they are touched (plain private anonymous memory): where a pager serves the
     * template it does nothing, and the next bytes of the stream are the pager's. Else as PLAN_READ_PAGES. */
    PLAN_LAZY_PAGES,
    /* Store the value of arg[1] (any kind) at arg[0] (PLAN_DATA), arg[2] bytes wide (4 or 8, literal): for
     * structures that hold addresses of other data, or descriptors that are only known at the thaw. */
    PLAN_STORE,
    /* Load arg[1] (literal, 4 or 8) bytes from arg[0] (PLAN_DATA) as the result, which `save` keeps: for
     * results that a system call leaves in memory (pipe2, socketpair). 4 bytes are sign-extended. */
    PLAN_LOAD,
    /* Write all arg[2] bytes at arg[1] to the descriptor arg[0], however many calls it takes. */
    PLAN_WRITE_ALL,
    /* Copy arg[2] bytes from arg[1] to the address arg[0]: the contents of shared mappings. */
    PLAN_COPY,
    /* The rest is for process trees, in process plans only.
     * Fork the process of index arg[0] with its own number, clone flags arg[1] and exit signal arg[2] (all
     * literal). It runs its own process plan; the result is its number. */
    PLAN_FORK,
    /* Leave the memory of the others, and move one's own from the stash to its places. */
    PLAN_BECOME,
    /* Wait until arg[1] processes have come to barrier arg[0] (literal, below PLAN_BARRIERS). */
    PLAN_BARRIER,
};

enum plan_expect {
    PLAN_EXPECT_SUCCESS = 0, /* not a negative error number */
    PLAN_EXPECT_VALUE,       /* exactly `expected` */
    PLAN_EXPECT_ANYTHING,
};

/* The descriptors that differ from clone to clone; the template receives them with each request, in this
 * order. */
enum plan_slot {
    PLAN_SLOT_INIT_PIDFD = 0, /* pid 1 of the sandbox: names all its namespaces */
    PLAN_SLOT_REPORT,         /* a pipe's write end: takes one struct plan_report */
    PLAN_SLOT_LOG,            /* a pipe's write end: the function's stdout and stderr */
    PLAN_SLOT_CODE,           /* a detached mount of the function's code */
    PLAN_SLOT_CGROUP_0,       /* cgroup.procs files to enter; -1 where there are fewer */
    PLAN_SLOT_CGROUP_1,
    PLAN_SLOT_CGROUP_2,
    PLAN_SLOT_STDIN, /* standard streams of programs outside Lambda: of whoever asked for the clone */
    PLAN_SLOT_STDOUT,
    PLAN_SLOT_STDERR,
    PLAN_SLOT_COUNT
};

/* Where processes of a tree wait for each other, in this order. */
enum plan_barrier {
    PLAN_BARRIER_BORN = 0, /* all have been forked, and lead the groups and sessions that are theirs */
    PLAN_BARRIER_GROUPED,  /* all are in their process groups */
    PLAN_BARRIER_MAPPED,   /* all have their descriptors and shared memory */
    PLAN_BARRIERS
};

struct plan_op {
    uint16_t kind;    /* enum plan_op_kind */
    uint16_t number;  /* of the system call */
    uint8_t expect;   /* enum plan_expect */
    uint8_t save;     /* 1 + the register that takes the result; 0: none */
    uint16_t subject; /* the descriptor that this op restores, for error texts, or PLAN_NO_SUBJECT */
    uint8_t arg_kind[8];
    int64_t expected;
    uint64_t arg[PLAN_ARGS];
};
#define PLAN_NO_SUBJECT 0xffff

/* What the blob writes to the report pipe, once, after the process is restored (or cannot be). */
struct plan_report {
    uint32_t magic;   /* PLAN_REPORT_MAGIC */
    int32_t failed;   /* 0, or the negative error number (or unexpected value) of the op that failed */
    uint32_t plan;    /* which plan it was in: enum plan_which, with the thread's index << 8 */
    uint32_t op;      /* and which op */
    uint32_t process; /* and which process: its index */
    uint32_t pad;
    uint64_t forked_ns; /* CLOCK_MONOTONIC as the clone first ran */
    uint64_t sandboxed_ns, descriptors_ns,
        threads_ns; /* as these parts were done; the last in all processes */
};
#define PLAN_REPORT_MAGIC 0x77616874u /* "thaw" */

enum plan_which { PLAN_TEMPLATE = 1, PLAN_PROCESS, PLAN_THREAD, PLAN_RELEASE };
