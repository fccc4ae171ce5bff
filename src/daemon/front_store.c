/* What the store's keeper asks: sizes, a check of every byte, a collection. A child of the warden does the work and says
 * how it goes in lines of JSON, one object each; here each is given the function and version whose snapshot it
 * names, and sent on to the client. Runs in the front.
 *
 *   GET  /thaw/v1/store/stats
 *        {"snapshot", "function", "version", "logical_bytes", "chunks", "own_bytes", "shared_bytes", "file_bytes"}
 *        for each snapshot, then {"totals": {...}}
 *   POST /thaw/v1/store/verify[?repair=1]
 *        {"progress": {"done", "total"}} now and then, {"damaged": {"snapshot", "file", "reason", "repaired"}, "function",
 *        "version"} for each thing that is not as it was written, then {"totals": {...}}. With repair, what the
 *        origin cannot replace has its version initialised anew.
 *   POST /thaw/v1/store/gc
 *        {"totals": {...}}
 *   GET  /thaw/v1/store/key
 *        {"totals": {"source", "key_id", "rotating", "files", "done", "damaged"}}: the master key, and how far its last
 *        rotation is
 *   POST /thaw/v1/store/key
 *        Rotates the master key: {"progress": {"done", "total"}} now and then, then {"totals"} as above. It goes on
 *        when the client leaves.
 *
 * The last line is {"totals"} or {"error": "a sentence"}. A client that leaves ends all other work. */
#include "base/fd.h"
#include "daemon/front_private.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define STORE_JOBS_MAX 4 /* of all clients together */
#define STORE_LINE_BYTES_MAX (64 << 10)
#define STORE_READ_BYTES (16 << 10)

struct snapshot_owner {
    char snapshot_id[WIRE_ID_HEX + 1];
    const struct catalog_function *function; /* a reference */
};

struct front_store_job {
    enum admin_kind kind; /* first */
    LIST_ENTRY(front_store_job) entry;
    struct front *front;
    struct http_exchange *exchange; /* NULL: the client left before the work began */
    uint64_t request_id;
    bool repair, ended;
    int lines_fd;
    struct loop_watch *watch;
    struct buffer line;
    struct snapshot_owner *owners; /* sorted by snapshot */
    size_t owner_count;
};

/* ---- who has which snapshot ---- */

static int compare_owners(const void *a, const void *b)
{
    return strcmp(
        ((const struct snapshot_owner *)a)->snapshot_id, ((const struct snapshot_owner *)b)->snapshot_id);
}

static void add_owner(void *context, const struct catalog_function *function)
{
    struct front_store_job *job = context;
    job->owners = xrealloc(job->owners, (job->owner_count + 1) * sizeof *job->owners);
    struct snapshot_owner *owner = &job->owners[job->owner_count++];
    memcpy(owner->snapshot_id, function->snapshot_id, sizeof owner->snapshot_id);
    owner->function = catalog_function_ref(function);
}

static int find_owners(struct front_store_job *job, struct error *err)
{
    if (catalog_each_snapshot(job->front->catalog, add_owner, job, err) < 0)
        return -1;
    if (job->owner_count > 0)
        qsort(job->owners, job->owner_count, sizeof *job->owners, compare_owners);
    return 0;
}

static const struct catalog_function *owner_of(const struct front_store_job *job, const char *snapshot_id)
{
    struct snapshot_owner wanted = {0};
    if (snapshot_id == NULL || strlen(snapshot_id) != WIRE_ID_HEX || job->owner_count == 0)
        return NULL;
    memcpy(wanted.snapshot_id, snapshot_id, sizeof wanted.snapshot_id);
    const struct snapshot_owner *found =
        bsearch(&wanted, job->owners, job->owner_count, sizeof *job->owners, compare_owners);
    return found != NULL ? found->function : NULL;
}

/* ---- a job's life ---- */

static void job_free(struct front_store_job *job)
{
    LIST_REMOVE(job, entry);
    loop_unwatch(&job->watch);
    fd_close(&job->lines_fd);
    buffer_free(&job->line);
    for (size_t i = 0; i < job->owner_count; i++)
        catalog_function_unref(&job->owners[i].function);
    free(job->owners);
    free(job);
}

static void send_line(const struct front_store_job *job, json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (text != NULL) {
        http_stream_write(job->exchange, text, strlen(text));
        http_stream_write(job->exchange, "\n", 1);
    }
    free(text);
}

static void job_over(struct front_store_job *job)
{
    struct http_exchange *exchange = job->exchange;
    if (!job->ended) {
        json_t *line = json_pack("{s:s}", "error", "The process that did it ended too early.");
        send_line(job, line);
        json_decref(line);
    }
    http_set_user(exchange, NULL);
    job_free(job);
    http_stream_end(exchange);
}

void front_store_client_left(struct front_store_job *job)
{
    job->exchange = NULL;
    if (job->watch != NULL)
        job_free(job); /* the pipe closes, and who writes to it ends */
    /* Else the warden's answer is still to come. */
}

/* ---- lines ---- */

/* Nothing can bring this snapshot back, so its version gets another, unless that has happened meanwhile. */
static void remake(struct front_store_job *job, const struct catalog_function *owner, const char *reason)
{
    CLEANUP_FUNCTION const struct catalog_function *now = NULL;
    struct error err;
    if (catalog_get(job->front->catalog, owner->name, owner->version, &now, &err) < 0 ||
        strcmp(now->snapshot_id, owner->snapshot_id) != 0)
        return;
    log_warning("%s:%s is to be initialised and frozen anew: %s", now->name, now->version, reason);
    front_snapshot(job->front, now);
}

