#include "sandbox/init.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "sandbox/rights.h"
#include "sandbox/root.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define USER_SPACE_END 0x7ffffffff000ul
#define PAGE_BYTES 4096ul
#define RSEQ_REGISTERED_BYTES 32u
#define RSEQ_UNREGISTER 1

static int raise_loopback(struct error *err)
{
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return error_system(err, "cannot bring the loopback interface of a sandbox up");
    return 0;
}

static int listen_for_runtime(struct error *err)
{
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
        .sin_port = htons(SANDBOX_API_PORT),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SANDBOX_API_BACKLOG) < 0)
        return error_system(err, "cannot listen for the runtime API in a sandbox");
    return fd_steal(&fd);
}

/* The order matters: what the namespaces cost in kernel memory is charged to the daemon, as they are made
 * before the cgroups are entered; the cgroup namespace shows the cgroup that was entered as its root. */
static int make_sandbox(const struct init_plan *plan, int fds[INIT_FD_COUNT], struct error *err)
{
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return error_system(err, "cannot make the namespaces of a sandbox");
    if ((fds[INIT_FD_TMP] = root_enter_copy(plan->base_root_fd, err)) < 0)
        return -1;
    if (raise_loopback(err) < 0)
        return -1;
    if ((fds[INIT_FD_LISTENER] = listen_for_runtime(err)) < 0)
        return -1;
    if (sethostname(ROOT_HOSTNAME, strlen(ROOT_HOSTNAME)) < 0)
        return error_system(err, "cannot name a sandbox");
    if (cgroups_make(plan->cgroups, plan->id, err) < 0)
        return -1;
    if (cgroups_enter(plan->cgroups, plan->id, err) < 0)
        return -1;
    if (unshare(CLONE_NEWCGROUP) < 0)
        return error_system(err, "cannot make the cgroup namespace of a sandbox");
    return 0;
}

/* The last thing that init does is to give up all memory but the page that these instructions run from: the
 * fork's copy of the warden is of no use any more, holds what a sandbox should not, and costs page tables.
 *
 *   rbx = this page, r12 = what lies above it */
extern const char init_sleep_begin[], init_sleep_end[];
__asm__(".pushsection .rodata\n"
        "init_sleep_begin:\n"
        "  mov $11, %eax\n" /* munmap(0, page) */
        "  xor %edi, %edi\n"
        "  mov %rbx, %rsi\n"
        "  syscall\n"
        "  mov $11, %eax\n" /* munmap(page + 1, the rest) */
        "  lea 4096(%rbx), %rdi\n"
        "  mov %r12, %rsi\n"
        "  syscall\n"
        "1: mov $34, %eax\n" /* pause() */
        "  syscall\n"
        "  jmp 1b\n"
        "init_sleep_end:\n"
        ".popsection\n");

static bool forget_rseq(void)
{
    if (__rseq_size == 0)
        return true; /* libc did not register one */
    void *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    return syscall(SYS_rseq, area, RSEQ_REGISTERED_BYTES, RSEQ_UNREGISTER, RSEQ_SIG) == 0;
}

_Noreturn static void sleep_for_ever(void)
{
    char *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    /* The kernel would write to a registered rseq area that is gone, and kill us. */
    if (page != MAP_FAILED && forget_rseq()) {
        memcpy(page, init_sleep_begin, (size_t)(init_sleep_end - init_sleep_begin));
        if (mprotect(page, PAGE_BYTES, PROT_READ | PROT_EXEC) == 0) {
            register char *rbx __asm__("rbx") = page;
            register uint64_t r12 __asm__("r12") = USER_SPACE_END - (uint64_t)page - PAGE_BYTES;
            __asm__ volatile("jmp *%%rbx" : : "r"(rbx), "r"(r12) : "memory");
            __builtin_unreachable();
        }
    }
    for (;;)
        pause();
}

_Noreturn void init_run(const struct init_plan *plan)
{
    int fds[INIT_FD_COUNT] = {-1, -1};
    struct error outcome = {0};
    /* Dies with the warden. If that is dead already, the answer below has nobody to go to. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "thaw-sandbox");
    signal(SIGCHLD, SIG_IGN); /* the kernel then reaps orphans by itself; all else pid 1 ignores by default */
    bool made = make_sandbox(plan, fds, &outcome) == 0;
    if (made)
        made = rights_drop_all(&outcome) == 0;
    if (fd_send_message(plan->answer_fd, &outcome, sizeof outcome, fds, made ? INIT_FD_COUNT : 0, NULL) < 0 ||
        !made)
        _exit(1);
    setsid();
    (void)syscall(SYS_close_range, 0, ~0u, 0);
    sleep_for_ever();
}
