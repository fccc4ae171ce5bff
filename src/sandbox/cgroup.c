#include "sandbox/cgroup.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CGROUP_PATH_BYTES 128
#define CGROUP_FILE_BYTES (1024 * 1024)
#define CGROUP_STALE_WAIT_NS 2000000000u
#define CGROUP_STALE_POLL_US 2000
#define CPU_PERIOD_US 100000u
#define CPU_CORES_MAX 1024u                /* a quota of so many is none */
#define CPU_FULL_SHARES 1024u              /* v1, for one core's worth of memory */
#define CPU_FULL_WEIGHT 100u               /* v2 */
#define PIDS_MAX (LIMIT_FUNCTION_PIDS + 1) /* the sandbox's init is one */

static const struct {
    const char *name;
    enum cgroup_controller bit;
} controllers[] = {{"cpu", CGROUP_CPU}, {"memory", CGROUP_MEMORY}, {"pids", CGROUP_PIDS}};

static const struct cgroup_tree *tree_of(const struct cgroups *cg, enum cgroup_controller controller)
{
    for (size_t i = 0; i < cg->count; i++)
        if (cg->trees[i].controllers & controller)
            return &cg->trees[i];
    return NULL; /* cgroups_open refuses to go without any of the three */
}

static void sandbox_path(char path[CGROUP_PATH_BYTES], uint64_t id, const char *file)
{
    snprintf(path, CGROUP_PATH_BYTES, "sandbox-%" PRIu64 "%s%s", id, file ? "/" : "", file ? file : "");
}

static int write_file(
    const struct cgroup_tree *tree, uint64_t id, const char *file, uint64_t value, struct error *err)
{
    char path[CGROUP_PATH_BYTES], text[32];
    sandbox_path(path, id, file);
    snprintf(text, sizeof text, "%" PRIu64, value);
    return file_write_control(tree->base_fd, path, text, err);
}

static uint64_t cpu_share(const struct cgroup_tree *tree, uint32_t memory_mb)
{
    uint64_t full = tree->v2 ? CPU_FULL_WEIGHT : CPU_FULL_SHARES;
    uint64_t share = memory_mb * full / SANDBOX_FULL_CORE_MB;
    uint64_t least = tree->v2 ? 1 : 2;
    return share < least ? least : share;
}

static uint64_t cpu_quota_us(uint32_t memory_mb)
{
    uint64_t quota = (uint64_t)memory_mb * CPU_PERIOD_US / SANDBOX_FULL_CORE_MB;
    return quota < CPU_PERIOD_US ? CPU_PERIOD_US : quota;
}

static int write_cpu_quota(const struct cgroup_tree *tree, uint64_t id, uint32_t memory_mb, struct error *err)
{
    if (!tree->v2)
        return write_file(tree, id, "cpu.cfs_quota_us", cpu_quota_us(memory_mb), err);
    char path[CGROUP_PATH_BYTES], text[64];
    sandbox_path(path, id, "cpu.max");
    snprintf(text, sizeof text, "%" PRIu64 " %u", cpu_quota_us(memory_mb), CPU_PERIOD_US);
    return file_write_control(tree->base_fd, path, text, err);
}

/* v1 counts memory and swap together in a second limit that may never be below the first. */
static int write_memory_limit(
    const struct cgroups *cg, uint64_t id, uint32_t memory_mb, bool growing, struct error *err)
{
    const struct cgroup_tree *tree = tree_of(cg, CGROUP_MEMORY);
    uint64_t bytes = (uint64_t)memory_mb * 1024 * 1024;
    if (tree->v2)
        return write_file(tree, id, "memory.max", bytes, err);
    if (cg->swap && growing && write_file(tree, id, "memory.memsw.limit_in_bytes", bytes, err) < 0)
        return -1;
    if (write_file(tree, id, "memory.limit_in_bytes", bytes, err) < 0)
        return -1;
    if (cg->swap && !growing && write_file(tree, id, "memory.memsw.limit_in_bytes", bytes, err) < 0)
        return -1;
    return 0;
}

int cgroups_limit(
    const struct cgroups *cg, uint64_t id, uint32_t memory_mb, uint32_t memory_mb_before, struct error *err)
{
    if (memory_mb == memory_mb_before)
        return 0;
    const struct cgroup_tree *cpu = tree_of(cg, CGROUP_CPU);
    if (write_memory_limit(cg, id, memory_mb, memory_mb > memory_mb_before, err) < 0)
        return -1;
    const char *share_file = cpu->v2 ? "cpu.weight" : "cpu.shares";
    if (write_file(cpu, id, share_file, cpu_share(cpu, memory_mb), err) < 0)
        return -1;
    if (cpu_quota_us(memory_mb) == cpu_quota_us(memory_mb_before))
        return 0;
    return write_cpu_quota(cpu, id, memory_mb, err);
}

