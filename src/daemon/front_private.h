/* What the files of the front share: its records, and what each file offers the others.
 *
 *   front.c           the role: opens everything, the loop, drains at the end
 *   front_warden.c    messages to and from the warden
 *   front_version.c   one record for each version that was asked for, and the dispatcher's effects
 *   front_env.c       the life of an environment
 *   front_words.c     what its process and the warden say about it
 *   front_invoke.c    the life of an invocation, and its outcome
 *   front_report.c    the platform's log lines, and traces
 *   front_snapshot.c  publish: initialise, freeze; and freeze anew
 *   front_refreeze.c  snapshots that are frozen anew in the background
 *   front_stamp.c     what a snapshot was frozen on, and whether that is still so
 *   front_lifecycle.c when versions were used; Inactive ones, and how they wake up
 *   front_snapshots_list.c  all of that, for people
 *   front_prime.c     sample events before the freeze
 *   front_event.c     the durable queue of Event invocations
 *   front_spec.c      command and variables of an environment
 *   front_runtimes.c  the table of managed runtimes: what this host has, what each needs
 *   front_runtimes_list.c  what there is and what is missing, for people
 *   front_browser.c   refuses requests that a page in a browser may have sent
 *   front_admin.c     /thaw/v1/
 */
#pragma once

#include "base/bytes.h"
#include "base/clock.h"
#include "base/lasting_clock.h"
#include "base/limits.h"
#include "base/loop.h"
#include "catalog/catalog.h"
#include "daemon/front.h"
#include "daemon/front_runtimes.h"
#include "daemon/wire.h"
#include "dispatch/dispatch.h"
#include "http/http.h"
#include "lambda/backend.h"
#include "lambda/lambda.h"
#include "logs/logs.h"
#include "runtime/runtime.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define FRONT_CONNECTIONS_MAX 4096 /* of clients and functions together */
#define FRONT_IDLE_CONNECTION_S 60 /* a client's connection that is silent, or slow to send, for longer */
#define FRONT_THAWS_PER_CPU 2      /* of one version at once: more only take the processors from each other */
#define FRONT_COLD_STARTS_AT_ONCE 64  /* of one version: they mostly wait for something */
#define FRONT_BUILDS_AT_ONCE 2        /* versions being initialised to be frozen */
#define FRONT_FREEZE_S 120            /* the warden's answer to a freeze */
#define FRONT_EVENTS_AT_ONCE 16       /* Event invocations being tried */
#define FRONT_EVENT_ATTEMPTS 3        /* Lambda: the first and two retries */
#define FRONT_EVENT_AGE_MS 21600000u  /* Lambda: six hours */
#define FRONT_EVENT_THROTTLE_MS 1000u /* until a throttled event is tried again */
#define FRONT_EVENT_NOT_READY_MS \
    60000u /* until one whose version is not ready is, if nobody wakes it before */
#define FRONT_WARDEN_QUEUE_MAX (1u << 20) /* messages that wait for the warden to read */
#define FRONT_REMAKES_MAX 3          /* of a version's snapshot in a row, where what was stored got lost */
#define FRONT_LOSSES_MAX 3           /* of environments' pages in a row, until starts of the version fail */
#define FRONT_EXIT_GRACE_NS 2000000u /* between a process's end and its verdict: words on the wire count */
#define FRONT_ERROR_BODY_BYTES 4096  /* of a function's error that becomes a StateReason */
#define FRONT_BUCKETS 1024           /* power of two; of the tables of environments and versions */

enum front_env_state {
    FRONT_ENV_REQUESTED = 1,
    FRONT_ENV_INITIALISING,
    FRONT_ENV_RESTORING,
    FRONT_ENV_PARKED,
    FRONT_ENV_SERVING,
    FRONT_ENV_ANSWERED,
    FRONT_ENV_FREEZING,
    FRONT_ENV_ENDING,
};
const char *front_env_state_name(enum front_env_state state);

struct front;
struct front_call;
struct front_prime;

