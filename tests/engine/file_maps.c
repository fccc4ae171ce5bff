/* Mappings of files: with offsets, of a part, beyond the end (SIGBUS), shared for reading, private and written to; files
 * of the image, of /tmp, deleted ones, memfds.
 *
 * conformance: memory | file mappings with offsets, and beyond the file's end (`SIGBUS`) | kept | also of deleted files and memfds
 * conformance: shared memory | shared read-only mappings of files outside /tmp | kept | the file must be unchanged
 */
#include "look.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define CODE "/var/task/engine_file_maps"

static char *map(int fd, size_t len, int protection, int flags, off_t offset)
{
    char *at = mmap(NULL, len, protection, flags, fd, offset);
    CHECK(at != MAP_FAILED);
    return at;
}

/* A file of three pages and a half. */
static int make(const char *path)
{
    char page[TEST_PAGE];
    int fd = path ? open(path, O_RDWR | O_CREAT | O_EXCL, 0600) : memfd_create("short", 0);
    for (int i = 0; i < 4; i++) {
        memset(page, 'a' + i, sizeof page);
        CHECK(write(fd, page, i < 3 ? TEST_PAGE : TEST_PAGE / 2) > 0);
    }
    return fd;
}

static void check_short(char *at, bool moved)
{
    for (int i = moved ? 1 : 0; i < 4; i++)
        CHECK_EQUAL(at[(size_t)(i - moved) * TEST_PAGE + 5], 'a' + i);
    char *tail = at + (size_t)(3 - moved) * TEST_PAGE + TEST_PAGE / 2;
    for (size_t i = 0; i < TEST_PAGE / 2; i++)
        CHECK_EQUAL(tail[i], 0);
    CHECK_EQUAL(test_fault(at + (size_t)(4 - moved) * TEST_PAGE, false), SIGBUS);
    CHECK_EQUAL(test_fault(at + (size_t)(5 - moved) * TEST_PAGE + 10, true), SIGBUS);
}

int main(void)
{
    int code = open(CODE, O_RDONLY);
    struct stat st;
    CHECK(fstat(code, &st) == 0 && st.st_size > 3 * (long)TEST_PAGE);
    size_t pages = ((size_t)st.st_size + TEST_PAGE - 1) / TEST_PAGE;
    char *whole = map(code, (pages + 2) * TEST_PAGE, PROT_READ, MAP_PRIVATE, 0);
    char *part = map(code, 2 * TEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, (off_t)TEST_PAGE);
    char *shared = map(code, (pages + 2) * TEST_PAGE, PROT_READ, MAP_SHARED, 0);
    part[TEST_PAGE + 3] = '!';
    int named = make("/tmp/named"), deleted = make("/tmp/deleted"), memory = make(NULL);
    char *of_named[2], *of_deleted[2], *of_memory[2];
    for (int i = 0; i < 2; i++) {
        int flags = i == 0 ? MAP_PRIVATE : MAP_SHARED;
        of_named[i] = map(named, 6 * TEST_PAGE, PROT_READ | PROT_WRITE, flags, 0);
        of_deleted[i] = map(deleted, 6 * TEST_PAGE, PROT_READ | PROT_WRITE, flags, (off_t)TEST_PAGE);
        of_memory[i] = map(memory, 6 * TEST_PAGE, PROT_READ | PROT_WRITE, flags, 0);
    }
    CHECK(unlink("/tmp/deleted") == 0 && close(deleted) == 0);

    test_freeze_point();
    CHECK(memcmp(whole + 1, "ELF", 3) == 0 && memcmp(shared + 1, "ELF", 3) == 0);
    char bytes[TEST_PAGE];
    CHECK_EQUAL(pread(code, bytes, TEST_PAGE, TEST_PAGE), TEST_PAGE);
    CHECK(memcmp(part, bytes, TEST_PAGE) == 0 && memcmp(whole + TEST_PAGE, bytes, TEST_PAGE) == 0);
    CHECK_EQUAL(part[TEST_PAGE + 3], '!');
    CHECK_EQUAL(test_fault(whole + (pages + 1) * TEST_PAGE, false), SIGBUS);
    CHECK_EQUAL(test_fault(shared + pages * TEST_PAGE, false), SIGBUS);
    CHECK_EQUAL(test_fault(shared, true), SIGSEGV);
    for (int i = 0; i < 2; i++) {
        check_short(of_named[i], false);
        check_short(of_deleted[i], true);
        check_short(of_memory[i], false);
    }
    of_named[0][5] = 'X'; /* private: nobody else sees it */
    CHECK_EQUAL(of_named[1][5], 'a');
    of_named[1][TEST_PAGE] = (char)('0' + test_clone_index);
    CHECK(pread(named, bytes, 1, TEST_PAGE) == 1 && bytes[0] == '0' + test_clone_index);
    CHECK(ftruncate(named, 6 * (long)TEST_PAGE) == 0); /* now there is something */
    CHECK_EQUAL(test_fault(of_named[1] + 5 * TEST_PAGE, true), 0);
    test_barrier();
    CHECK_EQUAL(of_named[1][TEST_PAGE], '0' + test_clone_index);
    return 0;
}
