/* conformance: files | memfds with each seal | kept | and those that can still be sealed, or cannot
 *
 * A seal is known by what it forbids. */
#include "help.h"

#include <sys/mman.h>

static int make(const char *name, int seals)
{
    int fd = memfd_create(name, MFD_ALLOW_SEALING | MFD_CLOEXEC);
    CHECK(fd >= 0 && test_writes(fd, "0123456789") && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

int main(void)
{
    int shrink = make("shrink", F_SEAL_SHRINK), grow = make("grow", F_SEAL_GROW),
        write_sealed = make("write", F_SEAL_WRITE), future = make("future", F_SEAL_FUTURE_WRITE),
        all = make("all", F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL),
        open_one = make("open", 0), never = memfd_create("never", 0);
    CHECK(test_writes(never, "never sealed"));

    test_freeze_point();
    CHECK(fcntl(shrink, F_GET_SEALS) == F_SEAL_SHRINK && ftruncate(shrink, 20) == 0);
    CHECK(ftruncate(shrink, 5) < 0 && errno == EPERM);
    CHECK(fcntl(grow, F_GET_SEALS) == F_SEAL_GROW && ftruncate(grow, 5) == 0);
    CHECK(ftruncate(grow, 20) < 0 && errno == EPERM);
    CHECK(fcntl(write_sealed, F_GET_SEALS) == F_SEAL_WRITE && pwrite(write_sealed, "x", 1, 0) < 0 &&
          errno == EPERM);
    CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, write_sealed, 0) == MAP_FAILED &&
          errno == EPERM);
    CHECK(lseek(write_sealed, 0, SEEK_SET) == 0 && test_reads(write_sealed, "0123456789"));
    CHECK(
        fcntl(future, F_GET_SEALS) == F_SEAL_FUTURE_WRITE && pwrite(future, "x", 1, 0) < 0 && errno == EPERM);
    CHECK_EQUAL(fcntl(all, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    CHECK(fcntl(open_one, F_GET_SEALS) == 0 && fcntl(open_one, F_ADD_SEALS, F_SEAL_GROW) == 0);
    CHECK(fcntl(never, F_GET_SEALS) == F_SEAL_SEAL && fcntl(never, F_ADD_SEALS, F_SEAL_GROW) < 0);
    CHECK(fcntl(all, F_GETFD) == FD_CLOEXEC && fcntl(never, F_GETFD) == 0);
    return 0;
}