/* One version (a generation of $LATEST is one too). Lives while its pool does or a build runs. */
struct front_version {
    struct front_version *next_in_bucket;
    struct front *front;
    uint64_t generation;
    const struct catalog_function
        *function;                        /* the newest of this generation that we were shown; a reference */
    struct dispatch_pool *pool;           /* NULL when it is gone */
    struct front_env *build;              /* being initialised to be frozen */
    uint32_t build_envs;                  /* environments that build for it, also those that are ending */
    TAILQ_ENTRY(front_version) in_builds; /* waiting for its turn */
    bool build_waits;
    bool retired;
    uint32_t remakes; /* its snapshot failed to thaw and was made anew, so often in a row */
    uint32_t
        losses; /* environments lost pages, so often in a row; those that a template lost together count once */
    uint64_t losses_up_to_env; /* the newest environment when that happened last */
    TAILQ_ENTRY(front_version) in_refreezes;
    bool refreeze_waits;
    char *stale;        /* why its snapshot is to be frozen anew in the background; owned; else NULL */
    uint32_t failures;  /* of builds that it could do without, one after the other */
    uint64_t retry_ns;  /* not before this is another tried by itself; 0: at any time */
    uint64_t demand_ns; /* not before this when a call asks for it */
    char *failure;      /* what the last one failed with; owned; else NULL */
    TAILQ_ENTRY(front_version) in_uses;
    bool use_is_new;  /* not saved yet */
    uint64_t used_ms; /* of the lasting clock; 0: not since the front began */
};

struct front_env {
    struct dispatch_env dispatch; /* first: the dispatcher's pointers are ours */
    struct front_env *next_in_bucket;
    struct front *front;
    struct front_version *version;
    uint64_t id; /* for the warden */
    enum front_env_state state;
    enum wire_start_mode mode;
    bool builds;      /* to be frozen: the dispatcher does not know it */
    bool second_init; /* initialisation took too long and runs again inside the invocation */
    bool exited;      /* the process is gone */
    bool served;      /* at least one event was delivered */
    bool tell_served; /* the warden waits to hear that the first one is done */
    bool out_of_memory;
    struct error lost; /* why its pages could not be had; ERROR_NONE: it was not that */
    int32_t wait_status;
    int fd[WIRE_ENV_FD_COUNT];
    struct runtime_endpoint *runtime;
    struct loop_watch *log_watch;
    struct logs_stream *log;
    struct loop_timer *timer, *exit_timer;
    struct front_call *call; /* being served, or held until the runtime asks next */
    uint64_t invocations;
    struct front_prime *prime; /* of one that builds, once its runtime has asked for an event */
    uint64_t shared_bytes;
    char snapshot_id[WIRE_ID_HEX + 1]; /* thawed from, or to be frozen as */
    /* CLOCK_MONOTONIC: the request for it, the warden's own stamps, the reply, the first word of the process,
     * the answer to restore/next, and the first time it asked for an event. */
    uint64_t asked_ns, freeze_asked_ns; /* the warden, for the process, and for its freeze */
    uint64_t stamp_ns[WIRE_STAMP_COUNT], started_ns, spoke_ns, restored_ns, ready_ns;
};

struct front_call {
    struct dispatch_call dispatch; /* first */
    struct front *front;
    struct front_version *version;
    struct lambda_invocation *invocation;
    char request_id[37]; /* outlives the invocation, for END and REPORT */
    struct front_env *env;
    uint64_t lost_up_to_env; /* its environment lost pages, when so many had been asked for; 0: none did */
    uint64_t delivered_ns, answered_ns;
};

struct front_failure {
    const char *type;     /* "Runtime.ExitError" */
    char message[600];    /* without "RequestId: ... Error: ", which front_failure_body puts before it */
    const char *status;   /* in REPORT: "timeout" or "error" */
    struct bytes body;    /* the function's own error JSON; when empty it is made from type and message */
    unsigned http_status; /* not 0: the invocation is refused with `type` instead */
};
struct front_packet {
    STAILQ_ENTRY(front_packet) entry;
    size_t len;
    uint8_t data[];
};

/* What hangs on an exchange of the server's own API that is not answered yet: its kind is the first member. */
enum admin_kind { ADMIN_EVICT = 1, ADMIN_INSPECT, ADMIN_FOLLOW, ADMIN_STATUS, ADMIN_STORE };
struct front_evict;
struct front_inspect;
struct front_status;
struct front_store_job;
#define FRONT_STAMP_BYTES 72

