/* What the files of the warden share. */
#pragma once

#include "base/bytes.h"
#include "base/fd.h"
#include "base/loop.h"
#include "daemon/template_budget.h"
#include "daemon/warden.h"
#include "daemon/wire.h"
#include "sandbox/sandbox.h"
#include "store/store.h"
#include "thaw/template.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/queue.h>

/* Named limits. */
#define WARDEN_BLANKS_GROWN_MAX 64    /* how far demand may grow the pool of blanks */
#define WARDEN_PREPARING_MAX 8        /* blanks being prepared at once */
#define WARDEN_PREPARE_FAILURES_MAX 5 /* in a row, until a waiting start is refused */
#define WARDEN_CLONES_PER_TEMPLATE 8  /* asked for and not yet answered */
#define WARDEN_BUILDERS 2             /* of templates, made ahead */
#define WARDEN_BUILDS_MAX 16          /* templates being built at once; others wait */
#define WARDEN_HOT_SET_MORE_MAX 4 /* times that what a hot set lacks is added, until it is recorded anew */
#define WARDEN_FREEZES_MAX 2      /* at once; others wait */
#define WARDEN_OUTGOING_MAX 4096  /* messages that the front has not yet taken */
#define WARDEN_MESSAGES_PER_TURN 64
#define WARDEN_ENV_BUCKETS 1024
#define WARDEN_TICK_NS (20 * 1000000ull)
#define WARDEN_REFILL_NS (3 * 1000000ull)
#define WARDEN_QUIET_NS (25 * 1000000ull) /* without a start, until blanks are made at leisure */
#define WARDEN_SHRINK_NS (10 * 1000000000ull)
#define WARDEN_PROGRESS_EVERY_NS (100 * 1000000ull)

struct warden;
struct worker;
struct template_entry;
struct rotation;
struct store_key_state;

/* All that a start needs and that does not depend on the function. Start from BLANK_KIT_NONE. */
struct blank_kit {
    struct sandbox *sandbox;
    int memory_fd;           /* the peak memory file */
    int log_read, log_write; /* the pipe that is to be the function's stdout and stderr */
    int report_read, report_write;
};
#define BLANK_KIT_NONE \
    (struct blank_kit) \
    { \
        .memory_fd = -1, .log_read = -1, .log_write = -1, .report_read = -1, .report_write = -1 \
    }

/* One environment:
 *
 *   WAITING --(a blank; for a thaw also a template that is ready)--> [cold] RUNNING
 *      |                                                             [thaw] CLONING --> RUNNING
 *      '------ failure or kill: WIRE_ENV_STARTED with the error ------------'              |
 *                                           the process ended: WIRE_ENV_EXITED <-----------'
 *
 * Invariants: a sandbox belongs to it in CLONING and RUNNING only; every start is answered by exactly one
 * WIRE_ENV_STARTED, every started environment by exactly one WIRE_ENV_EXITED, which is its last. */
enum env_state { ENV_WAITING = 1, ENV_CLONING, ENV_RUNNING };

struct env {
    LIST_ENTRY(env) in_bucket;
    TAILQ_ENTRY(env) in_waiting;
    struct warden *warden;
    uint64_t id;
    enum env_state state;
    bool retried;          /* its template died before it answered; another has been asked */
    bool killed;           /* asked for while CLONING: ends as soon as it exists */
    bool is_first;         /* clone of its template */
    bool exited, freezing; /* the exit is told only after the freeze was */
    int wait_status;
    enum wire_start_mode mode;
    uint32_t memory_mb, tmp_mb;
    bool fixed_layout;
    char code_id[WIRE_CODE_HEX + 1], snapshot_id[WIRE_ID_HEX + 1];
    struct bytes argv, env;          /* a cold start's strings, in `strings` */
    uint8_t *strings;                /* owned */
    struct template_entry *template; /* that it waits for, or is being cloned from */
    pid_t template_pid;              /* that it was cloned from */
    struct template_entry *server;   /* whose pager serves its pages, until it ends; else NULL */
    struct error lost;               /* why its pages could not be had, and it was killed */
    struct blank_kit
        kit; /* the ends for the front go when it was told; a cold start keeps log_read for a freeze */
    pid_t pid;
    int pidfd;
    struct loop_watch *exit_watch;
    uint64_t stamp_ns[WIRE_STAMP_COUNT];
};

