/* The cgroups of one daemon: a folder of its own in each hierarchy that has one of the controllers cpu,
 * memory and pids (cgroup v2, v1, or some in each), and in that one folder for each sandbox. Inside the room
 * only. */
#pragma once

#include "base/error.h"
#include "sandbox/sandbox.h"

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_NAME_BYTES 96
#define CGROUP_TEXT_BYTES 128

enum cgroup_controller {
    CGROUP_CPU = 1,
    CGROUP_MEMORY = 2,
    CGROUP_PIDS = 4,
    CGROUP_ALL = 7,
};

struct cgroup_tree {
    int parent_fd, base_fd; /* the folder that holds all daemons' folders, and ours in it */
    unsigned controllers;   /* those we use here */
    bool v2;
};

struct cgroups {
    struct cgroup_tree trees[SANDBOX_CGROUP_MAX];
    size_t count;
    bool swap; /* the machine can swap, so that memory and swap together need a limit too */
    char name[CGROUP_NAME_BYTES];
    char text[CGROUP_TEXT_BYTES];
};

MUST_CHECK int cgroups_open(struct cgroups *cg, struct error *err); /* on failure nothing is left open */
void cgroups_close(struct cgroups *cg);                             /* and removes our folders */

/* Folders of one sandbox, by its number. The default limits are set in them. */
MUST_CHECK int cgroups_make(const struct cgroups *cg, uint64_t id, struct error *err);
MUST_CHECK int cgroups_enter(const struct cgroups *cg, uint64_t id, struct error *err); /* this process */
/* No quota and the share of a whole core: a thousand killed processes need processor time to end in, and those that
 * ran out of it would not get to it for minutes. */
void cgroups_let_die(const struct cgroups *cg, uint64_t id);
bool cgroups_remove(
    const struct cgroups *cg, uint64_t id); /* false: something still lives in one, try again */
MUST_CHECK int cgroups_open_procs(
    const struct cgroups *cg, uint64_t id, int fds[SANDBOX_CGROUP_MAX], struct error *err);
MUST_CHECK int cgroups_limit(
    const struct cgroups *cg, uint64_t id, uint32_t memory_mb, uint32_t memory_mb_before, struct error *err);
MUST_CHECK int cgroups_open_peak_memory(const struct cgroups *cg, uint64_t id, struct error *err);
bool cgroups_oom_killed(const struct cgroups *cg, uint64_t id);
