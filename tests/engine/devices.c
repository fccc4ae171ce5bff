/* conformance: files | /dev/null, zero, full, random, urandom, each with flags of its own | kept |
 *
 * Two openings of one device have flags of their own; random numbers differ from clone to clone. */
#include "help.h"

#include <sys/mman.h>
#include <sys/sysmacros.h>

int main(void)
{
    int null = open("/dev/null", O_RDWR | O_APPEND | O_CLOEXEC),
        null_again = open("/dev/null", O_RDONLY | O_NONBLOCK), zero = open("/dev/zero", O_RDWR),
        full = open("/dev/full", O_WRONLY), chance = open("/dev/random", O_RDONLY),
        more_chance = open("/dev/urandom", O_RDWR | O_NONBLOCK), twin = dup(zero);

    test_freeze_point();
    struct stat st;
    char block[64] = {1}, zeros[64] = {0};
    CHECK(test_writes(null, "gone") && test_ends(null) && test_ends(null_again));
    CHECK(test_has_flag(null, O_APPEND | O_RDWR) && !test_has_flag(null, O_NONBLOCK) &&
          fcntl(null, F_GETFD) == FD_CLOEXEC);
    CHECK(test_has_flag(null_again, O_NONBLOCK) && write(null_again, "x", 1) < 0 && errno == EBADF);
    CHECK(read(twin, block, sizeof block) == sizeof block && memcmp(block, zeros, sizeof block) == 0);
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
    CHECK(page != MAP_FAILED && page[100] == 0);
    CHECK(write(full, "x", 1) < 0 && errno == ENOSPC);
    CHECK(fstat(chance, &st) == 0 && st.st_rdev == makedev(1, 8));
    CHECK(fstat(more_chance, &st) == 0 && st.st_rdev == makedev(1, 9) &&
          test_has_flag(more_chance, O_NONBLOCK));
    CHECK(read(chance, block, sizeof block) == sizeof block && memcmp(block, zeros, sizeof block) != 0);
    CHECK(read(more_chance, zeros, sizeof zeros) == sizeof zeros && memcmp(block, zeros, sizeof block) != 0);
    return 0;
}
