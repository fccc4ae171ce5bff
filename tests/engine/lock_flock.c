/* conformance: files | `flock`: shared, exclusive, held by duplicates, on folders and deleted files | kept | it goes when the last duplicate is closed
 *
 * Whether a lock is held is asked by another opening of the file. */
#include "help.h"

#include <sys/file.h>

static bool is_free(const char *path, int how)
{
    int fd = open(path, O_RDONLY);
    bool yes = flock(fd, how | LOCK_NB) == 0;
    CHECK(yes || errno == EWOULDBLOCK);
    close(fd);
    return yes;
}

int main(void)
{
    char path[64];
    CHECK(mkdir("/tmp/folder", 0700) == 0);
    int exclusive = open("/tmp/exclusive", O_RDWR | O_CREAT, 0600), twin = dup(exclusive),
        shared = open("/tmp/shared", O_RDWR | O_CREAT, 0600), shared_too = open("/tmp/shared", O_RDONLY),
        folder = open("/tmp/folder", O_RDONLY), released = open("/tmp/released", O_RDWR | O_CREAT, 0600),
        deleted = open("/tmp/deleted", O_RDWR | O_CREAT, 0600);
    CHECK(flock(twin, LOCK_EX) == 0 && flock(shared, LOCK_SH) == 0 && flock(shared_too, LOCK_SH) == 0);
    CHECK(flock(folder, LOCK_EX) == 0 && flock(released, LOCK_EX) == 0 && flock(released, LOCK_UN) == 0);
    CHECK(flock(deleted, LOCK_EX) == 0 && unlink("/tmp/deleted") == 0);

    test_freeze_point();
    CHECK(
        !is_free("/tmp/exclusive", LOCK_SH) && close(exclusive) == 0 && !is_free("/tmp/exclusive", LOCK_SH));
    CHECK(close(twin) == 0 && is_free("/tmp/exclusive", LOCK_EX));
    CHECK(is_free("/tmp/shared", LOCK_SH) && !is_free("/tmp/shared", LOCK_EX) && close(shared) == 0);
    CHECK(!is_free("/tmp/shared", LOCK_EX) && flock(shared_too, LOCK_UN) == 0 &&
          is_free("/tmp/shared", LOCK_EX));
    CHECK(!is_free("/tmp/folder", LOCK_SH) && is_free("/tmp/released", LOCK_EX));
    snprintf(path, sizeof path, "/proc/self/fd/%d", deleted);
    CHECK(!is_free(path, LOCK_SH) && flock(deleted, LOCK_UN) == 0 && is_free(path, LOCK_EX));
    return 0;
}
