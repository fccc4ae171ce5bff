/* The warden with a front that is this test: real sandboxes, real processes. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "daemon/warden.h"
#include "daemon/wire.h"
#include "image/plan.h"
#include "sandbox/sandbox.h"
#include "store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 30000
#define PYTHON "/usr/bin/python3.11"
static const char CODE[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char SNAPSHOT[] = "00112233445566778899aabbccddeeff";
static const char SNAPSHOT_2[] = "ffeeddccbbaa99887766554433221100";

struct fixture {
    char path[64];
    int wire;
    uint64_t template_budget;
    pid_t warden;
    int fds[WIRE_ENV_FD_COUNT]; /* of the last WIRE_ENV_STARTED */
    uint8_t packet[WIRE_MESSAGE_BYTES];
};

static void end_in_order(int number)
{
    (void)number;
    _exit(0);
}

/* The warden's process: with a child that stands for the front's process. */
static _Noreturn void run_warden(const struct fixture *f, int wire_fd)
{
    struct error err = {0};
    int data = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct sandbox_host_options sandboxes = {.uid = 60902, .gid = 60902};
    struct warden_options o = {.wire_fd = wire_fd, .blanks = 3, .environments = 60, .drain_seconds = 5};
    o.template_budget = f->template_budget;
    o.sandbox_uid = o.sandbox_gid = 60902;
    o.code_fd = openat(data, "code", O_PATH | O_DIRECTORY | O_CLOEXEC);
    o.store = store_open(data, &err);
    o.host = o.store != NULL ? sandbox_host_open(&sandboxes, &err) : NULL;
    if (o.host == NULL) {
        fprintf(stderr, "%s\n", err.text);
        _exit(3);
    }
    signal(SIGTERM, end_in_order);
    o.front_pid = fork();
    if (o.front_pid == 0) {
        /* Ends in order when asked to, and when the warden dies. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(wire_fd);
        for (;;)
            pause();
    }
    o.front_pidfd = pidfd_open(o.front_pid, 0);
    int result = warden_run(&o, &err);
    if (result < 0)
        fprintf(stderr, "the warden says: %s\n", err.text);
    sandbox_host_close(o.host);
    store_close(o.store);
    _exit(result < 0);
}

static int set_up_with(void **state, uint64_t template_budget)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->template_budget = template_budget;
    char path[192];
    int pair[2];
    strcpy(f->path, "/tmp/thaw-warden-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    snprintf(path, sizeof path, "%s/code", f->path);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/code/%s", f->path, CODE);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof path, "%s/code/%s/hello.txt", f->path, CODE);
    CLEANUP_FD int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(write(file, "from the code folder", 20), 20);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    fcntl(pair[1], F_SETFL, O_NONBLOCK);
    f->warden = fork();
    if (f->warden == 0) {
        close(pair[0]);
        run_warden(f, pair[1]);
    }
    close(pair[1]);
    f->wire = pair[0];
    for (size_t i = 0; i < WIRE_ENV_FD_COUNT; i++)
        f->fds[i] = -1;
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 0);
}

static int set_up_tight(void **state)
{
    return set_up_with(state, 1);
}

static int end_warden(struct fixture *f, int signal_number)
{
    int status;
    if (f->warden == 0)
        return 0;
    kill(f->warden, signal_number);
    assert_int_equal(waitpid(f->warden, &status, 0), f->warden);
    f->warden = 0;
    return status;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    int status = end_warden(f, SIGTERM);
    for (size_t i = 0; i < WIRE_ENV_FD_COUNT; i++)
        fd_close(&f->fds[i]);
    close(f->wire);
    snprintf(command, sizeof command, "rm -rf %s", f->path);
    assert_int_equal(system(command), 0);
    free(f);
    return status;
}

static void send_message(struct fixture *f, const struct wire_message *m)
{
    CLEANUP_BUFFER struct buffer b = {0};
    struct error err = {0};
    wire_encode(&b, m);
    if (fd_send_message(f->wire, b.data, b.len, NULL, 0, &err) < 0)
        fail_msg("%s", err.text);
}

static struct wire_message receive_message(struct fixture *f)
{
    int fds[FD_MESSAGE_MAX];
    size_t count;
    struct error err = {0};
    struct wire_message m;
    struct pollfd wait_for = {.fd = f->wire, .events = POLLIN};
    if (poll(&wait_for, 1, PATIENCE_MS) != 1)
        fail_msg("the warden says nothing");
    ssize_t len = fd_recv_message(f->wire, f->packet, sizeof f->packet, fds, &count, &err);
    if (len <= 0)
        fail_msg("the warden is gone: %s", err.text);
    assert_int_equal(wire_decode(&m, (struct bytes){f->packet, (size_t)len}, &err), 0);
    for (size_t i = 0; i < count && count == WIRE_ENV_FD_COUNT; i++) {
        fd_close(&f->fds[i]);
        f->fds[i] = fds[i];
    }
    if (count != WIRE_ENV_FD_COUNT)
        for (size_t i = 0; i < count; i++)
            f->fds[i] = fds[i];
    return m;
}

static struct wire_message expect(struct fixture *f, enum wire_type type)
{
    struct wire_message m = receive_message(f);
    if (m.type != type)
        fail_msg("expected message type %d, got %d", type, m.type);
    return m;
}

static struct bytes block(struct buffer *b, const char *const *strings)
{
    for (; *strings != NULL; strings++)
        buffer_append(b, *strings, strlen(*strings) + 1);
    return (struct bytes){b->data, b->len};
}

static void start(struct fixture *f, uint64_t id, uint32_t memory_mb, const char *const *argv)
{
    CLEANUP_BUFFER struct buffer args = {0};
    CLEANUP_BUFFER struct buffer env = {0};
    static const char *const environment[] = {"GREETING=hello", "PATH=/usr/bin:/bin", NULL};
    struct wire_message m = {.type = WIRE_ENV_START,
        .env_start = {.env_id = id, .mode = WIRE_COLD, .memory_mb = memory_mb, .tmp_mb = 512}};
    strcpy(m.env_start.code_id, CODE);
    m.env_start.argv = block(&args, argv);
    m.env_start.env = block(&env, environment);
    send_message(f, &m);
}

static void start_python(struct fixture *f, uint64_t id, const char *script)
{
    const char *const argv[] = {PYTHON, "-u", "-c", script, NULL};
    start(f, id, 256, argv);
}

static void expect_started(struct fixture *f, uint64_t id)
{
    struct wire_message m = expect(f, WIRE_ENV_STARTED);
    if (m.env_started.error.kind != ERROR_NONE)
        fail_msg("%s", m.env_started.error.text);
    assert_int_equal(m.env_started.env_id, id);
    assert_true(m.env_started.stamp_ns[WIRE_STAMP_RECEIVED] <= m.env_started.stamp_ns[WIRE_STAMP_SANDBOX]);
    assert_true(m.env_started.stamp_ns[WIRE_STAMP_SANDBOX] <= m.env_started.stamp_ns[WIRE_STAMP_FORKED]);
    assert_true(m.env_started.stamp_ns[WIRE_STAMP_FORKED] <= m.env_started.stamp_ns[WIRE_STAMP_SENT]);
    for (size_t i = 0; i < WIRE_ENV_FD_COUNT; i++)
        assert_true(f->fds[i] >= 0);
}

/* What the log pipe gives until `until` was seen, or its end. */
static void read_log(int fd, const char *until, struct buffer *out)
{
    for (;;) {
        char text[512];
        struct pollfd wait_for = {.fd = fd, .events = POLLIN};
        if (poll(&wait_for, 1, PATIENCE_MS) != 1)
            fail_msg("the log says no more than \"%.*s\"", (int)out->len, (char *)out->data);
        ssize_t n = read(fd, text, sizeof text);
        assert_true(n >= 0);
        buffer_printf(out, "%.*s", (int)n, text);
        if (n == 0 || (until != NULL && strstr((char *)out->data, until) != NULL))
            return;
    }
}

static void expect_exit(struct fixture *f, uint64_t id, int status, bool out_of_memory)
{
    struct wire_message m = expect(f, WIRE_ENV_EXITED);
    assert_int_equal(m.env_exited.env_id, id);
    assert_int_equal(m.env_exited.wait_status, status);
    assert_int_equal(m.env_exited.out_of_memory, out_of_memory);
}

static void cold_starts_run_in_the_sandbox(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUFFER struct buffer log = {0};
    char peak[32] = "";
    start_python(f, 1,
        "import os\n"
        "print(os.environ['GREETING'], os.getuid(), open('/var/task/hello.txt').read())\n"
        "os._exit(7)");
    expect_started(f, 1);
    assert_true(pread(f->fds[WIRE_FD_MEMORY], peak, sizeof peak - 1, 0) > 0);
    assert_true(atol(peak) > 0);
    read_log(f->fds[WIRE_FD_LOG], NULL, &log);
    assert_string_equal((char *)log.data, "hello 60902 from the code folder\n");
    expect_exit(f, 1, 7 << 8, false);
}

static void the_listener_is_inside(void **state)
{
    struct fixture *f = *state;
    start_python(f, 1,
        "import socket\n"
        "s = socket.create_connection(('127.0.0.1', 9001))\n"
        "s.sendall(b'hello')\n"
        "print(s.recv(9))");
    expect_started(f, 1);
    struct pollfd wait_for = {.fd = f->fds[WIRE_FD_LISTENER], .events = POLLIN};
    assert_int_equal(poll(&wait_for, 1, PATIENCE_MS), 1);
    CLEANUP_FD int connection = accept(f->fds[WIRE_FD_LISTENER], NULL, NULL);
    char text[8] = "";
    assert_int_equal(read(connection, text, sizeof text), 5);
    assert_int_equal(write(connection, "answer", 6), 6);
    CLEANUP_BUFFER struct buffer log = {0};
    read_log(f->fds[WIRE_FD_LOG], NULL, &log);
    assert_string_equal((char *)log.data, "b'answer'\n");
    expect_exit(f, 1, 0, false);
}

static void a_missing_program_is_named(void **state)
{
    struct fixture *f = *state;
    static const char *const argv[] = {"/var/task/bootstrap", NULL};
    start(f, 5, 256, argv);
    struct wire_message m = expect(f, WIRE_ENV_STARTED);
    assert_int_equal(m.env_started.env_id, 5);
    assert_int_equal(m.env_started.error.kind, ERROR_INVALID);
    assert_non_null(strstr(m.env_started.error.text, "/var/task/bootstrap"));
}

static void a_missing_snapshot_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct wire_message m = {.type = WIRE_ENV_START,
        .env_start = {.env_id = 5, .mode = WIRE_THAW, .memory_mb = 256, .tmp_mb = 512}};
    strcpy(m.env_start.code_id, CODE);
    strcpy(m.env_start.snapshot_id, SNAPSHOT);
    send_message(f, &m);
    m = expect(f, WIRE_ENV_STARTED);
    assert_int_equal(m.env_started.error.kind, ERROR_NOT_FOUND);
    m = (struct wire_message){.type = WIRE_TEMPLATE_DROP};
    strcpy(m.snapshot_id, SNAPSHOT);
    send_message(f, &m);
    m = expect(f, WIRE_TEMPLATE_DROPPED);
    assert_string_equal(m.snapshot_id, SNAPSHOT);
    m = (struct wire_message){.type = WIRE_SNAPSHOT_INSPECT, .snapshot_inspect = {.request_id = 3}};
    strcpy(m.snapshot_inspect.snapshot_id, SNAPSHOT);
    send_message(f, &m);
    m = expect(f, WIRE_SNAPSHOT_INSPECTED);
    assert_int_equal(m.snapshot_inspected.request_id, 3);
    assert_int_equal(m.snapshot_inspected.error.kind, ERROR_NOT_FOUND);
}

static void killing_ends_an_environment(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUFFER struct buffer log = {0};
    start_python(f, 9, "import time; print('up'); time.sleep(1000)");
    expect_started(f, 9);
    read_log(f->fds[WIRE_FD_LOG], "up", &log);
    const struct wire_message m = {.type = WIRE_ENV_KILL, .env_id = 9};
    send_message(f, &m);
    expect_exit(f, 9, SIGKILL, false);
    send_message(f, &m); /* too late, and harmless */
    start_python(f, 10, "pass");
    expect_started(f, 10);
    expect_exit(f, 10, 0, false);
}

/* Returns when it has died of it, which takes a while on a busy machine. */
static bool kill_and_wait(pid_t pid)
{
    CLEANUP_FD int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 || pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0)
        return false;
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    return poll(&end, 1, PATIENCE_MS) == 1;
}

