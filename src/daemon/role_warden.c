/* The warden's side of the start: everything that needs root is opened here, then the front is started. */
#include "base/bytes.h"
#include "base/fd.h"
#include "base/wakeups.h"
#include "daemon/role.h"
#include "daemon/warden.h"
#include "origin/courier.h"
#include "sandbox/sandbox.h"
#include "store/rotate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LISTEN_BACKLOG 1024
#define SPARE_ENVIRONMENTS 128 /* beside those that serve: being frozen, or ending */
#define WIRE_SOCKET_BYTES (4 << 20)

/* What the start opened; ends in reverse. */
struct service {
    int data_fd, lock_fd, listen_fd, code_fd;
    int warden_end, front_end; /* of the pair between the roles */
    int quick_moves_fd;        /* see role_favor_cgroup_moves */
    int control[2];            /* the control socket to the courier: the clients' end, the courier's; or -1 */
    struct sigv4_credentials *credentials; /* for couriers; or NULL. Children do not inherit the page */
    struct master_source key, old_key;     /* old_key: of kind 0 when none was named */
    struct store *store;
    struct sandbox_host *host;
    pid_t undertaker;
};

static void service_close(struct service *s)
{
    sandbox_host_close(s->host);
    role_end_undertaker(s->undertaker);
    store_close(s->store);
    if (s->credentials != NULL) {
        OPENSSL_cleanse(s->credentials, sizeof *s->credentials);
        munmap(s->credentials, sizeof *s->credentials);
    }
    master_source_free(&s->key);
    master_source_free(&s->old_key);
    int *fds[] = {&s->warden_end, &s->front_end, &s->code_fd, &s->listen_fd, &s->data_fd, &s->lock_fd,
        &s->quick_moves_fd, &s->control[0], &s->control[1]};
    for (size_t i = 0; i < countof(fds); i++)
        fd_close(fds[i]);
}

static int open_listener(const struct role_options *o, struct error *err)
{
    CLEANUP_FD int fd = socket(o->listen_address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0)
        return error_system(err, "cannot make a socket");
    if (bind(fd, (const struct sockaddr *)&o->listen_address, o->listen_address_len) < 0 ||
        listen(fd, LISTEN_BACKLOG) < 0)
        return error_system(err, "cannot listen at %s", o->listen);
    return fd_steal(&fd);
}

static void log_address(int listen_fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t len = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    if (getsockname(listen_fd, &address.any, &len) < 0)
        return;
    bool v6 = address.any.sa_family == AF_INET6;
    inet_ntop(
        address.any.sa_family, v6 ? (void *)&address.v6.sin6_addr : &address.v4.sin_addr, host, sizeof host);
    log_info("listening at http://%s%s%s:%u", v6 ? "[" : "", host, v6 ? "]" : "", ntohs(address.v4.sin_port));
}

static int open_pair(struct service *s, struct error *err)
{
    int pair[2], size = WIRE_SOCKET_BYTES;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_system(err, "cannot make the socket between the roles");
    s->warden_end = pair[0];
    s->front_end = pair[1];
    if (fcntl(s->warden_end, F_SETFL, O_NONBLOCK) < 0)
        return error_system(err, "cannot make a socket non-blocking");
    /* Room for bursts. As root we may pass the system's limit; where not, the limit has to do. */
    for (int i = 0; i < 2; i++)
        if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
            (void)!setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return 0;
}

/* On a page of its own that is locked, in no core dump, and in no child. */
static int keep_credentials(struct service *s, const struct role_options *o, struct error *err)
{
    struct sigv4_credentials *c =
        mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c == MAP_FAILED || madvise(c, sizeof *c, MADV_DONTDUMP) < 0 ||
        madvise(c, sizeof *c, MADV_DONTFORK) < 0)
        return error_system(err, "cannot allocate memory for the credentials");
    (void)!mlock(c, sizeof *c);
    s->credentials = c;
    return role_take_credentials(o, c, err);
}

static void read_seconds(const char *variable, uint64_t *seconds)
{
    const char *text = getenv(variable);
    char *end = NULL;
    uint64_t given = text != NULL ? strtoull(text, &end, 10) : 0;
    if (end != NULL && end != text && *end == '\0')
        *seconds = given;
}

/* For tests only. */
static void read_origin_times(struct store *store)
{
    struct store_origin_times times;
    store_origin_times(store, &times);
    read_seconds("THAWD_ORIGIN_GRACE_S", &times.grace_s);
    read_seconds("THAWD_ORIGIN_BURST_WAIT_S", &times.burst_wait_s);
    store_set_origin_times(store, &times);
}

static int open_origin(struct service *s, const struct role_options *o, struct error *err)
{
    struct s3_options s3;
    if (o->origin == NULL)
        return 0;
    if (role_parse_origin(o, &s3, err) < 0 || role_admit_courier(s->data_fd, err) < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s->control) < 0)
        return error_system(err, "cannot make the courier's socket");
    CLEANUP_FREE char *address = courier_address(&s3);
    store_use_origin(s->store, s->control[0], address);
    read_origin_times(s->store);
    return 0;
}

