/* inotify: watches on /tmp keep their numbers, also when some were removed before.
 *
 * conformance: descriptors | inotify watches on /tmp | kept | with their numbers
 */
#include "engine.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

int main(void)
{
    char events[4096];
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    CHECK(mkdir("/tmp/watched", 0700) == 0 && mkdir("/tmp/gone", 0700) == 0);
    int file = open("/tmp/watched/file", O_RDWR | O_CREAT, 0600);
    CHECK_EQUAL(inotify_add_watch(fd, "/tmp/gone", IN_CREATE), 1);
    CHECK_EQUAL(inotify_add_watch(fd, "/tmp/watched", IN_CREATE | IN_DELETE), 2);
    CHECK(inotify_rm_watch(fd, 1) == 0);
    CHECK_EQUAL(inotify_add_watch(fd, "/tmp/watched/file", IN_MODIFY), 3);
    CHECK_EQUAL(inotify_add_watch(fd, "/tmp", IN_ALL_EVENTS), 4);
    CHECK(read(fd, events, sizeof events) > 0);

    test_freeze_point();
    CHECK(read(fd, events, sizeof events) < 0 && errno == EAGAIN);
    CHECK_EQUAL(write(file, "x", 1), 1);
    const struct inotify_event *event = (void *)events;
    CHECK(read(fd, events, sizeof events) > 0);
    CHECK_EQUAL(event->wd, 3);
    CHECK_EQUAL(event->mask, IN_MODIFY);
    close(open("/tmp/watched/new", O_CREAT | O_WRONLY, 0600));
    CHECK(read(fd, events, sizeof events) > 0);
    CHECK_EQUAL(event->wd, 2);
    CHECK(event->mask == IN_CREATE && strcmp(event->name, "new") == 0);
    CHECK_EQUAL(inotify_add_watch(fd, "/tmp/gone", IN_CREATE), 5);
    return 0;
}
