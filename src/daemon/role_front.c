/* The front's side of the start: take the descriptors, drop all rights, serve. */
#include "base/fd.h"
#include "base/lasting_clock.h"
#include "base/wakeups.h"
#include "daemon/front.h"
#include "daemon/role.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

int role_run_front(const struct role_options *options)
{
    struct error err = {0};
    uid_t uid;
    gid_t gid;
    log_open("thawd front", options->log_level);
    struct stat about;
    if (fstat(ROLE_FD_WARDEN, &about) < 0 || !S_ISSOCK(about.st_mode)) {
        log_error("--role=front is for thawd itself");
        return 2;
    }
    fcntl(ROLE_FD_WARDEN, F_SETFD, FD_CLOEXEC);
    fcntl(ROLE_FD_LISTEN, F_SETFD, FD_CLOEXEC);
    uint64_t boot_id = lasting_clock_boot_id(); /* its file is not in the front's own root */
    CLEANUP_FREE char *data_dir = realpath(options->data_dir, NULL);
    if (data_dir == NULL || role_find_user(options->user, &uid, &gid, &err) < 0 ||
        role_enter_front_root(data_dir, options->runtimes_dir, &err) < 0 ||
        role_drop_rights(uid, gid, &err) < 0) {
        log_error("%s", data_dir == NULL ? "the data folder is gone" : err.text);
        return 1;
    }
    CLEANUP_FD int data_fd = open(ROLE_FRONT_DATA, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct front_options front = {
        .warden_fd = ROLE_FD_WARDEN,
        .listen_fd = ROLE_FD_LISTEN,
        .data_fd = data_fd,
        .data_dir = ROLE_FRONT_DATA,
        .runtimes_dir = ROLE_FRONT_RUNTIMES,
        .listen_address = options->listen,
        .region = options->region,
        .account_id = options->account_id,
        .idle_seconds = options->idle_seconds,
        .concurrency = options->concurrency,
        .function_concurrency = options->function_concurrency,
        .event_retry_ms = options->event_retry_ms,
        .inactive_after_s = options->inactive_after_s,
        .boot_id = boot_id,
        .drain_seconds = options->drain_seconds,
        .fixed_layout = !options->random_layout,
        .log_level = options->log_level,
    };
    wakeups_favor();
    return front_run(&front);
}
