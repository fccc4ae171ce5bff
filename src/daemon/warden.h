/* The warden: the privileged role. It owns sandboxes, templates, freezes and the snapshots' keys, and does
 * what the front asks over daemon/wire.h. One thread; it reads no byte that came over a network. */
#pragma once

#include "base/error.h"

#include <stdint.h>
#include <sys/types.h>

struct sandbox_host;
struct sigv4_credentials;
struct store;

struct warden_options {
    struct store *store; /* these stay the caller's */
    struct sandbox_host *host;
    int code_fd;     /* DATA/code */
    int wire_fd;     /* our end of the pair, non-blocking */
    pid_t front_pid; /* our child */
    int front_pidfd;
    uint32_t blanks;          /* sandboxes kept ready */
    uint32_t environments;    /* that may exist at once */
    uint32_t drain_seconds;   /* what the front may take after SIGTERM, before it is killed */
    uint64_t template_budget; /* bytes; 0: half of the machine's memory */
    uint64_t store_budget; /* bytes of the local folder, where there is an origin; 0: as many as there are */
    struct {
        char **argv;     /* NULL: there is no origin */
        int control_end; /* the courier's end of the control socket */
        const struct sigv4_credentials *credentials;
    } courier;
    uid_t sandbox_uid;
    gid_t sandbox_gid;
};

/* Serves until SIGTERM or SIGINT (returns 0 when the front then ended in order) or until the front is gone
 * (-1). Whatever it made is gone when it returns. */
MUST_CHECK int warden_run(const struct warden_options *options, struct error *err);
