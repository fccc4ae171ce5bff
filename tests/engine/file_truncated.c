/* conformance: files | files that were truncated, grown and punched | kept | with their holes
 *
 * A hole takes no room before and after, and data is where it was. */
#include "help.h"

int main(void)
{
    struct stat st;
    static char block[65536];
    memset(block, 'd', sizeof block);
    int cut = open("/tmp/cut", O_RDWR | O_CREAT, 0600), grown = open("/tmp/grown", O_RDWR | O_CREAT, 0600),
        punched = open("/tmp/punched", O_RDWR | O_CREAT, 0600),
        emptied = open("/tmp/emptied", O_RDWR | O_CREAT, 0600);
    CHECK(test_writes(cut, "0123456789") && ftruncate(cut, 4) == 0);
    CHECK(test_writes(grown, "start") && ftruncate(grown, 1 << 20) == 0);
    CHECK(write(punched, block, sizeof block) == sizeof block &&
          fallocate(punched, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 32768) == 0);
    CHECK(write(emptied, block, sizeof block) == sizeof block && ftruncate(emptied, 0) == 0);

    test_freeze_point();
    static char got[65536];
    CHECK(fstat(cut, &st) == 0 && st.st_size == 4 && lseek(cut, 0, SEEK_CUR) == 10);
    CHECK(pread(cut, got, sizeof got, 0) == 4 && memcmp(got, "0123", 4) == 0);
    CHECK(test_writes(cut, "x") && pread(cut, got, sizeof got, 0) == 11 && got[5] == 0 && got[10] == 'x');
    CHECK(fstat(grown, &st) == 0 && st.st_size == 1 << 20 && st.st_blocks <= 8);
    CHECK(lseek(grown, 0, SEEK_DATA) == 0 && lseek(grown, 0, SEEK_HOLE) == 4096);
    CHECK(fstat(punched, &st) == 0 && st.st_size == sizeof block && st.st_blocks == 64);
    CHECK(lseek(punched, 0, SEEK_HOLE) == 8192 && lseek(punched, 8192, SEEK_DATA) == 8192 + 32768);
    memset(block + 8192, 0, 32768);
    CHECK(pread(punched, got, sizeof got, 0) == sizeof got && memcmp(got, block, sizeof got) == 0);
    CHECK(fstat(emptied, &st) == 0 && st.st_size == 0 && st.st_blocks == 0 && test_ends(emptied));
    return 0;
}
