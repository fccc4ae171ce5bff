/* conformance: process | a working folder in /tmp, renamed and shut since | kept | relative names go on working
 *
 * The process can no longer enter its own folder by name, but it is still in it. */
#include "help.h"

int main(void)
{
    char text[256];
    CHECK(mkdir("/tmp/outer", 0700) == 0 && mkdir("/tmp/outer/inner", 0700) == 0 &&
          chdir("/tmp/outer/inner") == 0);
    CHECK(test_put("file", "relative", 0600) && rename("/tmp/outer", "/tmp/moved") == 0);
    CHECK(chmod("/tmp/moved", 0600) == 0); /* its names cannot be looked up any more */

    test_freeze_point();
    CHECK(access("/tmp/moved/inner", F_OK) < 0 && errno == EACCES);
    CHECK(test_holds("file", "relative"));
    CHECK(
        chmod("/tmp/moved", 0700) == 0 && getcwd(text, sizeof text) && strcmp(text, "/tmp/moved/inner") == 0);
    snprintf(text, sizeof text, "clone %d", test_clone_index);
    CHECK(test_put("own", text, 0600));
    test_barrier();
    CHECK(
        test_holds("/tmp/moved/inner/own", text) && chdir("..") == 0 && test_holds("inner/file", "relative"));
    return 0;
}
