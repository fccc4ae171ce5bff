/* An arena: the least sandbox that a test program can be frozen and thawed in. Pid 1 is ours and sleeps; the
 * root is a read-only tmpfs over the host's /usr; /tmp is fresh; loopback is up and a socket listens at
 * 127.0.0.1:ARENA_PORT. It does not use the sandbox room, so that a fault here is the engine's. */
#pragma once

#include "base/error.h"

#include <linux/filter.h>
#include <stdint.h>
#include <sys/types.h>

#define ARENA_PORT 9001
#define ARENA_UID 60902
#define ARENA_GID 60902
#define ARENA_CODE_PATH "/var/task"

struct arena {
    pid_t init;
    int init_pidfd, listener;
};

MUST_CHECK int arena_start(struct arena *arena, struct error *err);
/* Kills all that is inside, and waits for pid 1. */
void arena_stop(struct arena *arena);
/* A child that has nothing to do with an arena, but may be reaped with one: then its pid is -1 and the status set. */
extern struct arena_stranger {
    pid_t pid;
    int status;
} arena_stranger;
/* A detached mount of a folder, to be attached once at ARENA_CODE_PATH. */
MUST_CHECK int arena_code_tree(const char *folder, struct error *err);
/* Run ARENA_CODE_PATH/<argv[0]> inside, as our own child; stdout and stderr go to log_fd; under `filter`, if not NULL. */
MUST_CHECK int arena_spawn(const struct arena *arena, char *const argv[], int code_tree, int log_fd,
    const struct sock_fprog *filter, pid_t *pid, struct error *err);
