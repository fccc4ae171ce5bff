/* Files without a name: two descriptors of one, one opened without ever having had a name, a hole, one that
 * is still known by another name, one whose folder is gone, one opened for reading only.
 *
 * conformance: files | deleted and nameless files that are open | kept | with their contents, shared by all descriptors of them
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/stat.h>

int main(void)
{
    char text[64];
    struct stat st;
    int a = open("/tmp/a", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(write(a, "contents", 8), 8);
    int a_reader = open("/tmp/a", O_RDONLY);
    CHECK_EQUAL(lseek(a_reader, 3, SEEK_SET), 3);
    CHECK(unlink("/tmp/a") == 0);
    int again = open("/tmp/a", O_RDWR | O_CREAT | O_EXCL, 0600); /* another file of the same name */
    CHECK_EQUAL(write(again, "named", 5), 5);
    int nameless = open("/tmp", O_TMPFILE | O_RDWR, 0644);
    CHECK(nameless >= 0 && ftruncate(nameless, 10 << 20) == 0);
    CHECK_EQUAL(pwrite(nameless, "far", 3, 5 << 20), 3);
    int linked = open("/tmp/linked", O_RDWR | O_CREAT, 0600);
    CHECK(link("/tmp/linked", "/tmp/other-name") == 0 && unlink("/tmp/linked") == 0);
    CHECK(mkdir("/tmp/folder", 0700) == 0);
    int orphan = open("/tmp/folder/file", O_RDWR | O_CREAT | O_APPEND, 0400);
    CHECK_EQUAL(write(orphan, "orphan", 6), 6);
    CHECK(unlink("/tmp/folder/file") == 0 && rmdir("/tmp/folder") == 0);
    int log = open("/tmp/log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    CHECK_EQUAL(write(log, "one,", 4), 4);
    CHECK(unlink("/tmp/log") == 0);

    test_freeze_point();
    CHECK_EQUAL(lseek(a, 0, SEEK_CUR), 8);
    CHECK_EQUAL(read(a_reader, text, sizeof text), 5);
    CHECK(memcmp(text, "tents", 5) == 0);
    CHECK_EQUAL(pwrite(a, "CHANGED!", 8, 0), 8);
    CHECK_EQUAL(pread(a_reader, text, sizeof text, 0), 8);
    CHECK(memcmp(text, "CHANGED!", 8) == 0);
    CHECK(fstat(a, &st) == 0 && st.st_nlink == 0);
    CHECK_EQUAL(pread(again, text, sizeof text, 0), 5);
    CHECK(stat("/tmp/a", &st) == 0 && st.st_size == 5);
    CHECK(fstat(nameless, &st) == 0 && st.st_size == 10 << 20 && st.st_blocks <= 16 && st.st_nlink == 0);
    CHECK_EQUAL(pread(nameless, text, 3, 5 << 20), 3);
    CHECK(memcmp(text, "far", 3) == 0);
    struct stat named;
    CHECK(fstat(linked, &st) == 0 && stat("/tmp/other-name", &named) == 0 && st.st_ino == named.st_ino);
    CHECK(fstat(orphan, &st) == 0 && (st.st_mode & 0777) == 0400);
    CHECK_EQUAL(write(orphan, "!", 1), 1);
    CHECK_EQUAL(pread(orphan, text, sizeof text, 0), 7);
    CHECK_EQUAL(write(log, "two", 3), 3);
    CHECK_EQUAL(lseek(log, 0, SEEK_CUR), 7);
    return 0;
}
