/* The parts of a freeze: each reads one kind of state and appends to the image's plans. */
#pragma once

#include "freeze/freeze.h"
#include "freeze/mappings.h"
#include "freeze/tracee.h"

struct freeze {
    const struct freeze_request *request;
    struct tracee tracee;
    struct mappings mappings;
    struct image *image;
    struct image_process *process; /* where its part of the image goes */
    uid_t uid;                     /* that its files belong to */
    gid_t gid;
    struct credentials *credentials; /* what freeze_credentials found; NULL before */
    struct tmp_files *tmp_files;     /* what freeze_tmp_files found; NULL before */
    struct descriptors *descriptors; /* what freeze_descriptors found; NULL before */
};

/* Users, groups and capabilities: checked to be the sandbox's; or else (own_credentials) the clone becomes who
 * the process is, as the first thing after it has entered, and keeps the rights that a thaw needs until the end. */
MUST_CHECK int freeze_credentials(struct freeze *f, struct error *err);
/* The last of each thread's plan: down to the rights that it has. */
void freeze_thread_rights(struct freeze *f, struct plan *plan);
/* Private memory: mappings and pages into the template plan, the pages into the stream. */
MUST_CHECK int freeze_memory(struct freeze *f, struct error *err);
/* What a process has beside memory, threads and descriptors: signal handlers, limits, timers, mm fields,
 * umask... into the template plan where a fork inherits it, else into the process plan. */
MUST_CHECK int freeze_process_state(struct freeze *f, struct error *err);
/* Registers, masks, thread pointers...: one plan and one rt_sigreturn frame for each thread. */
MUST_CHECK int freeze_threads(struct freeze *f, struct error *err);
/* Its part about timers, into the release plan. */
MUST_CHECK int freeze_timers(struct freeze *f, struct error *err);
/* Its part about settings that few programs use, each kept or refused. */
MUST_CHECK int freeze_odd_settings(struct freeze *f, struct error *err);
/* Queued signals, of thread `index` or (shared) of the process: the plan sends them again to oneself. */
MUST_CHECK int freeze_pending_signals(
    struct freeze *f, size_t index, bool shared, struct plan *plan, struct error *err);
/* The contents of /tmp into the process plan, before descriptors, which may be open on them. (Private
 * mappings of such files need nothing: freeze_memory makes them anonymous memory with the files' bytes.) */
MUST_CHECK int freeze_tmp_files(struct freeze *f, struct error *err);
/* Every open descriptor into the process plan; sets image->descriptor_floor. */
MUST_CHECK int freeze_descriptors(struct freeze *f, struct error *err);
/* Shared mappings (anonymous, memfd, files of /tmp) into the process plan, after the descriptors. */
MUST_CHECK int freeze_shared_memory(struct freeze *f, struct error *err);
/* Whether a mapping is made by freeze_shared_memory, in each clone; freeze_memory makes all others. */
bool freeze_handles_shared(const struct freeze *f, const struct mapping *m);
/* Release what freeze_tmp_files and freeze_descriptors keep in `f`. */
void freeze_forget_files(struct freeze *f);