struct front {
    const struct front_options *options;
    struct loop *loop;
    struct http_server *http;
    struct http_listener *listener;
    struct catalog *catalog;
    struct lambda_api *lambda;
    struct logs *logs;
    struct dispatch *dispatch;
    struct front_runtime runtimes[FRONT_RUNTIMES_MAX]; /* what this host has */
    size_t runtime_count;
    uint8_t hash_secret[32]; /* see front_layout.c */
    int signal_fd;
    struct loop_watch *signal_watch, *warden_watch;
    STAILQ_HEAD(, front_packet) warden_queue;
    size_t warden_queued;
    struct front_env *envs[FRONT_BUCKETS];
    struct front_version *versions[FRONT_BUCKETS];
    uint64_t next_env_id;
    TAILQ_HEAD(, front_version) builds;
    uint32_t builds_running;
    TAILQ_HEAD(, front_version) refreezes, uses;
    uint32_t use_count;
    struct loop_timer *refreeze_timer, *scan_timer, *lifecycle_timer;
    char kernel[FRONT_STAMP_BYTES], machine[FRONT_STAMP_BYTES],
        format[16];                          /* what is frozen now is frozen on */
    char scan_name[LIMIT_FUNCTION_NAME + 1]; /* the last version looked at */
    uint64_t scan_number;
    struct lasting_clock clock; /* a reading at the beginning */
    uint64_t clock_saved_ms;
    uint64_t refreezes_done, refreezes_failed;
    struct loop_timer *tick_timer, *drain_timer, *event_timer;
    uint64_t tick_at_ns;
    uint32_t thaws_at_once; /* of one version */
    uint32_t events_running;
    LIST_HEAD(, front_evict) evicts;
    LIST_HEAD(, front_inspect) inspects;
    LIST_HEAD(, front_status) statuses;
    uint64_t next_request_id; /* of what the warden is asked for people */
    LIST_HEAD(, front_store_job) store_jobs;
    uint64_t opened_ns, invocations, thaws, cold_starts;
    bool draining, drained, failed;
};

/* front.c */
void front_fail(struct front *front, const struct error *err); /* logs, and ends the loop */
void front_note_progress(struct front *front);                 /* an invocation or an environment ended */
void front_set_tick(struct front *front);

/* front_warden.c */
MUST_CHECK int front_warden_open(struct front *front, struct error *err);
void front_warden_close(struct front *front);
void front_warden_send(struct front *front, const struct wire_message *message);
void front_warden_send_env(struct front *front, enum wire_type type, uint64_t env_id);
void front_warden_send_snapshot(struct front *front, enum wire_type type, const char *snapshot_id);

/* front_layout.c */
/* Loads, and at first makes, what fixed layouts need; nothing when the layout is to be random. */
MUST_CHECK int front_layout_open(struct front *front, struct error *err);
/* Appends the variables of a version that is to be frozen with a fixed layout. */
void front_layout_put_variables(
    const struct front *front, const struct catalog_function *function, struct buffer *block);

/* front_version.c */
extern const struct dispatch_effects front_effects; /* without its context */
/* The record of this version, made when it is new. */
struct front_version *front_version_of(struct front *front, const struct catalog_function *function);
struct front_version *front_version_find(struct front *front, uint64_t generation); /* or NULL */
void front_version_update(struct front_version *version, const struct catalog_function *function);
void front_version_release(struct front_version *version); /* frees it when nothing needs it any more */
void front_versions_close(struct front *front);
void front_retire(void *front, const struct catalog_function *version, bool deleted); /* of lambda_backend */

/* front_env.c */
/* `builds`: to be frozen as `snapshot_id`; else NULL. */
struct front_env *front_env_start(struct front_version *version, const char *snapshot_id);
void front_env_serve(struct front_env *env, struct front_call *call);
void front_env_kill(struct front_env *env); /* state ENDING; the warden is told unless the process is gone */
void front_env_fail_start(struct front_env *env, const struct front_failure *failure); /* never READY */
void front_env_bury(struct front_env *env); /* the last word was said, and everybody told: frees it */
void front_env_began(struct front_env *env);
void front_env_waits(struct front_env *env, bool for_restore); /* in a next, or restore/next */
/* front_words.c */
void front_env_started(struct front *front, const struct wire_env_started *message, int *fds);
void front_env_exited(struct front *front, const struct wire_env_exited *message);
void front_env_frozen(struct front *front, const struct wire_env_frozen *message);
void front_env_free(struct front_env *env);
void front_env_set_timer(struct front_env *env, uint64_t at_ns);
void front_env_set_init_timer(
    struct front_env *env);                       /* the whole of what an initialisation may take, from now */
