/* How a process is seen: its name, arguments rewritten in place and moved elsewhere (PR_SET_MM), environment, auxiliary vector,
 * program; of it and of a child that comes after the thaw.
 *
 * conformance: process | name, arguments (rewritten, moved with `PR_SET_MM_MAP`), environment, `/proc/self/exe` | kept |
 */
#include "look.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/wait.h>

extern char **environ;

static void check_line(const char *path, const char *expected, size_t len)
{
    size_t got;
    const char *text = test_file_text(path, &got);
    CHECK_EQUAL(got, len);
    CHECK(memcmp(text, expected, len) == 0);
}

/* As setproctitle does it: to memory of one's own. */
static char *move_arguments(const char *text, size_t len)
{
    char *area = malloc(len);
    memcpy(area, text, len);
    unsigned long fields[53] = {0};
    const char *at = strrchr(test_file_text("/proc/self/stat", NULL), ')') + 4;
    for (int i = 4; i < 53; i++) {
        char *end;
        fields[i] = strtoul(at, &end, 10);
        if (end == at)
            strtol(at, &end, 10);
        at = end;
    }
    struct prctl_mm_map map = {.start_code = fields[26],
        .end_code = fields[27],
        .start_data = fields[45],
        .end_data = fields[46],
        .start_brk = fields[47],
        .brk = (unsigned long)sbrk(0),
        .start_stack = fields[28],
        .arg_start = (unsigned long)area,
        .arg_end = (unsigned long)area + len,
        .env_start = fields[50],
        .env_end = fields[51],
        .auxv = NULL,
        .auxv_size = 0,
        .exe_fd = (unsigned)-1};
    CHECK(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0);
    return area;
}

int main(int argc, char **argv)
{
    static const char moved[] = "server: idle\0second argument";
    CHECK(argc == 1);
    char *area = move_arguments(moved, sizeof moved);
    argv[0][0] = 'X'; /* where they were */
    CHECK(prctl(PR_SET_NAME, "a name (odd) \n") == 0);
    CHECK(setenv("ADDED", "later", 1) == 0 && unsetenv("PATH") == 0);
    unsigned long hardware = getauxval(AT_HWCAP2), random_at = getauxval(AT_RANDOM),
                  page = getauxval(AT_PAGESZ);
    char random_bytes[16], exe[256] = {0};
    memcpy(random_bytes, (void *)random_at, sizeof random_bytes);
    check_line("/proc/self/cmdline", moved, sizeof moved);

    test_freeze_point();
    check_line("/proc/self/cmdline", moved, sizeof moved);
    memcpy(area, "SERVER", 6);
    CHECK(memcmp(test_file_text("/proc/self/cmdline", NULL), "SERVER: idle", 12) == 0);
    check_line("/proc/self/comm", "a name (odd) \n\n", 15);
    CHECK(strcmp(getenv("ADDED"), "later") == 0 && !getenv("PATH"));
    size_t len;
    const char *environment = test_file_text("/proc/self/environ", &len);
    CHECK(len > 10 && memmem(environment, len, "LANG=C.UTF-8", 13));
    CHECK(getauxval(AT_HWCAP2) == hardware && getauxval(AT_RANDOM) == random_at &&
          getauxval(AT_PAGESZ) == page);
    CHECK(memcmp((void *)random_at, random_bytes, sizeof random_bytes) == 0);
    const char *auxv = test_file_text("/proc/self/auxv", &len);
    CHECK(len % 16 == 0 && memmem(auxv, len, &random_at, sizeof random_at));
    CHECK(
        readlink("/proc/self/exe", exe, sizeof exe - 1) > 0 && strcmp(exe, "/var/task/engine_identity") == 0);
    pid_t child = fork();
    if (child == 0)
        _exit(memcmp(test_file_text("/proc/self/cmdline", NULL), "SERVER: idle", 12) == 0 ? 7 : 8);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 7);
    return 0;
}
