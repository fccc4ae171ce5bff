/* What tests drive the origin's client with: a courier of its own (not confined), and requests to it from the command line.
 *
 *   origin_tool ENDPOINT ORIGIN KEY SECRET COMMAND...
 *
 *   store NAME FILE     fetch NAME FILE     remove NAME     look NAME     list PREFIX     store-if-absent NAME FILE
 *   remove-within NAME MS   no try later than that
 *   many COUNT          stores COUNT objects at once and fetches all of them, with a few bytes each
 *   kill-courier        in the middle: the next command needs another one
 *
 * Prints a line for each: "ok ..." or the error's kind and text. */
#include "base/clock.h"
#include "base/fd.h"
#include "origin/courier.h"
#include "store/origin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const KINDS[] = {"none", "system", "invalid", "limit", "not-found", "conflict",
    "unsupported", "corrupt", "busy", "internal"};

static struct {
    struct courier_options courier;
    struct sigv4_credentials credentials;
    int control[2];
    pid_t pid;
} tool;

static void news(bool works, const char *text)
{
    (void)works, (void)text;
}

static void start_courier(void)
{
    tool.pid = fork();
    if (tool.pid != 0)
        return;
    struct error err = {0};
    close(tool.control[0]);
    if (courier_run(&tool.courier, &err) < 0)
        fprintf(stderr, "courier: %s\n", err.text);
    _exit(0);
}

static void end_courier(void)
{
    kill(tool.pid, SIGKILL);
    waitpid(tool.pid, NULL, 0);
}

static void say(int result, const struct error *err, const char *more)
{
    if (result == 0)
        printf("ok %s\n", more);
    else
        printf("%s %s\n", KINDS[err->kind], err->text);
    fflush(stdout);
}

static int copy(int from, const char *path)
{
    struct error err = {0};
    CLEANUP_BUFFER struct buffer bytes = {0};
    CLEANUP_FD int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return out < 0 || fd_read_all(from, &bytes, 1u << 30, &err) < 0 ||
                   fd_write_all(out, bytes.data, bytes.len, &err) < 0
               ? -1
               : 0;
}

static int print_entry(void *context, const struct origin_entry *entry, struct error *err)
{
    (void)err;
    ++*(size_t *)context;
    printf("%s %llu %d\n", entry->name, (unsigned long long)entry->bytes, entry->modified_s > 0);
    return 0;
}

static int store_many(struct origin *o, size_t count, enum origin_verb verb, struct error *err)
{
    CLEANUP_FD int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, "few", 3) != 3)
        return error_system(err, "cannot make a file");
    for (size_t begun = 0, ended = 0; ended < count;) {
        char name[ORIGIN_NAME_MAX + 1];
        snprintf(name, sizeof name, "many/%05zu", begun);
        const struct origin_request request = {.verb = verb, .name = name, .fd = fd};
        if (begun < count && origin_begin(o, &request, err) == 0) {
            begun++;
            continue;
        }
        struct origin_reply reply;
        if (origin_wait(o, &reply, err) < 0)
            return -1;
        ended++;
        if (verb == ORIGIN_FETCH && reply.bytes != 3 && reply.error.kind == ERROR_NONE)
            return error_set(err, ERROR_CORRUPT, "other bytes than were stored");
        fd_close(&reply.fd);
        if (reply.error.kind != ERROR_NONE) {
            *err = reply.error;
            return -1;
        }
    }
    return 0;
}

static int look(struct origin *o, const char *name, char *more, size_t size, struct error *err)
{
    struct origin_reply reply;
    const struct origin_request request = {.verb = ORIGIN_LOOK, .name = name, .fd = -1};
    if (origin_begin(o, &request, err) < 0 || origin_wait(o, &reply, err) < 0)
        return -1;
    snprintf(more, size, "%llu %d", (unsigned long long)reply.bytes, reply.modified_s > 0);
    *err = reply.error;
    return reply.error.kind == ERROR_NONE ? 0 : -1;
}

