/* An image: all of a frozen process tree but its pages, which are a separate stream of bytes in the order in which
 * the template plan reads them. In memory here; image_encode and image_decode are the manifest on disk, which
 * docs/SNAPSHOT.md describes. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "image/plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_THREADS_MAX 4096
#define IMAGE_OPS_MAX (1u << 20)
#define IMAGE_DATA_MAX (48u << 20)
#define IMAGE_BULK_MAX (16ull << 30)
#define IMAGE_MAPPINGS_MAX (1u << 18)
#define IMAGE_DESCRIPTORS_MAX 65536

struct plan {
    struct plan_op *ops;
    uint32_t count, capacity;
};

struct image_thread {
    int32_t tid; /* in its pid namespace */
    char name[16];
    struct plan plan;
    uint64_t frame;        /* offset in data: the rt_sigreturn frame (64-byte aligned) */
    uint64_t stop_address; /* where it was frozen; for inspection */
    int64_t stop_syscall;  /* the system call it was in, or -1; for inspection */
};

enum image_mapping_kind { IMAGE_ANONYMOUS = 1, IMAGE_FILE, IMAGE_SHARED, IMAGE_SPECIAL };

/* For inspection and for choosing free addresses; the plans do the work. */
struct image_mapping {
    uint64_t start, end, offset;
    uint32_t protection, kind; /* PROT_*, enum image_mapping_kind */
    uint64_t page_count;       /* pages that are in the stream */
    uint64_t stash;            /* where the template keeps it until the process is forked; 0: at its place */
    char *name;                /* path, "[heap]" or ""; owned */
};

/* A file whose contents the snapshot relies on instead of holding them: it must be the same at the thaw. */
struct image_file {
    char *path; /* as the sandbox sees it; owned */
    uint64_t bytes;
    int64_t modified_ns;
};
#define IMAGE_FILES_MAX 65536

struct image_descriptor {
    int32_t fd;
    char *kind, *detail; /* "pipe", "read end, 12 bytes waiting"; owned */
};

enum image_process_kind {
    IMAGE_LIVE = 0,
    IMAGE_ZOMBIE, /* it has ended, and its parent has not waited for it: its process plan ends it again */
    IMAGE_HELPER, /* was not there at the freeze: it lends its session or group, or leaves orphans, and ends */
};

/* One process: its plans, and for people what it has. */
struct image_process {
    uint32_t kind;          /* enum image_process_kind; what is not IMAGE_LIVE has no threads and no memory */
    int32_t pid;            /* in its pid namespace */
    uint32_t parent;        /* the index of who forks it, which is lower than this one's; the root's is 0 */
    int32_t session, group; /* 0: outside the sandbox */
    struct plan template_plan, process_plan, release_plan;
    uint64_t vdso_start, vdso_bytes;
    uint64_t vvar_start, vvar_bytes; /* all the [vvar*] mappings, which lie together */
    struct image_thread *threads;    /* [0] is the first thread */
    uint32_t thread_count;
    struct image_mapping *mappings;
    uint32_t mapping_count;
    struct image_descriptor *descriptors;
    uint32_t descriptor_count;
};
#define IMAGE_PROCESSES_MAX 512

struct image {
    /* The machine it was frozen on: it thaws only where these are the same. */
    char kernel_release[65];
    uint8_t cpu_features[32];                    /* what programs can ask of the processor (CPUID), hashed */
    uint64_t monotonic_ns, boottime_ns, wall_ms; /* clocks at the freeze */
    uint64_t page_bytes;                         /* the stream: first so many bytes of pages... */
    uint64_t bulk_bytes;                         /* ...then so many of the bulk area */
    uint64_t stash_start, stash_end; /* where the template keeps the memory of all processes but the root */
    uint32_t descriptor_floor;       /* every descriptor of a process is below this number */
    uint32_t sandbox_ops_end; /* the ops of the root's process_plan before this one enter the sandbox */
    struct image_process *processes; /* [0] is the root, which the others descend from; parents come first */
    uint32_t process_count;
    struct image_file *files;
    uint32_t file_count;
    struct buffer data; /* what PLAN_DATA offsets point into */
};

