/* The address space of a process as /proc/PID/smaps tells it. */
#pragma once

#include "freeze/tracee.h"

struct mapping {
    uint64_t start, end, offset; /* bytes */
    int protection;              /* PROT_* */
    bool shared;
    uint64_t device, inode; /* of the file; device as makedev gives it. 0: anonymous */
    char *path;             /* as /proc prints it, with " (deleted)" cut off; "" for anonymous; owned */
    bool deleted;
    /* VmFlags of proc_pid_smaps(5) */
    bool wipe_on_fork, dont_fork, grows_down, locked, huge_page, no_huge_page, dont_dump, no_reserve,
        accounted, droppable, io, huge_tlb, userfault, mergeable, shadow_stack, sealed, sequential, random,
        lock_on_fault;
    int protection_key; /* 0: none */
};

struct mappings {
    struct mapping *list;
    size_t count;
};

MUST_CHECK int mappings_read(struct mappings *m, const struct tracee *t, struct error *err);
void mappings_free(struct mappings *m);
