/* What a clone may do with memory whose pages are not there yet, when its template is served by a pager: move it, give it
 * back, unmap it, fork, run another program, let the kernel read it. (Without a pager it is a test of the same.)
 *
 * conformance: memory | memory that a clone moves, gives back, unmaps, locks or forks before its pages have come | kept |
 */
#include "look.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define PAGES 48
#define LEN (PAGES * TEST_PAGE)
#define AREAS 20
#define READERS 4
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static char *areas[AREAS];
static int next_area;

/* One that nobody has touched since the thaw, and its pattern. */
static char *fresh(int *pattern)
{
    *pattern = 10 + next_area;
    return areas[next_area++];
}

static bool zero(const char *from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (from[i] != 0)
            return false;
    return true;
}

/* Pages [from, to) of an area as it was filled. */
static bool filled(const char *at, int from, int to, int pattern)
{
    static _Thread_local char whole[LEN];
    test_fill(whole, LEN, (unsigned char)pattern);
    return memcmp(at, whole + from * (int)TEST_PAGE, (size_t)(to - from) * TEST_PAGE) == 0;
}

static void check_moves(void)
{
    int p;
    char *area = fresh(&p);
    char *moved = mremap(area, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, test_map(LEN, PROT_NONE));
    CHECK(moved != MAP_FAILED && filled(moved, 0, PAGES, p));

    area = fresh(&p); /* its middle goes, and comes back */
    char *place = test_map(LEN, PROT_NONE), *middle = area + 16 * TEST_PAGE;
    moved = mremap(middle, 16 * TEST_PAGE, 16 * TEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    CHECK(moved == place && filled(area, 0, 16, p) && filled(area + 32 * TEST_PAGE, 32, PAGES, p));
    CHECK(mmap(middle, 16 * TEST_PAGE, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == middle);
    CHECK(zero(middle, 16 * TEST_PAGE) && filled(moved, 16, 20, p));
    moved = mremap(moved, 16 * TEST_PAGE, 16 * TEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, middle);
    CHECK(moved == middle && filled(area, 0, PAGES, p));

    area = fresh(&p);
    moved = mremap(area, LEN, LEN, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    CHECK(moved != MAP_FAILED && zero(area, LEN) && filled(moved, 0, PAGES, p));

    area = fresh(&p);
    moved = mremap(area, LEN, 4 * LEN, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED && zero(moved + LEN, 3 * LEN) && filled(moved, 0, PAGES, p));
    CHECK(mremap(moved, 4 * LEN, LEN / 2, 0) == moved && filled(moved, 0, PAGES / 2, p));
}

/* What the kernel does not tell to a pager a clone that is served may not do: it is told that there is no such thing. */
static bool may_advise(char *area, size_t len, int advice)
{
    if (madvise(area, len, advice) == 0)
        return true;
    CHECK_EQUAL(errno, EINVAL);
    return false;
}

static void check_discards(void)
{
    int p;
    char *area = fresh(&p);
    CHECK(madvise(area + 8 * TEST_PAGE, 8 * TEST_PAGE, MADV_DONTNEED) == 0);
    CHECK(filled(area, 0, 8, p) && zero(area + 8 * TEST_PAGE, 8 * TEST_PAGE) &&
          filled(area + 16 * TEST_PAGE, 16, PAGES, p));
    CHECK(madvise(area, LEN, MADV_DONTNEED) == 0 && zero(area, LEN)); /* also what had come */

    area = fresh(&p);
    CHECK(madvise(area, LEN, MADV_FREE) == 0);
    memset(area, 7, LEN);
    for (size_t i = 0; i < LEN; i++)
        CHECK_EQUAL(area[i], 7);

    area = fresh(&p);
    CHECK(munmap(area + 8 * TEST_PAGE, 8 * TEST_PAGE) == 0);
    CHECK(mmap(area + 8 * TEST_PAGE, 8 * TEST_PAGE, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == area + 8 * TEST_PAGE);
    CHECK(mmap(area + 32 * TEST_PAGE, 4 * TEST_PAGE, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == area + 32 * TEST_PAGE);
    CHECK(zero(area + 8 * TEST_PAGE, 8 * TEST_PAGE) && zero(area + 32 * TEST_PAGE, 4 * TEST_PAGE));
    CHECK(filled(area, 0, 8, p) && filled(area + 16 * TEST_PAGE, 16, 32, p) &&
          filled(area + 36 * TEST_PAGE, 36, PAGES, p));

    area = fresh(
        &p); /* guard regions, where the kernel has them: what is there goes, and nothing comes in its place */
    if (may_advise(area + TEST_PAGE, LEN / 2, MADV_GUARD_INSTALL)) {
        CHECK(filled(area, 0, 1, p) && filled(area + TEST_PAGE + LEN / 2, 1 + PAGES / 2, PAGES, p));
        CHECK_EQUAL(test_fault(area + TEST_PAGE, false), SIGSEGV);
        CHECK_EQUAL(test_fault(area + LEN / 2, false), SIGSEGV);
        CHECK(madvise(area + TEST_PAGE, LEN / 2, MADV_GUARD_REMOVE) == 0 && zero(area + TEST_PAGE, LEN / 2));
    }
    CHECK(filled(area, 0, 1, p) && filled(area + TEST_PAGE + LEN / 2, 1 + PAGES / 2, PAGES, p));
}

static void check_kernel(void)
{
    int p, ends[2];
    char *area = fresh(&p);
    static char copy[LEN];
    CHECK(mlock(area, LEN) == 0 && filled(area, 0, PAGES, p));

    area = fresh(&p);
    CHECK(pipe(ends) == 0 && write(ends[1], area, 8 * TEST_PAGE) == 8 * (long)TEST_PAGE);
    CHECK(read(ends[0], area + 16 * TEST_PAGE, 8 * TEST_PAGE) == 8 * (long)TEST_PAGE);
    CHECK(filled(area + 16 * TEST_PAGE, 0, 8, p) && filled(area + 24 * TEST_PAGE, 24, PAGES, p));
    area = fresh(&p);
    struct iovec to = {copy, LEN}, from = {area, LEN};
    if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) >= 0) /* the sandbox may not let it */
        CHECK(filled(copy, 0, PAGES, p));
    CHECK(mprotect(area, LEN, PROT_NONE) == 0 && mprotect(area + TEST_PAGE, LEN / 2, PROT_READ) == 0);
    CHECK(filled(area + TEST_PAGE, 1, PAGES / 2, p));
}

static int wait_for(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void check_children(void)
{
    int p, q;
    char *area = fresh(&p), *other = fresh(&q);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(madvise(area, LEN / 2, MADV_DONTNEED) == 0 && zero(area, LEN / 2));
        char *moved = mremap(other, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, test_map(LEN, PROT_NONE));
        pid_t grandchild = fork();
        CHECK(moved != MAP_FAILED && filled(moved, 0, PAGES, q));
        CHECK(filled(area + LEN / 2, PAGES / 2, PAGES, p) && zero(area, LEN / 2));
        _exit(grandchild == 0 ? 0 : wait_for(grandchild));
    }
    CHECK_EQUAL(wait_for(pid), 0);
    CHECK(filled(area, 0, PAGES, p) && filled(other, 0, PAGES, q));

    area = fresh(
        &p); /* a child that is gone before it has touched anything, and one that becomes another program */
    pid = fork();
    if (pid == 0)
        _exit(0);
    CHECK_EQUAL(wait_for(pid), 0);
    pid = vfork();
    if (pid == 0) {
        execl("/usr/bin/true", "true", NULL);
        _exit(1);
    }
    CHECK_EQUAL(wait_for(pid), 0);
    CHECK(filled(area, 0, PAGES, p));

    area = fresh(&p); /* memory that a child is to find empty */
    bool wiped = may_advise(area, LEN, MADV_WIPEONFORK);
    pid = fork();
    if (pid == 0)
        _exit(wiped ? !zero(area, LEN) : !filled(area, 0, PAGES, p));
    CHECK_EQUAL(wait_for(pid), 0);
    CHECK(filled(area, 0, PAGES, p));
}

static void *read_all(void *area)
{
    for (int i = 0; i < PAGES; i++)
        CHECK(filled((char *)area + i * (int)TEST_PAGE, i, i + 1, 10 + next_area - 1));
    return NULL;
}

/* Several threads ask for the same pages while other memory moves about. */
static void check_threads(void)
{
    int p, q;
    pthread_t threads[READERS];
    char *moving = fresh(&p), *area = fresh(&q), *place = test_map(LEN, PROT_NONE);
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&threads[i], NULL, read_all, area) == 0);
    for (int i = 0; i < 20; i++) {
        CHECK(mremap(moving, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
        char *was = moving;
        moving = place;
        place = was;
        CHECK(filled(moving + i * (int)TEST_PAGE, i, i + 1, p));
    }
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(filled(moving, 0, PAGES, p));
}

int main(void)
{
    for (int i = 0; i < AREAS; i++) {
        areas[i] = test_map(LEN, PROT_READ | PROT_WRITE);
        test_fill(areas[i], LEN, (unsigned char)(10 + i));
    }
    char *sparse = test_map(64 * LEN, PROT_READ | PROT_WRITE);
    sparse[32 * LEN] = 5;

    test_freeze_point();
    check_moves();
    check_discards();
    check_kernel();
    check_children();
    check_threads();
    for (size_t i = 0; i < 64 * LEN; i += TEST_PAGE)
        CHECK_EQUAL(sparse[i]++, i == 32 * LEN ? 5 : 0);
    test_barrier();
    return 0;
}
