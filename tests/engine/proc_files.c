/* conformance: files | files and folders of /proc that are open | noted | they tell of the clone; what is read in part goes on at the same offset of a text that may be another by now
 *
 * Of the process, of the machine, of its descriptors. */
#include "help.h"

#include <dirent.h>

int main(void)
{
    static char text[16384], wanted[64];
    int status = open("/proc/self/status", O_RDONLY), half = open("/proc/self/status", O_RDONLY),
        maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC),
        limit = open("/proc/sys/kernel/pid_max", O_RDONLY), meminfo = open("/proc/meminfo", O_RDONLY),
        comm = open("/proc/self/comm", O_RDWR), memory = open("/proc/self/mem", O_RDWR),
        numbers = open("/proc/self/fd", O_RDONLY | O_DIRECTORY),
        thread = open("/proc/thread-self/stat", O_RDONLY), net = open("/proc/self/net/tcp", O_RDONLY);
    CHECK(status >= 0 && maps >= 0 && limit >= 0 && meminfo >= 0 && comm >= 0 && memory >= 0 && numbers >= 0);
    CHECK(thread >= 0 && net >= 0 && read(half, text, 10) == 10);

    test_freeze_point();
    CHECK(read(status, text, sizeof text - 1) > 0);
    snprintf(wanted, sizeof wanted, "\nPid:\t%d\n", getpid());
    CHECK(strncmp(text, "Name:\tengine_proc", 17) == 0 && strstr(text, wanted));
    char *rest = strdup(text + 10);
    memset(text, 0, sizeof text);
    CHECK_EQUAL(lseek(half, 0, SEEK_CUR), 10);
    CHECK(read(half, text, 20) == 20 && strncmp(text, rest, 20) == 0);
    CHECK(read(maps, text, sizeof text) > 100 && fcntl(maps, F_GETFD) == FD_CLOEXEC);
    CHECK(read(limit, text, sizeof text) > 1 && read(meminfo, text, sizeof text) > 100);
    CHECK(test_writes(comm, "renamed"));
    CHECK(test_holds("/proc/self/comm", "renamed\n"));
    int seen = 0, here = 42 + test_clone_index;
    CHECK(pread(memory, &seen, sizeof seen, (off_t)(uintptr_t)&here) == sizeof seen && seen == here);
    snprintf(wanted, sizeof wanted, "%d", comm);
    CHECK(readlinkat(numbers, wanted, text, sizeof text) > 0 &&
          faccessat(numbers, "99", F_OK, AT_SYMLINK_NOFOLLOW) < 0);
    CHECK(read(thread, text, sizeof text) > 0 && atoi(text) == getpid());
    CHECK(read(net, text, sizeof text) > 0 && strstr(text, "local_address"));
    return 0;
}
