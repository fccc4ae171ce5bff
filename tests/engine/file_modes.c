/* conformance: files | modes and times of files, folders, FIFOs and deleted files | noted | set-id and sticky bits too; the time of the last change of state and of birth are the thaw's
 *
 * Nanoseconds before 1970 and after 2038 as well. */
#include "help.h"

#include <sys/time.h>

static const struct {
    const char *path;
    mode_t mode;
    struct timespec times[2];
} files[] = {
    {"/tmp/set-user", S_IFREG | 06755, {{1, 1}, {2, 999999999}}},
    {"/tmp/nobody", S_IFREG | 0, {{4000000000, 5}, {5000000000, 6}}},
    {"/tmp/write-only", S_IFREG | 0222, {{-100, 7}, {-1, 8}}},
    {"/tmp/shared", S_IFDIR | 03777, {{100, 0}, {200, 0}}},
    {"/tmp/shut", S_IFDIR | 0, {{100, 0}, {300, 0}}},
    {"/tmp/fifo", S_IFIFO | 0411, {{100, 0}, {400, 0}}},
};
#define FILES (sizeof files / sizeof *files)

static bool is_so(const struct stat *st, mode_t mode, const struct timespec times[2])
{
    return st->st_mode == mode && memcmp(&st->st_mtim, &times[1], sizeof *times) == 0 &&
           memcmp(&st->st_atim, &times[0], sizeof *times) == 0;
}

int main(void)
{
    struct stat st;
    static const struct timespec then[2] = {{1000, 1}, {2000, 2}};
    int held[FILES] = {0}, deleted = open("/tmp/deleted", O_RDWR | O_CREAT, 0600);
    for (size_t i = 0; i < FILES; i++) {
        mode_t type = files[i].mode & S_IFMT;
        if (type == S_IFREG)
            held[i] = open(files[i].path, O_RDWR | O_CREAT, 0600);
        else
            CHECK((type == S_IFDIR ? mkdir(files[i].path, 0700) : mkfifo(files[i].path, 0600)) == 0);
    }
    for (size_t i = 0; i < FILES; i++)
        CHECK(chmod(files[i].path, files[i].mode & 07777) == 0 &&
              utimensat(AT_FDCWD, files[i].path, files[i].times, 0) == 0);
    CHECK(test_writes(deleted, "text") && fchmod(deleted, 06711) == 0 && unlink("/tmp/deleted") == 0);
    CHECK(futimens(deleted, then) == 0);

    test_freeze_point();
    for (size_t i = 0; i < FILES; i++) {
        CHECK(stat(files[i].path, &st) == 0);
        if (!is_so(&st, files[i].mode, files[i].times))
            printf("FAIL: %s has mode %o and times %ld %ld\n", files[i].path, st.st_mode,
                (long)st.st_atim.tv_sec, (long)st.st_mtim.tv_sec);
        CHECK(is_so(&st, files[i].mode, files[i].times));
    }
    CHECK(fstat(deleted, &st) == 0 && is_so(&st, S_IFREG | 06711, then));
    CHECK(test_writes(held[1], "x") && write(held[2], "x", 1) == 1);
    return 0;
}
