#include "freeze/family.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ABOUT_BYTES 65536
#define PASSES_MAX 1000    /* over the list of processes: each stops what the one before has not seen */
#define PASS_PAUSE_US 1000 /* when a vfork is waited for */

/* What /proc says of one process. */
struct about {
    char state;
    pid_t parent;
    int exit_signal, exit_status, threads;
    int32_t inner, session, group;
    char name[16];
};

/* "123 (name) S 1 ...": the name may hold anything. */
static bool parse_stat(struct about *about, char *text)
{
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (open == NULL || close == NULL || strlen(close) < 4)
        return false;
    snprintf(about->name, sizeof about->name, "%.*s", (int)(close - open - 1), open + 1);
    about->state = close[2];
    char *at = close + 3;
    for (int field = 4; field <= 52 && *at != '\0'; field++) {
        long value = strtol(at, &at, 10);
        if (field == 4)
            about->parent = (pid_t)value;
        else if (field == 20)
            about->threads = (int)value;
        else if (field == 38)
            about->exit_signal = (int)value;
        else if (field == 52)
            about->exit_status = (int)value;
    }
    return true;
}

/* The innermost of the numbers behind `key`. */
static bool parse_inner(const char *status, const char *key, int32_t *inner)
{
    const char *at = strstr(status, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    for (char *end;; at = end) {
        long number = strtol(at, &end, 10);
        if (end == at)
            return true;
        *inner = (int32_t)number;
    }
}

/* Returns false for a process that is gone. */
static bool read_about(struct about *about, pid_t pid)
{
    CLEANUP_BUFFER struct buffer stat = {0}, status = {0};
    struct error gone;
    char path[64];
    *about = (struct about){0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (file_read(AT_FDCWD, path, &stat, ABOUT_BYTES, &gone) < 0)
        return false;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (file_read(AT_FDCWD, path, &status, ABOUT_BYTES, &gone) < 0)
        return false;
    buffer_append_u8(&stat, 0);
    buffer_append_u8(&status, 0);
    const char *text = (const char *)status.data;
    return parse_stat(about, (char *)stat.data) && parse_inner(text, "\nNSpid:", &about->inner) &&
           parse_inner(text, "\nNSsid:", &about->session) && parse_inner(text, "\nNSpgid:", &about->group);
}

static bool read_pid_space(const char *pid, char link[64])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/pid", pid);
    ssize_t len = readlink(path, link, 63);
    link[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* ---- who belongs to it ---- */

struct search {
    struct family *family;
    char space[64]; /* the pid namespace of all */
    bool is_ours;   /* it is our own namespace: only descendants belong */
    pid_t init;     /* its pid 1, if we see it */
    bool found_new, found_vfork;
    bool in_last_pass;
};

static struct relative *find_pid(const struct family *family, pid_t pid)
{
    for (size_t i = 0; i < family->count; i++)
        if (family->list[i].pid == pid)
            return &family->list[i];
    return NULL;
}

static bool descends_from_root(const struct family *family, pid_t pid)
{
    struct about about;
    for (int depth = 0; depth < RELATIVES_MAX && pid > 1; depth++) {
        if (pid == family->list[0].pid)
            return true;
        if (!read_about(&about, pid))
            return false;
        pid = about.parent;
    }
    return false;
}

static struct relative *add_relative(struct family *family, pid_t pid, struct error *err)
{
    if (family->count == IMAGE_PROCESSES_MAX) {
        error_set(
            err, ERROR_UNSUPPORTED, "there are more than %d processes in the sandbox", IMAGE_PROCESSES_MAX);
        return NULL;
    }
    struct relative *relative = &family->list[family->count++];
    *relative = (struct relative){.pid = pid};
    return relative;
}

static int stop_relative(struct family *family, pid_t pid, struct error *err)
{
    struct freeze *f = &family->freezes[family->live_count];
    *f = (struct freeze){.request = family->request, .family = family};
    if (tracee_stop(&f->tracee, pid, family->request->spare == FREEZE_SPARE_NEVER, err) < 0)
        return -1;
    struct relative *relative = add_relative(family, pid, err);
    if (relative == NULL) {
        tracee_close(&f->tracee);
        return -1;
    }
    relative->freeze = f;
    family->live_count++;
    return 0;
}

/* Between vfork and exec: stopped now, it would keep its parent from stopping. It is soon over, or refused. */
static bool borrows_memory(const struct search *s, pid_t pid, pid_t parent)
{
    return !s->in_last_pass && syscall(SYS_kcmp, parent, pid, KCMP_VM, 0, 0) == 0;
}

static int look_at(struct search *s, const char *name, struct error *err)
{
    char space[64];
    struct about about;
    pid_t pid = atoi(name);
    if (find_pid(s->family, pid) != NULL || !read_pid_space(name, space) || strcmp(space, s->space) != 0)
        return 0;
    if (!read_about(&about, pid))
        return 0;
    if (about.inner == 1) {
        s->init = pid;
        return 0;
    }
    if (about.state == 'X' || (s->is_ours && !descends_from_root(s->family, pid)))
        return 0;
    if (about.state == 'Z' && about.threads > 1)
        return error_set(err, ERROR_UNSUPPORTED,
            "process %d (%s): its first thread has ended while others run, which cannot be frozen",
            about.inner, about.name);
    if (about.state == 'Z')
        return 0; /* counted when all are stopped: until then its parent may wait for it */
    s->found_new = true;
    if (borrows_memory(s, pid, about.parent)) {
        s->found_vfork = true;
        return 0;
    }
    if (stop_relative(s->family, pid, err) == 0)
        return 0;
    /* One that has ended meanwhile is no fault: the next pass says what became of it. */
    bool is_gone = !read_about(&about, pid) || about.state == 'Z' || about.state == 'X';
    return is_gone ? 0 : -1;
}

static int for_each_process(
    struct search *s, int (*what)(struct search *, const char *, struct error *), struct error *err)
{
    DIR *folder = opendir("/proc");
    if (folder == NULL)
        return error_system(err, "cannot list the processes");
    int result = 0;
    struct dirent *entry = NULL;
    while (result == 0 && (errno = 0, entry = readdir(folder)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            result = what(s, entry->d_name, err);
    if (result == 0 && errno != 0)
        result = error_system(err, "cannot list all processes");
    closedir(folder);
    return result;
}

/* A process that is stopped forks no more: when a pass finds nobody new, all are stopped. */
static int stop_all(struct search *s, struct error *err)
{
    for (int pass = 0; pass < PASSES_MAX; pass++) {
        s->found_new = s->found_vfork = false;
        s->in_last_pass = pass >= PASSES_MAX - 10;
        if (for_each_process(s, look_at, err) < 0)
            return -1;
        if (!s->found_new)
            return 0;
        if (s->found_vfork)
            usleep(PASS_PAUSE_US);
    }
    return error_set(err, ERROR_UNSUPPORTED, "processes are started faster than they can be stopped");
}

/* ---- those that have ended ---- */

/* Nobody can wait for one whose parent is not frozen with it. */
static int add_zombie(struct search *s, const char *name, struct error *err)
{
    char space[64];
    struct about about;
    pid_t pid = atoi(name);
    if (find_pid(s->family, pid) != NULL || !read_pid_space(name, space) || strcmp(space, s->space) != 0 ||
        !read_about(&about, pid) || about.state != 'Z' || find_pid(s->family, about.parent) == NULL)
        return 0;
    if (about.exit_status & 0x80)
        return error_set(err, ERROR_UNSUPPORTED,
            "process %d (%s): it has ended with a core dump, and was not waited for", about.inner,
            about.name);
    struct relative *relative = add_relative(s->family, pid, err);
    if (relative == NULL)
        return -1;
    relative->kind = IMAGE_ZOMBIE;
    return 0;
}

static bool is_member(const struct family *family, int32_t inner)
{
    for (size_t i = 0; i < family->count; i++)
        if (family->list[i].inner == inner)
            return true;
    return false;
}

/* In our own namespace there are sessions and groups of others. What the tree was started in is outside, and a
 * clone is started in one session only. */
static int forget_surroundings(const struct family *family, struct error *err)
{
    int32_t outside = 0;
    for (size_t i = 0; i < family->count; i++) {
        struct relative *r = &family->list[i];
        if (is_member(family, r->session))
            continue;
        if (outside != 0 && outside != r->session)
            return error_set(err, ERROR_UNSUPPORTED,
                "process %d (%s): it is in another session than the others, and none of them leads it",
                r->inner, r->name);
        outside = r->session;
        r->session = 0;
        r->group = is_member(family, r->group) ? r->group : 0;
    }
    return 0;
}

static int read_relations(struct search *s, struct error *err)
{
    for (size_t i = 0; i < s->family->count; i++) {
        struct relative *relative = &s->family->list[i];
        struct about about;
        if (!read_about(&about, relative->pid))
            return error_set(err, ERROR_SYSTEM, "process %d went away while it was frozen", relative->pid);
        relative->inner = about.inner;
        relative->session = about.session;
        relative->group = about.group;
        relative->parent_pid = about.parent;
        relative->exit_signal = about.exit_signal;
        relative->exit_status = about.exit_status;
        memcpy(relative->name, about.name, sizeof relative->name);
        if (i == 0)
            continue;
        relative->parent = find_pid(s->family, about.parent);
        relative->is_orphan = relative->parent == NULL && about.parent == s->init;
        relative->is_outsider = relative->parent == NULL && !relative->is_orphan;
    }
    return s->is_ours ? forget_surroundings(s->family, err) : 0;
}

/* ---- what processes may not share ---- */

static int refuse_sharing(const struct freeze *a, const struct freeze *b, struct error *err)
{
    static const struct {
        int type;
        const char *what;
    } shared[] = {{KCMP_VM, "its memory (as between vfork and exec)"}, {KCMP_FILES, "its descriptors"},
        {KCMP_FS, "its working folder"}, {KCMP_SIGHAND, "its signal handlers"}};
    for (size_t i = 0; i < countof(shared); i++) {
        long result = syscall(SYS_kcmp, a->tracee.pid, b->tracee.pid, shared[i].type, 0, 0);
        if (result < 0)
            return error_system(
                err, "cannot compare process %d with %d", a->tracee.inner_pid, b->tracee.inner_pid);
        if (result == 0)
            return tracee_refuse(&b->tracee, err, "it shares %s with process %d, which cannot be frozen",
                shared[i].what, a->tracee.inner_pid);
    }
    return 0;
}

static int check_sharing(const struct family *family, struct error *err)
{
    for (size_t i = 0; i < family->live_count; i++)
        for (size_t k = 0; k < i; k++)
            if (refuse_sharing(&family->freezes[k], &family->freezes[i], err) < 0)
                return -1;
    return 0;
}

/* One in a pid namespace of its own would have been overlooked. */
static int check_children(
    const struct family *family, const struct freeze *f, size_t thread, struct error *err)
{
    CLEANUP_BUFFER struct buffer children = {0};
    char path[64];
    snprintf(path, sizeof path, "task/%d/children", f->tracee.threads[thread].tid);
    if (tracee_proc_file(&f->tracee, path, &children, err) < 0)
        return -1;
    buffer_append_u8(&children, 0);
    char *end, *at = (char *)children.data;
    for (long pid; (pid = strtol(at, &end, 10)) > 0; at = end)
        if (find_pid(family, (pid_t)pid) == NULL)
            return tracee_refuse(&f->tracee, err,
                "its child %ld is in a pid namespace of its own, which cannot be frozen", pid);
    return 0;
}

static int check_namespaces(const struct freeze *root, const struct freeze *f, struct error *err)
{
    static const char *const names[] = {
        "ns/mnt", "ns/net", "ns/ipc", "ns/uts", "ns/user", "ns/cgroup", "ns/time", "ns/pid_for_children"};
    for (size_t i = 0; i < countof(names); i++) {
        char ours[64] = "", theirs[64] = "";
        if (readlinkat(root->tracee.proc_fd, names[i], ours, sizeof ours - 1) < 0 ||
            readlinkat(f->tracee.proc_fd, names[i], theirs, sizeof theirs - 1) < 0)
            continue; /* this kernel does not have them */
        if (strcmp(ours, theirs) != 0)
            return tracee_refuse(&f->tracee, err,
                "it is in another namespace (%s) than process %d, which cannot be frozen", names[i] + 3,
                root->tracee.inner_pid);
    }
    return 0;
}

static int check_surroundings(const struct family *family, struct error *err)
{
    for (size_t i = 0; i < family->live_count; i++) {
        const struct freeze *f = &family->freezes[i];
        if (i > 0 && check_namespaces(&family->freezes[0], f, err) < 0)
            return -1;
        for (size_t k = 0; k < f->tracee.thread_count; k++)
            if (check_children(family, f, k, err) < 0)
                return -1;
    }
    return 0;
}

int family_stop(struct family *family, const struct freeze_request *request, struct error *err)
{
    struct search search = {.family = family};
    char ours[64], name[16];
    *family = (struct family){.request = request,
        .list = xcalloc(RELATIVES_MAX, sizeof *family->list),
        .order = xcalloc(RELATIVES_MAX, sizeof(struct relative *)),
        .freezes = xcalloc(IMAGE_PROCESSES_MAX + 1, sizeof *family->freezes)};
    snprintf(name, sizeof name, "%d", request->pid);
    if (stop_relative(family, request->pid, err) < 0)
        return -1;
    if (!read_pid_space(name, search.space) || !read_pid_space("self", ours))
        return error_system(err, "cannot tell the pid namespace of process %d", request->pid);
    search.is_ours = strcmp(ours, search.space) == 0;
    if (stop_all(&search, err) < 0 || for_each_process(&search, add_zombie, err) < 0 ||
        read_relations(&search, err) < 0)
        return -1;
    return check_surroundings(family, err) < 0 ? -1 : check_sharing(family, err);
}

void family_free(struct family *family, bool frozen)
{
    enum freeze_spare spare = family->request == NULL ? FREEZE_SPARE_NEVER : family->request->spare;
    bool release = spare == FREEZE_SPARE_ALWAYS || (spare == FREEZE_SPARE_ON_FAILURE && !frozen);
    for (size_t i = 0; i < family->live_count; i++) {
        struct freeze *f = &family->freezes[i];
        mappings_free(&f->mappings);
        if (release)
            tracee_release(&f->tracee);
        else if (spare != FREEZE_SPARE_NEVER)
            tracee_kill(&f->tracee);
        free(f->credentials);
        tracee_close(&f->tracee);
        free(f->on_memory.ops);
        free(f->maps.ops);
        free(f->watches.ops);
        free(f->locks.ops);
    }
    free(family->freezes);
    free(family->list);
    free(family->order);
    *family = (struct family){0};
}