/* A template process, or one that is to be. Users are the environments that wait for it or are being cloned.
 */
enum template_state { TEMPLATE_WAITS_FOR_BLANK = 1, TEMPLATE_BRINGING, TEMPLATE_BUILDING, TEMPLATE_PARKED };

struct template_entry {
    TAILQ_ENTRY(template_entry) entry; /* the newest first */
    struct warden *warden;
    enum template_state state;
    char snapshot_id[WIRE_ID_HEX + 1], code_id[WIRE_CODE_HEX + 1];
    uint32_t memory_mb, tmp_mb;
    bool brought;               /* from the origin, once */
    bool dropping, report_drop; /* no new users; goes when the last one is served; and the front is told */
    uint32_t users, cloning;
    struct budget_item *item; /* what it counts as; NULL when it is dropping, as it then counts no more */
    struct template *template;
    struct loop_watch *watch, *keeper_watch;
    bool keeper_is_reaped;
    int keeper_pidfd;     /* of the process that keeps what the pager needs; or -1 */
    bool is_complete;     /* all of its pages are in: clones of it are served by no pager */
    bool ended;           /* its process; the pager goes on */
    bool is_lost;         /* its pages cannot be had; whoever needs them is killed */
    bool has_first;       /* clone, whose pages are recorded */
    uint32_t served;      /* clones that live and whose pages the pager serves */
    struct blank_kit kit; /* its view of the file system, while it is built */
    int spare_code_tree;  /* for the next clone, made ahead of need; or -1 */
    uint64_t begin_ns, forked_ns, mapped_ns, ready_ns; /* told to the start that caused it */
    bool is_single;                                    /* one process */
    uint32_t looks;                                    /* at clones of it that have served a request */
    struct working_set usual;                          /* the pages that all of those have written to */
};

/* A killed template, until it is reaped. */
struct zombie {
    LIST_ENTRY(zombie) entry;
    pid_t pid;
    char snapshot_id[WIRE_ID_HEX + 1]; /* to be told as dropped; or "" */
};

struct outgoing {
    STAILQ_ENTRY(outgoing) entry;
    struct buffer packet;
    int fds[FD_MESSAGE_MAX]; /* owned copies */
    size_t fd_count;
};

struct blank {
    TAILQ_ENTRY(blank) entry;
    struct warden *warden;
    struct blank_kit kit;
    struct loop_watch *watch; /* while it is being prepared */
};
TAILQ_HEAD(blank_list, blank);

struct pool {
    struct blank_list ready, preparing;
    uint32_t ready_count, preparing_count;
    uint32_t target;   /* blanks wanted ready: grows with demand, shrinks with time */
    uint32_t failures; /* in a row */
    struct error last_error;
    bool refill_is_urgent, closed;
    uint64_t taken_ns; /* when the last one was taken */
    struct loop_timer *refill_timer, *shrink_timer;
};

/* Processes that wait to become templates. */
struct builders {
    struct builder *ready[WARDEN_BUILDERS];
    struct feeder *feeders[WARDEN_BUILDERS];
    size_t count, feeder_count;
    bool closed;
    struct loop_timer *timer;
};

struct courier_keeping {
    pid_t pid; /* 0: there is none at the moment */
    int pidfd;
    struct loop_watch *watch;
    struct loop_timer *restart_timer;
    uint64_t started_ns, restart_ms;
};

struct warden {
    const struct warden_options *options;
    char (*kept)[WIRE_ID_HEX + 1]; /* snapshots that belong to a version; freed by the sweep */
    size_t kept_count, kept_capacity;
    bool swept;
    struct courier_keeping courier;
    struct loop *loop;
    struct loop_watch *wire_watch, *front_watch, *signal_watch;
    struct loop_timer *tick_timer, *drain_timer;
    struct buffer packet; /* being encoded; kept, so that its memory is */
    STAILQ_HEAD(, outgoing) outgoing;
    uint32_t outgoing_count;
    LIST_HEAD(env_list_head, env) envs[WARDEN_ENV_BUCKETS];
    uint32_t env_count;
    TAILQ_HEAD(env_list, env) waiting;
    TAILQ_HEAD(template_list, template_entry) templates;
    LIST_HEAD(, zombie) zombies;
    LIST_HEAD(, worker) workers;
    STAILQ_HEAD(freeze_list, freeze_job) freezes; /* waiting */
    uint32_t freezes_running;
    uint32_t store_jobs;   /* running */
    uint64_t collected_ns; /* when the last collection began by itself; 0: none yet */
    struct loop_timer *collect_timer;
    struct pool pool;
    struct builders builders;
    struct budget *budget;     /* of templates */
    uint32_t building;         /* templates */
    struct rotation *rotation; /* of the master key, while one runs */
    char damaged_id[WIRE_ID_HEX +
                    1]; /* the snapshot that was last found damaged, until somebody was told; or "" */
    struct error damage;
    bool front_ready, stopping, failed;
    uint64_t stopping_ns; /* since */
    struct error failure; /* why it ends when nobody asked it to */
};

