/* conformance: files | extended attributes of files, folders, deleted files and memfds | kept |
 *
 * Short, empty and long values. */
#include "help.h"

#include <sys/mman.h>
#include <sys/xattr.h>

static bool is(int fd, const char *name, const void *wanted, size_t len)
{
    static char got[8192];
    ssize_t n = fgetxattr(fd, name, got, sizeof got);
    return n == (ssize_t)len && memcmp(got, wanted, len) == 0;
}

int main(void)
{
    static char large[4000];
    memset(large, 'v', sizeof large);
    CHECK(test_put("/tmp/file", "text", 0600) && mkdir("/tmp/folder", 0700) == 0);
    int file = open("/tmp/file", O_RDWR), folder = open("/tmp/folder", O_RDONLY),
        deleted = open("/tmp/deleted", O_RDWR | O_CREAT, 0600), memory = memfd_create("memory", 0);
    CHECK(fsetxattr(file, "user.colour", "blue", 4, 0) == 0 && fsetxattr(file, "user.empty", "", 0, 0) == 0 &&
          fsetxattr(file, "user.large", large, sizeof large, 0) == 0);
    CHECK(fsetxattr(folder, "user.kind", "folder", 6, 0) == 0);
    CHECK(unlink("/tmp/deleted") == 0 && fsetxattr(deleted, "user.state", "deleted", 7, 0) == 0);
    CHECK(fsetxattr(memory, "user.where", "memory", 6, 0) == 0);
    CHECK(test_put("/tmp/closed", "", 0) && setxattr("/tmp/closed", "user.late", "x", 1, 0) < 0);

    test_freeze_point();
    char names[256];
    CHECK(is(file, "user.colour", "blue", 4) && is(file, "user.empty", "", 0) &&
          is(file, "user.large", large, sizeof large));
    CHECK_EQUAL(flistxattr(file, names, sizeof names), 12 + 11 + 11);
    CHECK(is(folder, "user.kind", "folder", 6) && is(deleted, "user.state", "deleted", 7) &&
          is(memory, "user.where", "memory", 6));
    CHECK_EQUAL(listxattr("/tmp/closed", names, sizeof names), 0);
    return 0;
}