int cgroups_make(const struct cgroups *cg, uint64_t id, struct error *err)
{
    char path[CGROUP_PATH_BYTES];
    sandbox_path(path, id, NULL);
    for (size_t i = 0; i < cg->count; i++)
        if (mkdirat(cg->trees[i].base_fd, path, 0755) < 0)
            return error_system(err, "cannot make the cgroup %s/%s", cg->name, path);
    const struct cgroup_tree *cpu = tree_of(cg, CGROUP_CPU), *memory = tree_of(cg, CGROUP_MEMORY);
    if (write_file(tree_of(cg, CGROUP_PIDS), id, "pids.max", PIDS_MAX, err) < 0)
        return -1;
    if (write_memory_limit(cg, id, SANDBOX_DEFAULT_MEMORY_MB, false, err) < 0)
        return -1;
    if (memory->v2 && cg->swap && write_file(memory, id, "memory.swap.max", 0, err) < 0)
        return -1;
    const char *share_file = cpu->v2 ? "cpu.weight" : "cpu.shares";
    if (write_file(cpu, id, share_file, cpu_share(cpu, SANDBOX_DEFAULT_MEMORY_MB), err) < 0)
        return -1;
    return write_cpu_quota(cpu, id, SANDBOX_DEFAULT_MEMORY_MB, err);
}

int cgroups_enter(const struct cgroups *cg, uint64_t id, struct error *err)
{
    for (size_t i = 0; i < cg->count; i++)
        if (write_file(&cg->trees[i], id, "cgroup.procs", 0, err) < 0)
            return -1;
    return 0;
}

void cgroups_let_die(const struct cgroups *cg, uint64_t id)
{
    struct error ignored;
    const struct cgroup_tree *cpu = tree_of(cg, CGROUP_CPU);
    if (write_cpu_quota(cpu, id, SANDBOX_FULL_CORE_MB * CPU_CORES_MAX, &ignored) < 0 ||
        write_file(cpu, id, cpu->v2 ? "cpu.weight" : "cpu.shares", cpu_share(cpu, SANDBOX_FULL_CORE_MB),
            &ignored) < 0)
        return; /* then it dies slowly */
}

bool cgroups_remove(const struct cgroups *cg, uint64_t id)
{
    char path[CGROUP_PATH_BYTES];
    sandbox_path(path, id, NULL);
    bool gone = true;
    for (size_t i = 0; i < cg->count; i++)
        if (unlinkat(cg->trees[i].base_fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
            gone = false;
    return gone;
}

int cgroups_open_procs(const struct cgroups *cg, uint64_t id, int fds[SANDBOX_CGROUP_MAX], struct error *err)
{
    char path[CGROUP_PATH_BYTES];
    sandbox_path(path, id, "cgroup.procs");
    for (size_t i = 0; i < SANDBOX_CGROUP_MAX; i++)
        fds[i] = -1;
    for (size_t i = 0; i < cg->count; i++) {
        fds[i] = openat(cg->trees[i].base_fd, path, O_WRONLY | O_CLOEXEC);
        if (fds[i] < 0)
            return error_system(err, "cannot open the cgroup file %s/%s", cg->name, path);
    }
    return 0;
}

int cgroups_open_peak_memory(const struct cgroups *cg, uint64_t id, struct error *err)
{
    const struct cgroup_tree *tree = tree_of(cg, CGROUP_MEMORY);
    char path[CGROUP_PATH_BYTES];
    sandbox_path(path, id, tree->v2 ? "memory.peak" : "memory.max_usage_in_bytes");
    int fd = openat(tree->base_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && tree->v2) { /* memory.peak came with Linux 5.19 */
        sandbox_path(path, id, "memory.current");
        fd = openat(tree->base_fd, path, O_RDONLY | O_CLOEXEC);
    }
    if (fd < 0)
        return error_system(err, "cannot open the cgroup file %s/%s", cg->name, path);
    return fd;
}

bool cgroups_oom_killed(const struct cgroups *cg, uint64_t id)
{
    const struct cgroup_tree *tree = tree_of(cg, CGROUP_MEMORY);
    char path[CGROUP_PATH_BYTES];
    sandbox_path(path, id, tree->v2 ? "memory.events" : "memory.oom_control");
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(tree->base_fd, path, &text, CGROUP_FILE_BYTES, NULL) < 0)
        return false;
    buffer_append_u8(&text, 0);
    for (const char *line = (const char *)text.data; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, "oom_kill ", 9) == 0)
            return strtoull(line + 9, NULL, 10) > 0;
    }
    return false;
}

/* ---- which process a daemon's folder belongs to: thaw-<pid namespace>-<pid>-<start time>-<count> ---- */