static int remove_within(struct origin *o, const char *name, const char *ms, struct error *err)
{
    struct origin_reply reply;
    const struct origin_request request = {.verb = ORIGIN_REMOVE,
        .name = name,
        .fd = -1,
        .before_ns = clock_boot_ns() + strtoull(ms, NULL, 10) * 1000000};
    if (origin_begin(o, &request, err) < 0 || origin_wait(o, &reply, err) < 0)
        return -1;
    *err = reply.error;
    return reply.error.kind == ERROR_NONE ? 0 : -1;
}

/* Returns how many arguments it took. */
static int run(struct origin *o, char **argv)
{
    struct error err = {0};
    const char *verb = argv[0], *name = argv[1];
    char more[64] = "";
    size_t count = 0;
    int result = -1, used = 2;
    CLEANUP_FD int fd = -1;
    if (strcmp(verb, "kill-courier") == 0) {
        end_courier();
        start_courier();
        result = 0;
        used = 1;
    } else if (strncmp(verb, "store", 5) == 0) {
        fd = open(argv[2], O_RDONLY | O_CLOEXEC);
        result = origin_store(o, name, strcmp(verb, "store") == 0 ? 0 : ORIGIN_IF_ABSENT, fd, &err);
        used = 3;
    } else if (strcmp(verb, "fetch") == 0) {
        result = origin_fetch(o, name, ORIGIN_URGENT, &fd, &err);
        if (result == 0)
            result = copy(fd, argv[2]);
        used = 3;
    } else if (strcmp(verb, "remove") == 0) {
        result = origin_remove(o, name, &err);
    } else if (strcmp(verb, "remove-within") == 0) {
        result = remove_within(o, name, argv[2], &err);
        used = 3;
    } else if (strcmp(verb, "look") == 0) {
        result = look(o, name, more, sizeof more, &err);
    } else if (strcmp(verb, "list") == 0) {
        result = origin_list(o, name, print_entry, &count, &err);
        snprintf(more, sizeof more, "%zu", count);
    } else if (strcmp(verb, "many") == 0) {
        result = store_many(o, strtoul(name, NULL, 10), ORIGIN_STORE, &err);
        if (result == 0)
            result = store_many(o, strtoul(name, NULL, 10), ORIGIN_FETCH, &err);
    } else {
        error_set(&err, ERROR_INVALID, "no such command: %s", verb);
    }
    say(result, &err, more);
    return used;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    char folder[] = "/tmp/thaw-origin-tool-XXXXXX";
    if (argc < 6 || mkdtemp(folder) == NULL || chdir(folder) < 0 || mkdir("tmp", 0700) < 0 ||
        mkdir("chunks", 0700) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, tool.control) < 0) {
        fprintf(stderr, "usage: see the head of tool.c\n");
        return 2;
    }
    tool.courier = (struct courier_options){.control_fd = tool.control[1],
        .store_fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .credentials = &tool.credentials,
        .news = news};
    snprintf(tool.credentials.access_key, sizeof tool.credentials.access_key, "%s", argv[3]);
    snprintf(tool.credentials.secret_key, sizeof tool.credentials.secret_key, "%s", argv[4]);
    snprintf(tool.courier.s3.region, sizeof tool.courier.s3.region, "us-east-1");
    if (s3_parse_endpoint(&tool.courier.s3, argv[1], &err) < 0 ||
        s3_parse_origin(&tool.courier.s3, argv[2], &err) < 0) {
        say(-1, &err, "");
        return 1;
    }
    start_courier();
    struct origin *o = origin_new(tool.control[0]);
    for (int i = 5; i < argc;)
        i += run(o, argv + i);
    origin_free(o);
    end_courier();
    rmdir("chunks");
    rmdir("tmp");
    rmdir(folder);
    return 0;
}
