#include "pager/pager.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FEATURES \
    (UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | \
        UFFD_FEATURE_EVENT_UNMAP)

int pager_open_memory(struct error *err)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};
    if (fd < 0)
        return error_system(err, "cannot make a userfaultfd");
    if (ioctl(fd, UFFDIO_API, &api) < 0) {
        error_system(err, "this kernel's userfaultfd cannot follow forks and moved memory");
        close(fd);
        return -1;
    }
    return fd;
}

static bool kernel_serves(void)
{
    static int known; /* 1: it does, -1: it does not */
    if (known == 0) {
        struct error why;
        int fd = pager_open_memory(&why);
        known = fd >= 0 ? 1 : -1;
        if (fd >= 0)
            close(fd);
    }
    return known > 0;
}

bool pager_can_serve(const struct image *image)
{
    if (image->process_count != 1)
        return false;
    const struct plan *plan = &image->processes[0].template_plan;
    bool lazy = image->bulk_bytes > 0;
    for (uint32_t i = 0; i < plan->count && !lazy; i++)
        lazy = plan->ops[i].kind == PLAN_LAZY_PAGES;
    return lazy && kernel_serves();
}
