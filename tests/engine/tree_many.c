/* Ten children, of which each has threads, memory and an executable mapping of its own; half of them run another
 * program image than the root by exec.
 *
 * conformance: other processes | ten children with threads, handlers, limits, umask and working folders of their own | kept | 
 */
#include "engine.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define CHILDREN_MAX 10
#define BYTES (3u << 20)

static int requests[CHILDREN_MAX][2], answers[CHILDREN_MAX][2];
static volatile int signals_seen;
static int children = CHILDREN_MAX; /* or the first argument, for measurements */

static void see_signal(int number)
{
    signals_seen += number;
}

static void *run_thread(void *end)
{
    char byte;
    CHECK_EQUAL(read(*(int *)end, &byte, 1), 1);
    return (void *)(intptr_t)(byte + 1);
}

/* One child: state that must not be another's. */
static void run_child(int index, int in, int out)
{
    int thread_pipe[2];
    pthread_t thread;
    void *result;
    struct rlimit limit = {100 + (rlim_t)index, 200};
    unsigned char *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(memory, 'a' + index, BYTES);
    CHECK(pipe(thread_pipe) == 0);
    CHECK(pthread_create(&thread, NULL, run_thread, &thread_pipe[0]) == 0);
    signal(SIGUSR1, index % 2 == 0 ? see_signal : SIG_IGN);
    umask((mode_t)index);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(chdir(index % 2 == 0 ? "/tmp" : "/usr") == 0);
    CHECK_EQUAL(write(out, "r", 1), 1);
    char byte;
    CHECK_EQUAL(read(in, &byte, 1), 1);
    for (size_t i = 0; i < BYTES; i++)
        CHECK(memory[i] == 'a' + index);
    memory[0] = 'z';
    raise(SIGUSR1);
    CHECK_EQUAL(signals_seen, index % 2 == 0 ? SIGUSR1 : 0);
    CHECK_EQUAL(umask(0), index);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 100 + (rlim_t)index);
    char folder[64];
    CHECK(getcwd(folder, sizeof folder));
    CHECK_EQUAL(strcmp(folder, index % 2 == 0 ? "/tmp" : "/usr"), 0);
    byte = (char)index;
    CHECK_EQUAL(write(thread_pipe[1], &byte, 1), 1);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK_EQUAL((intptr_t)result, index + 1);
    CHECK_EQUAL(write(out, &byte, 1), 1);
    _exit(index);
}

static void start_child(char **argv, int index)
{
    char text[3][16];
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid != 0)
        return;
    if (index % 2 == 0)
        run_child(index, requests[index][0], answers[index][1]);
    snprintf(text[0], sizeof text[0], "%d", index);
    snprintf(text[1], sizeof text[1], "%d", requests[index][0]);
    snprintf(text[2], sizeof text[2], "%d", answers[index][1]);
    execl("/proc/self/exe", argv[0], text[0], text[1], text[2], NULL);
    _exit(98);
}

int main(int argc, char **argv)
{
    char byte;
    int status;
    if (argc == 4)
        run_child(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]));
    if (argc == 2)
        children = atoi(argv[1]);
    CHECK(children <= CHILDREN_MAX);
    umask(077);
    signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < children; i++)
        CHECK(pipe(requests[i]) == 0 && pipe(answers[i]) == 0);
    for (int i = 0; i < children; i++)
        start_child(argv, i);
    for (int i = 0; i < children; i++)
        CHECK_EQUAL(read(answers[i][0], &byte, 1), 1);
    pthread_t thread;
    void *result;
    int thread_pipe[2];
    CHECK(pipe(thread_pipe) == 0 && pthread_create(&thread, NULL, run_thread, &thread_pipe[0]) == 0);
    test_freeze_point();
    CHECK_EQUAL(umask(0), 077);
    test_barrier();
    for (int i = 0; i < children; i++)
        CHECK_EQUAL(write(requests[i][1], "?", 1), 1);
    for (int i = 0; i < children; i++) {
        CHECK_EQUAL(read(answers[i][0], &byte, 1), 1);
        CHECK_EQUAL(byte, i);
    }
    int sum = 0;
    for (pid_t pid; (pid = waitpid(-1, &status, 0)) > 0; sum += WEXITSTATUS(status))
        CHECK(WIFEXITED(status));
    CHECK_EQUAL(sum, children * (children - 1) / 2);
    CHECK_EQUAL(write(thread_pipe[1], "\x05", 1), 1);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK_EQUAL((intptr_t)result, 6);
    return 0;
}
