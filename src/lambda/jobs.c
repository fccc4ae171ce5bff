/* Children that unpack packages and remove them. A package's bytes never reach a parser inside the front: the
 * child decodes, hashes, checks and unpacks, with no rights but to DATA/code, and answers with one
 * struct package_result through a pipe. At most LAMBDA_CHILDREN_MAX unpack at once, the rest waits.
 *
 * Removal: a version that changed or was deleted may still serve an invocation that reads from its package.
 * So a package is doomed first; after LAMBDA_CODE_GRACE_MS it is looked at again, renamed when no version
 * runs it, and a child removes it. A package is never removed while one is being unpacked: its digest may be
 * the same. */
#include "lambda/internal.h"

#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <locale.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define RETRY_NS 1000000000u

struct child {
    struct child *next;
    struct lambda_api *api;
    pid_t pid;
    int fd; /* the child's answer */
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct package_result result;
    size_t got;
    struct job *job; /* NULL for a removal */
};

struct doomed_code {
    struct doomed_code *next;
    char id[CATALOG_FUNCTION_CODE_HEX + 1];
    uint64_t at_ns;
};

static void start_waiting(struct lambda_api *api);

/* --- in the child ------------------------------------------------------------------------------------- */

enum { CHILD_CODE_FD = 3, CHILD_REPORT_FD = 4 };

#if defined __x86_64__
#define AUDIT_ARCH_HERE AUDIT_ARCH_X86_64
#else
#define AUDIT_ARCH_HERE AUDIT_ARCH_AARCH64
#endif
#define DENY(name) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (name), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/* No other programs, no sockets, no looking at other processes: libarchive needs none of it. */
static int confine_calls(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_HERE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef __x86_64__
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), /* x32 */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        DENY(SYS_fork),
        DENY(SYS_vfork),
#endif
        DENY(SYS_execve),
        DENY(SYS_execveat),
        DENY(SYS_clone),
        DENY(SYS_clone3),
        DENY(SYS_socket),
        DENY(SYS_socketpair),
        DENY(SYS_connect),
        DENY(SYS_ptrace),
        DENY(SYS_process_vm_readv),
        DENY(SYS_process_vm_writev),
        DENY(SYS_pidfd_getfd),
        DENY(SYS_open_by_handle_at),
        DENY(SYS_mount),
        DENY(SYS_unshare),
        DENY(SYS_setns),
        DENY(SYS_bpf),
        DENY(SYS_io_uring_setup),
        DENY(SYS_kill),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {countof(filter), filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Files only below DATA/code. A kernel without landlock leaves the other walls standing. */
static void confine_files(void)
{
    struct landlock_ruleset_attr rules = {
        .handled_access_fs =
            LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
            LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
            LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
            LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
            LANDLOCK_ACCESS_FS_MAKE_SYM};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (ruleset < 0)
        return;
    struct landlock_path_beneath_attr below = {.parent_fd = CHILD_CODE_FD,
        .allowed_access = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                          LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                          LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                          LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SYM};
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &below, 0) == 0)
        syscall(SYS_landlock_restrict_self, ruleset, 0);
    close(ruleset);
}