static void handle_line(struct front_store_job *job, const char *text, size_t len)
{
    json_t *line = json_loadb(text, len, 0, NULL);
    if (!json_is_object(line)) {
        json_decref(line);
        return;
    }
    const json_t *damaged = json_object_get(line, "damaged");
    const char *snapshot_id =
        json_string_value(json_object_get(damaged != NULL ? damaged : line, "snapshot"));
    const struct catalog_function *owner = owner_of(job, snapshot_id);
    if (owner != NULL) {
        json_object_set_new(line, "function", json_string(owner->name));
        json_object_set_new(line, "version", json_string(owner->version));
    }
    if (job->repair && owner != NULL && damaged != NULL &&
        !json_is_true(json_object_get(damaged, "repaired"))) {
        const char *reason = json_string_value(json_object_get(damaged, "reason"));
        remake(job, owner, reason != NULL ? reason : "its snapshot is damaged");
    }
    job->ended = job->ended || json_object_get(line, "totals") || json_object_get(line, "error");
    send_line(job, line);
    json_decref(line);
}

static void handle_lines(struct front_store_job *job)
{
    char *newline;
    size_t done = 0;
    while ((newline = memchr(job->line.data + done, '\n', job->line.len - done)) != NULL) {
        size_t end = (size_t)(newline - (char *)job->line.data);
        handle_line(job, (const char *)job->line.data + done, end - done);
        done = end + 1;
    }
    memmove(job->line.data, job->line.data + done, job->line.len - done);
    job->line.len -= done;
}

static void lines_arrived(void *context, uint32_t events)
{
    (void)events;
    struct front_store_job *job = context;
    char piece[STORE_READ_BYTES];
    ssize_t n = read(job->lines_fd, piece, sizeof piece);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && job->line.len + (size_t)n <= STORE_LINE_BYTES_MAX) {
        buffer_append(&job->line, piece, (size_t)n);
        handle_lines(job);
        return;
    }
    job_over(job);
}

void front_store_running(struct front *front, const struct wire_store_running *message, int *lines_fd)
{
    struct front_store_job *job;
    struct error err = message->error;
    LIST_FOREACH (job, &front->store_jobs, entry)
        if (job->request_id == message->request_id)
            break;
    if (!job)
        return;
    if (!job->exchange) {
        job_free(job);
        return;
    }
    job->lines_fd = fd_steal(lines_fd);
    if (err.kind == ERROR_NONE)
        job->watch = loop_watch_fd(front->loop, job->lines_fd, EPOLLIN, lines_arrived, job, &err);
    if (!job->watch) {
        struct http_exchange *exchange = job->exchange;
        http_set_user(exchange, NULL);
        job_free(job);
        front_admin_reply_error(exchange, err.kind == ERROR_BUSY ? 409 : 500,
            err.kind == ERROR_BUSY ? "ResourceConflictException" : "ServiceException", err.text);
        return;
    }
    const struct http_field fields[] = {{"Content-Type", "application/x-ndjson"}};
    http_stream_begin(job->exchange, 200, fields, 1);
}

/* ---- the request ---- */

static size_t count_jobs(const struct front *front)
{
    const struct front_store_job *job;
    size_t count = 0;
    LIST_FOREACH (job, &front->store_jobs, entry)
        count++;
    return count;
}

static void start_job(struct front *front, struct http_exchange *exchange, enum wire_store_verb verb)
{
    struct error err;
    if (count_jobs(front) >= STORE_JOBS_MAX) {
        front_admin_reply_error(exchange, 429, "TooManyRequestsException", "The store is busy.");
        return;
    }
    struct front_store_job *job = xcalloc(1, sizeof *job);
    *job = (struct front_store_job){.kind = ADMIN_STORE,
        .front = front,
        .exchange = exchange,
        .request_id = front->next_request_id++,
        .repair = verb == WIRE_STORE_VERIFY && front_admin_query_flag(exchange, "repair"),
        .lines_fd = -1};
    LIST_INSERT_HEAD(&front->store_jobs, job, entry);
    if (find_owners(job, &err) < 0) {
        job_free(job);
        front_admin_reply_error(exchange, 500, "ServiceException", err.text);
        return;
    }
    http_set_user(exchange, job);
    const struct wire_message message = {.type = WIRE_STORE_RUN,
        .store_run = {.request_id = job->request_id, .verb = verb, .repair = job->repair}};
    front_warden_send(front, &message);
}

void front_store_handle(struct front *front, struct http_exchange *exchange, const char *verb, bool post)
{
    if (!post && strcmp(verb, "stats") == 0)
        start_job(front, exchange, WIRE_STORE_STATS);
    else if (post && strcmp(verb, "verify") == 0)
        start_job(front, exchange, WIRE_STORE_VERIFY);
    else if (post && strcmp(verb, "gc") == 0)
        start_job(front, exchange, WIRE_STORE_GC);
    else if (!post && strcmp(verb, "key") == 0)
        start_job(front, exchange, WIRE_STORE_KEY);
    else if (post && strcmp(verb, "key") == 0)
        start_job(front, exchange, WIRE_STORE_ROTATE);
    else
        front_admin_reply_error(
            exchange, 404, "ResourceNotFoundException", "There is nothing at this path and method.");
}
