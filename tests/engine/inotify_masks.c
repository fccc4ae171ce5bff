/* conformance: descriptors | inotify: two instances, masks, `IN_ONESHOT`, `IN_EXCL_UNLINK` | kept | with the numbers of the watches
 *
 * A watch of a file and of its folder, in two instances, by different masks. */
#include "help.h"

#include <sys/inotify.h>

/* The next event: its mask, or 0 when there is none. */
static int next(int fd, int *wd)
{
    _Alignas(struct inotify_event) static char text[4096];
    static ssize_t len, at;
    if (at == len) {
        at = 0;
        if ((len = read(fd, text, sizeof text)) <= 0)
            return len = 0;
    }
    const struct inotify_event *event = (const void *)(text + at);
    at += (ssize_t)(sizeof *event + event->len);
    *wd = event->wd;
    return (int)event->mask;
}

int main(void)
{
    int wd;
    CHECK(mkdir("/tmp/folder", 0700) == 0 && test_put("/tmp/folder/file", "text", 0600));
    int folder = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), file = inotify_init1(IN_NONBLOCK);
    CHECK_EQUAL(inotify_add_watch(folder, "/tmp/folder", IN_CREATE | IN_EXCL_UNLINK | IN_ONLYDIR), 1);
    CHECK_EQUAL(inotify_add_watch(file, "/tmp/folder/file", IN_MODIFY), 1);
    CHECK_EQUAL(inotify_add_watch(file, "/tmp/folder/file", IN_ATTRIB | IN_MASK_ADD), 1);
    CHECK_EQUAL(inotify_add_watch(file, "/tmp/folder", IN_DELETE | IN_ONESHOT), 2);
    CHECK_EQUAL(inotify_add_watch(file, "/tmp", IN_DELETE), 3);

    test_freeze_point();
    CHECK(test_is_idle(folder) && test_is_idle(file));
    CHECK(fcntl(folder, F_GETFD) == FD_CLOEXEC && fcntl(file, F_GETFD) == 0);
    int fd = open("/tmp/folder/file", O_WRONLY | O_APPEND);
    CHECK(test_writes(fd, "more") && fchmod(fd, 0640) == 0);
    CHECK(next(file, &wd) == IN_MODIFY && wd == 1 && next(file, &wd) == IN_ATTRIB && wd == 1);
    CHECK(test_put("/tmp/folder/new", "", 0600) && next(folder, &wd) == IN_CREATE && wd == 1);
    CHECK(test_is_idle(folder) && test_is_idle(file));
    CHECK(unlink("/tmp/folder/new") == 0);
    CHECK(next(file, &wd) == IN_DELETE && wd == 2 && next(file, &wd) == IN_IGNORED && wd == 2);
    CHECK(unlink("/tmp/folder/file") == 0 && test_is_idle(folder));
    CHECK(inotify_rm_watch(file, 3) == 0 && inotify_rm_watch(file, 2) < 0 && errno == EINVAL);
    return 0;
}