static int confine(void)
{
    struct rlimit cpu = {LAMBDA_CHILD_SECONDS, LAMBDA_CHILD_SECONDS}, none = {0, 0}, files = {64, 64};
    /* Names in a zip are UTF-8; libarchive asks the locale. Its file must be read before the walls go up. */
    setlocale(LC_CTYPE, "C.UTF-8");
    umask(0022);
    if (close_range(CHILD_REPORT_FD + 1, ~0u, 0) != 0 || setrlimit(RLIMIT_CPU, &cpu) != 0 ||
        setrlimit(RLIMIT_CORE, &none) != 0 || setrlimit(RLIMIT_NOFILE, &files) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    confine_files();
    return confine_calls();
}

/* Names, each with its NUL. */
static void remove_names(struct bytes names, struct package_result *result)
{
    *result = (struct package_result){.verdict = PACKAGE_OK};
    for (size_t i = 0; i < names.len; i += strlen((const char *)names.data + i) + 1) {
        struct error err;
        if (package_remove_tree(CHILD_CODE_FD, (const char *)names.data + i, &err) != 0) {
            result->verdict = PACKAGE_FAILED;
            snprintf(result->why, sizeof result->why, "%.200s", err.text);
        }
    }
}

static _Noreturn void child_main(
    pid_t parent, int code_fd, int report_fd, const struct job *job, struct bytes names)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Above the two numbers they get, so that neither overwrites the other. */
    int code = fcntl(code_fd, F_DUPFD, 10), report = fcntl(report_fd, F_DUPFD, 10);
    if (getppid() != parent || dup2(code, CHILD_CODE_FD) < 0 || dup2(report, CHILD_REPORT_FD) < 0)
        _exit(1);
    struct package_result result;
    if (confine() != 0)
        result =
            (struct package_result){.verdict = PACKAGE_FAILED, .why = "a child could not drop its rights"};
    else if (job != NULL)
        package_install(CHILD_CODE_FD, job->base64, job->temp, job->keep, &result);
    else
        remove_names(names, &result);
    struct error err;
    _exit(fd_write_all(CHILD_REPORT_FD, &result, sizeof result, &err) == 0 ? 0 : 1);
}

/* --- in the front ------------------------------------------------------------------------------------- */

static void warn(struct lambda_api *api, const char *format, const char *detail)
{
    struct error err;
    error_set(&err, ERROR_SYSTEM, format, detail);
    if (api->warn != NULL)
        api->warn(api->warn_context, &err);
}

static void child_free(struct child *child)
{
    for (struct child **at = &child->api->children; *at != NULL; at = &(*at)->next)
        if (*at == child) {
            *at = child->next;
            break;
        }
    loop_unwatch(&child->watch);
    loop_timer_cancel(&child->timer);
    fd_close(&child->fd);
    /* It has ended or is ending: its last act was to close the pipe. */
    kill(child->pid, SIGKILL);
    while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    free(child);
}

static bool child_start(struct lambda_api *api, struct job *job, struct bytes names, struct error *err);

/* What a child that died may have left of its package. */
static void remove_rest(struct lambda_api *api, const char *temp)
{
    CLEANUP_BUFFER struct buffer names = {0};
    CLEANUP_FREE char *zip = xasprintf("%s.zip", temp);
    struct error err;
    buffer_append(&names, temp, strlen(temp) + 1);
    buffer_append(&names, zip, strlen(zip) + 1);
    if (!child_start(api, NULL, (struct bytes){names.data, names.len}, &err))
        warn(api, "packages could not be removed: %s", err.text);
}

static void job_finish(struct lambda_api *api, struct job *job, const struct package_result *result)
{
    for (struct job **at = &api->jobs; *at != NULL; at = &(*at)->next)
        if (*at == job) {
            *at = job->next;
            break;
        }
    job->done(job, result);
    job_free(job);
}

static void child_ended(struct child *child)
{
    struct lambda_api *api = child->api;
    struct job *job = child->job;
    struct package_result result = child->result;
    if (child->got < sizeof result) {
        result = (struct package_result){
            .verdict = PACKAGE_FAILED, .why = "the process that unpacks packages died or took too long"};
        if (job != NULL)
            remove_rest(api, job->temp);
    }
    child_free(child);
    if (job != NULL)
        job_finish(api, job, &result);
    else if (result.verdict != PACKAGE_OK)
        warn(api, "packages could not be removed: %s", result.why);
    start_waiting(api);
}

static void child_readable(void *context, uint32_t events)
{
    struct child *child = context;
    (void)events;
    ssize_t got = read(child->fd, (char *)&child->result + child->got, sizeof child->result - child->got);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got > 0 && (child->got += (size_t)got) < sizeof child->result)
        return;
    child_ended(child);
}

static void child_too_slow(void *context)
{
    struct child *child = context;
    child->got = 0;
    child_ended(child);
}

