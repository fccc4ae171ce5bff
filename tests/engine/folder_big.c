/* conformance: files | a folder of /tmp with thousands of files, and a deep one | kept |
 *
 * Three thousand small files, and sixty folders within each other. */
#include "help.h"

#include <dirent.h>

#define FILES 3000
#define DEPTH 60

int main(void)
{
    char path[512] = "/tmp/deep", text[32];
    CHECK(mkdir("/tmp/big", 0700) == 0 && mkdir(path, 0700) == 0);
    int big = open("/tmp/big", O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < FILES; i++) {
        snprintf(text, sizeof text, "file-%d", i);
        int fd = openat(big, text, O_WRONLY | O_CREAT | O_EXCL, 0600);
        CHECK(test_writes(fd, text) && close(fd) == 0);
    }
    for (int i = 0; i < DEPTH; i++) {
        snprintf(path + strlen(path), 8, "/%d", i);
        CHECK(mkdir(path, 0700) == 0);
    }
    strcat(path, "/bottom");
    CHECK(test_put(path, "of the well", 0600));

    test_freeze_point();
    static bool seen[FILES];
    int count = 0, number;
    DIR *listing = fdopendir(big);
    for (struct dirent *e; (e = readdir(listing));)
        if (sscanf(e->d_name, "file-%d", &number) == 1 && number >= 0 && number < FILES && !seen[number]) {
            seen[number] = true;
            count++;
        }
    CHECK_EQUAL(count, FILES);
    CHECK(test_holds("/tmp/big/file-0", "file-0") && test_holds("/tmp/big/file-2999", "file-2999"));
    CHECK(test_holds(path, "of the well"));
    return 0;
}
