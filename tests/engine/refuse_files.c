/* Files that cannot be frozen must refuse the freeze by name: the first argument chooses.
 *
 * conformance: files | a deleted folder that is open, a deleted FIFO, a deleted file that is open by `O_PATH` only | refused | there is nothing to open it by
 * conformance: files | a folder of /tmp that is half read | refused | its order is not the same in a clone
 * conformance: files | a memfd that is sealed, of which only descriptors for reading are left | refused | it could not be sealed again
 * conformance: files | files of /proc of another thread, of another process, of a descriptor | refused | they are not there when descriptors are made
 * conformance: descriptors | a folder that sends signals (`F_NOTIFY`) | refused | the kernel does not show what it watches
 * conformance: descriptors | inotify watches on a deleted file | refused | it has no path to be watched by
 * conformance: descriptors | fanotify groups, landlock rulesets, secret memory | refused | a program that asks the sandbox for them is told that it may not, or that there are none
 * conformance: descriptors | a descriptor's number just below the limit of all | refused | the template needs some above all that are kept */
#include "help.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int open_deleted_folder(void)
{
    CHECK(mkdir("/tmp/folder", 0700) == 0);
    int fd = open("/tmp/folder", O_RDONLY);
    return rmdir("/tmp/folder") == 0 ? fd : -1;
}

static int open_deleted_fifo(void)
{
    CHECK(mkfifo("/tmp/fifo", 0600) == 0);
    int fd = open("/tmp/fifo", O_RDWR);
    return unlink("/tmp/fifo") == 0 ? fd : -1;
}

static int open_deleted_path(void)
{
    CHECK(test_put("/tmp/file", "text", 0600));
    int fd = open("/tmp/file", O_PATH);
    return unlink("/tmp/file") == 0 ? fd : -1;
}

static int read_half(void)
{
    char path[32], entries[128];
    for (int i = 0; i < 50; i++) {
        snprintf(path, sizeof path, "/tmp/file-%d", i);
        CHECK(test_put(path, "", 0600));
    }
    int fd = open("/tmp", O_RDONLY);
    return getdents64(fd, entries, sizeof entries) > 0 ? fd : -1;
}

static int keep_sealed_reader(void)
{
    char path[32];
    int fd = memfd_create("sealed", MFD_ALLOW_SEALING);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && close(fd) == 0);
    return reader;
}

static int thread_file;

static void *open_own_file(void *unused)
{
    thread_file = open("/proc/thread-self/stat", O_RDONLY);
    eventfd_write(*(int *)unused, 1);
    while (pause() < 0)
        ;
    return NULL;
}

static int open_thread_file(void)
{
    eventfd_t value;
    pthread_t thread;
    static int ready;
    ready = eventfd(0, 0);
    CHECK(pthread_create(&thread, NULL, open_own_file, &ready) == 0 && eventfd_read(ready, &value) == 0);
    return thread_file;
}

static int open_ended(void)
{
    char path[32];
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
    return fd;
}

static int open_fdinfo(void)
{
    return open("/proc/self/fdinfo/0", O_RDONLY);
}

static int notify(void)
{
    int fd = open("/tmp", O_RDONLY);
    signal(SIGIO, SIG_IGN);
    return fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT) == 0 ? fd : -1;
}

static int watch_deleted(void)
{
    CHECK(test_put("/tmp/file", "text", 0600));
    int file = open("/tmp/file", O_RDONLY), fd = inotify_init1(IN_NONBLOCK);
    CHECK(file >= 0 && inotify_add_watch(fd, "/tmp/file", IN_MODIFY) == 1);
    return unlink("/tmp/file") == 0 ? fd : -1;
}

static int open_fanotify(void)
{
    return fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY);
}

static int open_rules(void)
{
    uint64_t handled = 1; /* LANDLOCK_ACCESS_FS_EXECUTE */
    return (int)syscall(444 /* landlock_create_ruleset */, &handled, sizeof handled, 0);
}

static int open_secret(void)
{
    return (int)syscall(447 /* memfd_secret */, 0);
}

static int number_high(void)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    return dup2(0, (int)limit.rlim_cur - 1);
}

static const struct test_maker makers[] = {
    {"deleted-folder", open_deleted_folder},
    {"deleted-fifo", open_deleted_fifo},
    {"deleted-path", open_deleted_path},
    {"half-read", read_half},
    {"sealed-reader", keep_sealed_reader},
    {"thread-file", open_thread_file},
    {"ended-process", open_ended},
    {"fdinfo", open_fdinfo},
    {"notify", notify},
    {"deleted-watch", watch_deleted},
    {"fanotify", open_fanotify},
    {"landlock", open_rules},
    {"secret-memory", open_secret},
    {"high-number", number_high},
};

int main(int argc, char **argv)
{
    return test_refusal(argc, argv, makers, sizeof makers / sizeof *makers);
}
