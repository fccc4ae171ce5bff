/* `thaw process`: a program, or one that runs already, is frozen into a folder; clones are thawed from that.
 *
 *   freeze:  keeper (pid 1 of new namespaces) -> the command in them -> its moment -> worker: ptrace, image, pages
 *   thaw:    keepers -> template -> clones, one in each keeper's namespaces
 *
 * Needs root. One thread. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "image/plan.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_CLONES_MAX 4096
#define PROCESS_AFTER_MS_MAX (24ull * 3600 * 1000)

/* Statuses that the command hands on for failures of its own: as env(1) and others have them. */
enum process_exit {
    PROCESS_EXIT_FAILED = 125,
    PROCESS_EXIT_CANNOT_RUN = 126,
    PROCESS_EXIT_NOT_FOUND = 127,
    PROCESS_EXIT_SIGNAL_BASE = 128, /* + the signal's number */
};

struct process_freeze_options {
    const char *directory; /* made by the freeze; must not exist, or be empty */
    char *const *command;  /* NULL-terminated; NULL with `pid` */
    pid_t pid;             /* a program that runs already, or 0 */
    /* The moment: when a line (or the unfinished last one) of its output matches this extended regular
     * expression, or when so much time has passed; whichever is given. */
    const char *until_output;
    uint64_t after_ms;
    bool leave_running;
    bool private_network, private_tmp;
    void (*progress)(void *context, const char *text); /* what is being done now; may be NULL */
    void *progress_context;
};

struct process_frozen {
    pid_t pid; /* as it was inside its own namespace */
    char name[16];
    uint64_t page_bytes, bulk_bytes, manifest_bytes;
    uint32_t processes, threads, descriptors;
    uint64_t stopped_ns; /* for how long the program stood still */
    bool running;        /* a command of ours goes on: process_attend hands on its streams and its end */
};

struct process_run;

/* Starts (or finds) the program, waits for its moment, freezes it. On success *run is to be freed; it is only
 * good for process_attend. ERROR_UNSUPPORTED: the program cannot be frozen, and the text says why;
 * ERROR_NOT_FOUND: it ended before its moment, *status is its status as a shell has it. */
MUST_CHECK int process_freeze(const struct process_freeze_options *options, struct process_frozen *frozen,
    struct process_run **run, int *status, struct error *err);
/* Passes streams and signals on until the program ends; *status is as a shell has it. */
MUST_CHECK int process_attend(struct process_run *run, int *status, struct error *err);
void process_run_free(struct process_run **run);

enum process_network { PROCESS_NETWORK_AS_FROZEN, PROCESS_NETWORK_HOST, PROCESS_NETWORK_PRIVATE };

struct process_thaw_options {
    const char *directory;
    unsigned count; /* of clones */
    bool wait;      /* the clones end with us */
    enum process_network network;
};

struct process_clone {
    pid_t pid;
    int pidfd, status; /* status: as a shell has it, once it has ended */
    bool ended;
    struct plan_report report;
    uint64_t asked_ns, alive_ns; /* CLOCK_MONOTONIC: as it was asked for; as its report came */
};

struct process_clones {
    struct process_clone *list;
    unsigned count;
    char name[16]; /* of the program */
    uint64_t page_bytes;
    uint64_t began_ns, read_ns, prepared_ns, built_ns; /* manifest read; namespaces there; template built */
    struct keeper *keepers;
    int stream_flags[3]; /* of our standard streams, as they were */
    int signals;         /* a signalfd, with `wait` */
    sigset_t mask_before;
};

/* All clones, or an error and none. Without `wait` they are children of a guardian, a process that is left behind
 * to reap them, and have no pidfd here. */
MUST_CHECK int process_thaw(
    const struct process_thaw_options *options, struct process_clones *clones, struct error *err);
/* Only with `wait`: passes signals on until all have ended. The first status that is not 0 comes back. */
MUST_CHECK int process_wait(struct process_clones *clones, int *status, struct error *err);
void process_clones_free(struct process_clones *clones);

/* What a folder holds, for people (or as JSON); with `plan` every plan as a readable trace. */
MUST_CHECK int process_print(
    struct buffer *out, const char *directory, bool plan, bool json, struct error *err);