void front_env_asks_prime(struct front_env *env); /* in prime/next */
void front_env_answered(struct front_env *env);   /* the call has its answer; the runtime may go on */
struct front_env *front_env_find(struct front *front, uint64_t id);
void front_env_drain_log(struct front_env *env);
/* Whatever is in the pipe of a thawed process's report; false when there is nothing (yet). */
struct plan_report;
bool front_env_read_report(struct front_env *env, struct plan_report *report);

/* front_invoke.c */
void front_invoke(void *front, struct lambda_invocation *invocation); /* of lambda_backend */
void front_call_submit(struct front_call *call); /* also again, when its environment died before it began */
void front_call_delivered(struct front_call *call);
/* Answers the call. `env` (may be NULL) is where its log lines go. The record is freed: the dispatcher must
 * have let go of it, or is told here: `finished` or `broke` the environment that serves it. */
void front_call_succeed(struct front_call *call, struct bytes body);
void front_call_function_error(struct front_call *call, struct bytes body);
void front_call_break(struct front_call *call, const struct front_failure *failure);
/* Its environment lost pages of its memory: it is run again in another; or refused, when that happens again. The
 * environment that served it is broken for the dispatcher. */
void front_call_run_again(struct front_call *call, bool hopeless);
void front_call_lose(struct front_call *call, struct front_env *env, const struct front_failure *failure);
void front_call_refuse(struct front_call *call, const struct front_failure *failure);
/* What a process's end means, in Lambda's words. */
void front_failure_of_exit(struct front_failure *failure, const struct front_env *env);
char *front_failure_body(const struct front_failure *failure, const char *request_id);

/* front_report.c */
void front_log_start_of_env(struct front_env *env);
void front_log_init_report(
    struct front_env *env, const char *phase, const char *status, const char *error_type);
void front_log_restore_report(struct front_env *env, const char *status, const char *error_type);
void front_log_start(struct front_env *env, const struct front_call *call);
void front_log_prime_start(struct front_env *env, const char *request_id, size_t number, size_t count);
void front_log_prime_report(
    struct front_env *env, const char *request_id, uint64_t took_ns, const char *error_type);
void front_log_prime_passed_over(struct front_env *env, size_t count);
void front_log_end(
    struct front_env *env, const struct front_call *call, const char *status, const char *error_type);
char *front_trace_json(struct front_env *env, const struct front_call *call);

/* front_snapshot.c */
void front_snapshot(void *front, const struct catalog_function *version); /* of lambda_backend */
/* At start-up: tell the warden which snapshots belong to a version; build what is still Pending. */
MUST_CHECK int front_snapshot_resume(struct front *front, struct error *err);
/* The snapshot that `env` was to be thawed from is damaged, or cannot be thawed here: it is frozen anew while calls wait, unless
 * that is under way or was done meanwhile. False: that was tried in vain already; *failure says so when it is to be
 * tried again only after a pause. */
bool front_snapshot_remake(struct front_env *env, const struct error *why, struct front_failure *failure);
void front_build_start(struct front_version *version); /* it is in no queue, and has no build */
void front_snapshot_discard(struct front *front, const char *id);
void front_build_parked(struct front_env *env);
void front_build_failed(struct front_env *env, const struct front_failure *failure);
void front_build_frozen(struct front_env *env, const struct wire_env_frozen *message);

/* front_refreeze.c */
size_t front_refreeze_count(const struct front *front); /* versions that are to be frozen anew, or being so */
void front_refreeze_open(struct front *front);          /* begins to look for what is stale */
void front_refreeze_next(
    struct front *front); /* nothing may be built at the moment, or something may be due */
void front_refreeze_unqueue(struct front_version *version);
void front_refreeze_forget(struct front_version *version); /* all is well with it, or it is gone */
/* A build of an Active version failed: it keeps the snapshot it has. */
void front_refreeze_failed(struct front_version *version, const char *reason, const char *reason_code);
void front_build_put_off(
    struct front_version *version, const char *reason); /* the next may come after a pause */

