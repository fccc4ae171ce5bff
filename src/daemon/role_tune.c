/* What makes this machine quicker at what we do all the time. */
#include "base/fd.h"
#include "base/log.h"
#include "daemon/role.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

/* Moving a process into a cgroup takes a lock that, after a pause, costs the kernel an RCU grace period: 7-20
 * ms measured, in the middle of a start, against 0.04 ms when the kernel was told that such moves are to be
 * quick
 * (`favordynmods`, since Linux 6.0). The lock is one for all hierarchies, so the wish may be uttered by one
 * of our own: a named one without controllers, mounted nowhere, which lasts as long as this descriptor. */
int role_favor_cgroup_moves(void)
{
    CLEANUP_FD int context = fsopen("cgroup", FSOPEN_CLOEXEC);
    if (context >= 0 && fsconfig(context, FSCONFIG_SET_FLAG, "none", NULL, 0) == 0 &&
        fsconfig(context, FSCONFIG_SET_STRING, "name", "thaw", 0) == 0 &&
        fsconfig(context, FSCONFIG_SET_FLAG, "favordynmods", NULL, 0) == 0 &&
        fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
        int hierarchy =
            fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (hierarchy >= 0)
            return hierarchy;
    }
    log_info(
        "this kernel takes no wish for quick moves between cgroups (%s): starts after a pause may be some "
        "milliseconds slower",
        strerror(errno));
    return -1;
}
