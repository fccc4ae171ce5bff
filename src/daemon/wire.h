/* The messages between front and warden: SOCK_SEQPACKET, one message a packet, this header then a body that
 * is encoded with base/bytes (buffer_append_* / cursor_*), descriptors beside it. The warden trusts none of
 * it: wire_decode_* check every field against the named limits; a bad message ends the front.
 *
 *   front -> warden                         warden -> front
 *   WIRE_ENV_START                          WIRE_ENV_STARTED (+ descriptors) or with an error
 *   WIRE_ENV_FREEZE                         WIRE_ENV_FROZEN  (the environment is gone afterwards, ok or not)
 *   WIRE_ENV_KILL                           WIRE_ENV_EXITED  (always the last word on an environment that was
 *                                                             started; one whose start failed has no other)
 *   WIRE_ENV_SERVED                         -  (it has served its first request: when WIRE_ENV_STARTED asked for that)
 *   WIRE_TEMPLATE_DROP                      WIRE_TEMPLATE_DROPPED
 *   WIRE_SNAPSHOT_DELETE                    -
 *   WIRE_SNAPSHOT_INSPECT                   WIRE_SNAPSHOT_INSPECTED (+ a memfd with the text)
 *   WIRE_STATUS                             WIRE_STATUS_TOLD
 *   WIRE_STORE_RUN                          WIRE_STORE_RUNNING (+ a pipe: what it says, as lines of JSON, to its end)
 *   WIRE_SNAPSHOT_KEEP                      -  (one for each snapshot of the catalog, before READY)
 *   WIRE_FRONT_READY                        -  (once: requests are being accepted; snapshots that were not
 *                                               kept belong to nobody, since a crash, and are removed)
 */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define WIRE_MESSAGE_BYTES 65536 /* the longest message */
#define WIRE_ID_HEX 32           /* snapshot ids: 16 random bytes in hex */
#define WIRE_ARGV_MAX 64         /* strings */
#define WIRE_ENV_MAX 1024
#define WIRE_FILES_BYTES 49152 /* the files that a snapshot relies on, as lines */
#define WIRE_CODE_HEX 64       /* code ids: SHA-256 of the zip, in hex; the folder DATA/code/<id>/ */

enum wire_type {
    WIRE_ENV_START = 1,
    WIRE_ENV_STARTED,
    WIRE_ENV_FREEZE,
    WIRE_ENV_FROZEN,
    WIRE_ENV_KILL,
    WIRE_ENV_EXITED,
    WIRE_TEMPLATE_DROP,
    WIRE_TEMPLATE_DROPPED,
    WIRE_SNAPSHOT_DELETE,
    WIRE_SNAPSHOT_INSPECT,
    WIRE_SNAPSHOT_INSPECTED,
    WIRE_SNAPSHOT_KEEP,
    WIRE_FRONT_READY,
    WIRE_ENV_SERVED,
    WIRE_STATUS,
    WIRE_STATUS_TOLD,
    WIRE_STORE_RUN,
    WIRE_STORE_RUNNING,
    WIRE_TYPE_COUNT,
};

enum wire_start_mode { WIRE_COLD = 1, WIRE_THAW = 2 };

/* Start one environment. `argv` and `env` are blocks of NUL-terminated strings, used by cold starts only (a
 * thawed process brings its own). */
struct wire_env_start {
    uint64_t env_id; /* chosen by the front, never used twice */
    enum wire_start_mode mode;
    uint32_t memory_mb, tmp_mb;
    bool fixed_layout; /* a cold start at the same addresses as each time */
    char code_id[WIRE_CODE_HEX + 1];
    char snapshot_id[WIRE_ID_HEX + 1]; /* "" for a cold start */
    struct bytes argv, env;
};

/* The clock stamps of a start, CLOCK_MONOTONIC ns; 0 where a step did not happen. */
enum wire_stamp {
    WIRE_STAMP_RECEIVED,        /* the warden read the request */
    WIRE_STAMP_TEMPLATE_BEGIN,  /* no template in memory: it began to build one */
    WIRE_STAMP_TEMPLATE_FORKED, /* its process exists; what follows is done by that and its pager */
    WIRE_STAMP_TEMPLATE_MAPPED, /* with a pager: its memory is mapped, and its first pages are filled in */
    WIRE_STAMP_TEMPLATE_READY,
    WIRE_STAMP_SANDBOX, /* a blank sandbox was in hand */
    WIRE_STAMP_FORKED,  /* the template had forked (or, cold: exec'ed into) the process */
    WIRE_STAMP_SENT,    /* the reply left the warden */
    WIRE_STAMP_COUNT
};

/* Descriptors that come with WIRE_ENV_STARTED when error.kind is ERROR_NONE, in this order. */
enum wire_env_fd {
    WIRE_FD_LISTENER, /* listening at 127.0.0.1:9001 inside the sandbox: the runtime API */
    WIRE_FD_LOG,      /* read end, non-blocking, of the pipe that is the function's stdout and stderr */
    WIRE_FD_REPORT,   /* read end, non-blocking: a thawed process's struct plan_report (see image/plan.h), or
                         its failure */
    WIRE_FD_MEMORY,   /* the cgroup's peak memory file: pread(0) gives bytes in decimal */
    WIRE_FD_STAT, /* /proc/PID/stat of its process: page faults so far, for traces. The last, as it may be missing */
    WIRE_ENV_FD_COUNT
};

