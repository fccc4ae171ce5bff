/* Sealed mappings (mseal): nobody can unmap, move or change them, also in a clone; of private, shared and file memory.
 *
 * conformance: memory | sealed mappings (`mseal`) | kept | private, shared, of files
 */
#include "look.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define LEN (4 * TEST_PAGE)

static void seal(char *at)
{
    CHECK(at != MAP_FAILED && syscall(SYS_mseal, at, LEN, 0) == 0);
}

static void check(char *at)
{
    CHECK(test_vm_flag(at, "sl"));
    CHECK(mprotect(at, LEN, PROT_NONE) < 0 && errno == EPERM);
    CHECK(munmap(at, TEST_PAGE) < 0 && errno == EPERM);
    CHECK(mmap(at, LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED &&
          errno == EPERM);
    CHECK(mremap(at, LEN, 2 * LEN, MREMAP_MAYMOVE) == MAP_FAILED && errno == EPERM);
}

int main(void)
{
    char *private = test_map(LEN, PROT_READ | PROT_WRITE), *constant = test_map(LEN, PROT_READ | PROT_WRITE);
    test_fill(private, LEN, 1);
    test_fill(constant, LEN, 2);
    CHECK(mprotect(constant, LEN, PROT_READ) == 0);
    char *shared = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int fd = open("/usr/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY);
    char *file = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE, fd, 0);
    char *locked = test_map(LEN, PROT_READ | PROT_WRITE);
    CHECK(mlock(locked, LEN) == 0 && madvise(locked, LEN, MADV_DONTFORK) == 0);
    seal(private);
    seal(constant);
    seal(shared);
    seal(file);
    seal(locked);
    test_fill(shared, LEN, 3);
    test_fill(locked, LEN, 4);

    test_freeze_point();
    check(private);
    check(constant);
    check(shared);
    check(file);
    check(locked);
    CHECK(test_filled(private, LEN, 1) && test_filled(constant, LEN, 2) && test_filled(shared, LEN, 3));
    CHECK(test_filled(locked, LEN, 4) && test_vm_flag(locked, "lo") && test_vm_flag(locked, "dc"));
    CHECK(memcmp(file + 1, "ELF", 3) == 0);
    CHECK(madvise(constant, LEN, MADV_DONTNEED) < 0 && errno == EPERM);
    private[5] = (char)test_clone_index;
    shared[5] = (char)test_clone_index;
    test_barrier();
    CHECK(private[5] == test_clone_index && shared[5] == test_clone_index);
    return 0;
}
