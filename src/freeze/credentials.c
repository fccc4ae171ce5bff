/* Who a process is: users, groups, capabilities, secure bits, no-new-privileges. */
#include "freeze/family.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define STATUS_BYTES_MAX 65536
#define GROUPS_MAX 65536
#define CAPABILITY_COUNT \
    41 /* CAP_LAST_CAP + 1 of the kernel at hand is never more, or the drop says EINVAL */

struct credentials {
    unsigned long uid[4], gid[4]; /* real, effective, saved, file system */
    uint32_t *groups;
    size_t group_count;
    uint64_t inheritable, permitted, effective, bounding, ambient;
    bool no_new_privileges;
    long secure_bits;
};

/* The lines of /proc/PID/status that say who somebody is; all threads must agree on them. */
static const char *const lines[] = {"\nUid:", "\nGid:", "\nGroups:", "\nCapInh:", "\nCapPrm:", "\nCapEff:",
    "\nCapBnd:", "\nCapAmb:", "\nNoNewPrivs:"};

static int read_status(const struct freeze *f, const char *path, struct buffer *status, struct error *err)
{
    if (file_read(f->tracee.proc_fd, path, status, STATUS_BYTES_MAX, err) < 0)
        return -1;
    buffer_append_u8(status, 0);
    for (size_t i = 0; i < countof(lines); i++)
        if (strstr((const char *)status->data, lines[i]) == NULL)
            return error_set(
                err, ERROR_UNSUPPORTED, "this kernel does not tell %s in /proc/PID/status", lines[i] + 1);
    return 0;
}

static const char *value(const struct buffer *status, const char *line)
{
    return strstr((const char *)status->data, line) + strlen(line);
}

static bool same_line(const struct buffer *a, const struct buffer *b, const char *line)
{
    const char *x = value(a, line), *y = value(b, line);
    size_t len = strcspn(x, "\n");
    return len == strcspn(y, "\n") && memcmp(x, y, len) == 0;
}

static int parse(struct credentials *c, const struct buffer *status, struct error *err)
{
    const char *uid = value(status, "\nUid:"), *gid = value(status, "\nGid:");
    if (sscanf(uid, "%lu %lu %lu %lu", &c->uid[0], &c->uid[1], &c->uid[2], &c->uid[3]) != 4 ||
        sscanf(gid, "%lu %lu %lu %lu", &c->gid[0], &c->gid[1], &c->gid[2], &c->gid[3]) != 4)
        return error_set(err, ERROR_INTERNAL, "cannot understand /proc/PID/status");
    c->inheritable = strtoull(value(status, "\nCapInh:"), NULL, 16);
    c->permitted = strtoull(value(status, "\nCapPrm:"), NULL, 16);
    c->effective = strtoull(value(status, "\nCapEff:"), NULL, 16);
    c->bounding = strtoull(value(status, "\nCapBnd:"), NULL, 16);
    c->ambient = strtoull(value(status, "\nCapAmb:"), NULL, 16);
    c->no_new_privileges = strtoul(value(status, "\nNoNewPrivs:"), NULL, 10) != 0;
    return 0;
}

static void plan_groups(struct freeze *f, struct plan *plan, const struct buffer *status)
{
    CLEANUP_BUFFER struct buffer groups = {0};
    const char *at = value(status, "\nGroups:");
    uint32_t count = 0;
    for (char *end; count < GROUPS_MAX; at = end, count++) {
        at += strspn(at, " \t");
        unsigned long group = strtoul(at, &end, 10);
        if (*at == '\n' || end == at)
            break;
        buffer_append_u32(&groups, (uint32_t)group);
    }
    buffer_append_u32(&groups, 0); /* so that there is something to point to */
    plan_call(
        plan, SYS_setgroups, plan_literal(count), plan_data(image_put(f->image, groups.data, groups.len)));
}

static struct plan_arg number(unsigned long value)
{
    return plan_literal((uint64_t)value);
}

static bool is_root(const struct credentials *c)
{
    bool root = true;
    for (size_t i = 0; i < 4; i++)
        root &= c->uid[i] == 0 && c->gid[i] == 0;
    return root;
}

/* It and whom it was forked by in the clone. */
static bool all_are_root(const struct freeze *f)
{
    return is_root(f->credentials) && is_root(f->family->freezes[0].credentials);
}

/* The capabilities stay through the change of user, as the secure bits say: the rest of the plan needs them, and
 * what it makes belongs to the right user already. */
