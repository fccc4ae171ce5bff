/* conformance: files | memfds: empty, sparse, large, with several openers | kept | with positions, times and names
 *
 * What one opener writes the others read, in this clone only. */
#include "help.h"

#include <sys/mman.h>

int main(void)
{
    char path[64], name[64] = {0}, byte;
    struct stat before, now;
    int empty = memfd_create("", 0), sparse = memfd_create("a name with spaces", 0),
        full = memfd_create("full", 0);
    static char block[300000];
    memset(block, 'f', sizeof block);
    CHECK(ftruncate(sparse, 1ll << 40) == 0 && pwrite(sparse, "far", 3, 1ll << 39) == 3);
    CHECK_EQUAL(write(full, block, sizeof block), sizeof block);
    snprintf(path, sizeof path, "/proc/self/fd/%d", full);
    int reader = open(path, O_RDONLY), appender = open(path, O_WRONLY | O_APPEND);
    CHECK(reader >= 0 && appender >= 0 && lseek(reader, sizeof block - 2, SEEK_SET) > 0);
    CHECK(futimens(full, (struct timespec[2]){{1000, 1}, {2000, 2}}) == 0 && fchmod(full, 0600) == 0);
    CHECK(fstat(full, &before) == 0);

    test_freeze_point();
    CHECK(fstat(empty, &now) == 0 && now.st_size == 0 && test_ends(empty));
    CHECK(fstat(sparse, &now) == 0 && now.st_size == 1ll << 40 && now.st_blocks <= 16);
    CHECK(pread(sparse, block, 3, 1ll << 39) == 3 && memcmp(block, "far", 3) == 0);
    CHECK(pread(sparse, &byte, 1, (1ll << 39) - 1) == 1 && byte == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", sparse);
    CHECK(readlink(path, name, sizeof name) > 0 && strcmp(name, "/memfd:a name with spaces (deleted)") == 0);
    CHECK(fstat(full, &now) == 0 && now.st_mode == before.st_mode && now.st_size == before.st_size);
    CHECK(now.st_mtim.tv_sec == 2000 && now.st_mtim.tv_nsec == 2);
    CHECK_EQUAL(lseek(full, 0, SEEK_CUR), sizeof block);
    snprintf(name, sizeof name, "clone %d", test_clone_index);
    CHECK(test_reads(reader, "ff") && test_writes(appender, name));
    test_barrier();
    CHECK(test_reads(reader, name) && test_ends(reader));
    CHECK(write(reader, "x", 1) < 0 && errno == EBADF);
    return 0;
}
