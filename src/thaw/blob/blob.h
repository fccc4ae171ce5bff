/* What the builder of a template (thaw/template.c) leaves for the blob: addresses are absolute, as the arena
 * does not move once it is chosen. Shared with the freestanding code: fixed-size types only. */
#pragma once

#include "image/plan.h"

#include <stdint.h>

#define BLOB_THREAD_STACK_BYTES 2048
#define BLOB_STACK_BYTES 16384
#define BLOB_FILTER_MAX 32   /* instructions of the clones' filter */
#define BLOB_EXIT_STATUS 125 /* of a clone that could not be restored: its report says why */

struct blob_plan {
    const struct plan_op *ops;
    uint32_t count, which; /* enum plan_which, or one of enum blob_extra_plan */
};

/* Plans that the builder makes, not the freeze. */
enum blob_extra_plan {
    BLOB_CLEAR = 16, /* park the vDSO in the arena, unmap all else */
    BLOB_ENTER,      /* into the template's sandbox, with the function's code */
    BLOB_SETTLE,     /* move the vDSO to where the snapshot had it */
    BLOB_ADVICE,     /* what makes later forks cheaper: done while nothing is asked for */
    BLOB_STASH,      /* move a process's memory aside, for the next one's to be built */
    BLOB_HIDE,       /* before a process is forked: keep from it what it does not need */
    BLOB_SHOW,       /* and after: undo that, and forget what was the child's alone */
    BLOB_BECOME,     /* forget what others need, and move one's own memory to its places */
    BLOB_FILES,      /* no plan: a file is not the one that the snapshot maps */
    BLOB_TAKE_OVER,  /* no plan: a builder takes over the arena of a template */
};

struct blob_thread {
    struct blob_plan plan;
    uint64_t frame; /* address of the rt_sigreturn frame */
    int32_t tid;
    uint32_t pad;
};

struct blob_process {
    struct blob_plan template, stash, hide, show, become, process, release;
    const struct blob_thread *threads;
    uint32_t thread_count; /* 0: one that only forks or dies, by its process plan */
    int32_t pid;
};

/* One page that the processes of a clone share until they are let go. Futexes, but for the first. */
struct blob_shared {
    uint32_t failed; /* one has reported a failure: all end */
    uint32_t arrived[PLAN_BARRIERS];
    uint32_t ready, go;
};

struct blob_filter { /* struct sock_fprog */
    uint16_t length;
    uint64_t instructions;
};

/* A file that the snapshot maps: it must be the one that it was frozen with. */
struct blob_file {
    uint64_t path; /* address of the text */
    uint64_t bytes;
    int64_t modified_ns;
};

struct blob_control {
    uint64_t data, bulk; /* where PLAN_DATA and PLAN_BULK offsets start */
    struct blob_plan clear, enter, settle, advice;
    const struct blob_file *files;
    uint32_t file_count;
    uint32_t waits;                       /* a builder's arena: what is to be built comes later */
    const struct blob_process *processes; /* [0] is the root */
    uint32_t process_count, live_count;   /* live: with threads */
    uint32_t sandbox_ops_end, pad;
    struct blob_shared *shared;              /* where a clone of several processes maps it */
    uint64_t stack;                          /* the lowest address of a child's first stack */
    uint64_t thread_stacks;                  /* the lowest address; those of one process are used at a time */
    struct blob_filter filter, early_filter; /* for clones, the second while a pager serves; length 0: none */
    uint64_t filter_code[BLOB_FILTER_MAX], early_filter_code[BLOB_FILTER_MAX];
    int32_t control_fd, pages_fd, descriptor_floor;
    int32_t ring_fd;           /* an io_uring that pins what clones are to get copies of; -1: none */
    struct blob_range *ranges; /* room for BLOB_RANGES_MAX */
    uint64_t hold; /* a page of the ring that holds userfaultfds, until all pages are in; the arena's last */
    int32_t paging_fd; /* to the pager that serves this memory, until all pages are in; or -1 */
    int32_t memory_fd; /* a userfaultfd of this memory, for the pager; or -1 */
    /* What follows changes in each clone, and lies together so that few pages are copied. */
    int32_t slots[PLAN_SLOT_COUNT];
    uint32_t self;             /* the index of this process */
    uint32_t threads_done, go; /* futexes */
    struct plan_report report;
};

#define BLOB_RANGES_MAX 4096
struct blob_range { /* struct iovec */
    uint64_t start, bytes;
};

/* The place holders of a builder are the descriptors below this one; it keeps its own so many above it. */
#define BLOB_FLOOR 64
#define BLOB_ABOVE_FLOOR 8

/* On the control socket, to a builder, once: the arena that it is to become a template with. Beside it are a file with the first
 * `filled` bytes of the arena, the page stream, with `is_paged` the socket to the pager, and the slots of `slot_mask`. */
struct blob_build {
    uint64_t start, bytes, filled,
        code_bytes;              /* of the arena: where it belongs, its length, and what of it is code */
    uint64_t control, stack_top; /* in it */
    uint32_t slot_mask, is_paged;
};

/* On the control socket. To the template: a request for a clone, with as many descriptors as `slot_mask` has bits; or,
 * with `range_count`, followed by so many ranges of pages of which every clone is to get copies at the fork. */
struct blob_request {
    uint64_t cookie;
    uint32_t slot_mask, range_count;
};
enum blob_reply_kind { BLOB_WAITING = 1, BLOB_READY, BLOB_CLONED, BLOB_FAILED };
/* From it: one reply, with the pidfd when it is BLOB_CLONED. */
struct blob_reply {
    uint32_t kind;
    int32_t failed; /* as in struct plan_report */
    uint64_t cookie;
    uint32_t plan, op;
    int32_t pid;
    uint32_t process; /* the index of the one whose plan it was */
    uint64_t forked_ns;
    /* BLOB_FAILED: of BLOB_FILES, which file; with no plan, as the blob does not run yet, why (`pid`: its enum error_kind). */
    char text[200];
};

/* The entry point, at offset 0 of the blob. Never returns. */
typedef void blob_entry_function(struct blob_control *control);
