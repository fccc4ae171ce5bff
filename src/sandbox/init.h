/* The first process of a sandbox: it makes the sandbox around itself, then sleeps for ever, and with it
 * everything in the sandbox ends. Inside the room only. */
#pragma once

#include "base/error.h"
#include "sandbox/cgroup.h"

#include <stdint.h>

struct init_plan {
    const struct cgroups *cgroups;
    uint64_t id;
    int base_root_fd;
    int answer_fd; /* one message: struct error, and when that is none INIT_FD_COUNT descriptors */
};

enum init_fd { INIT_FD_LISTENER, INIT_FD_TMP, INIT_FD_COUNT };

/* Runs in the child of a fork, which is pid 1 of its pid namespace. */
_Noreturn void init_run(const struct init_plan *plan);