/* warden_wire.c: messages out and in. The descriptors stay the caller's. */
void warden_send(struct warden *w, const struct wire_message *message, const int *fds, size_t fd_count);
void warden_wire_event(void *warden, uint32_t events);
void warden_outgoing_free(struct warden *w);

/* warden.c */
void warden_fail(struct warden *w, const char *format, ...) PRINTF_LIKE(2, 3); /* ends the loop */
void warden_front_ready(struct warden *w);
void warden_tick_soon(struct warden *w); /* something is dying: look again shortly */
/* Wait for a child that was sent SIGKILL, at the end; one that does not die of it (the kernel may hold it up) is
 * named in the log and left behind, since the service has to end. */
void warden_reap_killed(pid_t pid, const char *what, uint64_t deadline_ns);

/* warden_env.c: starting and ending environments. */
MUST_CHECK int env_open_code_tree(struct warden *w, const char *code_id, struct error *err);
void env_start(struct warden *w, const struct wire_env_start *request, uint64_t received_ns);
void env_kill(struct warden *w, uint64_t id);
struct env *env_find(struct warden *w, uint64_t id);
void env_advance_waiting(struct warden *w); /* something that starts wait for may be there now */
void env_refuse(struct env *env, const struct error *why); /* answers the start with the error, and frees */
void env_template_died(struct env *env, const struct error *why); /* it worked before */
bool env_has_pid(struct warden *w, pid_t pid);
/* All that the pager of this template serves: they are killed, and the front is told why. */
void env_lose_pages(struct warden *w, const struct template_entry *t, const struct error *why);
void env_clone_answered(struct warden *w, const struct template_event *event);
void env_freeze_done(struct env *env);                     /* the freeze was told: end it */
void env_free_all(struct warden *w, uint64_t deadline_ns); /* waits no longer for what it has killed */

/* warden_working_set.c: which pages clones write to. */
bool working_set_is_wanted(const struct template_entry *t);
void working_set_served(struct warden *w, struct env *env); /* it has served its first request */

/* warden_template.c */
struct template_entry *template_find(
    struct warden *w, const char *snapshot_id); /* that is not to go; or NULL */
/* True, once: this snapshot was found damaged when nobody was there to be told. */
bool template_refuses(struct warden *w, const char *snapshot_id, struct error *why);
struct template_entry *template_for(struct warden *w, const struct env *env); /* found, or begun */
bool template_takes_clone(const struct template_entry *t); /* it is ready, and not too busy */
int template_take_code_tree(struct template_entry *t, struct error *err) MUST_CHECK; /* for one clone */
void template_release(struct template_entry **slot);                                 /* one user less */
void template_release_server(struct template_entry **slot);    /* a clone less that its pager serves */
void template_clone_served(struct warden *w, uint64_t env_id); /* its first request */
void template_event(void *template_entry, uint32_t events);
/* warden_build.c: fork the process; template_event is called when it is ready, or has failed. */
MUST_CHECK int template_build(struct template_entry *t, struct error *err);
/* warden_hot.c: store the hot set that a pager has recorded. `runs_fd` is taken over. */
void hot_store(struct warden *w, const char *snapshot_id, int runs_fd);
bool template_may_build(const struct warden *w); /* the budget allows for one more */
void template_build_waiting(struct warden *w);   /* there may be a blank for one */
void template_drop(struct warden *w, const char *snapshot_id, bool report);
void template_reap(struct warden *w);
void template_add_zombie(
    struct warden *w, pid_t pid, const char *snapshot_id); /* to be reaped; the front is told, unless "" */