static uint64_t process_start_time(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(AT_FDCWD, path, &text, CGROUP_FILE_BYTES, NULL) < 0)
        return 0;
    buffer_append_u8(&text, 0);
    /* The name in parentheses may hold anything; the start time is the 20th field after it. */
    const char *at = strrchr((const char *)text.data, ')');
    for (int field = 0; at && field < 20; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

static uint64_t own_pid_namespace(void)
{
    struct stat about;
    return stat("/proc/self/ns/pid", &about) == 0 ? about.st_ino : 0;
}

static bool is_stale(const char *name)
{
    uint64_t namespace, start;
    unsigned count;
    int pid, end = 0;
    int fields = sscanf(name, "thaw-%" SCNu64 "-%d-%" SCNu64 "-%u%n", &namespace, &pid, &start, &count, &end);
    if (fields != 4 || name[end] || namespace != own_pid_namespace())
        return false;
    return process_start_time(pid) != start;
}

static void kill_members(int dir_fd)
{
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(dir_fd, "cgroup.procs", &text, CGROUP_FILE_BYTES, NULL) < 0)
        return;
    buffer_append_u8(&text, 0);
    char *at = (char *)text.data;
    for (long pid; (pid = strtol(at, &at, 10)) > 0;)
        kill((pid_t)pid, SIGKILL);
}

/* Kills what lives in a folder and those below, and removes them; false when something is still there. */
static bool remove_tree(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return false;
    }
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            (void)remove_tree(fd, entry->d_name);
    kill_members(fd);
    closedir(dir);
    return unlinkat(parent_fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* Removes the folders of daemons that are no more. A process that was just killed takes a moment to leave its
 * cgroup; what cannot be removed in time is left to the next daemon. */
static void remove_stale(int parent_fd)
{
    uint64_t deadline = clock_monotonic_ns() + CGROUP_STALE_WAIT_NS;
    int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close(&fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_type != DT_DIR || !is_stale(entry->d_name))
            continue;
        while (!remove_tree(parent_fd, entry->d_name) && clock_monotonic_ns() < deadline)
            usleep(CGROUP_STALE_POLL_US);
    }
    closedir(dir);
}

/* ---- finding the hierarchies ---- */

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = text; (at = strstr(at, word)); at += len)
        if ((at == text || strchr(" \n", at[-1])) && strchr(" \n", at[len]))
            return true;
    return false;
}

static unsigned v2_controllers(int dir_fd)
{
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(dir_fd, "cgroup.controllers", &text, CGROUP_FILE_BYTES, NULL) < 0)
        return 0;
    buffer_append_u8(&text, 0);
    unsigned found = 0;
    for (size_t i = 0; i < countof(controllers); i++)
        if (has_word((const char *)text.data, controllers[i].name))
            found |= controllers[i].bit;
    return found;
}

static unsigned v1_controllers(const struct mntent *mount)
{
    unsigned found = 0;
    for (size_t i = 0; i < countof(controllers); i++)
        if (hasmntopt(mount, controllers[i].name))
            found |= controllers[i].bit;
    return found;
}

/* Where in the v2 tree our folder goes: into the cgroup we run in when the service manager has delegated that
 * to us (systemd marks it), else at the top, as container engines do. */
