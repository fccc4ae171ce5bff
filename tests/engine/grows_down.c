/* Stacks that grow: a MAP_GROWSDOWN mapping, and the first thread's own, deep after the thaw; the limit still holds.
 *
 * conformance: memory | `MAP_GROWSDOWN`; the first stack grows after the thaw, up to its limit | kept |
 */
#include "look.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static __attribute__((noinline)) size_t deep(int levels)
{
    volatile char here[16384];
    memset((char *)here, levels, sizeof here);
    size_t sum = levels > 0 ? deep(levels - 1) : 0;
    CHECK_EQUAL(here[77], (char)levels);
    return sum + sizeof here;
}

static void overflow(int unused)
{
    (void)unused;
    _exit(9);
}

int main(void)
{
    /* Far from anything else, or the gap to the next mapping stops it. */
    char *room = mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(room != MAP_FAILED && munmap(room, 64 << 20) == 0);
    char *top = mmap(room + (60 << 20), 4 * TEST_PAGE, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(top != MAP_FAILED);
    for (int i = 1; i <= 20; i++)
        top[-i * (long)TEST_PAGE] = (char)i;
    size_t before = deep(40);

    test_freeze_point();
    CHECK(test_vm_flag(top, "gd"));
    for (int i = 1; i <= 20; i++)
        CHECK_EQUAL(top[-i * (long)TEST_PAGE], i);
    for (int i = 21; i <= 200; i++)
        top[-i * (long)TEST_PAGE] = (char)test_clone_index;
    CHECK_EQUAL(top[-200 * (long)TEST_PAGE], test_clone_index);
    CHECK(deep(300) > before); /* almost 5 MiB, of 8 */
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_STACK, &limit) == 0);
    CHECK(limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= 8 << 20);
    if (limit.rlim_cur > 64 << 20)
        return 0;
    pid_t child = fork();
    if (child == 0) {
        stack_t stack = {.ss_sp = test_map(65536, PROT_READ | PROT_WRITE), .ss_size = 65536};
        struct sigaction action = {.sa_handler = overflow, .sa_flags = SA_ONSTACK};
        CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);
        deep((int)(limit.rlim_cur / 16384 + 100));
        _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 9);
    return 0;
}
