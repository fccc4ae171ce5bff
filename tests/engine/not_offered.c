/* What a sandbox does not offer, since it would be state that nobody can read or make again: the same answers before the
 * freeze (this program runs under the sandbox's own filter) and in the clone.
 *
 * conformance: process | Landlock, keyrings, kernel keys, tracing, own namespaces, mounts | noted | not offered: the sandbox answers `EPERM` or `ENOSYS`, as containers do
 * conformance: memory | secret memory, allocated protection keys, userfaultfd, shadow stacks | noted | not offered: the sandbox answers `EPERM` or `ENOSYS`
 */
#include "engine.h"

#include <sys/syscall.h>

static const struct {
    const char *name;
    long number, arguments[3];
    int expected;
} calls[] = {{"landlock_create_ruleset", 444, {0, 0, 1}, ENOSYS},
    {"landlock_restrict_self", 446, {-1, 0, 0}, ENOSYS}, {"memfd_secret", 447, {0}, ENOSYS},
    {"pkey_alloc", SYS_pkey_alloc, {0, 0, 0}, ENOSYS}, {"pkey_mprotect", SYS_pkey_mprotect, {0}, ENOSYS},
    {"map_shadow_stack", 453, {0, 4096, 0}, ENOSYS}, {"io_uring_setup", 425, {4, 0, 0}, ENOSYS},
    {"userfaultfd", SYS_userfaultfd, {1, 0, 0}, EPERM}, {"keyctl", SYS_keyctl, {0, -3, 0}, EPERM},
    {"add_key", SYS_add_key, {0}, EPERM}, {"ptrace", SYS_ptrace, {0}, EPERM}, {"bpf", SYS_bpf, {0}, EPERM},
    {"perf_event_open", SYS_perf_event_open, {0}, EPERM}, {"fanotify_init", SYS_fanotify_init, {0}, EPERM},
    {"unshare", SYS_unshare, {0x10000000}, EPERM}, {"mount", SYS_mount, {0}, EPERM},
    {"setns", SYS_setns, {-1, 0, 0}, EPERM}, {"move_mount", 429, {0}, EPERM}, {"kcmp", SYS_kcmp, {0}, EPERM},
    {"modify_ldt", SYS_modify_ldt, {0}, EPERM}, {"clone3", 435, {0}, ENOSYS}};

static void check(void)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        long result = syscall(
            calls[i].number, calls[i].arguments[0], calls[i].arguments[1], calls[i].arguments[2], 0, 0);
        if (result >= 0 || errno != calls[i].expected)
            printf("# %s: %ld\n", calls[i].name, result);
        CHECK_EQUAL(result, -1);
        CHECK_EQUAL(errno, calls[i].expected);
    }
}

int main(void)
{
    check();
    test_freeze_point();
    check();
    return 0;
}
