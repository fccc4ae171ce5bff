/* Hot sets: what the first clone of a template used of its memory is stored with the snapshot, by a worker, so that the next
 * template has it in before its first clone runs. */
#include "base/log.h"
#include "daemon/warden_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RUN_BYTES_MAX (1u << 30) /* of a stored run; longer ones become several */

struct hot_job {
    struct store *store;
    char snapshot_id[WIRE_ID_HEX + 1];
    int runs_fd; /* a memfd from the pager, an unprivileged process */
};

/* The runs as they came: read with bounds, and checked. */
static int read_runs(int fd, struct buffer *out, struct error *err)
{
    struct stat about;
    const size_t most = PAGER_HOT_RUNS_MAX * sizeof(struct pager_run);
    if (fstat(fd, &about) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return error_system(err, "cannot look at what the pager sent");
    if (!S_ISREG(about.st_mode) || (uint64_t)about.st_size > most)
        return error_set(err, ERROR_INVALID, "the pager sent a hot set of %ld bytes", (long)about.st_size);
    return fd_read_all(fd, out, most, err);
}

static int add_runs(struct buffer *out, const struct pager_run *run, uint64_t stream_bytes, struct error *err)
{
    if (run->offset % PAGER_PAGE_BYTES != 0 || run->bytes == 0 || run->offset > stream_bytes ||
        run->bytes > stream_bytes - run->offset)
        return error_set(err, ERROR_INVALID, "the pager sent a hot set that is not of this snapshot");
    for (uint64_t done = 0; done < run->bytes;) {
        uint64_t left = run->bytes - done;
        struct store_hot_run stored = {.offset = run->offset + done};
        stored.bytes = left < RUN_BYTES_MAX ? (uint32_t)left : RUN_BYTES_MAX;
        buffer_append(out, &stored, sizeof stored);
        done += stored.bytes;
    }
    return 0;
}

static int write_hot_set(const struct hot_job *job, struct store_reader *reader, struct error *err)
{
    CLEANUP_BUFFER struct buffer sent = {0};
    CLEANUP_BUFFER struct buffer runs = {0};
    uint64_t bytes = 0, stream_bytes = store_reader_stream_bytes(reader);
    if (read_runs(job->runs_fd, &sent, err) < 0)
        return -1;
    for (size_t i = 0; i < sent.len / sizeof(struct pager_run); i++) {
        struct pager_run run;
        memcpy(&run, sent.data + i * sizeof run, sizeof run);
        if (add_runs(&runs, &run, stream_bytes, err) < 0)
            return -1;
        bytes += run.bytes;
        if (bytes > PAGER_HOT_BYTES_MAX)
            return error_set(err, ERROR_LIMIT, "a hot set of more than %llu MiB", PAGER_HOT_BYTES_MAX >> 20);
    }
    size_t count = runs.len / sizeof(struct store_hot_run);
    return store_hot_write(
        job->store, reader, (const struct store_hot_run *)runs.data, count, NULL, NULL, err);
}

static void hot_body(void *context, struct worker_result *result)
{
    const struct hot_job *job = context;
    struct store_reader *reader = store_reader_open(job->store, job->snapshot_id, NULL, &result->error);
    if (reader == NULL)
        return;
    (void)!write_hot_set(job, reader, &result->error);
    store_reader_close(reader);
}

static void hot_ended(struct warden *w, void *context, const struct worker_result *result)
{
    struct hot_job *job = context;
    /* First thaws are only slower without; and the snapshot may have been deleted meanwhile, or everything ends. */
    if (result->error.kind != ERROR_NONE && result->error.kind != ERROR_NOT_FOUND && !w->stopping)
        log_warning("the hot set of snapshot %s is not stored: %s", job->snapshot_id, result->error.text);
    fd_close(&job->runs_fd);
    free(job);
}

void hot_store(struct warden *w, const char *snapshot_id, int runs_fd)
{
    struct worker_result failure = {0};
    struct hot_job *job = xcalloc(1, sizeof *job);
    *job = (struct hot_job){.store = w->options->store, .runs_fd = runs_fd};
    memcpy(job->snapshot_id, snapshot_id, sizeof job->snapshot_id);
    const struct worker_job work = {.body = hot_body, .done = hot_ended, .context = job, .background = true};
    if (worker_start(w, &work, &failure.error) < 0)
        hot_ended(w, job, &failure);
}
