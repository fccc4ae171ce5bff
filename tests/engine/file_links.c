/* conformance: files | hard links, also when the name that was opened is gone | kept | one file under all its names
 *
 * What is written under one name is read under another, in this clone only. */
#include "help.h"

int main(void)
{
    struct stat a, b;
    CHECK(mkdir("/tmp/folder", 0700) == 0 && test_put("/tmp/one", "text", 0600));
    CHECK(link("/tmp/one", "/tmp/two") == 0 && link("/tmp/one", "/tmp/folder/three") == 0);
    int file = open("/tmp/one", O_RDWR);
    CHECK(unlink("/tmp/one") == 0 && test_put("/tmp/one", "another file", 0600));
    int other = open("/tmp/one", O_RDONLY);

    test_freeze_point();
    char text[16];
    CHECK(fstat(file, &a) == 0 && stat("/tmp/two", &b) == 0 && a.st_ino == b.st_ino && a.st_nlink == 2);
    CHECK(stat("/tmp/folder/three", &b) == 0 && a.st_ino == b.st_ino);
    CHECK(stat("/tmp/one", &b) == 0 && a.st_ino != b.st_ino && b.st_nlink == 1 &&
          test_reads(other, "another file"));
    snprintf(text, sizeof text, "clone %d", test_clone_index);
    CHECK(test_writes(file, text));
    test_barrier();
    CHECK(test_holds("/tmp/two", text) && test_holds("/tmp/folder/three", text));
    CHECK(unlink("/tmp/two") == 0 && unlink("/tmp/folder/three") == 0 && fstat(file, &a) == 0 &&
          a.st_nlink == 0);
    return 0;
}