/* Kills those children of the warden that are called `name`. Returns how many. */
static size_t kill_children(const struct fixture *f, const char *name)
{
    CLEANUP_BUFFER struct buffer list = {0};
    struct error err = {0};
    char path[64];
    size_t killed = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", f->warden, f->warden);
    assert_int_equal(file_read(AT_FDCWD, path, &list, 65536, &err), 0);
    buffer_append_u8(&list, 0);
    char *at = (char *)list.data;
    for (long pid; (pid = strtol(at, &at, 10)) > 0;) {
        CLEANUP_BUFFER struct buffer comm = {0};
        snprintf(path, sizeof path, "/proc/%ld/comm", pid);
        if (file_read(AT_FDCWD, path, &comm, 64, &err) < 0 || comm.len != strlen(name) + 1 ||
            memcmp(comm.data, name, strlen(name)) != 0)
            continue;
        killed += kill_and_wait((pid_t)pid);
    }
    return killed;
}

static void blanks_that_died_are_not_used(void **state)
{
    struct fixture *f = *state;
    static const char *const argv[] = {"/bin/sleep", "1000", NULL};
    start(f, 1, 128, argv); /* when it runs, blanks are being prepared beside it */
    expect_started(f, 1);
    for (uint64_t id = 2; id < 10; id++) {
        kill_children(f, "thaw-sandbox");
        start(f, id, 128, argv);
        struct wire_message m;
        do
            m = receive_message(f); /* the running ones lose their sandbox */
        while (m.type == WIRE_ENV_EXITED);
        assert_int_equal(m.type, WIRE_ENV_STARTED);
        if (m.env_started.error.kind != ERROR_NONE)
            fail_msg("%s", m.env_started.error.text);
    }
}

