#include "look.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static __thread sigjmp_buf after_fault;

static void on_fault(int number)
{
    siglongjmp(after_fault, number);
}

int test_fault(volatile char *at, bool write)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* the handlers are the process's */
    CHECK(pthread_mutex_lock(&lock) == 0);
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER}, old_segv, old_bus;
    CHECK(sigaction(SIGSEGV, &action, &old_segv) == 0 && sigaction(SIGBUS, &action, &old_bus) == 0);
    int number = sigsetjmp(after_fault, 1);
    if (number == 0 && write)
        *at = *at;
    else if (number == 0)
        (void)*at;
    CHECK(sigaction(SIGSEGV, &old_segv, NULL) == 0 && sigaction(SIGBUS, &old_bus, NULL) == 0);
    CHECK(pthread_mutex_unlock(&lock) == 0);
    return number;
}

char *test_map(size_t bytes, int protection)
{
    char *at = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static uint64_t page_value(unsigned seed, size_t page)
{
    return (page + 1) * 0x9e3779b97f4a7c15ull ^ seed;
}

void test_fill(char *at, size_t bytes, unsigned seed)
{
    for (size_t page = 0; page < bytes / TEST_PAGE; page++) {
        uint64_t value = page_value(seed, page);
        memcpy(at + page * TEST_PAGE + page % 512 * 8, &value, sizeof value);
    }
}

bool test_filled(const char *at, size_t bytes, unsigned seed)
{
    for (size_t page = 0; page < bytes / TEST_PAGE; page++) {
        uint64_t value = page_value(seed, page);
        if (memcmp(at + page * TEST_PAGE + page % 512 * 8, &value, sizeof value) != 0)
            return false;
    }
    return true;
}

/* The line of smaps with `key` that belongs to the mapping of `at`: false when there is none. */
static bool smaps_line(const void *at, const char *key, char *line, size_t size)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    CHECK(smaps);
    bool inside = false, found = false;
    while (!found && fgets(line, (int)size, smaps)) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = (unsigned long)at >= start && (unsigned long)at < end;
        else
            found = inside && strncmp(line, key, strlen(key)) == 0;
    }
    fclose(smaps);
    return found;
}

bool test_vm_flag(const void *at, const char *code)
{
    char line[256], wanted[8];
    CHECK(smaps_line(at, "VmFlags:", line, sizeof line));
    line[strcspn(line, "\n")] = 0;
    strcat(line, " ");
    snprintf(wanted, sizeof wanted, " %s ", code);
    return strstr(line, wanted) != NULL;
}

long test_vm_number(const void *at, const char *key)
{
    char line[256];
    CHECK(smaps_line(at, key, line, sizeof line));
    return atol(strchr(line, ':') + 1);
}

size_t test_mapping_count(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    size_t count = 0;
    CHECK(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, "[io_uring]") == NULL; /* of a clone that a pager serves: pager/hold.c */
    fclose(maps);
    return count;
}

const char *test_file_text(const char *path, size_t *len)
{
    static __thread char text[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t got = 0;
    CHECK(fd >= 0);
    for (ssize_t n; got < sizeof text - 1 && (n = read(fd, text + got, sizeof text - 1 - got)) > 0;)
        got += (size_t)n;
    close(fd);
    text[got] = 0;
    if (len)
        *len = got;
    return text;
}

const char *test_file_value(const char *path, const char *key)
{
    static __thread char value[1024];
    const char *at = strstr(test_file_text(path, NULL), key);
    value[0] = 0;
    if (at) {
        at += strlen(key);
        at += strspn(at, " \t");
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\n"), at);
    }
    return value;
}

void test_wait_word(const volatile int *word, int value)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < value)
        usleep(200);
}
