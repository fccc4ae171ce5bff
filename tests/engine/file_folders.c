/* conformance: files | folders that are open | kept | as a base for openat, for `fchdir`, for listing from the beginning
 *
 * Of /tmp, which is made anew, and of the code; one was renamed while it was open. */
#include "help.h"

#include <dirent.h>

int main(void)
{
    char text[256];
    CHECK(mkdir("/tmp/old", 0700) == 0 && mkdir("/tmp/old/deep", 0500) == 0 &&
          test_put("/tmp/old/file", "here", 0600));
    int renamed = open("/tmp/old", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        deep = open("/tmp/old/deep", O_RDONLY), root = open("/", O_RDONLY | O_DIRECTORY),
        usr = open("/usr/bin", O_RDONLY);
    CHECK(rename("/tmp/old", "/tmp/new") == 0);
    CHECK(renamed >= 0 && deep >= 0 && root >= 0 && usr >= 0);

    test_freeze_point();
    int file = openat(renamed, "file", O_RDONLY);
    CHECK(file >= 0 && test_reads(file, "here") && fcntl(renamed, F_GETFD) == FD_CLOEXEC);
    CHECK(fchdir(deep) == 0 && getcwd(text, sizeof text) && strcmp(text, "/tmp/new/deep") == 0);
    CHECK(faccessat(root, "tmp/new/file", F_OK, 0) == 0 && faccessat(usr, "env", X_OK, 0) == 0);
    DIR *listing = fdopendir(renamed);
    int count = 0;
    for (struct dirent *e; (e = readdir(listing));)
        count += strcmp(e->d_name, "file") == 0 || strcmp(e->d_name, "deep") == 0;
    CHECK_EQUAL(count, 2);
    snprintf(text, sizeof text, "made-by-%d", test_clone_index);
    CHECK(mkdirat(renamed, text, 0700) == 0);
    test_barrier();
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, "/tmp/new/made-by-%d", i);
        CHECK((access(text, F_OK) == 0) == (i == test_clone_index));
    }
    return 0;
}