static void out_of_memory_is_told(void **state)
{
    struct fixture *f = *state;
    start_python(f, 1, "x = bytearray(1 << 30)");
    expect_started(f, 1);
    expect_exit(f, 1, SIGKILL, true);
}

static void a_burst_is_served_and_the_limit_kept(void **state)
{
    struct fixture *f = *state;
    static const char *const argv[] = {"/bin/sleep", "1000", NULL};
    const uint64_t count = 60;
    for (uint64_t id = 1; id <= count + 1; id++)
        start(f, id, 128, argv);
    size_t started = 0, refused = 0;
    for (uint64_t i = 0; i <= count; i++) {
        struct wire_message m = expect(f, WIRE_ENV_STARTED);
        started += m.env_started.error.kind == ERROR_NONE;
        refused += m.env_started.error.kind == ERROR_LIMIT;
    }
    assert_int_equal(started, count);
    assert_int_equal(refused, 1);
    for (uint64_t id = 1; id <= count; id++) {
        const struct wire_message m = {.type = WIRE_ENV_KILL, .env_id = id};
        send_message(f, &m);
    }
    for (uint64_t i = 0; i < count; i++)
        assert_int_equal(expect(f, WIRE_ENV_EXITED).env_exited.wait_status, SIGKILL);
}

/* A program that is frozen while it waits, and whose clones then say what they find. */
static const char COUNTER[] =
    "import time, os\n"
    "print('up')\n"
    "data = [str(i) for i in range(100000)]\n"
    "while True:\n"
    "    time.sleep(0.01)\n"
    "    print('tick', os.getpid(), data[99999], open('/var/task/hello.txt').read())\n";

