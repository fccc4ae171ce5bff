/* The files that fetched objects go to. A chunk is written under a passing name and linked to its place when it is whole; all else
 * loses its name at once, as only the client is to have it. */
#include "base/fd.h"
#include "origin/courier_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNKS "chunks/"
#define FILE_MODE 0444

static bool is_chunk(const struct job *job)
{
    return strncmp(job->request.name, CHUNKS, sizeof CHUNKS - 1) == 0;
}

int courier_open_file(struct job *job, struct error *err)
{
    struct courier *c = job->courier;
    int folder = c->options->store_fd;
    snprintf(job->tmp_name, sizeof job->tmp_name, "tmp/fetch-%d-%llu", getpid(),
        (unsigned long long)++c->tmp_count);
    /* One of the same name is of an earlier courier that had our pid. */
    unlinkat(folder, job->tmp_name, 0);
    job->fd = openat(folder, job->tmp_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (job->fd < 0) {
        error_system(err, "cannot make a file in the folder tmp of the store");
        job->tmp_name[0] = '\0';
        return -1;
    }
    if (!is_chunk(job))
        courier_drop_file(job);
    return 0;
}

void courier_drop_file(struct job *job)
{
    if (job->tmp_name[0] != '\0')
        unlinkat(job->courier->options->store_fd, job->tmp_name, 0);
    job->tmp_name[0] = '\0';
}

int courier_place_file(struct job *job, struct error *err)
{
    int folder = job->courier->options->store_fd;
    if (!is_chunk(job))
        return 0;
    struct origin_mark mark = {.at_s = job->operation.modified_s};
    memcpy(mark.origin_id, job->courier->mark_id, sizeof mark.origin_id);
    origin_mark_set(job->fd, &mark);
    if (fchmod(job->fd, FILE_MODE) < 0)
        return error_system(err, "cannot protect what came");
    unsigned flags = job->request.flags & ORIGIN_REPLACE ? 0 : RENAME_NOREPLACE;
    if (renameat2(folder, job->tmp_name, folder, job->request.name, flags) == 0) {
        job->tmp_name[0] = '\0';
        return 0;
    }
    /* Somebody was quicker; or the disk is full, which is no reason to withhold what came. */
    courier_drop_file(job);
    return 0;
}
