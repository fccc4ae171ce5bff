/* Private mappings of files in /tmp: a library that was copied there, loaded, and deleted, as Java's native
 * loaders do; a private mapping of a memfd.
 *
 * conformance: memory | private mappings of files of /tmp, deleted files, memfds | noted | become anonymous memory with the same bytes
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

static const unsigned char return_42[] = {0xb8, 42, 0, 0, 0, 0xc3};

static char *map_code(const char *path, bool delete)
{
    int fd = open(path, O_RDWR | O_CREAT, 0700);
    CHECK(fd >= 0 && ftruncate(fd, 8192) == 0);
    CHECK_EQUAL(pwrite(fd, return_42, sizeof return_42, 4096), sizeof return_42);
    char *at = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    close(fd);
    CHECK(!delete || unlink(path) == 0);
    return at + 4096;
}

int main(void)
{
    CHECK(mkdir("/tmp/native", 0700) == 0);
    char *kept = map_code("/tmp/native/kept.so", false), *deleted = map_code("/tmp/native/deleted.so", true);
    int fd = memfd_create("closures", MFD_CLOEXEC);
    CHECK(ftruncate(fd, 4096) == 0);
    CHECK_EQUAL(pwrite(fd, return_42, sizeof return_42, 0), sizeof return_42);
    char *closure = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    char *changed = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0);
    changed[1] = 43;
    close(fd);
    test_freeze_point();
    CHECK_EQUAL(((int (*)(void))kept)(), 42);
    CHECK_EQUAL(((int (*)(void))deleted)(), 42);
    CHECK_EQUAL(((int (*)(void))closure)(), 42);
    CHECK_EQUAL(((int (*)(void))changed)(), 43);
    struct stat st;
    CHECK(stat("/tmp/native/kept.so", &st) == 0 && st.st_size == 8192);
    CHECK(stat("/tmp/native/deleted.so", &st) < 0);
    return 0;
}