static void freeze_counter_as(struct fixture *f, uint64_t id, const char *snapshot)
{
    CLEANUP_BUFFER struct buffer log = {0};
    start_python(f, id, COUNTER);
    expect_started(f, id);
    read_log(f->fds[WIRE_FD_LOG], "tick", &log);
    struct wire_message m = {.type = WIRE_ENV_FREEZE, .env_freeze = {.env_id = id}};
    strcpy(m.env_freeze.snapshot_id, snapshot);
    strcpy(m.env_freeze.domain, "default");
    send_message(f, &m);
    m = expect(f, WIRE_ENV_FROZEN);
    if (m.env_frozen.error.kind != ERROR_NONE)
        fail_msg("%s", m.env_frozen.error.text);
    assert_string_equal(m.env_frozen.snapshot_id, snapshot);
    assert_true(m.env_frozen.memory_bytes > 1 << 20);
    assert_true(m.env_frozen.stored_bytes > 0);
    expect_exit(f, id, SIGKILL, false);
}

static void freeze_counter(struct fixture *f)
{
    freeze_counter_as(f, 1, SNAPSHOT);
}

static void ask_for_thaw_of(struct fixture *f, uint64_t id, const char *snapshot)
{
    struct wire_message m = {.type = WIRE_ENV_START,
        .env_start = {.env_id = id, .mode = WIRE_THAW, .memory_mb = 256, .tmp_mb = 512}};
    strcpy(m.env_start.code_id, CODE);
    strcpy(m.env_start.snapshot_id, snapshot);
    send_message(f, &m);
}