bool template_has_pid(struct warden *w, pid_t pid);        /* true for any while one is being built */
/* warden_status.c */
/* What its process holds that no file could give back, in bytes; 0 when it is gone (proc_pid_statm(5)). */
uint64_t template_memory_held(const struct template_entry *t);
void template_tell_status(struct warden *w, uint64_t request_id);
void template_free_all(struct warden *w, uint64_t deadline_ns);

/* The template cannot be built (`why`), or not yet been tried to be (NULL): true when its snapshot's files are being brought from the
 * origin, after which it is tried again. */
bool template_bring(struct template_entry *t, const struct error *why);
void template_failed(struct template_entry *t, const struct error *why);

/* warden_pool.c: blank sandboxes. */
/* False: none now; env_advance_waiting is called when there is. */
bool pool_take(struct warden *w, struct blank_kit *kit);
void blank_kit_free(struct warden *w, struct blank_kit *kit); /* whatever is left of it */
void pool_open(struct warden *w);
void pool_close(struct warden *w);

/* warden_builders.c */
MUST_CHECK int builders_rights(const struct warden *w, struct template_rights *rights, struct error *err);
struct builder *builders_take(struct warden *w); /* NULL: none now */
/* The same of feeders. It begins with the hot set of this reader, which needs its key only; to be ended when it was not used, which
 * NULL needs not. */
struct feeder *builders_open_feeder(struct warden *w, const struct store_reader *reader, bool with_hot_set);
void builders_end_feeder(struct warden *w, struct feeder *feeder);
bool builders_has_pid(const struct warden *w, pid_t pid);
void builders_open(struct warden *w);
void builders_close(struct warden *w); /* template_free_all reaps them */

/* warden_courier.c: the process that talks to the origin. */
void courier_begin(struct warden *w); /* nothing, without an origin */
bool courier_has_pid(const struct warden *w, pid_t pid);
void courier_end(struct warden *w);

/* warden_worker.c: a child process that does one long job. */
struct worker_result {
    struct error error;
    uint64_t memory_bytes, stored_bytes;
};
typedef void worker_body(void *context, struct worker_result *result);
typedef void worker_done(struct warden *w, void *context, const struct worker_result *result);
/* `done` is called when it ended, with an error if it crashed; it owns the context then. */
struct worker_job {
    worker_body *body;
    worker_done *done;
    void *context;
    bool finish;     /* short, and to be finished even when everything else ends */
    bool background; /* at a lower priority: no invocation waits for it */
};
MUST_CHECK int worker_start(struct warden *w, const struct worker_job *job, struct error *err);
bool worker_has_pid(struct warden *w, pid_t pid);
void worker_end_all(struct warden *w);

/* warden_files.c: from the child that freezes to its parent. */
struct image;
int files_open(void); /* a descriptor for both; -1: there will be no list */
void files_tell(int fd, const struct image *image);
void files_take(int fd, struct buffer *lines);

/* warden_snapshot.c: freezing, deleting, inspecting. */
void snapshot_freeze(struct warden *w, const struct wire_env_freeze *request);
void snapshot_delete(struct warden *w, const char *snapshot_id);
/* Before the front is ready: it names every snapshot that a version has; then the others go. */
MUST_CHECK int snapshot_keep(struct warden *w, const char *snapshot_id, struct error *err);
void snapshot_sweep(struct warden *w);
void snapshot_inspect(struct warden *w, const struct wire_snapshot_inspect *request);
void snapshot_free_all(struct warden *w);

/* warden_store.c: what is done to the whole store. */
void store_run(struct warden *w, const struct wire_store_run *request);
void store_collect_later(struct warden *w); /* there may be chunks now that nobody needs */
/* A line of JSON that says how far a long job is; NULL where one was said just before, at *last_ns. */
json_t *warden_progress_line(uint64_t *last_ns, uint64_t done, uint64_t total);

/* warden_key.c: rotations of the master key. */
void key_rotate(struct warden *w, const struct wire_store_run *request);
void key_resume_rotation(struct warden *w); /* one that an earlier daemon has not finished */
void key_free(struct warden *w);
json_t *key_describe(const struct store_key_state *state); /* a new reference */
