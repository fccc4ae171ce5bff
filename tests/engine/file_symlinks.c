/* conformance: files | symbolic links: dangling, in a circle, long, to folders, outside /tmp | kept | with their times
 *
 * A file that was opened through a link stays open when the link leads elsewhere. */
#include "help.h"

#include <limits.h>

int main(void)
{
    static char target[4000], got[PATH_MAX];
    struct stat st;
    memset(target, 't', sizeof target - 1);
    for (size_t i = 200; i < sizeof target - 1; i += 200)
        target[i] = '/';
    CHECK(mkdir("/tmp/folder", 0700) == 0 && test_put("/tmp/folder/file", "first", 0600) &&
          test_put("/tmp/folder/other", "second", 0600));
    CHECK(symlink("nowhere", "/tmp/dangling") == 0 && symlink("circle", "/tmp/circle") == 0 &&
          symlink(target, "/tmp/long") == 0 && symlink("folder", "/tmp/way") == 0 &&
          symlink("/var/task", "/tmp/code") == 0 && symlink("way/file", "/tmp/file") == 0);
    int file = open("/tmp/file", O_RDWR), folder = open("/tmp/way", O_RDONLY | O_DIRECTORY);
    CHECK(file >= 0 && folder >= 0 && unlink("/tmp/file") == 0 && symlink("way/other", "/tmp/file") == 0);
    static const struct timespec times[2] = {{10, 11}, {12, 13}};
    CHECK(utimensat(AT_FDCWD, "/tmp/dangling", times, AT_SYMLINK_NOFOLLOW) == 0);

    test_freeze_point();
    CHECK(test_reads(file, "first") && test_holds("/tmp/file", "second") &&
          test_holds("/tmp/way/file", "first"));
    CHECK(lstat("/tmp/dangling", &st) == 0 && S_ISLNK(st.st_mode) && st.st_mtim.tv_sec == 12 &&
          st.st_mtim.tv_nsec == 13);
    CHECK(readlink("/tmp/dangling", got, sizeof got) == 7 && memcmp(got, "nowhere", 7) == 0);
    CHECK(open("/tmp/circle", O_RDONLY) < 0 && errno == ELOOP);
    CHECK(readlink("/tmp/long", got, sizeof got) == sizeof target - 1 &&
          memcmp(got, target, sizeof target - 1) == 0);
    CHECK(access("/tmp/code/engine_file_symlinks", X_OK) == 0 && faccessat(folder, "other", R_OK, 0) == 0);
    return 0;
}