static void ask_for_thaw(struct fixture *f, uint64_t id)
{
    ask_for_thaw_of(f, id, SNAPSHOT);
}

static void expect_report(int fd)
{
    struct plan_report report;
    struct pollfd wait_for = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&wait_for, 1, PATIENCE_MS), 1);
    assert_int_equal(read(fd, &report, sizeof report), sizeof report);
    assert_int_equal(report.magic, PLAN_REPORT_MAGIC);
    if (report.failed != 0)
        fail_msg("plan %u failed at %u: %d", report.plan, report.op, report.failed);
}

static void ask_about(struct fixture *f, enum wire_type type)
{
    struct wire_message m = {.type = type};
    strcpy(m.snapshot_id, SNAPSHOT);
    send_message(f, &m);
}

static void a_frozen_process_thaws_many_times(void **state)
{
    struct fixture *f = *state;
    int logs[5];
    freeze_counter(f);
    for (uint64_t id = 2; id <= 4; id++)
        ask_for_thaw(f, id);
    for (uint64_t id = 2; id <= 4; id++) {
        CLEANUP_BUFFER struct buffer log = {0};
        expect_started(f, id);
        expect_report(f->fds[WIRE_FD_REPORT]);
        read_log(f->fds[WIRE_FD_LOG], "from the code folder", &log);
        assert_non_null(strstr((char *)log.data, " 99999 from"));
        logs[id] = fd_steal(&f->fds[WIRE_FD_LOG]); /* a log that nobody reads any more would end it */
    }
    /* A template that is dropped does not take its clones along, and is built anew when it is needed. */
    ask_about(f, WIRE_TEMPLATE_DROP);
    assert_string_equal(expect(f, WIRE_TEMPLATE_DROPPED).snapshot_id, SNAPSHOT);
    ask_for_thaw(f, 5);
    expect_started(f, 5);
    expect_report(f->fds[WIRE_FD_REPORT]);
    for (uint64_t id = 2; id <= 5; id++) {
        const struct wire_message m = {.type = WIRE_ENV_KILL, .env_id = id};
        send_message(f, &m);
        expect_exit(f, id, SIGKILL, false);
        if (id < 5)
            close(logs[id]);
    }
}

