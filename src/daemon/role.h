/* The two roles of one binary, and what starts them. The process that is started is the warden; it starts the
 * front by running /proc/self/exe again with --role=front, the descriptors below, and the same options. */
#pragma once

#include "base/error.h"
#include "base/log.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define ROLE_FRONT_UID 60901   /* the front's user and group where there is no user `thaw` */
#define ROLE_SANDBOX_UID 60902 /* the functions' user and group */

/* Where the front finds its descriptors. */
enum role_front_fd { ROLE_FD_WARDEN = 3, ROLE_FD_LISTEN, ROLE_FD_COUNT };

struct role_options {
    bool front;         /* --role=front */
    const char *listen; /* as it was given */
    const char *data_dir;
    const char *runtimes_dir; /* never NULL after parsing; the folder may still be missing */
    const char *user;         /* NULL: see ROLE_FRONT_UID */
    const char *region, *account_id;
    uint32_t idle_seconds, concurrency, blanks, drain_seconds;
    uint32_t function_concurrency, event_retry_ms; /* function_concurrency 0: as concurrency */
    uint64_t template_budget;                      /* bytes; 0: half of the memory */
    bool random_layout;                            /* of versions that are to be frozen; see docs/STORE.md */
    enum log_level log_level;
    struct sockaddr_storage listen_address;
    socklen_t listen_address_len;
    char runtimes_buffer[4096];
};

/* Returns -1 to go on, or the exit status (after --help, --version, or a complaint on standard error). */
int role_parse_options(struct role_options *options, int argc, char **argv);

/* Both return the process's exit status. */
int role_run_warden(const struct role_options *options, char **argv);
int role_run_front(const struct role_options *options);

/* The front's user: --user, else `thaw`, else ROLE_FRONT_UID. */
MUST_CHECK int role_find_user(const char *name, uid_t *uid, gid_t *gid, struct error *err);
/* Opens (making what is missing) the data folder, locks it against a second daemon, makes the front's folders
 * in it. Returns its descriptor; *lock_fd is to stay open. Folders of the front end up owned by it. */
MUST_CHECK int role_open_data(const char *path, uid_t uid, gid_t gid, int *lock_fd, struct error *err);
/* Ask the kernel for quick moves between cgroups; the wish lasts while the returned descriptor is open. -1
 * (said in the log) where it cannot be asked. */
int role_favor_cgroup_moves(void);
/* Ask the scheduler (Linux 6.12 and newer) for short slices: both roles run for microseconds at a time, and
 * when they are woken they should not wait for the end of a function's slice of milliseconds. Children do not
 * inherit it. */
void role_favor_wakeups(void);
/* A process that cleans up behind a warden that was killed. */
MUST_CHECK int role_start_undertaker(pid_t *pid, struct error *err);
void role_end_undertaker(pid_t pid); /* 0 is fine */
/* Starts the front with the descriptors; returns its pid, and *pidfd. */
MUST_CHECK int role_start_front(
    char **argv, int warden_fd, int listen_fd, pid_t *pid, int *pidfd, struct error *err);

#define ROLE_FRONT_DATA "/data" /* in the front's root */
#define ROLE_FRONT_RUNTIMES "/runtimes"

/* All the rights that the front gives up, before it reads its first byte: its own small root file system,
 * limits, user, groups, capabilities, new privileges, and the system calls that it never needs. */
MUST_CHECK int role_drop_rights(
    const char *data_dir, const char *runtimes_dir, uid_t uid, gid_t gid, struct error *err);
MUST_CHECK int role_enter_private_root(const char *data_dir, const char *runtimes_dir, struct error *err);

/* Tell systemd (or whoever set NOTIFY_SOCKET) how we are: "READY=1" and so on. Best effort. */
void role_notify(const char *state);
