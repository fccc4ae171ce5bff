/* What the files of this room know of a host and a sandbox. Inside the room only. */
#pragma once

#include "sandbox/cgroup.h"
#include "sandbox/sandbox.h"

struct sandbox_host {
    struct cgroups cgroups;
    int base_root_fd;     /* mount namespace of the base root */
    int own_pid_space_fd; /* the warden's own pid namespace, to come back to */
    uid_t uid;
    gid_t gid;
    uint64_t next_id;
    struct sandbox *dying; /* killed, but not gone yet */
};

struct sandbox {
    struct sandbox_host *host;
    struct sandbox *next; /* in host->dying */
    uint64_t id;
    pid_t init_pid;
    int init_pidfd;
    int ready_fd; /* until it is ready: init's answer */
    int listener_fd, tmp_fd;
    int cgroup_procs_fds[SANDBOX_CGROUP_MAX];
    uint32_t memory_mb, tmp_mb;
    bool killed;
};

/* clone3 as a fork, with a pidfd. Returns as fork does. */
pid_t sandbox_fork(uint64_t extra_flags, int exit_signal, int *pidfd);