/* Whether this thaw had to build its template; it is ended again. */
static bool thaw_builds_template(struct fixture *f, uint64_t id, const char *snapshot)
{
    ask_for_thaw_of(f, id, snapshot);
    const struct wire_message m = expect(f, WIRE_ENV_STARTED);
    if (m.env_started.error.kind != ERROR_NONE)
        fail_msg("%s", m.env_started.error.text);
    const struct wire_message kill_it = {.type = WIRE_ENV_KILL, .env_id = id};
    send_message(f, &kill_it);
    expect_exit(f, id, SIGKILL, false);
    return m.env_started.stamp_ns[WIRE_STAMP_TEMPLATE_BEGIN] != 0;
}

static void templates_beyond_the_budget_go(void **state)
{
    struct fixture *f = *state;
    freeze_counter_as(f, 1, SNAPSHOT);
    freeze_counter_as(f, 2, SNAPSHOT_2);
    assert_true(thaw_builds_template(f, 3, SNAPSHOT));
    assert_false(thaw_builds_template(f, 4, SNAPSHOT)); /* the newest stays, whatever the budget */
    assert_true(thaw_builds_template(f, 5, SNAPSHOT_2));
    assert_false(thaw_builds_template(f, 6, SNAPSHOT_2));
    assert_true(thaw_builds_template(f, 7, SNAPSHOT));
}

static void a_template_that_died_is_built_anew(void **state)
{
    struct fixture *f = *state;
    freeze_counter(f);
    assert_true(thaw_builds_template(f, 2, SNAPSHOT));
    assert_int_equal(kill_children(f, "thaw-template"), 1);
    assert_true(thaw_builds_template(f, 3, SNAPSHOT));
    assert_false(thaw_builds_template(f, 4, SNAPSHOT));
}

static void kill_one_of(const struct fixture *f, const char *name)
{
    for (int i = 0; kill_children(f, name) == 0; i++) {
        assert_true(i < 10000);
        usleep(1000);
    }
}

static void what_was_made_ahead_may_die(void **state)
{
    struct fixture *f = *state;
    freeze_counter(f);
    kill_one_of(f, "thaw-builder");
    kill_one_of(f, "thaw-feeder");
    assert_true(thaw_builds_template(f, 2, SNAPSHOT));
    assert_false(thaw_builds_template(f, 3, SNAPSHOT));
}

static void templates_within_the_budget_stay(void **state)
{
    struct fixture *f = *state;
    freeze_counter_as(f, 1, SNAPSHOT);
    freeze_counter_as(f, 2, SNAPSHOT_2);
    assert_true(thaw_builds_template(f, 3, SNAPSHOT));
    assert_true(thaw_builds_template(f, 4, SNAPSHOT_2));
    assert_false(thaw_builds_template(f, 5, SNAPSHOT));
    assert_false(thaw_builds_template(f, 6, SNAPSHOT_2));
}

static void a_snapshot_can_be_inspected_and_deleted(void **state)
{
    struct fixture *f = *state;
    freeze_counter(f);
    struct wire_message m = {
        .type = WIRE_SNAPSHOT_INSPECT, .snapshot_inspect = {.request_id = 3, .plan = true}};
    strcpy(m.snapshot_inspect.snapshot_id, SNAPSHOT);
    send_message(f, &m);
    m = expect(f, WIRE_SNAPSHOT_INSPECTED);
    if (m.snapshot_inspected.error.kind != ERROR_NONE)
        fail_msg("%s", m.snapshot_inspected.error.text);
    CLEANUP_BUFFER struct buffer text = {0};
    struct error err = {0};
    assert_int_equal(fd_read_all(f->fds[0], &text, 64 << 20, &err), 0);
    assert_non_null(memmem(text.data, text.len, "setns", 5));
    ask_about(f, WIRE_SNAPSHOT_DELETE);
    do {
        ask_for_thaw(f, 7);
        m = expect(f, WIRE_ENV_STARTED);
        if (m.env_started.error.kind == ERROR_NONE) { /* it was quicker than the deletion */
            m = (struct wire_message){.type = WIRE_ENV_KILL, .env_id = 7};
            send_message(f, &m);
            expect_exit(f, 7, SIGKILL, false);
            m.env_started.error.kind = ERROR_NONE;
        }
    } while (m.env_started.error.kind == ERROR_NONE);
    /* Its key goes before its folder. */
    assert_true(m.env_started.error.kind == ERROR_NOT_FOUND || m.env_started.error.kind == ERROR_CORRUPT);
}

