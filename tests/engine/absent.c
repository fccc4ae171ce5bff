/* What the sandbox does not offer in the first place, a clone is told as on a kernel that has none of it, or as one
 * that lacks the right.
 *
 * conformance: descriptors | io_uring, userfaultfd, perf events, BPF objects, fanotify, secret memory, landlock rules in a sandbox | noted | the system call filter answers `ENOSYS` or `EPERM`: nothing of them is ever there to be frozen
 * conformance: files | terminals (/dev/tty, /dev/ptmx), devices of the machine, /sys in a sandbox | noted | the sandbox has none of them
 * conformance: sockets | vsock, packet, kernel crypto and other families in a sandbox | noted | the system call filter answers `ENOSYS`
 * conformance: process | `chroot`, namespaces, mounts in a sandbox | noted | the system call filter answers `EPERM` */
#include "help.h"

#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static bool is_absent(long result)
{
    return result == -1 && errno == ENOSYS;
}

static bool is_forbidden(long result)
{
    return result == -1 && errno == EPERM;
}

int main(void)
{
    char nothing[256] = {0};
    test_freeze_point();
    CHECK(
        is_absent(syscall(SYS_io_uring_setup, 4, nothing)) && is_absent(syscall(447 /* memfd_secret */, 0)));
    CHECK(is_absent(syscall(444 /* landlock_create_ruleset */, nothing, 8, 0)));
    CHECK(is_forbidden(syscall(SYS_userfaultfd, 1)) &&
          is_forbidden(syscall(SYS_bpf, 0, nothing, sizeof nothing)));
    CHECK(is_forbidden(syscall(SYS_perf_event_open, nothing, 0, -1, -1, 0)));
    CHECK(is_forbidden(syscall(SYS_fanotify_init, 0, 0)));
    CHECK(is_forbidden(syscall(SYS_pidfd_getfd, 0, 0, 0)) &&
          is_forbidden(syscall(SYS_open_by_handle_at, 0, nothing, 0)));
    static const char *const paths[] = {
        "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/mem", "/dev/kmsg", "/dev/shm", "/sys"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        CHECK(open(paths[i], O_RDONLY) < 0 && errno == ENOENT);
    static const int families[] = {AF_VSOCK, AF_ALG, AF_PACKET, AF_BLUETOOTH, AF_TIPC, AF_XDP, AF_KEY};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        CHECK(is_absent(socket(families[i], SOCK_RAW, 0)));
    CHECK(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) < 0 && errno == EPERM);
    CHECK(is_forbidden(syscall(SYS_chroot, "/tmp")) && is_forbidden(unshare(CLONE_NEWUSER)));
    CHECK(is_forbidden(mount("none", "/tmp", "tmpfs", 0, NULL)) && is_forbidden(umount2("/tmp", MNT_DETACH)));
    return 0;
}
