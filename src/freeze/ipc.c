/* System V objects and POSIX message queues live in the sandbox's IPC namespace, not in the process: a clone's is
 * empty, so that their existence refuses the freeze. */
#include "freeze/descriptors.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

/* A folder of this IPC namespace's message queues, mounted nowhere. */
static int open_queues(void)
{
    CLEANUP_FD int context = fsopen("mqueue", FSOPEN_CLOEXEC);
    if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -1;
    CLEANUP_FD int mounted = fsmount(context, FSMOUNT_CLOEXEC, 0);
    return mounted < 0 ? -1 : openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int count_queues(int *count)
{
    int fd = open_queues();
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    *count = 0;
    if (!folder)
        return errno == ENODEV ? 0 : -1; /* a kernel without message queues */
    struct dirent *entry = NULL;
    while (errno = 0, (entry = readdir(folder)) != NULL)
        *count += entry->d_name[0] != '.';
    int failed = errno;
    closedir(folder);
    errno = failed;
    return failed == 0 ? 0 : -1;
}

/* What there is of each kind, counted inside the namespace. */
struct ipc_count {
    int memory, semaphores, messages, queues;
    int error_number;
};

static struct ipc_count count_objects(void)
{
    struct ipc_count count = {0};
    struct shm_info memory = {0};
    struct seminfo semaphores = {0};
    struct msginfo messages = {0};
    if (shmctl(0, SHM_INFO, (struct shmid_ds *)&memory) < 0 || semctl(0, 0, SEM_INFO, &semaphores) < 0 ||
        msgctl(0, MSG_INFO, (struct msqid_ds *)&messages) < 0 || count_queues(&count.queues) < 0)
        count.error_number = errno;
    count.memory = memory.used_ids;
    count.semaphores = semaphores.semusz;
    count.messages = messages.msgpool;
    return count;
}

int freeze_refuse_ipc_objects(struct freeze *f, struct error *err)
{
    CLEANUP_FD int own = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(f->tracee.pidfd, CLONE_NEWIPC) < 0)
        return error_system(err, "cannot enter the IPC namespace of process %d", f->tracee.pid);
    struct ipc_count count = count_objects();
    if (setns(own, CLONE_NEWIPC) < 0)
        return error_system(err, "cannot return to our own IPC namespace");
    errno = count.error_number;
    if (errno != 0)
        return error_system(err, "cannot count the IPC objects of process %d", f->tracee.pid);
    if (count.memory > 0)
        return tracee_refuse(
            &f->tracee, err, "its sandbox has System V shared memory, which cannot be frozen");
    if (count.semaphores > 0)
        return tracee_refuse(&f->tracee, err, "its sandbox has System V semaphores, which cannot be frozen");
    if (count.messages + count.queues > 0)
        return tracee_refuse(&f->tracee, err, "its sandbox has message queues, which cannot be frozen");
    return 0;
}