struct wire_env_started {
    uint64_t env_id;
    uint64_t shared_memory_bytes; /* pages it shares with its template, to add to its own peak */
    bool tell_served;             /* the warden wants to know when it has served its first request */
    uint64_t stamp_ns[WIRE_STAMP_COUNT];
    struct error
        error; /* kind and text travel. ERROR_NOT_FOUND, _CORRUPT, _UNSUPPORTED: freeze the version anew */
};

/* A request that a parked runtime connection had already sent when it was frozen: the thawed process's plan
 * connects from the same source port and sends these bytes again, so the server needs no special case. */
#define WIRE_REPLAY_MAX 8
#define WIRE_REPLAY_BYTES 2048
struct wire_replay {
    uint16_t port; /* the function's source port on loopback */
    struct bytes request;
};

#define WIRE_DOMAIN_MAX 64
struct wire_env_freeze {
    uint64_t env_id;
    char snapshot_id[WIRE_ID_HEX + 1]; /* chosen by the front */
    char domain[WIRE_DOMAIN_MAX + 1];  /* the trust domain that its chunks are shared in */
    struct wire_replay replays[WIRE_REPLAY_MAX];
    uint32_t replay_count;
};

struct wire_env_frozen {
    uint64_t env_id;
    char snapshot_id[WIRE_ID_HEX + 1];
    uint64_t memory_bytes; /* pages in the snapshot */
    uint64_t stored_bytes; /* on disk */
    struct bytes
        files; /* that it relies on, a line for each: "BYTES MODIFIED_NS PATH", as the process saw it */
    struct error error; /* kind and text travel: the process, the object and the reason */
};

struct wire_env_exited {
    uint64_t env_id;
    int32_t wait_status; /* as waitpid(2) gives it */
    bool out_of_memory;  /* the memory controller killed it */
    bool
        pages_lost; /* the warden killed it: pages of its memory could not be had. It has seen no wrong one */
    struct error
        error; /* then: why. ERROR_NOT_FOUND, _CORRUPT: freeze the version anew. ERROR_NONE unless pages_lost */
};

struct wire_snapshot_inspect {
    uint64_t request_id;
    char snapshot_id[WIRE_ID_HEX + 1];
    bool plan, json;
};

struct wire_snapshot_inspected {
    uint64_t request_id;
    struct error error; /* else one descriptor with the text comes along */
};

struct wire_status_told {
    uint64_t request_id;
    uint32_t templates;           /* in memory */
    uint64_t bytes, budget_bytes; /* what they hold, and may hold */
    uint64_t hits, misses;        /* thaws whose template was ready, and that had to wait for it */
    uint64_t builds, evictions;   /* of templates, for the sake of the budget */
};

/* What can be done to the whole store: sizes, a check of every byte, a collection of what nobody needs. */
enum wire_store_verb {
    WIRE_STORE_STATS = 1,
    WIRE_STORE_VERIFY,
    WIRE_STORE_GC,
    WIRE_STORE_KEY,
    WIRE_STORE_ROTATE
};

struct wire_store_run {
    uint64_t request_id;
    enum wire_store_verb verb;
    bool repair; /* verify: fetch what is damaged from the origin again */
};

struct wire_store_running {
    uint64_t request_id;
    struct error error; /* else one descriptor comes along: the non-blocking read end of a pipe */
};

/* WIRE_FRONT_READY has no body. Bodies of one id: WIRE_ENV_KILL, _SERVED are {u64 env_id}, WIRE_STATUS is {u64
 * request_id}; WIRE_TEMPLATE_DROP,
 * _DROPPED, WIRE_SNAPSHOT_DELETE, _KEEP are a snapshot id. */
struct wire_message {
    enum wire_type type;
    union {
        struct wire_env_start env_start;
        struct wire_env_started env_started;
        struct wire_env_freeze env_freeze;
        struct wire_env_frozen env_frozen;
        struct wire_env_exited env_exited;
        struct wire_snapshot_inspect snapshot_inspect;
        struct wire_snapshot_inspected snapshot_inspected;
        struct wire_status_told status_told;
        struct wire_store_run store_run;
        struct wire_store_running store_running;
        uint64_t env_id;                   /* WIRE_ENV_KILL, WIRE_ENV_SERVED */
        uint64_t request_id;               /* WIRE_STATUS */
        char snapshot_id[WIRE_ID_HEX + 1]; /* the template and delete messages */
    };
};

/* 1 to WIRE_DOMAIN_MAX lower-case letters, digits, dots, dashes and underscores; it does not begin with a dot. */
bool wire_domain_is_valid(struct bytes name);

/* Append the packet. What is encoded is the caller's own: a message beyond the limits is a bug, and aborts.
 */
void wire_encode(struct buffer *out, const struct wire_message *message);
/* `packet` must outlive the message: byte ranges point into it. */
MUST_CHECK int wire_decode(struct wire_message *message, struct bytes packet, struct error *err);
