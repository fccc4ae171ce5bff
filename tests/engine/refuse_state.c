/* State of a process or thread that cannot be frozen must refuse the freeze by name: the first argument chooses.
 *
 * conformance: memory | hugetlbfs memory, private and shared | refused | its pages are the machine's, not the process's
 * conformance: memory | memory that userfaultfd serves | refused | another part of the program answers for its pages
 * conformance: memory | NUMA policies of threads, and of shared mappings | refused | not yet
 * conformance: shared memory | contexts of asynchronous I/O (`io_setup`) | refused | the kernel's own ring
 * conformance: shared memory | secret memory (`memfd_secret`) | refused | nobody else can read it
 * conformance: process | a working folder that was deleted | refused | cannot be entered again
 * conformance: process | system call filters of its own, of any thread | refused | cannot be read without rights
 * conformance: process | segments of its own (`modify_ldt`) | refused | no 64-bit program needs them
 * conformance: threads | descriptors or working folder of a thread's own (`unshare`) | refused | not yet
 * conformance: threads | system call user dispatch | refused | calls made at the freeze would become signals
 * conformance: threads | a process whose first thread has ended while others run | refused | it cannot be traced
 * conformance: signals | a stopped process (`SIGSTOP`) | refused | it would run in a clone
 * conformance: process | a process that is traced | refused | its tracer would not be in the clone
 * conformance: timers and clocks | POSIX timers numbered above 4096 | refused | each number before it takes two calls
 */
#include "look.h"

#include <asm/ldt.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

static int (*to_do)(void);
static volatile int done;

static void *do_it(void *unused)
{
    (void)unused;
    CHECK(to_do() >= 0);
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (;;)
        pause();
}

/* In a thread of its own, which stays. */
static int in_thread(int (*what)(void))
{
    pthread_t thread;
    to_do = what;
    CHECK(pthread_create(&thread, NULL, do_it, NULL) == 0);
    test_wait_word(&done, 1);
    return 0;
}

static int map_huge(void)
{
    return mmap(NULL, 2 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) ==
                   MAP_FAILED
               ? -1
               : 0;
}

static int map_huge_memfd(void)
{
    int fd = memfd_create("huge", MFD_HUGETLB);
    CHECK(fd >= 0 && ftruncate(fd, 4 << 20) == 0);
    return mmap(NULL, 2 << 20, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0) == MAP_FAILED ? -1 : close(fd);
}

static int serve_faults(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    char *area = test_map(4 * TEST_PAGE, PROT_READ | PROT_WRITE);
    struct uffdio_register about = {{(uintptr_t)area, 4 * TEST_PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
    CHECK(fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0);
    return ioctl(fd, UFFDIO_REGISTER, &about);
}

static int make_aio(void)
{
    aio_context_t context = 0;
    return (int)syscall(SYS_io_setup, 8, &context);
}

static int make_secret(void)
{
    int fd = (int)syscall(447 /* memfd_secret */, 0);
    CHECK(fd >= 0 && ftruncate(fd, TEST_PAGE) == 0);
    return mmap(NULL, TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : close(fd);
}

static int set_policy(void)
{
    unsigned long nodes = 1;
    return (int)syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 2);
}

static int set_thread_policy(void)
{
    return in_thread(set_policy);
}

static int bind_mapping(void)
{
    unsigned long nodes = 1;
    char *area = mmap(NULL, 4 * TEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(area != MAP_FAILED);
    return (int)syscall(SYS_mbind, area, 4 * TEST_PAGE, MPOL_BIND, &nodes, 2, 0);
}

static int delete_folder(void)
{
    return mkdir("/tmp/gone", 0700) == 0 && chdir("/tmp/gone") == 0 ? rmdir("/tmp/gone") : -1;
}

static int attach_filter(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static int attach_in_thread(void)
{
    return in_thread(attach_filter);
}

static int set_local_descriptors(void)
{
    struct user_desc about = {.entry_number = 0, .base_addr = 0x1000, .limit = 1, .limit_in_pages = 1};
    return (int)syscall(SYS_modify_ldt, 1, &about, sizeof about);
}

static int unshare_files(void)
{
    return unshare(CLONE_FILES);
}

static int unshare_files_in_thread(void)
{
    return in_thread(unshare_files);
}

static int unshare_folder(void)
{
    return unshare(CLONE_FS);
}

static int unshare_folder_in_thread(void)
{
    return in_thread(unshare_folder);
}

static char dispatch = 0; /* SYSCALL_DISPATCH_FILTER_ALLOW */

static int dispatch_calls(void)
{
    return prctl(59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, &dispatch);
}

static int dispatch_in_thread(void)
{
    return in_thread(dispatch_calls);
}

static void *go_on(void *unused)
{
    /* The first thread is gone when it is a zombie. */
    while (!strstr(test_file_value("/proc/self/stat", ") "), "Z"))
        usleep(500);
    test_freeze_point();
    return unused;
}

static int end_first_thread(void)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, go_on, NULL) == 0);
    pthread_exit(NULL);
}

static int be_traced(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, 0, 0);
}

static int stop(void)
{
    return 0; /* the harness sends SIGSTOP */
}

static int number_timers(void)
{
    int id = 0;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    while (id <= 4096) {
        CHECK(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) == 0);
        if (id <= 4096)
            CHECK(syscall(SYS_timer_delete, id) == 0);
    }
    return 0;
}

static const struct test_maker makers[] = {
    {"huge-memory", map_huge},
    {"huge-memfd", map_huge_memfd},
    {"served-memory", serve_faults},
    {"aio", make_aio},
    {"secret-memory", make_secret},
    {"policy", set_policy},
    {"thread-policy", set_thread_policy},
    {"mapping-policy", bind_mapping},
    {"deleted-folder", delete_folder},
    {"filter", attach_filter},
    {"thread-filter", attach_in_thread},
    {"ldt", set_local_descriptors},
    {"own-descriptors", unshare_files_in_thread},
    {"own-folder", unshare_folder_in_thread},
    {"dispatch", dispatch_calls},
    {"thread-dispatch", dispatch_in_thread},
    {"first-thread-ended", end_first_thread},
    {"traced", be_traced},
    {"stopped", stop},
    {"timer-number", number_timers},
};

int main(int argc, char **argv)
{
    return test_refusal(argc, argv, makers, sizeof makers / sizeof *makers);
}
