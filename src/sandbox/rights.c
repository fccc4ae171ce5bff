#include "sandbox/rights.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int drop_bounding_set(struct error *err)
{
    for (unsigned long capability = 0;; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
            continue;
        if (errno == EINVAL) /* past the last one that this kernel knows */
            return 0;
        return error_system(err, "cannot drop capability %lu from the bounding set", capability);
    }
}

static int drop_sets(struct error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return error_system(err, "cannot clear the ambient capabilities");
    if (syscall(SYS_capset, &header, none) < 0)
        return error_system(err, "cannot give up capabilities");
    return 0;
}

int rights_drop_all(struct error *err)
{
    if (drop_bounding_set(err) < 0)
        return -1;
    return drop_sets(err);
}

int rights_become(uid_t uid, gid_t gid, struct error *err)
{
    if (drop_bounding_set(err) < 0)
        return -1;
    /* The raw calls: libc's would ask threads of a process that has none to follow. */
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
        syscall(SYS_setresuid, uid, uid, uid) < 0)
        return error_system(err, "cannot become user %u, group %u", uid, gid);
    return drop_sets(err);
}