static bool child_start(struct lambda_api *api, struct job *job, struct bytes names, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return error_system(err, "pipe"), false;
    CLEANUP_FD int reading = ends[0];
    CLEANUP_FD int writing = ends[1];
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return error_system(err, "fork"), false;
    if (pid == 0)
        child_main(parent, api->code_fd, writing, job, names);
    struct child *child = xcalloc(1, sizeof *child);
    *child =
        (struct child){.next = api->children, .api = api, .pid = pid, .fd = fd_steal(&reading), .job = job};
    api->children = child;
    child->watch = loop_watch_fd(api->loop, child->fd, EPOLLIN, child_readable, child, err);
    if (child->watch == NULL) {
        child_free(child);
        return false;
    }
    loop_timer_set(api->loop, &child->timer, clock_monotonic_ns() + LAMBDA_CHILD_SECONDS * 1000000000ull,
        child_too_slow, child);
    return true;
}

static size_t unpacking_count(const struct lambda_api *api)
{
    size_t count = 0;
    for (const struct child *c = api->children; c != NULL; c = c->next)
        count += c->job != NULL;
    return count;
}

static void start_waiting(struct lambda_api *api)
{
    struct job *job = api->jobs;
    while (job != NULL && unpacking_count(api) < LAMBDA_CHILDREN_MAX) {
        struct job *next = job->next;
        struct error err;
        if (!job->started) {
            job->started = true;
            if (!child_start(api, job, (struct bytes){NULL, 0}, &err)) {
                struct package_result result = {.verdict = PACKAGE_FAILED};
                snprintf(result.why, sizeof result.why, "%.200s", err.text);
                job_finish(api, job, &result);
                next = api->jobs;
            }
        }
        job = next;
    }
}

void job_free(struct job *job)
{
    call_unref(job->call);
    free(job->own_base64);
    if (job->context_free != NULL)
        job->context_free(job->context);
    free(job);
}

void job_submit(struct lambda_api *api, struct job *job)
{
    struct job **at = &api->jobs;
    size_t count = 0;
    for (; *at != NULL; at = &(*at)->next)
        count++;
    if (count >= LAMBDA_JOBS_MAX) {
        reply_throttled(job->call, NULL, "Too many packages are being unpacked: try again");
        job_free(job);
        return;
    }
    char id[LAMBDA_REQUEST_ID];
    lambda_make_request_id(id);
    snprintf(job->temp, sizeof job->temp, "tmp-%.35s", id);
    *at = job;
    start_waiting(api);
}

/* The client left. What waits still has lost its bytes with the client and is dropped; what runs goes on. */
void jobs_forget_exchange(struct lambda_api *api, struct call *call)
{
    for (struct job **at = &api->jobs; *at != NULL; at = &(*at)->next) {
        struct job *job = *at;
        if (job->call != call)
            continue;
        if (!job->started) {
            *at = job->next;
            job_free(job);
        }
        return;
    }
}

bool job_in_progress(const struct lambda_api *api, const char *function_name)
{
    for (const struct job *job = api->jobs; job != NULL; job = job->next)
        if (strcmp(job->name, function_name) == 0)
            return true;
    return false;
}

bool job_refuses(struct call *call, const char *function_name)
{
    if (!job_in_progress(call->api, function_name))
        return false;
    reply_error(call, 409, "ResourceConflictException",
        "The operation cannot be performed at this time. An update is in progress for resource: "
        "arn:aws:lambda:%s:%s:function:%s",
        catalog_region(call->api->catalog), catalog_account_id(call->api->catalog), function_name);
    return true;
}

/* --- removal ------------------------------------------------------------------------------------------ */

/* Out of sight at once, by a rename; the bytes go later. False: nothing is there. */
static bool hide_code(struct lambda_api *api, const char *code_id, char hidden[PACKAGE_TEMP_NAME])
{
    char id[LAMBDA_REQUEST_ID];
    CLEANUP_FREE char *zip = xasprintf("%s.zip", code_id);
    lambda_make_request_id(id);
    snprintf(hidden, PACKAGE_TEMP_NAME, "gone-%.34s", id);
    bool renamed = renameat(api->code_fd, code_id, api->code_fd, hidden) == 0;
    unlinkat(api->code_fd, zip, 0);
    return renamed;
}

static void look_at_doomed(void *context);

