/* Memory after the thaw behaves as anonymous memory does: MADV_DONTNEED, mremap, brk, fork, MADV_WIPEONFORK,
 * protections, guard pages, file mappings with private changes, stacks; and nobody sees another's writes.
 *
 * conformance: memory | anonymous memory, heap, stack | kept | all of it can be unmapped, moved, grown, forked
 * conformance: memory | private file mappings | noted | the file itself, which must be unchanged, and the pages that were written to
 */
#include "engine.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGE 4096
static sigjmp_buf after_fault;
static char data_section[3 * PAGE] = "initialised";
static char bss[5 * PAGE];

static void on_fault(int number)
{
    (void)number;
    siglongjmp(after_fault, 1);
}

static bool faults(volatile char *at, bool write)
{
    if (sigsetjmp(after_fault, 1))
        return true;
    if (write)
        *at = 1;
    else
        (void)*at;
    return false;
}

static char *map(size_t len, int protection)
{
    char *at = mmap(NULL, len, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void check_isolation(char *pages)
{
    for (int i = 0; i < 64; i++)
        pages[i * PAGE + 5] = (char)(test_clone_index + 1);
    test_barrier();
    for (int i = 0; i < 64; i++)
        CHECK_EQUAL(pages[i * PAGE + 5], test_clone_index + 1);
    test_barrier();
}

static void check_fork(char *pages)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pages[0] = 'c';
        _exit(pages[1] == 'b' ? 7 : 8);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 7);
    CHECK_EQUAL(pages[0], 'a');
}

int main(void)
{
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    char *pages = map(64 * PAGE, PROT_READ | PROT_WRITE);
    memset(pages, 'x', 64 * PAGE);
    pages[0] = 'a';
    pages[1] = 'b';
    char *sparse = map(1024 * PAGE, PROT_READ | PROT_WRITE);
    sparse[700 * PAGE] = 's';
    char *read_only = map(2 * PAGE, PROT_READ | PROT_WRITE);
    read_only[0] = 'r';
    CHECK(mprotect(read_only, 2 * PAGE, PROT_READ) == 0);
    char *none = map(2 * PAGE, PROT_READ | PROT_WRITE);
    none[10] = 'n';
    CHECK(mprotect(none, 2 * PAGE, PROT_NONE) == 0);
    char *huge_reserve =
        mmap(NULL, 1ull << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(huge_reserve != MAP_FAILED);
    char *wiped = map(2 * PAGE, PROT_READ | PROT_WRITE);
    CHECK(madvise(wiped, 2 * PAGE, MADV_WIPEONFORK) == 0);
    memset(wiped, 'w', 2 * PAGE);
    char *no_fork = map(2 * PAGE, PROT_READ | PROT_WRITE);
    memset(no_fork, 'd', 2 * PAGE);
    CHECK(madvise(no_fork, 2 * PAGE, MADV_DONTFORK) == 0);
    int fd = open("/var/task/engine_memory", O_RDONLY);
    char *file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK(file != MAP_FAILED);
    close(fd);
    file[PAGE] = 'f';
    char *program_break = sbrk(3 * PAGE);
    memset(program_break, 'h', 3 * PAGE);
    bss[2 * PAGE] = 'B';
    data_section[2 * PAGE] = 'D';

    test_freeze_point();
    CHECK(pages[0] == 'a' && pages[1] == 'b' && pages[64 * PAGE - 1] == 'x');
    CHECK(sparse[700 * PAGE] == 's' && sparse[0] == 0 && sparse[701 * PAGE] == 0);
    CHECK(read_only[0] == 'r' && faults(read_only, true) && !faults(read_only, false));
    CHECK(faults(none, false) && mprotect(none, 2 * PAGE, PROT_READ) == 0 && none[10] == 'n');
    CHECK(faults(huge_reserve + (1ull << 39), false));
    for (int i = 0; i < 2 * PAGE; i++)
        CHECK(wiped[i] == 0 && no_fork[i] == 'd');
    CHECK(memcmp(file + 1, "ELF", 3) == 0 && file[PAGE] == 'f');
    CHECK(strcmp(data_section, "initialised") == 0 && data_section[2 * PAGE] == 'D' && bss[2 * PAGE] == 'B' &&
          bss[0] == 0);

    check_isolation(pages);
    check_fork(pages);
    CHECK(sbrk(0) == program_break + 3 * PAGE && program_break[3 * PAGE - 1] == 'h');
    CHECK(sbrk(PAGE) == program_break + 3 * PAGE && program_break[3 * PAGE] == 0);
    program_break[3 * PAGE] = 1;
    CHECK(sbrk(-4 * PAGE) == program_break + 4 * PAGE);
    CHECK(madvise(pages, 2 * PAGE, MADV_DONTNEED) == 0 && pages[0] == 0 && pages[2 * PAGE] == 'x');
    CHECK(madvise(file, 2 * PAGE, MADV_DONTNEED) == 0 && memcmp(file + 1, "ELF", 3) == 0);
    char *grown = mremap(pages, 64 * PAGE, 256 * PAGE, MREMAP_MAYMOVE);
    CHECK(grown != MAP_FAILED && grown[3 * PAGE] == 'x' && grown[255 * PAGE] == 0);
    grown[255 * PAGE] = 1;
    char *moved = mremap(sparse + 700 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, huge_reserve + PAGE);
    CHECK(moved == huge_reserve + PAGE && moved[0] == 's');
    wiped[0] = 'q';
    pid_t child = fork();
    if (child == 0)
        _exit(wiped[0] == 0 && faults(no_fork, false) ? 7 : 8);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_EQUAL(wiped[0], 'q');
    char *deep = alloca(512 * 1024); /* the stack still grows */
    memset(deep, 1, 512 * 1024);
    free(memset(malloc(10 << 20), 1, 10 << 20));
    return 0;
}