static void damaged_pages_are_refused_as_such(void **state)
{
    struct fixture *f = *state;
    freeze_counter(f);
    CLEANUP_FREE char *command = xasprintf(
        "for f in %s/store/chunks/*/*; do printf flipped | dd of=$f bs=1 seek=30 conv=notrunc; done 2>&1",
        f->path);
    assert_int_equal(system(command), 0);
    for (uint64_t id = 2; id <= 3; id++)
        ask_for_thaw(f, id);
    for (uint64_t id = 2; id <= 3; id++) {
        const struct wire_message m = expect(f, WIRE_ENV_STARTED);
        assert_int_equal(m.env_started.error.kind, ERROR_CORRUPT);
        assert_non_null(strstr(m.env_started.error.text, "chunks/"));
    }
}

/* Whether any process has `word` in its command line. */
static bool somebody_runs(const char *word)
{
    bool found = false;
    DIR *proc = opendir("/proc");
    assert_non_null(proc);
    for (struct dirent *entry; !found && (entry = readdir(proc)) != NULL;) {
        char path[300];
        CLEANUP_BUFFER struct buffer line = {0};
        struct error err = {0};
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        if (file_read(AT_FDCWD, path, &line, 65536, &err) == 0 && line.len > 0)
            found = memmem(line.data, line.len, word, strlen(word)) != NULL;
    }
    closedir(proc);
    return found;
}

static void everything_dies_with_a_killed_warden(void **state)
{
    struct fixture *f = *state;
    char script[128];
    CLEANUP_BUFFER struct buffer log = {0};
    snprintf(script, sizeof script, "import time; print('up'); time.sleep(1000) # %s", f->path);
    start_python(f, 1, script);
    expect_started(f, 1);
    read_log(f->fds[WIRE_FD_LOG], "up", &log);
    assert_true(somebody_runs(f->path));
    end_warden(f, SIGKILL);
    /* The end of the log: nobody has its other end any more. */
    read_log(f->fds[WIRE_FD_LOG], NULL, &log);
    while (somebody_runs(f->path))
        usleep(10000);
}

static void nothing_is_left_after_a_stop(void **state)
{
    struct fixture *f = *state;
    char script[128];
    snprintf(script, sizeof script, "import time; time.sleep(1000) # %s", f->path);
    start_python(f, 1, script);
    expect_started(f, 1);
    assert_int_equal(end_warden(f, SIGTERM), 0);
    assert_false(somebody_runs(f->path));
}

static void a_front_that_misbehaves_ends_it_all(void **state)
{
    struct fixture *f = *state;
    int status;
    assert_int_equal(write(f->wire, "nonsense", 8), 8);
    assert_int_equal(waitpid(f->warden, &status, 0), f->warden);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    f->warden = 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(cold_starts_run_in_the_sandbox),
        TEST(the_listener_is_inside),
        TEST(a_missing_program_is_named),
        TEST(a_missing_snapshot_is_not_found),
        TEST(killing_ends_an_environment),
        TEST(blanks_that_died_are_not_used),
        TEST(out_of_memory_is_told),
        TEST(a_burst_is_served_and_the_limit_kept),
        TEST(a_frozen_process_thaws_many_times),
        cmocka_unit_test_setup_teardown(templates_beyond_the_budget_go, set_up_tight, tear_down),
        TEST(a_template_that_died_is_built_anew),
        TEST(what_was_made_ahead_may_die),
        TEST(templates_within_the_budget_stay),
        TEST(a_snapshot_can_be_inspected_and_deleted),
        TEST(damaged_pages_are_refused_as_such),
        TEST(everything_dies_with_a_killed_warden),
        TEST(nothing_is_left_after_a_stop),
        TEST(a_front_that_misbehaves_ends_it_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
