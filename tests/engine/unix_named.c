/* conformance: sockets | unix sockets with names in /tmp: with modes and times, unlinked while open, left by their owner | kept |
 *
 * The name in the file system and the socket's own idea of it are two things. */
#include "sockets.h"

int main(void)
{
    struct stat st;
    CHECK(mkdir("/tmp/run", 0700) == 0);
    int listener = test_unix(SOCK_STREAM, "/tmp/run/server", 3),
        unlinked = test_unix(SOCK_STREAM, "/tmp/run/gone", 3),
        old = test_unix(SOCK_DGRAM, "/tmp/run/left", 0);
    CHECK(chmod("/tmp/run/server", 0640) == 0 && unlink("/tmp/run/gone") == 0 && close(old) == 0);
    static const struct timespec times[2] = {{100, 0}, {200, 0}};
    CHECK(utimensat(AT_FDCWD, "/tmp/run/server", times, 0) == 0);

    test_freeze_point();
    CHECK(stat("/tmp/run/server", &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0640);
    CHECK(st.st_mtim.tv_sec == 200);
    CHECK(lstat("/tmp/run/gone", &st) < 0 && errno == ENOENT &&
          test_is_named(unlinked, false, "/tmp/run/gone"));
    CHECK(stat("/tmp/run/left", &st) == 0 && S_ISSOCK(st.st_mode));
    struct sockaddr_un address;
    socklen_t len = test_name(&address, "/tmp/run/left");
    int sock = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(connect(sock, (struct sockaddr *)&address, len) < 0 && errno == ECONNREFUSED);
    int client = test_unix_connect(SOCK_STREAM, "/tmp/run/server"), server = accept(listener, NULL, NULL);
    CHECK(test_is_own(client, server));
    CHECK(test_option(unlinked, SOL_SOCKET, SO_ACCEPTCONN) == 1);
    CHECK(unlink("/tmp/run/left") == 0 && bind(sock, (struct sockaddr *)&address, len) == 0);
    return 0;
}
