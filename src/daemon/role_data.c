/* The data folder, the front's user, and the front's process. */
#include "base/fd.h"
#include "daemon/role.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

int role_find_user(const char *name, uid_t *uid, gid_t *gid, struct error *err)
{
    const struct passwd *user = getpwnam(name != NULL ? name : "thaw");
    if (user == NULL && name != NULL)
        return error_set(err, ERROR_INVALID, "there is no user %s", name);
    *uid = user != NULL ? user->pw_uid : ROLE_FRONT_UID;
    *gid = user != NULL ? user->pw_gid : ROLE_FRONT_UID;
    if (*uid == 0)
        return error_set(err, ERROR_INVALID, "the unprivileged role cannot run as root");
    return 0;
}

/* A POSIX lock, as it is not inherited by children: it goes when this process goes. */
static int lock_data(int data_fd, const char *path, struct error *err)
{
    CLEANUP_FD int fd = openat(data_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_system(err, "cannot write in the data folder %s", path);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &lock) == 0)
        return fd_steal(&fd);
    if (errno != EAGAIN && errno != EACCES)
        return error_system(err, "cannot lock the data folder %s", path);
    pid_t holder = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    return error_set(
        err, ERROR_CONFLICT, "another thawd (process %d) is using the data folder %s", holder, path);
}

/* All of it when its owner changed: --user may differ from the last start's. */
static int give_folder(const char *data, const char *name, uid_t uid, gid_t gid, struct error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", data, name);
    struct stat about;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the folder %s", path);
    if (lstat(path, &about) < 0 || !S_ISDIR(about.st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a folder", path);
    if (about.st_uid == uid && about.st_gid == gid)
        return 0;
    char *paths[] = {path, NULL};
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
    if (tree == NULL)
        return error_system(err, "cannot walk the folder %s", path);
    int failed = 0;
    for (FTSENT *entry; (entry = fts_read(tree)) != NULL;)
        if (entry->fts_info != FTS_DP && lchown(entry->fts_path, uid, gid) < 0)
            failed = errno;
    fts_close(tree);
    errno = failed;
    return failed != 0 ? error_system(err, "cannot give the folder %s to user %u", path, uid) : 0;
}

int role_open_data(const char *path, uid_t uid, gid_t gid, int *lock_fd, struct error *err)
{
    static const char *const folders[] = {"catalog", "logs", "code"};
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the data folder %s", path);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "cannot open the data folder %s", path);
    *lock_fd = lock_data(fd, path, err);
    if (*lock_fd < 0)
        return -1;
    for (size_t i = 0; i < countof(folders); i++) {
        if (give_folder(path, folders[i], uid, gid, err) == 0)
            continue;
        fd_close(lock_fd);
        return -1;
    }
    return fd_steal(&fd);
}

#define ARGS_MAX 64
#define FIRST_FD 3
#define FDS_MAX 8

static void exec_role(char **argv, const char *role, const int *fds, int fd_count)
{
    char *args[ARGS_MAX + 2];
    int count = 0;
    args[count++] = argv[0];
    args[count++] = (char *)role;
    for (int i = 1; argv[i] != NULL && count < ARGS_MAX; i++)
        args[count++] = argv[i];
    args[count] = NULL;
    /* Out of the way first, so that no number is overwritten before it was copied. */
    int high[FDS_MAX];
    for (int i = FIRST_FD; i < fd_count; i++)
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64);
    for (int i = FIRST_FD; i < fd_count; i++)
        if (dup2(high[i], i) < 0)
            return;
    close_range((unsigned)fd_count, ~0u, 0);
    unsetenv("NOTIFY_SOCKET");
    setsid(); /* a terminal's Ctrl-C is for the warden, which then ends the others in order */
    execv("/proc/self/exe", args);
}

int role_start(
    char **argv, const char *role, const int *fds, int fd_count, pid_t *pid, int *pidfd, struct error *err)
{
    *pid = fork();
    if (*pid < 0)
        return error_system(err, "cannot fork for %s", role);
    if (*pid == 0) {
        exec_role(argv, role, fds, fd_count);
        fprintf(stderr, "thawd: cannot run itself with %s: %s\n", role, strerror(errno));
        _exit(1);
    }
    *pidfd = pidfd_open(*pid, 0);
    if (*pidfd >= 0)
        return 0;
    error_system(err, "cannot watch the process with %s", role);
    kill(*pid, SIGKILL);
    return -1;
}

int role_start_front(char **argv, int warden_fd, int listen_fd, pid_t *pid, int *pidfd, struct error *err)
{
    const int fds[ROLE_FD_COUNT] = {[ROLE_FD_WARDEN] = warden_fd, [ROLE_FD_LISTEN] = listen_fd};
    return role_start(argv, "--role=front", fds, ROLE_FD_COUNT, pid, pidfd, err);
}
