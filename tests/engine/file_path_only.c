/* conformance: files | `O_PATH`: files, folders, symbolic links, devices | kept | they lead to the same file, and cannot be read
 *
 * A symbolic link by itself (with O_NOFOLLOW), a folder as a base for openat, a file to be opened through /proc. */
#include "help.h"

int main(void)
{
    CHECK(mkdir("/tmp/folder", 0700) == 0 && test_put("/tmp/folder/file", "found", 0400));
    CHECK(symlink("folder/file", "/tmp/link") == 0);
    int file = open("/tmp/folder/file", O_PATH | O_CLOEXEC),
        folder = open("/tmp/folder", O_PATH | O_DIRECTORY), link = open("/tmp/link", O_PATH | O_NOFOLLOW),
        device = open("/dev/null", O_PATH), code = open("/var/task", O_PATH),
        program = open("/proc/self/exe", O_PATH);
    CHECK(file >= 0 && folder >= 0 && link >= 0 && device >= 0 && code >= 0 && program >= 0);

    test_freeze_point();
    char text[64] = {0}, byte;
    struct stat st;
    CHECK(read(file, &byte, 1) < 0 && errno == EBADF && fcntl(file, F_GETFD) == FD_CLOEXEC);
    snprintf(text, sizeof text, "/proc/self/fd/%d", file);
    CHECK(test_holds(text, "found"));
    int inside = openat(folder, "file", O_RDONLY);
    CHECK(inside >= 0 && test_reads(inside, "found") && test_has_flag(folder, O_PATH | O_DIRECTORY));
    CHECK(fstat(link, &st) == 0 && S_ISLNK(st.st_mode));
    memset(text, 0, sizeof text);
    CHECK(readlinkat(link, "", text, sizeof text) == 11 && strcmp(text, "folder/file") == 0);
    CHECK(fstat(device, &st) == 0 && S_ISCHR(st.st_mode) && write(device, "x", 1) < 0 && errno == EBADF);
    CHECK((inside = openat(code, "engine_file_path_only", O_RDONLY)) >= 0);
    struct stat other;
    CHECK(fstat(inside, &st) == 0 && fstat(program, &other) == 0 && st.st_ino == other.st_ino);
    return 0;
}
