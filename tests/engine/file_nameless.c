/* conformance: files | files made without a name (`O_TMPFILE`) | kept | and can still be given one
 *
 * Written before the freeze, linked into /tmp after it. */
#include "help.h"

int main(void)
{
    char path[64];
    struct stat st;
    int file = open("/tmp", O_TMPFILE | O_RDWR, 0640),
        other = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(file >= 0 && test_writes(file, "without a name") && test_writes(other, "write only"));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int reader = open(path, O_RDONLY);
    CHECK(reader >= 0 && lseek(file, 8, SEEK_SET) == 8);

    test_freeze_point();
    CHECK(fstat(file, &st) == 0 && st.st_nlink == 0 && (st.st_mode & 07777) == 0640 && st.st_size == 14);
    CHECK(test_reads(file, "a name") && test_reads(reader, "without a name"));
    CHECK(fcntl(other, F_GETFD) == FD_CLOEXEC && test_writes(other, "!"));
    CHECK(read(other, path, 1) < 0 && errno == EBADF);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/named", AT_SYMLINK_FOLLOW) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", other);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/named-too", AT_SYMLINK_FOLLOW) == 0);
    CHECK(test_holds("/tmp/named", "without a name") && test_holds("/tmp/named-too", "write only!"));
    CHECK(fstat(reader, &st) == 0 && st.st_nlink == 1);
    return 0;
}
