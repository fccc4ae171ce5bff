/* Shared memory: anonymous, memfd mapped twice with different rights, sealed memfds, files of /tmp (one
 * deleted); aliases stay aliases, clones do not share with each other.
 *
 * conformance: shared memory | shared anonymous memory, memfds, mapped files of /tmp | kept | made anew for each clone; aliases stay aliases
 * conformance: shared memory | memfd seals | kept |
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LEN (16 * 4096)

static char *map(int fd, int protection, off_t offset)
{
    char *at = mmap(NULL, LEN, protection, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, offset);
    CHECK(at != MAP_FAILED);
    return at;
}

int main(void)
{
    char *anonymous = map(-1, PROT_READ | PROT_WRITE, 0);
    strcpy(anonymous + 4096 * 3, "anonymous");
    CHECK(mprotect(anonymous + 4096 * 8, 4096, PROT_READ) == 0);
    int fd = memfd_create("double", MFD_CLOEXEC);
    CHECK(ftruncate(fd, 1 << 30) == 0);
    char *writable = map(fd, PROT_READ | PROT_WRITE, 1 << 20),
         *code = map(fd, PROT_READ | PROT_EXEC, 1 << 20);
    static const unsigned char return_42[] = {0xb8, 42, 0, 0, 0, 0xc3};
    memcpy(writable, return_42, sizeof return_42);
    int gone = memfd_create("gone", 0);
    CHECK(ftruncate(gone, LEN) == 0);
    char *unnamed = map(gone, PROT_READ | PROT_WRITE, 0), *alias = map(gone, PROT_READ | PROT_WRITE, 0);
    close(gone);
    strcpy(unnamed, "only mapped");
    int file = open("/tmp/mapped", O_RDWR | O_CREAT, 0600),
        deleted = open("/tmp/deleted", O_RDWR | O_CREAT, 0600);
    CHECK(ftruncate(file, LEN) == 0 && ftruncate(deleted, LEN) == 0);
    char *of_file = map(file, PROT_READ | PROT_WRITE, 0),
         *of_deleted = map(deleted, PROT_READ | PROT_WRITE, 0);
    strcpy(of_file, "file");
    strcpy(of_deleted, "deleted");
    close(deleted);
    CHECK(unlink("/tmp/deleted") == 0);
    int sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    CHECK_EQUAL(write(sealed, "sealed", 6), 6);
    CHECK(fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
    char *of_sealed = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, sealed, 0);
    int future = memfd_create("future", MFD_ALLOW_SEALING);
    CHECK(ftruncate(future, LEN) == 0);
    char *of_future = map(future, PROT_READ | PROT_WRITE, 0);
    strcpy(of_future, "future");
    CHECK(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
    int read_only = open("/proc/self/fd/5", O_RDONLY); /* whatever that is, it must not disturb */
    char number[32];
    snprintf(number, sizeof number, "/proc/self/fd/%d", fd);
    int second = open(number, O_RDONLY);
    CHECK(second >= 0);

    test_freeze_point();
    CHECK(strcmp(anonymous + 4096 * 3, "anonymous") == 0);
    CHECK_EQUAL(((int (*)(void))code)(), 42);
    writable[1] = 43;
    CHECK_EQUAL(((int (*)(void))code)(), 43);
    char byte;
    CHECK_EQUAL(pread(fd, &byte, 1, (1 << 20) + 1), 1);
    CHECK_EQUAL(byte, 43);
    CHECK_EQUAL(pread(second, &byte, 1, (1 << 20) + 1), 1);
    CHECK_EQUAL(byte, 43);
    struct stat st;
    CHECK(fstat(fd, &st) == 0 && st.st_size == 1 << 30 && st.st_blocks <= 16);
    CHECK(strcmp(alias, "only mapped") == 0);
    alias[0] = 'O';
    CHECK(strcmp(unnamed, "Only mapped") == 0);
    CHECK(strcmp(of_file, "file") == 0 && strcmp(of_deleted, "deleted") == 0);
    CHECK_EQUAL(pwrite(file, "F", 1, 0), 1);
    CHECK(strcmp(of_file, "File") == 0);
    CHECK_EQUAL(fcntl(sealed, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    CHECK(strcmp(of_sealed, "sealed") == 0);
    CHECK_EQUAL(fcntl(future, F_GET_SEALS), F_SEAL_FUTURE_WRITE);
    strcpy(of_future, "still");
    CHECK_EQUAL(pread(future, number, 5, 0), 5);
    CHECK(memcmp(number, "still", 5) == 0);

    snprintf(anonymous, LEN, "clone %d", test_clone_index);
    snprintf(writable + 100, 100, "clone %d", test_clone_index);
    test_barrier();
    snprintf(number, sizeof number, "clone %d", test_clone_index);
    CHECK(strcmp(anonymous, number) == 0 && strcmp(code + 100, number) == 0);
    pid_t child = fork();
    if (child == 0) {
        strcpy(anonymous, "from the child");
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK(strcmp(anonymous, "from the child") == 0);
    if (read_only >= 0)
        close(read_only);
    return 0;
}