static int raise_file_limit(struct error *err)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_system(err, "cannot read the limit of open files");
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return error_system(err, "cannot raise the limit of open files");
    return 0;
}

/* Before anything else is started: a variable that holds a key is nobody else's to see. */
static int take_keys(struct service *s, const struct role_options *o, struct error *err)
{
    if (master_source_parse(&s->key, o->master_key, err) < 0)
        return error_prefix(err, "--master-key");
    if (o->old_master_key != NULL && master_source_parse(&s->old_key, o->old_master_key, err) < 0)
        return error_prefix(err, "--old-master-key");
    return 0;
}

static int open_store(struct service *s, const struct role_options *o, struct error *err)
{
    s->store = store_open_with(s->data_fd, &s->key, o->old_master_key != NULL ? &s->old_key : NULL, err);
    master_source_forget(&s->key);
    master_source_forget(&s->old_key);
    return s->store == NULL ? error_prefix(err, "%s", o->data_dir) : 0;
}

static int open_service(struct service *s, const struct role_options *o, struct error *err)
{
    uid_t uid;
    gid_t gid;
    if (take_keys(s, o, err) < 0 || role_find_user(o->user, &uid, &gid, err) < 0 || raise_file_limit(err) < 0)
        return -1;
    if (o->origin != NULL && keep_credentials(s, o, err) < 0)
        return -1;
    s->data_fd = role_open_data(o->data_dir, uid, gid, &s->lock_fd, err);
    if (s->data_fd < 0)
        return -1;
    s->code_fd = openat(s->data_fd, "code", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (s->code_fd < 0)
        return error_system(err, "cannot open the folder code");
    s->listen_fd = open_listener(o, err);
    if (s->listen_fd < 0)
        return -1;
    if (role_start_undertaker(&s->undertaker, err) < 0)
        return -1;
    if (open_store(s, o, err) < 0 || open_origin(s, o, err) < 0)
        return -1;
    struct stat about;
    bool has_runtimes = stat(o->runtimes_dir, &about) == 0 && S_ISDIR(about.st_mode);
    if (!has_runtimes)
        log_warning("%s is not a folder: managed runtimes will not start", o->runtimes_dir);
    const struct sandbox_host_options sandboxes = {.runtimes_dir = has_runtimes ? o->runtimes_dir : NULL,
        .uid = ROLE_SANDBOX_UID,
        .gid = ROLE_SANDBOX_UID};
    s->quick_moves_fd = role_favor_cgroup_moves();
    s->host = sandbox_host_open(&sandboxes, err);
    if (s->host == NULL)
        return -1;
    return open_pair(s, err);
}

static int run_service(struct service *s, const struct role_options *o, char **argv, struct error *err)
{
    struct warden_options w = {
        .store = s->store,
        .host = s->host,
        .code_fd = s->code_fd,
        .wire_fd = s->warden_end,
        .blanks = o->blanks,
        .environments = o->concurrency + SPARE_ENVIRONMENTS,
        .drain_seconds = o->drain_seconds,
        .template_budget = o->template_budget,
        .store_budget = o->store_budget,
        .courier = {o->origin != NULL ? argv : NULL, s->control[1], s->credentials},
        .sandbox_uid = ROLE_SANDBOX_UID,
        .sandbox_gid = ROLE_SANDBOX_UID,
    };
    if (role_start_front(argv, s->front_end, s->listen_fd, &w.front_pid, &w.front_pidfd, err) < 0)
        return -1;
    /* Only the front has them now: its end must close when it dies. */
    fd_close(&s->front_end);
    fd_close(&s->listen_fd);
    wakeups_favor();
    int result = warden_run(&w, err);
    fd_close(&w.front_pidfd);
    return result;
}

int role_run_warden(const struct role_options *o, char **argv)
{
    struct service s = {.data_fd = -1,
        .lock_fd = -1,
        .listen_fd = -1,
        .code_fd = -1,
        .warden_end = -1,
        .quick_moves_fd = -1,
        .control = {-1, -1},
        .front_end = -1};
    struct error err = {0};
    log_open("thawd", o->log_level);
    if (geteuid() != 0) {
        log_error("thawd must be started as root: it makes namespaces and cgroups. The part of it that reads "
                  "requests then runs as an unprivileged user.");
        return 1;
    }
    umask(022);
    int result = open_service(&s, o, &err);
    if (result == 0) {
        log_info("thawd %s: data in %s, %s", THAW_VERSION, o->data_dir, sandbox_host_cgroups_text(s.host));
        log_address(s.listen_fd);
        result = run_service(&s, o, argv, &err);
    }
    if (result < 0)
        log_error("%s", err.text);
    service_close(&s);
    return result < 0;
}