static void set_doom_timer(struct lambda_api *api, uint64_t at_ns)
{
    if (api->doomed != NULL && api->doom_timer == NULL)
        loop_timer_set(api->loop, &api->doom_timer, at_ns, look_at_doomed, api);
}

static void look_at_doomed(void *context)
{
    struct lambda_api *api = context;
    uint64_t now = clock_monotonic_ns();
    if (api->jobs != NULL) { /* a package being unpacked may be one of these */
        set_doom_timer(api, now + RETRY_NS);
        return;
    }
    CLEANUP_BUFFER struct buffer names = {0};
    while (api->doomed != NULL && api->doomed->at_ns <= now) {
        struct doomed_code *code = api->doomed;
        char hidden[PACKAGE_TEMP_NAME];
        bool used = true;
        struct error err;
        if (catalog_code_used(api->catalog, code->id, &used, &err) != 0)
            warn(api, "a package may be left over: %s", err.text);
        if (!used && hide_code(api, code->id, hidden))
            buffer_append(&names, hidden, strlen(hidden) + 1);
        api->doomed = code->next;
        free(code);
    }
    struct error err;
    if (names.len > 0 && !child_start(api, NULL, (struct bytes){names.data, names.len}, &err))
        warn(api, "packages could not be removed: %s", err.text);
    if (api->doomed != NULL)
        set_doom_timer(api, api->doomed->at_ns);
}

void code_doom(struct lambda_api *api, const char *code_id)
{
    struct doomed_code **at = &api->doomed;
    while (*at != NULL)
        at = &(*at)->next;
    struct doomed_code *code = xcalloc(1, sizeof *code);
    snprintf(code->id, sizeof code->id, "%s", code_id);
    code->at_ns = clock_monotonic_ns() + (uint64_t)api->code_grace_ms * 1000000u;
    *at = code;
    set_doom_timer(api, code->at_ns);
}

static int sweep_entry(struct lambda_api *api, const char *name, struct buffer *names, struct error *err)
{
    char id[CATALOG_FUNCTION_CODE_HEX + 1] = "", hidden[PACKAGE_TEMP_NAME];
    uint8_t digest[CATALOG_FUNCTION_CODE_HEX / 2];
    if (strncmp(name, "tmp-", 4) == 0 || strncmp(name, "gone-", 5) == 0) {
        buffer_append(names, name, strlen(name) + 1);
        return 0;
    }
    size_t len = strlen(name);
    bool is_zip =
        len == CATALOG_FUNCTION_CODE_HEX + 4 && strcmp(name + CATALOG_FUNCTION_CODE_HEX, ".zip") == 0;
    memcpy(id, name, len < CATALOG_FUNCTION_CODE_HEX ? len : CATALOG_FUNCTION_CODE_HEX);
    if ((len != CATALOG_FUNCTION_CODE_HEX && !is_zip) || !hex_decode(digest, sizeof digest, id))
        return 0; /* not ours */
    bool used;
    if (catalog_code_used(api->catalog, id, &used, err) != 0)
        return -1;
    if (!used && hide_code(api, id, hidden))
        buffer_append(names, hidden, strlen(hidden) + 1);
    return 0;
}

int code_sweep(struct lambda_api *api, struct error *err)
{
    CLEANUP_FD int fd = openat(api->code_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL)
        return error_system(err, "reading the folder of packages");
    fd_steal(&fd);
    CLEANUP_BUFFER struct buffer names = {0};
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(dir)) != NULL;)
        result = sweep_entry(api, entry->d_name, &names, err);
    closedir(dir);
    if (result == 0 && names.len > 0 && !child_start(api, NULL, (struct bytes){names.data, names.len}, err))
        return -1;
    return result;
}

void jobs_end(struct lambda_api *api)
{
    while (api->children != NULL) {
        struct child *child = api->children;
        api->children = child->next;
        child_free(child);
    }
    while (api->jobs != NULL) {
        struct job *job = api->jobs;
        api->jobs = job->next;
        job_free(job);
    }
    loop_timer_cancel(&api->doom_timer);
    while (api->doomed != NULL) {
        struct doomed_code *code = api->doomed;
        api->doomed = code->next;
        free(code);
    }
}