static int v2_parent(const char *mount_point, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(AT_FDCWD, "/proc/self/cgroup", &text, CGROUP_FILE_BYTES, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    const char *line = strstr((const char *)text.data, "0::/");
    char path[PATH_MAX], mark[8];
    if (line && (line == (const char *)text.data || line[-1] == '\n')) {
        snprintf(path, sizeof path, "%s%.*s", mount_point, (int)strcspn(line + 3, "\n"), line + 3);
        bool delegated = getxattr(path, "trusted.delegate", mark, sizeof mark) == 1 ||
                         getxattr(path, "user.delegate", mark, sizeof mark) == 1;
        if (delegated && mark[0] == '1')
            return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A v2 cgroup cannot both hold processes and hand controllers down: move those that are in it to a leaf. */
static int evacuate(int dir_fd, struct error *err)
{
    if (mkdirat(dir_fd, "thaw-daemon", 0755) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the cgroup thaw-daemon");
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(dir_fd, "cgroup.procs", &text, CGROUP_FILE_BYTES, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    char *at = (char *)text.data;
    for (long pid; (pid = strtol(at, &at, 10)) > 0;) {
        char number[24];
        struct error ignored; /* a process may have ended meanwhile */
        snprintf(number, sizeof number, "%ld", pid);
        if (file_write_control(dir_fd, "thaw-daemon/cgroup.procs", number, &ignored) < 0)
            continue;
    }
    return 0;
}

static int hand_down(int dir_fd, unsigned wanted, struct error *err)
{
    char text[64] = "";
    for (size_t i = 0; i < countof(controllers); i++)
        if (wanted & controllers[i].bit)
            snprintf(text + strlen(text), sizeof text - strlen(text), "+%s ", controllers[i].name);
    if (file_write_control(dir_fd, "cgroup.subtree_control", text, err) == 0)
        return 0;
    if (errno != EBUSY || evacuate(dir_fd, err) < 0)
        return -1;
    return file_write_control(dir_fd, "cgroup.subtree_control", text, err);
}

static int add_tree(struct cgroups *cg, const char *mount_point, bool v2, unsigned wanted, struct error *err)
{
    CLEANUP_FD int parent =
        v2 ? v2_parent(mount_point, err) : open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return error_system(err, "cannot open the cgroup folder %s", mount_point);
    remove_stale(parent);
    if (v2 && hand_down(parent, wanted, err) < 0)
        return error_prefix(err, "cannot enable controllers under %s", mount_point);
    if (mkdirat(parent, cg->name, 0755) < 0)
        return error_system(err, "cannot make the cgroup %s/%s", mount_point, cg->name);
    struct cgroup_tree *tree = &cg->trees[cg->count++];
    tree->base_fd = openat(parent, cg->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    tree->parent_fd = fd_steal(&parent);
    tree->controllers = wanted;
    tree->v2 = v2;
    if (tree->base_fd < 0)
        return error_system(err, "cannot open the cgroup %s/%s", mount_point, cg->name);
    return v2 ? hand_down(tree->base_fd, wanted, err) : 0;
}

/* One pass over the mounts for v2, then one for what v1 has of the rest. */
static int find_trees(struct cgroups *cg, bool v2, unsigned *missing, struct error *err)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    if (!mounts)
        return error_system(err, "cannot read /proc/self/mounts");
    struct mntent *mount;
    int result = 0;
    while (result == 0 && *missing && (mount = getmntent(mounts))) {
        if (strcmp(mount->mnt_type, v2 ? "cgroup2" : "cgroup") != 0)
            continue;
        CLEANUP_FD int dir = open(mount->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        unsigned here = (v2 ? v2_controllers(dir) : v1_controllers(mount)) & *missing;
        if (dir < 0 || here == 0)
            continue;
        result = add_tree(cg, mount->mnt_dir, v2, here, err);
        *missing &= ~here;
    }
    endmntent(mounts);
    return result;
}

static bool machine_swaps(void)
{
    CLEANUP_BUFFER struct buffer text = {0};
    if (file_read(AT_FDCWD, "/proc/swaps", &text, CGROUP_FILE_BYTES, NULL) < 0)
        return false;
    buffer_append_u8(&text, 0);
    const char *header_end = strchr((const char *)text.data, '\n');
    return header_end && header_end[1];
}

static void describe(struct cgroups *cg)
{
    char *at = cg->text, *end = cg->text + sizeof cg->text;
    for (size_t i = 0; i < cg->count; i++) {
        at += snprintf(at, (size_t)(end - at), "%scgroup %s (", i ? ", " : "", cg->trees[i].v2 ? "v2" : "v1");
        const char *separator = "";
        for (size_t j = 0; j < countof(controllers); j++) {
            if (!(cg->trees[i].controllers & controllers[j].bit))
                continue;
            at += snprintf(at, (size_t)(end - at), "%s%s", separator, controllers[j].name);
            separator = " ";
        }
        at += snprintf(at, (size_t)(end - at), ")");
    }
}

int cgroups_open(struct cgroups *cg, struct error *err)
{
    static unsigned opened; /* a process may open several, one after the other or at once */
    unsigned missing = CGROUP_ALL;
    *cg = (struct cgroups){.swap = machine_swaps()};
    snprintf(cg->name, sizeof cg->name, "thaw-%" PRIu64 "-%d-%" PRIu64 "-%u", own_pid_namespace(), getpid(),
        process_start_time(getpid()), opened++);
    int result = find_trees(cg, true, &missing, err);
    if (result == 0 && missing)
        result = find_trees(cg, false, &missing, err);
    if (result == 0 && missing)
        result = error_set(err, ERROR_UNSUPPORTED,
            "this machine has no cgroup hierarchy with the controller%s%s%s",
            missing & CGROUP_CPU ? " cpu" : "", missing & CGROUP_MEMORY ? " memory" : "",
            missing & CGROUP_PIDS ? " pids" : "");
    if (result < 0) {
        cgroups_close(cg);
        return -1;
    }
    describe(cg);
    return 0;
}

void cgroups_close(struct cgroups *cg)
{
    for (size_t i = 0; i < cg->count; i++) {
        struct cgroup_tree *tree = &cg->trees[i];
        fd_close(&tree->base_fd);
        (void)remove_tree(tree->parent_fd, cg->name);
        fd_close(&tree->parent_fd);
    }
    cg->count = 0;
}
