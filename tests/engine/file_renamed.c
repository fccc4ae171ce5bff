/* conformance: files | files that were renamed, exchanged or replaced while they were open | kept | each descriptor is of the file it was opened as
 *
 * The names say nothing any more about which is which. */
#include "help.h"

#include <stdio.h>

int main(void)
{
    CHECK(test_put("/tmp/a", "was a", 0600) && test_put("/tmp/b", "was b", 0600) &&
          test_put("/tmp/c", "was c", 0600) && test_put("/tmp/new", "was new", 0600) &&
          mkdir("/tmp/folder", 0700) == 0 && test_put("/tmp/folder/d", "was d", 0600));
    int a = open("/tmp/a", O_RDONLY), b = open("/tmp/b", O_RDONLY), c = open("/tmp/c", O_RDWR),
        d = open("/tmp/folder/d", O_RDONLY);
    CHECK(renameat2(AT_FDCWD, "/tmp/a", AT_FDCWD, "/tmp/b", RENAME_EXCHANGE) == 0);
    CHECK(rename("/tmp/new", "/tmp/c") == 0); /* the file at c has no name any more */
    CHECK(rename("/tmp/folder", "/tmp/a folder with (deleted)") == 0);
    CHECK(rename("/tmp/a folder with (deleted)/d", "/tmp/a folder with (deleted)/\n\xff (deleted)") == 0);

    test_freeze_point();
    CHECK(
        test_reads(a, "was a") && test_reads(b, "was b") && test_reads(c, "was c") && test_reads(d, "was d"));
    CHECK(test_holds("/tmp/a", "was b") && test_holds("/tmp/b", "was a") && test_holds("/tmp/c", "was new"));
    CHECK(test_holds("/tmp/a folder with (deleted)/\n\xff (deleted)", "was d"));
    struct stat st, named;
    CHECK(fstat(c, &st) == 0 && st.st_nlink == 0 && stat("/tmp/c", &named) == 0 && st.st_ino != named.st_ino);
    CHECK(fstat(d, &st) == 0 && stat("/tmp/a folder with (deleted)/\n\xff (deleted)", &named) == 0 &&
          st.st_ino == named.st_ino);
    CHECK(test_writes(c, ", unseen") && test_holds("/tmp/c", "was new"));
    return 0;
}