uint32_t image_format_version(void); /* of the manifest, as this program writes and reads it */
void image_free(struct image *image);
void image_encode(struct buffer *out, const struct image *image);
/* Every count, offset, kind, system call and argument is checked here (rules.h has the list), so that the interpreter
 * need not. ERROR_CORRUPT with the place. */
MUST_CHECK int image_decode(struct image *image, struct bytes manifest, struct error *err);
/* Whether a thread of a clone would have any capability: no function has. */
bool image_gives_rights(const struct image *image);
/* Fill in what this machine is; and ask whether this machine can thaw it (ERROR_UNSUPPORTED with the reason).
 */
MUST_CHECK int image_stamp_machine(struct image *image, struct error *err);
MUST_CHECK int image_check_machine(const struct image *image, struct error *err);

/* For people: what it holds, and with `plan` every plan as a readable trace; as JSON for scripts. */
void image_print(struct buffer *out, const struct image *image, bool plan, bool json);

/* Building plans: an argument is made with plan_literal, plan_data...; ops are appended in order. */
struct plan_arg {
    enum plan_arg_kind kind;
    uint64_t value;
};
static inline struct plan_arg plan_literal(uint64_t value)
{
    return (struct plan_arg){PLAN_LITERAL, value};
}
static inline struct plan_arg plan_data(uint64_t offset)
{
    return (struct plan_arg){PLAN_DATA, offset};
}
static inline struct plan_arg plan_bulk(uint64_t offset)
{
    return (struct plan_arg){PLAN_BULK, offset};
}
static inline struct plan_arg plan_slot(enum plan_slot slot)
{
    return (struct plan_arg){PLAN_SLOT, slot};
}
static inline struct plan_arg plan_register(unsigned index)
{
    return (struct plan_arg){PLAN_REGISTER, index};
}
/* Append an op that must succeed, and return it, so that the caller can change what it expects or saves. The
 * pointer is valid until the next append. Missing arguments are literal 0. */
struct plan_op *plan_append(
    struct plan *plan, enum plan_op_kind kind, long number, const struct plan_arg *args, size_t arg_count);
#define PLAN_ARG_LIST(...) \
    (const struct plan_arg[]){__VA_ARGS__}, \
        sizeof((const struct plan_arg[]){__VA_ARGS__}) / sizeof(struct plan_arg)
/* plan_call(plan, SYS_dup2, plan_register(0), plan_literal(7)) */
#define plan_call(plan, number, ...) plan_append(plan, PLAN_SYSCALL, number, PLAN_ARG_LIST(__VA_ARGS__))
/* plan_do(plan, PLAN_STORE, plan_data(a), plan_register(1), plan_literal(4)) */
#define plan_do(plan, kind, ...) plan_append(plan, kind, 0, PLAN_ARG_LIST(__VA_ARGS__))
static inline void plan_save(struct plan_op *op, unsigned index)
{
    op->save = (uint8_t)(index + 1);
}
static inline void plan_expect_value(struct plan_op *op, int64_t value)
{
    op->expect = PLAN_EXPECT_VALUE;
    op->expected = value;
}
/* Put bytes into the data area (8-aligned, or as told), and return their offset. */
uint64_t image_put(struct image *image, const void *data, size_t len);
uint64_t image_put_aligned(struct image *image, const void *data, size_t len, size_t alignment);
uint64_t image_put_string(struct image *image, const char *s);
/* Rely on the file `path`, as it is now; noting it twice is fine. */
void image_note_file(struct image *image, const char *path, uint64_t bytes, int64_t modified_ns);
void image_note_descriptor(struct image_process *process, int fd, const char *kind, const char *format, ...)
    PRINTF_LIKE(4, 5);
