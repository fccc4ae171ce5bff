/* Files: positions, flags, what dup shares, folders, /dev, code files, what is not there must stay away.
 *
 * conformance: files | files and folders that are open | kept | opened anew at their position
 * conformance: files | /dev/null, zero, full, random, urandom | kept |
 */
#include "engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static void check_same_description(int a, int b)
{
    off_t at = lseek(a, 0, SEEK_CUR);
    CHECK_EQUAL(lseek(b, 0, SEEK_CUR), at);
    CHECK_EQUAL(lseek(a, 3, SEEK_SET), 3);
    CHECK_EQUAL(lseek(b, 0, SEEK_CUR), 3);
    CHECK_EQUAL(lseek(a, at, SEEK_SET), at);
}

int main(void)
{
    char text[64];
    int code = open("/var/task/engine_files", O_RDONLY | O_CLOEXEC);
    CHECK(code >= 0);
    CHECK_EQUAL(lseek(code, 1, SEEK_SET), 1);
    int file = open("/tmp/file", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(file >= 0);
    CHECK_EQUAL(write(file, "0123456789", 10), 10);
    CHECK_EQUAL(lseek(file, 4, SEEK_SET), 4);
    int same = dup(file);
    int other = open("/tmp/file", O_RDONLY);
    int append = open("/tmp/file", O_WRONLY | O_APPEND | O_NONBLOCK);
    int folder = open("/tmp", O_RDONLY | O_DIRECTORY);
    int path = open("/tmp/file", O_PATH);
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY),
        full = open("/dev/full", O_RDWR), random_device = open("/dev/urandom", O_RDONLY);
    int secret = open("/tmp/secret", O_RDWR | O_CREAT, 0600);
    CHECK(fchmod(secret, 0) == 0);
    CHECK_EQUAL(dup3(file, 90, O_CLOEXEC), 90);
    CHECK(
        append >= 0 && folder >= 0 && path >= 0 && zero >= 0 && null >= 0 && full >= 0 && random_device >= 0);

    test_freeze_point();
    CHECK_EQUAL(read(code, text, 3), 3);
    CHECK(memcmp(text, "ELF", 3) == 0);
    CHECK_EQUAL(fcntl(code, F_GETFD), FD_CLOEXEC);
    check_same_description(file, same);
    check_same_description(file, 90);
    CHECK_EQUAL(fcntl(90, F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(lseek(other, 0, SEEK_CUR), 0);
    CHECK_EQUAL(
        fcntl(append, F_GETFL) & (O_APPEND | O_NONBLOCK | O_ACCMODE), O_APPEND | O_NONBLOCK | O_WRONLY);
    CHECK_EQUAL(write(append, "ab", 2), 2);
    CHECK_EQUAL(read(other, text, sizeof text), 12);
    CHECK(memcmp(text, "0123456789ab", 12) == 0);
    CHECK_EQUAL(read(file, text, 2), 2);
    CHECK(memcmp(text, "45", 2) == 0);
    struct stat st, st2;
    CHECK(fstat(path, &st) == 0 && fstat(file, &st2) == 0 && st.st_ino == st2.st_ino);
    CHECK_EQUAL(st2.st_mode & 07777, 0640);
    CHECK(faccessat(folder, "file", R_OK, 0) == 0);
    CHECK_EQUAL(read(zero, text, 4), 4);
    CHECK_EQUAL(write(null, "x", 1), 1);
    CHECK(write(full, "x", 1) < 0 && errno == ENOSPC);
    CHECK_EQUAL(read(random_device, text, 16), 16);
    CHECK_EQUAL(pwrite(secret, "s", 1, 0), 1);
    CHECK(fstat(secret, &st) == 0 && (st.st_mode & 07777) == 0);

    int count = 0;
    DIR *all = opendir("/proc/self/fd");
    for (struct dirent *e; (e = readdir(all));)
        count += e->d_name[0] != '.';
    CHECK_EQUAL(count, 3 + 12 + 1 + 1 + 1); /* 0-2; those above and 90; the connection; this listing */
    return 0;
}
