/* Small things of a process: umask, limits, working directory, names, ids, environment, nice value, clocks,
 * auxiliary vector, /proc/self/exe, restartable sequences, robust lists, thread-local storage, randomness.
 *
 * conformance: process | limits, umask, working folder, name, nice value, `oom_score_adj`, `coredump_filter`, auxiliary vector | kept |
 * conformance: futexes | the robust list of a thread | kept |
 */
#include "engine.h"

#include <limits.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static __thread char local[64] = "initialised";
static pthread_mutex_t robust;
static volatile int stage;

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    CHECK(clock_gettime(id, &now) == 0);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void *hold_and_die(void *unused)
{
    (void)unused;
    CHECK(pthread_mutex_lock(&robust) == 0);
    strcpy(local, "the thread's");
    stage = 1;
    while (stage == 1)
        usleep(1000);
    CHECK(strcmp(local, "the thread's") == 0);
    return NULL; /* the kernel walks the robust list */
}

/* A number in a file of /proc/self, printed in the given base. */
static long proc_number(const char *path, int base)
{
    char text[32] = {0};
    FILE *file = fopen(path, "r");
    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
    return strtol(text, NULL, base);
}

static void put_proc_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void check_rseq(void)
{
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    CHECK(__rseq_size > 0);
    for (int i = 0; i < 10000; i++) { /* the two are read at different moments */
        unsigned cpu;
        CHECK(syscall(SYS_getcpu, &cpu, NULL, NULL) == 0);
        if (*(volatile uint32_t *)&area->cpu_id == cpu)
            return;
    }
    CHECK(!"rseq tells another processor");
}

int main(int argc, char **argv)
{
    pthread_t thread;
    pthread_mutexattr_t attribute;
    char path[PATH_MAX];
    struct rlimit limit = {300, 400}, core = {0, 0}, now;
    static const clockid_t clocks[] = {
        CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME, CLOCK_MONOTONIC_RAW, CLOCK_PROCESS_CPUTIME_ID};
    int64_t before[sizeof clocks / sizeof *clocks];
    umask(0137);
    CHECK(mkdir("/tmp/home", 0700) == 0);
    CHECK(chmod("/tmp/home", 0700) == 0 && chdir("/tmp/home") == 0);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0 && setrlimit(RLIMIT_CORE, &core) == 0);
    CHECK(setenv("CHANGED", "yes", 1) == 0);
    CHECK(prctl(PR_SET_NAME, "renamed") == 0);
    int nice_value = getpriority(PRIO_PROCESS, 0) + 2;
    CHECK(setpriority(PRIO_PROCESS, 0, nice_value) == 0);
    put_proc_text("/proc/self/coredump_filter", "0x17");
    put_proc_text("/proc/self/oom_score_adj", "321");
    strcpy(local, "the first thread's");
    pthread_mutexattr_init(&attribute);
    pthread_mutexattr_setrobust(&attribute, PTHREAD_MUTEX_ROBUST);
    CHECK(pthread_mutex_init(&robust, &attribute) == 0);
    CHECK(pthread_create(&thread, NULL, hold_and_die, NULL) == 0);
    while (stage == 0)
        usleep(1000);
    cpu_set_t cpus, cpus_now;
    CHECK(sched_getaffinity(0, sizeof cpus, &cpus) == 0);
    unsigned long vdso = getauxval(AT_SYSINFO_EHDR), random_at = getauxval(AT_RANDOM);
    pid_t pid = getpid(), parent_tid = test_gettid();
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks - 1; i++)
        before[i] = read_clock(clocks[i]);

    test_freeze_point();
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks - 1; i++)
        CHECK(read_clock(clocks[i]) >= before[i]);
    CHECK_EQUAL(getpid(), pid);
    CHECK_EQUAL(test_gettid(), parent_tid);
    CHECK(strcmp(local, "the first thread's") == 0);
    stage = 2;
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(pthread_mutex_lock(&robust), EOWNERDEAD);
    CHECK_EQUAL(umask(0), 0137);
    CHECK(getcwd(path, sizeof path) && strcmp(path, "/tmp/home") == 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 300 && now.rlim_max == 400);
    CHECK(getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_cur == 0 && now.rlim_max == 0);
    CHECK(strcmp(getenv("CHANGED"), "yes") == 0 && strcmp(getenv("LANG"), "C.UTF-8") == 0);
    CHECK(prctl(PR_GET_NAME, path) == 0 && strcmp(path, "renamed") == 0);
    CHECK_EQUAL(getpriority(PRIO_PROCESS, 0), nice_value);
    CHECK(sched_getaffinity(0, sizeof cpus_now, &cpus_now) == 0 && CPU_EQUAL(&cpus, &cpus_now));
    CHECK(getauxval(AT_SYSINFO_EHDR) == vdso && getauxval(AT_RANDOM) == random_at);
    ssize_t len = readlink("/proc/self/exe", path, sizeof path);
    CHECK(len > 0 && strncmp(path, "/var/task/engine_state", (size_t)len) == 0);
    FILE *line = fopen("/proc/self/cmdline", "r");
    CHECK(line && fgets(path, sizeof path, line) && strcmp(path, argv[0]) == 0 && argc == 1);
    fclose(line);
    line = fopen("/proc/self/status", "r");
    unsigned long long capabilities = 1;
    int no_new_privileges = 0;
    while (fgets(path, sizeof path, line)) {
        sscanf(path, "CapEff: %llx", &capabilities);
        sscanf(path, "NoNewPrivs: %d", &no_new_privileges);
    }
    fclose(line);
    CHECK_EQUAL(capabilities, 0);
    CHECK_EQUAL(no_new_privileges, 1);
    CHECK(setuid(0) < 0 && errno == EPERM);
    CHECK_EQUAL(proc_number("/proc/self/coredump_filter", 16), 0x17);
    CHECK_EQUAL(proc_number("/proc/self/oom_score_adj", 10), 321);
    check_rseq();
    uint64_t number[2];
    CHECK_EQUAL(getrandom(number, sizeof number, 0), sizeof number);
    /* Every clone leaves its number for the others' eyes: the harness shows them, they cannot be compared
     * here. */
    CHECK(number[0] != number[1]);
    CHECK_EQUAL(prctl(PR_GET_DUMPABLE), 1);
    return 0;
}