static void plan_identity(
    struct freeze *f, struct plan *plan, const struct credentials *c, const struct buffer *status)
{
    plan_groups(f, plan, status);
    if (!all_are_root(f)) {
        plan_call(plan, SYS_prctl, number(PR_SET_SECUREBITS), number(SECBIT_NO_SETUID_FIXUP));
        plan_call(plan, SYS_setresgid, number(c->gid[0]), number(c->gid[1]), number(c->gid[2]));
        plan_call(plan, SYS_setresuid, number(c->uid[0]), number(c->uid[1]), number(c->uid[2]));
        plan_call(plan, SYS_setfsgid, number(c->gid[3]));
        plan_call(plan, SYS_setfsuid, number(c->uid[3]));
    }
    for (unsigned capability = 0; capability < CAPABILITY_COUNT; capability++)
        if (!(c->bounding >> capability & 1))
            plan_call(plan, SYS_prctl, number(PR_CAPBSET_DROP), number(capability));
    if (c->no_new_privileges)
        plan_call(plan, SYS_prctl, number(PR_SET_NO_NEW_PRIVS), number(1));
}

/* A function runs as the sandbox's user without any rights: a process that does not is not ours to freeze. */
static int check_sandboxed(const struct freeze *f, const struct credentials *c, struct error *err)
{
    for (size_t i = 0; i < 4; i++)
        if (c->uid[i] != f->request->uid || c->gid[i] != f->request->gid)
            return tracee_refuse(&f->tracee, err,
                "it runs as user %lu and group %lu, not as the sandbox's user", c->uid[i], c->gid[i]);
    if (c->effective != 0 || c->permitted != 0)
        return tracee_refuse(&f->tracee, err, "it holds capabilities");
    return 0;
}

/* The root takes its identity before it forks the others, who keep it where it is theirs, too. */
static int is_like_root(const struct freeze *f, const struct buffer *status, bool *same, struct error *err)
{
    CLEANUP_BUFFER struct buffer root = {0};
    if (read_status(&f->family->freezes[0], "status", &root, err) < 0)
        return -1;
    *same = true;
    for (size_t i = 0; i < countof(lines); i++)
        *same &= same_line(status, &root, lines[i]);
    return 0;
}

int freeze_credentials(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    struct credentials *c = xcalloc(1, sizeof *c);
    f->credentials = c;
    if (read_status(f, "status", &status, err) < 0 || parse(c, &status, err) < 0)
        return -1;
    f->uid = (uid_t)c->uid[3];
    f->gid = (gid_t)c->gid[3];
    if (!f->request->own_credentials) {
        c->inheritable = c->ambient = 0;
        return check_sandboxed(f, c, err);
    }
    for (size_t i = 1; i < f->tracee.thread_count; i++) {
        CLEANUP_BUFFER struct buffer other = {0};
        char path[64];
        snprintf(path, sizeof path, "task/%d/status", f->tracee.threads[i].tid);
        if (read_status(f, path, &other, err) < 0)
            return -1;
        for (size_t k = 0; k < countof(lines); k++)
            if (!same_line(&status, &other, lines[k]))
                return tracee_refuse(&f->tracee, err,
                    "thread %d is another user or has other rights (%s) than its process",
                    f->tracee.threads[i].inner_tid, lines[k] + 1);
    }
    if (tracee_ask(&f->tracee, &c->secure_bits, err, SYS_prctl, PR_GET_SECUREBITS, 0) < 0)
        return -1;
    if (f == &f->family->freezes[0]) {
        plan_identity(f, &f->process->process_plan, c, &status);
        return 0;
    }
    bool same;
    if (is_like_root(f, &status, &same, err) < 0)
        return -1;
    if (!same)
        plan_identity(f, &f->on_memory, c, &status);
    return 0;
}

void freeze_thread_rights(struct freeze *f, struct plan *plan)
{
    const struct credentials *c = f->credentials;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {0};
    for (size_t i = 0; i < 2; i++)
        sets[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(c->effective >> 32 * i),
            .permitted = (uint32_t)(c->permitted >> 32 * i),
            .inheritable = (uint32_t)(c->inheritable >> 32 * i)};
    if (f->request->own_credentials && (!all_are_root(f) || c->secure_bits != 0))
        plan_call(plan, SYS_prctl, number(PR_SET_SECUREBITS), number((unsigned long)c->secure_bits));
    plan_call(plan, SYS_capset, plan_data(image_put(f->image, &header, sizeof header)),
        plan_data(image_put(f->image, sets, sizeof sets)));
    for (unsigned capability = 0; capability < CAPABILITY_COUNT; capability++)
        if (c->ambient >> capability & 1)
            plan_call(
                plan, SYS_prctl, number(PR_CAP_AMBIENT), number(PR_CAP_AMBIENT_RAISE), number(capability));
}
