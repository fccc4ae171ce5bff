/* /tmp is the snapshot's disk: folders, files with holes, links, FIFOs, modes, times, attributes.
 *
 * conformance: files | /tmp: folders, holes, links, modes, times, attributes | kept |
 */
#include "engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>

static void put(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK_EQUAL(write(fd, text, strlen(text)), strlen(text));
    CHECK(fchmod(fd, mode) == 0);
    close(fd);
}

static bool holds(const char *path, const char *text)
{
    char got[256] = {0};
    int fd = open(path, O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof got - 1);
    close(fd);
    return n >= 0 && strcmp(got, text) == 0;
}

static struct stat before[64];
static const char *const names[] = {"/tmp/plain", "/tmp/folder", "/tmp/folder/deep", "/tmp/folder/deep/file",
    "/tmp/link", "/tmp/fifo", "/tmp/hard", "/tmp/holes", "/tmp/closed", "/tmp/sticky", "/tmp/empty",
    "/tmp/set-id", "/tmp/socket"};

int main(void)
{
    umask(027);
    put("/tmp/plain", "plain", 0644);
    put("/tmp/empty", "", 0600);
    put("/tmp/set-id", "#!", 04755);
    CHECK(mkdir("/tmp/folder", 0755) == 0 && mkdir("/tmp/folder/deep", 0700) == 0);
    put("/tmp/folder/deep/file", "deep", 0400);
    CHECK(symlink("../nowhere/x", "/tmp/link") == 0 && mkfifo("/tmp/fifo", 0600) == 0);
    CHECK(link("/tmp/plain", "/tmp/hard") == 0);
    int holes = open("/tmp/holes", O_RDWR | O_CREAT, 0600);
    CHECK(ftruncate(holes, 100 << 20) == 0);
    CHECK_EQUAL(pwrite(holes, "middle", 6, 50 << 20), 6);
    close(holes);
    CHECK(mkdir("/tmp/closed", 0700) == 0);
    put("/tmp/closed/inside", "inside", 0600);
    CHECK(mkdir("/tmp/sticky", 0700) == 0 && chmod("/tmp/sticky", 01777) == 0);
    CHECK(setxattr("/tmp/plain", "user.colour", "blue", 4, 0) == 0 || errno == EOPNOTSUPP);
    struct sockaddr_un name = {AF_UNIX, "/tmp/socket"};
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(sock, (struct sockaddr *)&name, sizeof name) == 0);
    close(sock);
    struct timespec times[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
    CHECK(utimensat(AT_FDCWD, "/tmp/plain", times, 0) == 0 &&
          utimensat(AT_FDCWD, "/tmp/folder", times, 0) == 0 &&
          utimensat(AT_FDCWD, "/tmp/link", times, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(chmod("/tmp/closed", 0) == 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(lstat(names[i], &before[i]) == 0);

    test_freeze_point();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat now;
        CHECK(lstat(names[i], &now) == 0);
        if (now.st_mode != before[i].st_mode || (now.st_size != before[i].st_size && !S_ISDIR(now.st_mode)) ||
            now.st_mtim.tv_sec != before[i].st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != before[i].st_mtim.tv_nsec || now.st_uid != before[i].st_uid ||
            (S_ISREG(now.st_mode) && now.st_nlink != before[i].st_nlink)) {
            printf("FAIL: %s: mode %o was %o, size %ld was %ld, mtime %ld was %ld\n", names[i], now.st_mode,
                before[i].st_mode, now.st_size, before[i].st_size, now.st_mtim.tv_sec,
                before[i].st_mtim.tv_sec);
            return 1;
        }
    }
    CHECK(holds("/tmp/plain", "plain") && holds("/tmp/hard", "plain") &&
          holds("/tmp/folder/deep/file", "deep"));
    char text[64] = {0};
    CHECK_EQUAL(readlink("/tmp/link", text, sizeof text), 12);
    CHECK(strcmp(text, "../nowhere/x") == 0);
    holes = open("/tmp/holes", O_RDWR);
    CHECK_EQUAL(pread(holes, text, 6, 50 << 20), 6);
    CHECK(memcmp(text, "middle", 6) == 0);
    struct stat st;
    CHECK(fstat(holes, &st) == 0 && st.st_blocks <= 16);
    CHECK(chmod("/tmp/closed", 0700) == 0 && holds("/tmp/closed/inside", "inside"));
    memset(text, 0, sizeof text);
    CHECK(getxattr("/tmp/plain", "user.colour", text, sizeof text) == 4 || errno == EOPNOTSUPP ||
          errno == ENODATA);
    int count = 0;
    DIR *all = opendir("/tmp");
    for (struct dirent *e; (e = readdir(all));)
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    CHECK_EQUAL(count, 11);
    put("/tmp/mine", test_clone_index == 0 ? "0" : test_clone_index == 1 ? "1" : "2", 0600);
    test_barrier();
    snprintf(text, sizeof text, "%d", test_clone_index);
    CHECK(holds("/tmp/mine", text));
    CHECK_EQUAL(umask(0), 027);
    return 0;
}
