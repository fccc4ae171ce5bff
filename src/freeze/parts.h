/* The parts of a freeze: each reads one kind of state and appends to the image's plans. */
#pragma once

#include "freeze/freeze.h"
#include "freeze/mappings.h"
#include "freeze/tracee.h"

struct family;

/* One process. */
struct freeze {
    const struct freeze_request *request;
    struct tracee tracee;
    struct mappings mappings;
    struct image *image;
    struct image_process *process; /* where its part of the image goes */
    uid_t uid;                     /* that its files belong to */
    gid_t gid;
    struct credentials *credentials; /* what freeze_credentials found; NULL before */
    struct family *family;
    bool in_tree;           /* it is not the only one */
    struct plan *settings;  /* takes what a fork inherits: the template plan; in a tree the process's own */
    long first_timer_slack; /* of the first thread, nanoseconds */
    struct plan on_memory;  /* ops for the process plan, when the memory is at its places */
    /* Ops for the process plan of one in a tree, when it has its descriptors: shared mappings, members of its
     * epolls; and when nothing is closed any more, locks. */
    struct plan maps, watches, locks;
    /* Of the root, and for all: */
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
/* kernel_pages.c: what must be in a template before it runs, whatever a pager does. The list is the caller's to free. */
struct page_runs;
MUST_CHECK int freeze_find_kernel_pages(struct freeze *f, struct page_runs *runs, struct error *err);
/* The guard regions of a mapping, into `plan`. */
MUST_CHECK int freeze_guards(struct freeze *f, const struct mapping *m, struct plan *plan, struct error *err);
/* What holds for all memory, also what is mapped later: locks (mlockall), policies for NUMA. */
MUST_CHECK int freeze_memory_settings(struct freeze *f, struct error *err);
/* Its part about protection keys. */
MUST_CHECK int freeze_protection_keys(struct freeze *f, struct error *err);
/* What a process has beside memory, threads and descriptors: signal handlers, limits, timers, mm fields,
 * umask... into the template plan where a fork inherits it, else into the process plan. */
MUST_CHECK int freeze_process_state(struct freeze *f, struct error *err);
/* The numbered fields of /proc/PID/stat from 4 on: proc_pid_stat(5). */
MUST_CHECK int freeze_read_stat(const struct freeze *f, uint64_t fields[53], struct error *err);
/* Registers, masks, thread pointers...: one plan and one rt_sigreturn frame for each thread. */
MUST_CHECK int freeze_threads(struct freeze *f, struct error *err);
/* Its part about timers, into the release plan. */
MUST_CHECK int freeze_timers(struct freeze *f, struct error *err);
/* What few programs set for a thread, each kept or refused. */
MUST_CHECK int freeze_thread_settings(struct freeze *f, size_t index, struct error *err);
/* Its part about settings that few programs use, each kept or refused. */
MUST_CHECK int freeze_odd_settings(struct freeze *f, struct error *err);
/* Queued signals, of thread `index` or (shared) of the process: the plan sends them again to oneself. */
MUST_CHECK int freeze_pending_signals(
    struct freeze *f, size_t index, bool shared, struct plan *plan, struct error *err);
/* The contents of /tmp into the process plan, before descriptors, which may be open on them. (Private
 * mappings of such files need nothing: freeze_memory makes them anonymous memory with the files' bytes.) */
MUST_CHECK int freeze_tmp_files(struct freeze *f, struct error *err);
/* Every open descriptor into the process plan of the root; and in a tree of all. */
MUST_CHECK int freeze_descriptors(struct freeze *f, struct error *err);
/* Shared mappings (anonymous, memfd, files of /tmp), after the descriptors; sets image->descriptor_floor. */
MUST_CHECK int freeze_shared_memory(struct freeze *f, struct error *err);
/* What must come when all have all: seals, modes and times of /tmp, watches. */
void freeze_finish_files(struct freeze *f);
/* Whether that does something that others in the tree have to be waited for with. */
bool freeze_files_wait(const struct freeze *f);
/* In a tree: each process takes its own descriptors from those that the root has made for all. */
void freeze_take_descriptors(struct freeze *f);
/* And closes the others. */
void freeze_close_descriptors(struct freeze *f);
/* Whether a mapping is made by freeze_shared_memory, in each clone; freeze_memory makes all others. */
bool freeze_handles_shared(const struct freeze *f, const struct mapping *m);
/* Release what freeze_tmp_files and freeze_descriptors keep in `f`. */
void freeze_forget_files(struct freeze *f);