/* front_stamp.c */
MUST_CHECK int front_stamp_open(struct front *front, struct error *err);
/* Why the snapshot is to be frozen anew, or NULL; the caller's to free. */
char *front_stamp_differs(
    struct front *front, const struct catalog_function *function, const struct catalog_snapshot *snapshot);
/* The caller's to free with catalog_snapshot_free. */
struct catalog_snapshot front_stamp_make(struct front_env *env, const struct wire_env_frozen *message);

/* front_lifecycle.c */
MUST_CHECK int front_lifecycle_open(struct front *front, struct error *err);
void front_lifecycle_close(struct front *front);
uint64_t front_now_ms(const struct front *front); /* of the lasting clock */
void front_use_mark(struct front_version *version);
void front_use_forget(struct front_version *version);
/* An Inactive version is invoked: it is Pending now, or cannot be yet; *failure is what the caller hears. */
void front_wake(struct front_version *version, struct front_failure *failure);
void front_wake_failed(struct front_version *version, const char *reason, const char *reason_code);
bool front_is_waking(const struct catalog_function *function); /* Pending, and was Inactive */
void front_refuse_not_ready(struct front_failure *failure);
void front_refuse_regeneration(struct front_failure *failure, const char *reason);

/* front_snapshots_list.c */
json_t *front_snapshots_describe(
    struct front *front, const char *name, struct error *err); /* name NULL: all */

/* front_prime.c */
void front_prime_free(struct front_prime **prime); /* NULL is fine; sets to NULL */
/* The runtime of an environment that builds asks for an event. True: it got one to be primed with, or the build
 * has failed and `env` must not be used any more. False: there is none (left). */
bool front_prime_next(struct front_env *env);
/* The running event, if one is, has its answer. `error_type` NULL: it succeeded. */
void front_prime_answered(struct front_env *env, const char *error_type);
bool front_prime_is_running(const struct front_env *env);
/* Puts the name of the running event, if one is, before what went wrong meanwhile. */
void front_prime_blame(const struct front_env *env, struct front_failure *failure);
/* The runtime asked restore/next: its log says when events were not run. True: the build has failed. */
bool front_prime_passed_over(struct front_env *env);
uint64_t front_prime_spent_ns(const struct front_env *env); /* by all events together */

/* front_event.c */
void front_event_queued(void *front); /* of lambda_backend */
/* A version that was not ready is: what waits for it goes on. */
void front_event_ready(struct front *front, const struct catalog_function *function);

/* front_spec.c */
/* Blocks of NUL-terminated strings for wire_env_start. ERROR_UNSUPPORTED: no such runtime here. */
MUST_CHECK int front_spec_fill(struct front *front, const struct front_env *env, struct buffer *argv,
    struct buffer *variables, struct error *err);
/* Finds this host's runtimes, for lambda_options; fills at most FRONT_RUNTIMES_MAX names, which live as the front. */
size_t front_spec_runtimes(struct front *front, const char **names);
struct runtime_credentials front_spec_credentials(const struct front_env *env);

/* front_browser.c: refuses (and answers) what a page in a browser may have sent. */
bool front_browser_refused(struct http_exchange *exchange);

/* front_admin.c */
bool front_admin_owns(const char *path);
void front_admin_handle(struct front *front, struct http_exchange *exchange);
void front_admin_done(struct front *front, struct http_exchange *exchange, bool replied);
void front_admin_check_evicts(struct front *front);
void front_admin_template_dropped(struct front *front, const char *snapshot_id);
void front_admin_status_told(struct front *front, const struct wire_status_told *message);
void front_admin_inspected(struct front *front, const struct wire_snapshot_inspected *message, int text_fd);
void front_admin_reply_error(
    struct http_exchange *exchange, unsigned status, const char *type, const char *message);
bool front_admin_query_flag(const struct http_exchange *exchange, const char *name); /* given, and not "0" */

/* front_store.c: /thaw/v1/store/... */
void front_store_handle(struct front *front, struct http_exchange *exchange, const char *verb, bool post);
void front_store_running(
    struct front *front, const struct wire_store_running *message, int *lines_fd); /* takes it */
void front_store_client_left(struct front_store_job *job);
