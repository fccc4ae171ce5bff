/* conformance: files | offsets of files: shared by duplicates, behind the end, behind 4 GiB | kept |
 *
 * Two openings of one file have an offset each, two numbers of one opening have one. */
#include "help.h"

int main(void)
{
    int file = open("/tmp/file", O_RDWR | O_CREAT, 0600), twin = dup(file),
        other = open("/tmp/file", O_RDONLY), beyond = open("/tmp/file", O_RDWR),
        huge = open("/tmp/huge", O_RDWR | O_CREAT, 0600);
    CHECK(test_writes(file, "0123456789") && lseek(twin, 3, SEEK_SET) == 3 && lseek(other, 7, SEEK_SET) == 7);
    CHECK_EQUAL(lseek(beyond, 100, SEEK_SET), 100);
    CHECK(ftruncate(huge, 6ll << 30) == 0 && lseek(huge, 5ll << 30, SEEK_SET) == 5ll << 30);
    int code = open("/proc/self/exe", O_RDONLY);
    CHECK_EQUAL(lseek(code, 1, SEEK_SET), 1);

    test_freeze_point();
    char got[4];
    CHECK(lseek(file, 0, SEEK_CUR) == 3 && read(file, got, 2) == 2 && memcmp(got, "34", 2) == 0);
    CHECK(lseek(twin, 0, SEEK_CUR) == 5 && test_reads(twin, "56789") && lseek(file, 0, SEEK_CUR) == 10);
    CHECK(test_reads(other, "789") && test_ends(other));
    CHECK(test_ends(beyond) && test_writes(beyond, "far"));
    struct stat st;
    CHECK(fstat(file, &st) == 0 && st.st_size == 103);
    CHECK(lseek(huge, 0, SEEK_CUR) == 5ll << 30 && test_writes(huge, "x") && fstat(huge, &st) == 0);
    CHECK(st.st_size == 6ll << 30 && st.st_blocks <= 16);
    CHECK(read(code, got, 3) == 3 && memcmp(got, "ELF", 3) == 0);
    return 0;
}
