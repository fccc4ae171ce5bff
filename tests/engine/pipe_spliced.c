/* conformance: pipes | a pipe that was filled by `splice`, `tee` and `vmsplice` | kept | the bytes, not the pages they are in
 *
 * Pages of a file and of memory are in the pipe; what changes later in the file is not seen there. */
#include "help.h"

#include <sys/uio.h>

int main(void)
{
    static char memory[4096] __attribute__((aligned(4096)));
    int from_file[2], copy[2], from_memory[2];
    CHECK(pipe(from_file) == 0 && pipe(copy) == 0 && pipe(from_memory) == 0);
    CHECK(test_put("/tmp/file", "what is in the file", 0600));
    int file = open("/tmp/file", O_RDONLY);
    memset(memory, 'm', sizeof memory);
    CHECK_EQUAL(splice(file, NULL, from_file[1], NULL, 7, 0), 7);
    CHECK_EQUAL(splice(file, NULL, from_file[1], NULL, 100, 0), 12);
    CHECK_EQUAL(tee(from_file[0], copy[1], 100, 0), 19);
    CHECK_EQUAL(vmsplice(from_memory[1], &(struct iovec){memory, sizeof memory}, 1, 0), sizeof memory);

    test_freeze_point();
    char got[8192];
    CHECK(test_reads(from_file[0], "what is in the file") && test_reads(copy[0], "what is in the file"));
    CHECK(test_is_idle(from_file[0]) && test_is_idle(copy[0]));
    CHECK_EQUAL(read(from_memory[0], got, sizeof got), sizeof memory);
    CHECK(memcmp(got, memory, sizeof memory) == 0);
    CHECK_EQUAL(lseek(file, 4, SEEK_SET), 4);
    CHECK_EQUAL(splice(file, NULL, from_file[1], NULL, 100, 0), 15);
    CHECK(test_reads(from_file[0], " is in the file"));
    return 0;
}
