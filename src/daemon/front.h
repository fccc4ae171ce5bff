/* The front: the unprivileged role. It parses all network bytes, keeps the catalog, schedules, writes logs.
 * main.c opens everything it needs, drops all rights (role_drop_rights) and then calls front_run. */
#pragma once

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

struct front_options {
    int warden_fd; /* SOCK_SEQPACKET, blocking: the messages of daemon/wire.h; end of file means "exit now" */
    int listen_fd; /* bound and listening, loopback, non-blocking, close-on-exec */
    int data_fd;   /* O_PATH descriptor of data_dir */
    /* The front lives in its own small root file system: DATA's folders catalog/, logs/ and code/ (writable,
     * and owned by the front's user) are below data_dir; /usr, /bin, /lib*, /etc and runtimes_dir are there,
     * read only; /dev/{null,zero,urandom}, an own /tmp and /proc. Nothing else. */
    const char *data_dir;
    const char
        *runtimes_dir; /* bootstraps, by the path that they have inside this root; see also DATA/code */
    const char *listen_address;    /* "127.0.0.1:8429", for messages */
    const char *region;            /* us-east-1 unless told */
    const char *account_id;        /* 000000000000 unless told */
    uint32_t idle_seconds;         /* idle environments are reclaimed after this */
    uint32_t concurrency;          /* environments that may run at once, all functions together */
    uint32_t function_concurrency; /* invocations of one function at once; 0: as many as concurrency allows */
    uint32_t event_retry_ms;       /* before the first retry of an Event invocation, twice that before the
                                      second */
    uint64_t inactive_after_s;     /* a version that is not invoked for as long becomes Inactive; 0: never */
    uint64_t boot_id;              /* names this start of the machine, see base/lasting_clock.h */
    uint32_t drain_seconds;        /* after SIGTERM: how long running invocations may still take */
    bool fixed_layout;             /* versions that are to be frozen get the same addresses each time */
    enum log_level log_level;
};

/* Serves until SIGTERM (it arrives unblocked and with its default action: take it with a signalfd; the warden
 * sends it when the service is to stop): then stops accepting, drains for at most drain_seconds, and returns
 * 0. Also returns, non-zero, when the warden is gone or something failed (logged already). Once it accepts
 * requests it sends WIRE_FRONT_READY, once; the warden then tells systemd. */
int front_run(const struct front_options *options);
