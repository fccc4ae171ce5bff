/* conformance: process | the umask | kept | also when it takes every right away
 *
 * Files of the snapshot are made with the modes they had, files of the clone by the mask. */
#include "help.h"

#include <sys/socket.h>
#include <sys/un.h>

int main(void)
{
    struct stat st;
    struct sockaddr_un name = {AF_UNIX, "/tmp/socket"};
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(test_put("/tmp/before", "before", 0666) && bind(sock, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(chmod("/tmp/socket", 0777) == 0 && mkdir("/tmp/folder", 0700) == 0 &&
          chmod("/tmp/folder", 0777) == 0);
    umask(0777);

    test_freeze_point();
    CHECK(stat("/tmp/before", &st) == 0 && (st.st_mode & 07777) == 0666);
    CHECK(stat("/tmp/socket", &st) == 0 && (st.st_mode & 07777) == 0777);
    CHECK(stat("/tmp/folder", &st) == 0 && (st.st_mode & 07777) == 0777);
    CHECK(open("/tmp/after", O_WRONLY | O_CREAT, 0666) >= 0 && stat("/tmp/after", &st) == 0 &&
          (st.st_mode & 07777) == 0);
    CHECK(umask(0) == 0777);
    return 0;
}
