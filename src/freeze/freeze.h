/* Freeze: read a whole process (any number of threads) and compile it into an image and a stream of pages. */
#pragma once

#include "base/error.h"
#include "image/image.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A request that the process has already sent on a connection to the runtime API: sent again at each thaw. */
struct freeze_replay {
    uint16_t port; /* the process's source port */
    struct bytes request;
};

/* A standard stream that leads outside: each clone gets one of its own, in PLAN_SLOT_STDIN + number. */
struct freeze_stream {
    int number; /* 0, 1, 2 */
    int fd;     /* a descriptor of the caller's of the same file; of a pipe, either end */
};

/* Whether the process runs on afterwards, as if nothing had happened. What waits in its sockets then refuses the
 * freeze, as reading it takes it away. */
enum freeze_spare { FREEZE_SPARE_NEVER = 0, FREEZE_SPARE_ON_FAILURE, FREEZE_SPARE_ALWAYS };

#define FREEZE_BULK_SPACE UINT64_MAX

struct freeze_request {
    pid_t pid; /* the process to freeze, as the caller sees it */
    /* For programs outside Lambda: */
    const struct freeze_stream *streams;
    size_t stream_count;
    bool own_credentials; /* it keeps its users, groups and capabilities; else it must be `uid` without any */
    bool host_files;      /* clones see the same file systems: writable ones are not refused, but relied on */
    bool host_tmp;        /* also /tmp, which else is part of the snapshot */
    enum freeze_spare spare;
    /* For functions: */
    uint16_t
        api_port; /* the runtime API's port on loopback in the sandbox: connections to it are made anew */
    const struct freeze_replay *replays;
    size_t replay_count;
    const char *code_path; /* where the code is mounted inside the sandbox: "/var/task"; NULL: nowhere */
    uid_t uid;             /* the sandbox's user: the process must still run as this user */
    gid_t gid;
    uint64_t
        given_personality; /* bits of it that its sandbox chose when it began: its clones begin without */
    uint32_t filter_count; /* system call filters that its sandbox attached to it */
    int log_fd; /* the pipe that the process's stdout and stderr write to (either end): descriptors of the
                   process that are this pipe become the log of each clone */
    /* Takes the page stream, in order, many pages at a time. Returns 0, or -1 with `err` filled. `space` and `address` tell
     * where a piece belongs, so that equal memory can be cut in equal places: the process's index and its address there, or
     * FREEZE_BULK_SPACE and the offset in the image's bulk. */
    int (*put_pages)(
        void *context, uint64_t space, uint64_t address, const void *data, size_t len, struct error *err);
    void *put_context;
};

/* Stops the process with ptrace, reads it, and leaves it stopped for the caller to kill (it dies with the
 * calling process too: PTRACE_O_EXITKILL), unless `spare` says otherwise. Blocks for as long as it takes: run it in a process of its own,
 * with CAP_SYS_PTRACE and CAP_SYS_ADMIN. On failure the error names the process, the object and the reason;
 * kind ERROR_UNSUPPORTED means that this state cannot be frozen. */
MUST_CHECK int freeze_process(const struct freeze_request *request, struct image *image, struct error *err);
