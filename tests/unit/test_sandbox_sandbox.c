/* Real sandboxes, so this needs root. The checks from inside are this same program, copied into the code
 * folder and run as /var/task/inside CHECK. */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "sandbox/filter.h"
#include "sandbox/sandbox.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* ---- inside ---- */

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "inside, line %d: not so: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
            return 1; \
        } \
    } while (0)

static bool status_line_is(const char *start, const char *value)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    bool same = false;
    while (status && fgets(line, sizeof line, status))
        if (strncmp(line, start, strlen(start)) == 0)
            same = strncmp(line + strlen(start), value, strlen(value)) == 0;
    if (status)
        fclose(status);
    return same;
}

static int inside_rights(void)
{
    uid_t r, e, s;
    NEED(getresuid(&r, &e, &s) == 0 && r == SANDBOX_UID && e == SANDBOX_UID && s == SANDBOX_UID);
    NEED(getresgid(&r, &e, &s) == 0 && r == SANDBOX_GID && e == SANDBOX_GID && s == SANDBOX_GID);
    NEED(getgroups(0, NULL) == 0);
    NEED(setuid(0) < 0 && errno == EPERM);
    NEED(status_line_is("CapInh:\t", "0000000000000000"));
    NEED(status_line_is("CapPrm:\t", "0000000000000000"));
    NEED(status_line_is("CapEff:\t", "0000000000000000"));
    NEED(status_line_is("CapBnd:\t", "0000000000000000"));
    NEED(status_line_is("CapAmb:\t", "0000000000000000"));
    NEED(status_line_is("NoNewPrivs:\t", "1"));
    NEED(status_line_is("Seccomp:\t", "2"));
    NEED(status_line_is("SigBlk:\t", "0000000000000000"));
    NEED(status_line_is("SigIgn:\t", "0000000000000000"));
    NEED(prctl(PR_GET_DUMPABLE) == 1);
    NEED(umask(0) == 022);
    struct rlimit limit;
    NEED(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max <= LIMIT_FUNCTION_FDS);
    NEED(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
    NEED(kill(1, SIGKILL) < 0 && errno == EPERM);
    return 0;
}

static int inside_files(void)
{
    char path[256];
    NEED(getcwd(path, sizeof path) && strcmp(path, SANDBOX_CODE_PATH) == 0);
    NEED(open("/usr/x", O_WRONLY | O_CREAT, 0600) < 0);
    NEED(open("/x", O_WRONLY | O_CREAT, 0600) < 0 && (errno == EROFS || errno == EACCES));
    NEED(open("/var/task/x", O_WRONLY | O_CREAT, 0600) < 0 && errno == EROFS);
    NEED(open("/etc/passwd", O_WRONLY) < 0);
    NEED(access("/etc/shadow", F_OK) < 0 && errno == ENOENT);
    NEED(access("/root", F_OK) < 0 && access("/sys/kernel", F_OK) < 0 && access("/dev/shm", F_OK) < 0);
    NEED(access("/bin/sh", X_OK) == 0 && access("/var/runtime/bootstrap-here", R_OK) == 0);
    NEED(open("/dev/null", O_RDWR) >= 0 && open("/dev/urandom", O_RDONLY) >= 0);
    NEED(mknod("/tmp/device", S_IFCHR | 0600, 0x103) < 0);
    NEED(access("/dev/fd/0", F_OK) == 0);
    struct stat about;
    NEED(stat("/proc/self/fd/0", &about) == 0 && S_ISCHR(about.st_mode));
    NEED(lstat("/tmp", &about) == 0 && (about.st_mode & 07777) == 01777);
    return 0;
}

static int inside_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int open_count = 0;
    NEED(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        open_count += entry->d_name[0] != '.';
    NEED(open_count == 4); /* 0, 1, 2 and the one that lists */
    NEED(closedir(dir) == 0);
    return 0;
}

static int inside_tmp(const char *megabytes)
{
    struct statvfs about;
    NEED(statvfs("/tmp", &about) == 0);
    NEED(about.f_blocks * about.f_frsize == strtoull(megabytes, NULL, 10) << 20);
    NEED((about.f_flag & (ST_NOSUID | ST_NODEV)) == (ST_NOSUID | ST_NODEV));
    int fd = open("/tmp/file", O_RDWR | O_CREAT, 0600);
    NEED(fd >= 0 && write(fd, "text", 4) == 4);
    /* Sparse, so that it is the size limit and not the memory limit that is met. */
    NEED(fallocate(fd, 0, 0, (off_t)(about.f_blocks * about.f_frsize + 1)) < 0 && errno == ENOSPC);
    return 0;
}

static int inside_namespaces(void)
{
    NEED(getpid() == 2 && getppid() == 0 && getsid(0) == 2);
    int numbers = 0;
    DIR *dir = opendir("/proc");
    NEED(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        numbers += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
    closedir(dir);
    NEED(numbers == 2);
    struct ifaddrs *list;
    NEED(getifaddrs(&list) == 0);
    for (struct ifaddrs *at = list; at; at = at->ifa_next)
        NEED(strcmp(at->ifa_name, "lo") == 0);
    freeifaddrs(list);
    struct utsname name;
    NEED(uname(&name) == 0 && strncmp(name.nodename, "169-254-", 8) == 0);
    CLEANUP_BUFFER struct buffer groups = {0};
    NEED(file_read(AT_FDCWD, "/proc/self/cgroup", &groups, 4096, NULL) == 0);
    buffer_append_u8(&groups, 0);
    NEED(strstr((char *)groups.data, "memory:/\n") || strstr((char *)groups.data, "0::/\n"));
    NEED(!strstr((char *)groups.data, "thaw-"));
    char ours[64], init[64];
    NEED(readlink("/proc/self/ns/time", ours, sizeof ours) > 0);
    NEED(readlink("/proc/self/ns/time_for_children", init, sizeof init) > 0);
    NEED(strncmp(ours, init, 17) == 0);
    NEED(strncmp(ours, getenv("OUTER_TIME"), strlen(getenv("OUTER_TIME"))) != 0);
    return 0;
}

static int inside_connect(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons(SANDBOX_API_PORT),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    NEED(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    NEED(write(fd, "hello", 5) == 5);
    address.sin_addr.s_addr = htonl(0x08080808);
    int out = socket(AF_INET, SOCK_STREAM, 0);
    NEED(connect(out, (struct sockaddr *)&address, sizeof address) < 0 && errno == ENETUNREACH);
    return 0;
}

static int inside_calls(void)
{
    NEED(syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
    NEED(syscall(425 /* io_uring_setup */, 1, NULL) < 0 && errno == ENOSYS);
    NEED(syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0 && errno == ENOSYS);
    NEED(pkey_alloc(0, 0) < 0 && errno == ENOSYS);
    NEED(syscall(999) < 0 && errno == ENOSYS);
    NEED(syscall(SYS_setns, 0, 0) < 0 && errno == EPERM);
    NEED(syscall(SYS_unshare, CLONE_NEWUSER) < 0 && errno == EPERM);
    NEED(syscall(SYS_move_mount, 0, "", 0, "", 0) < 0 && errno == EPERM);
    NEED(syscall(SYS_mount, "a", "b", "c", 0, NULL) < 0 && errno == EPERM);
    NEED(syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == EPERM);
    NEED(syscall(SYS_userfaultfd, 0) < 0 && errno == EPERM);
    NEED(ptrace(PTRACE_TRACEME, 0, 0, 0) < 0 && errno == EPERM);
    NEED(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) < 0 && errno == EPERM);
    NEED(syscall(SYS_clone, CLONE_NEWNET | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0) < 0 && errno == EPERM);
    NEED(personality(0xffffffff) == 0);
    NEED(personality(ADDR_NO_RANDOMIZE) < 0);
    NEED(socket(AF_VSOCK, SOCK_STREAM, 0) < 0);
    NEED(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    int status;
    NEED(child > 0 && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    return 0;
}

static int inside_eat_memory(void)
{
    for (size_t eaten = 0; eaten < 1000; eaten++) {
        char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (more == MAP_FAILED)
            return 2;
        memset(more, 1, 1 << 20);
    }
    return 0;
}

static int inside_fork_bomb(void)
{
    int forked = 0;
    for (forked = 0; forked < 3 * LIMIT_FUNCTION_PIDS; forked++) {
        pid_t pid = fork();
        if (pid == 0)
            for (;;)
                pause();
        if (pid < 0)
            break;
    }
    NEED(errno == EAGAIN && forked <= LIMIT_FUNCTION_PIDS && forked > LIMIT_FUNCTION_PIDS / 2);
    return 0;
}

static int inside_orphans(void)
{
    for (int i = 0; i < 20; i++) {
        if (fork() == 0) {
            if (fork() == 0)
                _exit(0); /* its parent is gone, or soon will be */
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
    for (int tries = 0; tries < 2000; tries++) {
        int numbers = 0;
        DIR *dir = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(dir));)
            numbers += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
        closedir(dir);
        if (numbers == 2)
            return 0;
        usleep(1000);
    }
    return 1;
}

static int inside(int argc, char **argv)
{
    const char *check = argv[1];
    setvbuf(stdout, NULL, _IONBF, 0);
    if (strcmp(check, "rights") == 0)
        return inside_rights();
    if (strcmp(check, "files") == 0)
        return inside_files();
    if (strcmp(check, "descriptors") == 0)
        return inside_descriptors();
    if (strcmp(check, "tmp") == 0)
        return inside_tmp(argc > 2 ? argv[2] : "0");
    if (strcmp(check, "namespaces") == 0)
        return inside_namespaces();
    if (strcmp(check, "connect") == 0)
        return inside_connect();
    if (strcmp(check, "calls") == 0)
        return inside_calls();
    if (strcmp(check, "eat-memory") == 0)
        return inside_eat_memory();
    if (strcmp(check, "fork-bomb") == 0)
        return inside_fork_bomb();
    if (strcmp(check, "orphans") == 0)
        return inside_orphans();
    if (strcmp(check, "sleep") == 0)
        for (;;)
            pause();
    return 99;
}

/* ---- outside ---- */

static struct sandbox_host *host;
static char folder[] = "/tmp/thaw-test-sandbox-XXXXXX";
static char outer_time[128] = "OUTER_TIME=";

static void must(int result, const struct error *err)
{
    if (result < 0)
        fail_msg("%s", err->text);
}

static struct sandbox_host *open_host(void)
{
    struct error err = {0};
    char runtimes[64];
    snprintf(runtimes, sizeof runtimes, "%s/runtimes", folder);
    struct sandbox_host *opened =
        sandbox_host_open(&(struct sandbox_host_options){.runtimes_dir = runtimes}, &err);
    must(opened ? 0 : -1, &err);
    return opened;
}

static struct sandbox *prepare(void)
{
    struct error err = {0};
    struct sandbox *sb = sandbox_prepare(host, &err);
    must(sb ? 0 : -1, &err);
    return sb;
}

static int code_tree(void)
{
    struct error err = {0};
    char path[64];
    snprintf(path, sizeof path, "%s/code", folder);
    CLEANUP_FD int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int tree = sandbox_code_tree(host, dir, &err);
    must(tree, &err);
    return tree;
}

struct run {
    pid_t pid;
    int pidfd, log;
};

static struct run start(struct sandbox *sb, const char *check, const char *argument)
{
    struct error err = {0};
    struct run run;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    CLEANUP_FD int tree = code_tree();
    const char *argv[] = {"/var/task/inside", check, argument, NULL};
    const char *env[] = {"PATH=/usr/bin:/bin", outer_time, NULL};
    struct sandbox_command command = {.argv = argv, .env = env, .code_tree_fd = tree, .log_fd = ends[1]};
    must(sandbox_spawn(sb, &command, &run.pid, &run.pidfd, &err), &err);
    close(ends[1]);
    run.log = ends[0];
    return run;
}

static int finish(struct run *run)
{
    int status;
    char text[512] = "";
    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    fcntl(run->log, F_SETFL, O_NONBLOCK);
    ssize_t len = read(run->log, text, sizeof text - 1);
    if (len > 0)
        print_error("%s", text);
    close(run->pidfd);
    close(run->log);
    return status;
}

static void wait_until_gone(void)
{
    for (int tries = 0; tries < 5000 && sandbox_host_tick(host) > 0; tries++)
        usleep(1000);
    assert_int_equal(sandbox_host_tick(host), 0);
}

static void check_inside(const char *check)
{
    struct sandbox *sb = prepare();
    struct run run = start(sb, check, NULL);
    int status = finish(&run);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_false(sandbox_oom_killed(sb));
    sandbox_kill_and_free(&sb);
    assert_null(sb);
    wait_until_gone();
}

static void test_rights(void **state)
{
    (void)state;
    check_inside("rights");
}

static void test_files(void **state)
{
    (void)state;
    check_inside("files");
}

static void test_descriptors(void **state)
{
    (void)state;
    check_inside("descriptors");
}

static void test_namespaces(void **state)
{
    (void)state;
    check_inside("namespaces");
}

static void test_calls(void **state)
{
    (void)state;
    check_inside("calls");
}

static void test_orphans(void **state)
{
    (void)state;
    check_inside("orphans");
}

static void test_fork_bomb(void **state)
{
    (void)state;
    struct error err = {0};
    struct sandbox *sb = prepare();
    must(sandbox_assign(sb, 1024, 512, &err), &err);
    struct run run = start(sb, "fork-bomb", NULL);
    int status = finish(&run);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    sandbox_kill_and_free(&sb);
    wait_until_gone();
}

static void test_tmp_size(void **state)
{
    (void)state;
    struct error err = {0};
    static const uint32_t sizes[] = {512, 1500};
    static const char *const words[] = {"512", "1500"};
    for (size_t i = 0; i < countof(sizes); i++) {
        struct sandbox *sb = prepare();
        must(sandbox_assign(sb, 128, sizes[i], &err), &err);
        struct run run = start(sb, "tmp", words[i]);
        assert_int_equal(finish(&run), 0);
        sandbox_kill_and_free(&sb);
    }
    wait_until_gone();
}

static void test_listener(void **state)
{
    (void)state;
    struct sandbox *sb = prepare(), *other = prepare();
    struct run run = start(sb, "connect", NULL);
    assert_int_equal(finish(&run), 0);
    char text[16] = "";
    assert_int_equal(accept4(sandbox_listener_fd(other), NULL, NULL, 0), -1); /* its own network */
    CLEANUP_FD int fd = accept4(sandbox_listener_fd(sb), NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof text), 5);
    assert_string_equal(text, "hello");
    sandbox_kill_and_free(&sb);
    sandbox_kill_and_free(&other);
    wait_until_gone();
}

static void test_memory_limit(void **state)
{
    (void)state;
    struct error err = {0};
    char text[32] = "";
    struct sandbox *sb = prepare();
    must(sandbox_assign(sb, 192, 512, &err), &err);
    CLEANUP_FD int peak = sandbox_open_peak_memory(sb, &err);
    must(peak, &err);
    assert_true(pread(peak, text, sizeof text - 1, 0) > 0);
    assert_true(strtoull(text, NULL, 10) < 2u << 20); /* a blank sandbox costs the function nothing much */
    assert_false(sandbox_oom_killed(sb));
    struct run run = start(sb, "eat-memory", NULL);
    int status = finish(&run);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(sandbox_oom_killed(sb));
    assert_true(pread(peak, text, sizeof text - 1, 0) > 0);
    assert_in_range(strtoull(text, NULL, 10), 150u << 20, 192u << 20);
    sandbox_kill_and_free(&sb);
    wait_until_gone();
    assert_int_equal(sandbox_assign(sb = prepare(), 100, 512, &err), -1);
    assert_int_equal(sandbox_assign(sb, 128, 100000, &err), -1);
    must(sandbox_assign(sb, 10240, 512, &err), &err);
    must(sandbox_assign(sb, 128, 512, &err), &err);
    sandbox_kill_and_free(&sb);
    wait_until_gone();
}

static void test_exec_failure(void **state)
{
    (void)state;
    struct sandbox *sb = prepare();
    const char *argv[] = {"/var/task/nothing", NULL}, *env[] = {NULL};
    struct sandbox_command command = {.argv = argv, .env = env, .code_tree_fd = code_tree(), .log_fd = 1};
    struct error err = {0};
    pid_t pid;
    int pidfd;
    assert_int_equal(sandbox_spawn(sb, &command, &pid, &pidfd, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_int_equal(err.errno_value, ENOENT);
    assert_string_equal(err.text, "cannot run /var/task/nothing: No such file or directory");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie, and init is not to be seen */
    close(command.code_tree_fd);
    sandbox_kill_and_free(&sb);
    wait_until_gone();
}

static int count_folders(const char *parent, const char *prefix)
{
    DIR *dir = opendir(parent);
    int count = 0;
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    if (dir)
        closedir(dir);
    return count;
}

/* Folders of daemons of this process id, in every hierarchy. */
static int count_cgroups(pid_t daemon)
{
    static const char *const parents[] = {
        "/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids"};
    struct stat namespace;
    char prefix[96];
    assert_int_equal(stat("/proc/self/ns/pid", &namespace), 0);
    snprintf(prefix, sizeof prefix, "thaw-%lu-%d-", namespace.st_ino, daemon);
    int count = 0;
    for (size_t i = 0; i < countof(parents); i++)
        count += count_folders(parents[i], prefix);
    return count;
}

static void test_nothing_left_over(void **state)
{
    (void)state;
    int fds_before = count_folders("/proc/self/fd", "");
    struct sandbox *sb = prepare();
    struct run run = start(sb, "sleep", NULL);
    pid_t init = sandbox_init_pid(sb);
    assert_int_equal(kill(init, 0), 0);
    sandbox_kill_and_free(&sb);
    int status;
    assert_int_equal(waitpid(run.pid, &status, 0), run.pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(run.pidfd);
    close(run.log);
    wait_until_gone();
    assert_true(kill(init, 0) < 0 && errno == ESRCH);
    assert_int_equal(count_folders("/proc/self/fd", ""), fds_before);
    CLEANUP_BUFFER struct buffer mounts = {0};
    struct error err = {0};
    must(file_read(AT_FDCWD, "/proc/self/mounts", &mounts, 1 << 20, &err), &err);
    buffer_append_u8(&mounts, 0);
    assert_null(strstr((char *)mounts.data, "thaw-root"));
    assert_null(strstr((char *)mounts.data, folder));
}

/* A daemon that is killed with kill -9 takes its sandboxes along; the next one removes its cgroups. */
static void test_killed_daemon(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t daemon = fork();
    if (daemon == 0) {
        struct sandbox_host *own = open_host();
        struct sandbox *sb = sandbox_prepare(own, NULL);
        struct sandbox_host *saved = host;
        host = own;
        struct run run = start(sb, "sleep", NULL);
        host = saved;
        pid_t pids[2] = {sandbox_init_pid(sb), run.pid};
        _exit(write(ends[1], pids, sizeof pids) == sizeof pids && pause() ? 0 : 1);
    }
    close(ends[1]);
    pid_t pids[2];
    assert_int_equal(read(ends[0], pids, sizeof pids), sizeof pids);
    assert_true(count_cgroups(daemon) > 0);
    assert_int_equal(kill(daemon, SIGKILL), 0);
    assert_int_equal(waitpid(daemon, NULL, 0), daemon);
    /* The read end of the pipe shows nothing, but both processes are on their way out. */
    for (int tries = 0; tries < 5000 && (kill(pids[0], 0) == 0 || kill(pids[1], 0) == 0); tries++)
        usleep(1000);
    assert_int_equal(kill(pids[0], 0), -1);
    assert_int_equal(kill(pids[1], 0), -1);
    sandbox_host_close(open_host());
    assert_int_equal(count_cgroups(daemon), 0);
    close(ends[0]);
}

/* Many at once, prepared without waiting for each. */
static void test_prepare_beside(void **state)
{
    (void)state;
    struct error err = {0};
    struct sandbox *many[16];
    for (size_t i = 0; i < countof(many); i++)
        must((many[i] = sandbox_prepare_begin(host, &err)) ? 0 : -1, &err);
    for (size_t i = 0; i < countof(many); i++) {
        struct pollfd ready = {.fd = sandbox_ready_fd(many[i]), .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 10000), 1);
        must(sandbox_prepare_finish(many[i], &err), &err);
        assert_true(sandbox_listener_fd(many[i]) >= 0);
    }
    /* One that is given up before it is ready. */
    struct sandbox *given_up = sandbox_prepare_begin(host, &err);
    sandbox_kill_and_free(&given_up);
    for (size_t i = 0; i < countof(many); i++)
        sandbox_kill_and_free(&many[i]);
    wait_until_gone();
}

/* template + clone refuse what full refuses. Tried on this machine's kernel, outside of any sandbox. */
static void test_filter_pair(void **state)
{
    (void)state;
    struct error err = {0};
    const struct sock_fprog *template = sandbox_filter_template(&err), *clone = sandbox_filter_clone();
    must(template ? 0 : -1, &err);
    assert_true(clone->len <= 10);
    assert_true(sandbox_filter_early_clone()->len <= 20);
    pid_t child = fork();
    if (child == 0) {
        bool fine = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_seccomp, 1, 0, template) == 0;
        fine = fine && syscall(SYS_clone3, NULL, 0) < 0 && errno == EINVAL;
        fine = fine && syscall(SYS_setns, -1, 0) < 0 && errno == EBADF;
        fine = fine && syscall(SYS_unshare, CLONE_NEWNS) < 0 && errno == EPERM;
        fine = fine && syscall(SYS_pidfd_getfd, -1, 0, 0) < 0 && errno == EBADF;
        fine = fine && syscall(SYS_io_uring_register, 1 << 20, 0, NULL, 0) < 0 && errno == EBADF;
        fine = fine && syscall(SYS_seccomp, 1, 0, clone) == 0;
        fine = fine && syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS;
        fine = fine && syscall(SYS_setns, -1, 0) < 0 && errno == EPERM;
        fine = fine && syscall(SYS_move_mount, -1, "", -1, "", 0) < 0 && errno == EPERM;
        fine = fine && syscall(SYS_pidfd_getfd, -1, 0, 0) < 0 && errno == EPERM;
        fine = fine && syscall(SYS_io_uring_register, 1 << 20, 0, NULL, 0) < 0 && errno == ENOSYS;
        fine = fine && syscall(SYS_pidfd_open, -1, 0) < 0 && errno == EINVAL;
        fine = fine && getpid() > 0;
        _exit(fine ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static int set_up(void **state)
{
    (void)state;
    char path[128];
    if (!mkdtemp(folder) || chmod(folder, 0755) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/code", folder);
    if (mkdir(path, 0755) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/runtimes", folder);
    if (mkdir(path, 0755) < 0)
        return -1;
    snprintf(path, sizeof path, "%s/runtimes/bootstrap-here", folder);
    if (file_write_atomic(AT_FDCWD, path, "", 0, 0644, NULL) < 0)
        return -1;
    CLEANUP_BUFFER struct buffer program = {0};
    snprintf(path, sizeof path, "%s/code/inside", folder);
    if (file_read(AT_FDCWD, "/proc/self/exe", &program, 64u << 20, NULL) < 0 ||
        file_write_atomic(AT_FDCWD, path, program.data, program.len, 0755, NULL) < 0)
        return -1;
    if (readlink("/proc/self/ns/time", outer_time + strlen(outer_time), 64) < 0)
        return -1;
    host = open_host();
    print_message("sandboxes use %s\n", sandbox_host_cgroups_text(host));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    static const char *const paths[] = {"code/inside", "runtimes/bootstrap-here", "code", "runtimes", ""};
    sandbox_host_close(host);
    for (size_t i = 0; i < countof(paths); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, paths[i]);
        if (remove(path) < 0)
            return -1;
    }
    return count_cgroups(getpid()); /* all gone */
}

int main(int argc, char **argv)
{
    /* The leak check of a sanitized build cannot run in there (it needs ptrace), and would run at an exit. */
    if (argc > 1)
        _exit(inside(argc, argv));
    if (geteuid() != 0) {
        fprintf(stderr, "sandboxes are made by root: run this test as root\n");
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_tmp_size),
        cmocka_unit_test(test_listener),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_exec_failure),
        cmocka_unit_test(test_fork_bomb),
        cmocka_unit_test(test_nothing_left_over),
        cmocka_unit_test(test_killed_daemon),
        cmocka_unit_test(test_prepare_beside),
        cmocka_unit_test(test_filter_pair),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
