/* The roles of one binary, and what starts them. The process that is started is the warden; it starts the front, and where there
 * is an origin the courier, by running /proc/self/exe again with --role=front or --role=courier, the descriptors below, and the
 * same options. */
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
#define ROLE_COURIER_UID 60903 /* the courier's user and group where there is no user `thaw-courier` */

/* Where the front finds its descriptors. */
enum role_front_fd { ROLE_FD_WARDEN = 3, ROLE_FD_LISTEN, ROLE_FD_COUNT };

enum role_courier_fd { ROLE_FD_CONTROL = 3, ROLE_FD_CREDENTIALS, ROLE_COURIER_FD_COUNT };

struct sigv4_credentials;

struct role_options {
    bool front, courier; /* --role=... */
    const char *listen;  /* as it was given */
    const char *data_dir;
    const char *runtimes_dir; /* never NULL after parsing; the folder may still be missing */
    const char *user;         /* NULL: see ROLE_FRONT_UID */
    const char *region, *account_id;
    const char *master_key, *old_master_key; /* NULL: the key file, and none */
    uint32_t idle_seconds, concurrency, blanks, drain_seconds;
    uint32_t function_concurrency, event_retry_ms; /* function_concurrency 0: as concurrency */
    uint64_t template_budget;                      /* bytes; 0: half of the memory */
    uint64_t store_budget;                         /* bytes; 0: none */
    bool random_layout;                            /* of versions that are to be frozen; see docs/STORE.md */
    const char *origin;                            /* NULL: there is none, and the next four mean nothing */
    const char *s3_endpoint, *s3_region, *s3_credentials, *s3_ca; /* the last two: files, or NULL */
    uint64_t inactive_after_s;                                    /* 0: never */
    enum log_level log_level;
    struct sockaddr_storage listen_address;
    socklen_t listen_address_len;
    char runtimes_buffer[4096], endpoint_buffer[256];
};

/* Returns -1 to go on, or the exit status (after --help, --version, or a complaint on standard error). */
int role_parse_options(struct role_options *options, int argc, char **argv);

/* All return the process's exit status. */
int role_run_warden(const struct role_options *options, char **argv);
int role_run_front(const struct role_options *options);
int role_run_courier(const struct role_options *options);

/* The front's user: --user, else `thaw`, else ROLE_FRONT_UID. */
MUST_CHECK int role_find_user(const char *name, uid_t *uid, gid_t *gid, struct error *err);
/* Opens (making what is missing) the data folder, locks it against a second daemon, makes the front's folders
 * in it. Returns its descriptor; *lock_fd is to stay open. Folders of the front end up owned by it. */
MUST_CHECK int role_open_data(const char *path, uid_t uid, gid_t gid, int *lock_fd, struct error *err);
/* Ask the kernel for quick moves between cgroups; the wish lasts while the returned descriptor is open. -1
 * (said in the log) where it cannot be asked. */
int role_favor_cgroup_moves(void);
/* A process that cleans up behind a warden that was killed. */
MUST_CHECK int role_start_undertaker(pid_t *pid, struct error *err);
void role_end_undertaker(pid_t pid); /* 0 is fine */
/* Starts the front with the descriptors; returns its pid, and *pidfd. */
MUST_CHECK int role_start_front(
    char **argv, int warden_fd, int listen_fd, pid_t *pid, int *pidfd, struct error *err);

/* Starts another role, with its descriptors from 3 on; returns its pid, and *pidfd. */
MUST_CHECK int role_start(
    char **argv, const char *role, const int *fds, int fd_count, pid_t *pid, int *pidfd, struct error *err);

/* What --origin and the like say, taken apart. */
struct s3_options;
MUST_CHECK int role_parse_origin(
    const struct role_options *options, struct s3_options *s3, struct error *err);
/* The keys for the origin: from the file --s3-credentials, else from the environment, where they are overwritten, so that no other
 * process has them. */
MUST_CHECK int role_take_credentials(
    const struct role_options *options, struct sigv4_credentials *credentials, struct error *err);
/* Let the courier's user put chunks into DATA/store. */
MUST_CHECK int role_admit_courier(int data_fd, struct error *err);
MUST_CHECK int role_start_courier(char **argv, int control_fd, const struct sigv4_credentials *credentials,
    pid_t *pid, int *pidfd, struct error *err);

#define ROLE_FRONT_DATA "/data" /* in the front's root */
#define ROLE_FRONT_RUNTIMES "/runtimes"
#define ROLE_COURIER_STORE "/store" /* in the courier's root */
#define ROLE_COURIER_CA "/ca.pem"

/* All the rights that a role gives up, before it reads its first byte: first the host's file system, for a small root of its own;
 * then limits, user, groups, capabilities, new privileges, and the system calls that it never needs. */
MUST_CHECK int role_enter_front_root(const char *data_dir, const char *runtimes_dir, struct error *err);
/* `ca` (may be NULL): a file of certificates. */
MUST_CHECK int role_enter_courier_root(const char *data_dir, const char *ca, struct error *err);
MUST_CHECK int role_drop_rights(uid_t uid, gid_t gid, struct error *err);

/* Tell systemd (or whoever set NOTIFY_SOCKET) how we are: "READY=1" and so on. Best effort. */
void role_notify(const char *state);
