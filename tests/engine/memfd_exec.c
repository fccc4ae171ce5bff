/* conformance: files | memfds that may, or may never, be executed (`MFD_EXEC`, `MFD_NOEXEC_SEAL`) | kept |
 *
 * A small script in a memfd, started in the clone. */
#include "help.h"

#include <sys/mman.h>
#include <sys/wait.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 16u
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif

static int run(int fd)
{
    char path[64];
    int status = -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, NULL);
        _exit(errno == EACCES ? 13 : 14);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(void)
{
    static const char script[] = "#!/bin/sh\nexit 42\n";
    struct stat st;
    int allowed = memfd_create("allowed", MFD_EXEC), forbidden = memfd_create("forbidden", MFD_NOEXEC_SEAL),
        sealed = memfd_create("sealed", MFD_EXEC | MFD_ALLOW_SEALING);
    CHECK(test_writes(allowed, script) && test_writes(forbidden, script) && test_writes(sealed, script));
    CHECK(fcntl(sealed, F_ADD_SEALS, F_SEAL_EXEC) == 0);
    int seals = fcntl(sealed, F_GET_SEALS);
    /* A file that is open for writing cannot be executed. */
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", allowed);
    int reader = open(path, O_RDONLY);
    CHECK(reader >= 0 && close(allowed) == 0);

    test_freeze_point();
    CHECK_EQUAL(run(reader), 42);
    CHECK_EQUAL(run(forbidden), 13);
    CHECK(fstat(forbidden, &st) == 0 && (st.st_mode & 0111) == 0);
    CHECK(fchmod(forbidden, 0700) < 0 && errno == EPERM && (fcntl(forbidden, F_GET_SEALS) & F_SEAL_EXEC));
    CHECK(fstat(sealed, &st) == 0 && (st.st_mode & 0777) == 0777);
    CHECK_EQUAL(fcntl(sealed, F_GET_SEALS), seals);
    CHECK(fchmod(sealed, 0600) < 0 && errno == EPERM);
    return 0;
}
