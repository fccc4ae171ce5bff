/* The courier's queue: what was asked, what runs, and what became of it. */
#include "origin/courier.h"

#include "base/fd.h"
#include "origin/courier_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

char *courier_address(const struct s3_options *o)
{
    return xasprintf("%s/%s/%s", o->endpoint, o->bucket, o->prefix);
}

static void start_queued(struct courier *c);

static void tell_news(struct courier *c, const struct error *err)
{
    bool works = err->kind != ERROR_BUSY && err->kind != ERROR_INVALID && err->kind != ERROR_CORRUPT;
    if (c->told && works == c->works)
        return;
    c->told = true;
    c->works = works;
    c->options->news(works, err->text);
}

static void free_job(struct job *job)
{
    if (job->client != NULL) {
        LIST_REMOVE(job, of_client);
        job->client->job_count--;
    }
    courier_drop_file(job);
    fd_close(&job->fd);
    free(job->operation.entries);
    free(job);
}

static void answer(struct job *job, const struct error *err)
{
    bool is_fetch = job->request.verb == ORIGIN_FETCH;
    const struct s3_operation *op = &job->operation;
    struct origin_wire_reply reply = {.id = job->request.id, .error = *err};
    if (err->kind == ERROR_NONE) {
        reply.bytes = op->bytes;
        reply.modified_s = op->modified_s;
        reply.entries = op->entries;
        reply.entry_count = op->entry_count;
        reply.more = op->more;
    }
    if (job->client != NULL)
        client_send(job->client, &reply, is_fetch && err->kind == ERROR_NONE ? job->fd : -1);
    free_job(job);
}

static bool is_urgent(const struct job *job)
{
    return job->request.flags & ORIGIN_URGENT;
}

static void job_done(struct s3_operation *operation)
{
    struct job *job = operation->context;
    struct courier *c = job->courier;
    struct error err = operation->error;
    c->running--;
    c->running_unhurried -= !is_urgent(job);
    tell_news(c, &err);
    if (err.kind == ERROR_NONE && job->request.verb == ORIGIN_FETCH)
        (void)!courier_place_file(job, &err);
    answer(job, &err);
    start_queued(c);
}

static void start_job(struct job *job)
{
    struct courier *c = job->courier;
    struct error err = {0};
    if (job->request.verb == ORIGIN_FETCH && courier_open_file(job, &err) < 0) {
        answer(job, &err);
        return;
    }
    job->operation = (struct s3_operation){.verb = job->request.verb,
        .name = job->request.name,
        .after = job->request.after,
        .if_absent = job->request.flags & ORIGIN_IF_ABSENT,
        .fd = job->fd,
        .bytes_max = job->request.bytes_max,
        .before_ns = job->request.before_ns,
        .done = job_done,
        .context = job};
    c->running++;
    c->running_unhurried += !is_urgent(job);
    s3_start(c->s3, &job->operation);
}

/* The next that may run; what its client no longer waits for is dropped on the way. */
static struct job *take_from(struct job_queue *queue)
{
    struct job *job;
    while ((job = STAILQ_FIRST(queue)) != NULL) {
        STAILQ_REMOVE_HEAD(queue, queued);
        if (job->client != NULL)
            return job;
        free_job(job);
    }
    return NULL;
}

static void start_queued(struct courier *c)
{
    while (c->running < COURIER_RUNNING_MAX) {
        struct job *job = take_from(&c->urgent);
        if (job == NULL && c->running_unhurried < COURIER_UNHURRIED_MAX)
            job = take_from(&c->unhurried);
        if (job == NULL)
            return;
        start_job(job);
    }
}

void courier_take(struct client *client, const struct origin_wire_request *request, int fd)
{
    struct courier *c = client->courier;
    struct job *job = xcalloc(1, sizeof *job);
    *job = (struct job){.courier = c, .client = client, .request = *request, .fd = fd};
    LIST_INSERT_HEAD(&client->jobs, job, of_client);
    client->job_count++;
    if (is_urgent(job))
        STAILQ_INSERT_TAIL(&c->urgent, job, queued);
    else
        STAILQ_INSERT_TAIL(&c->unhurried, job, queued);
    start_queued(c);
}

/* Asked once at the start: a wrong key or a missing bucket is told then, and a connection is there. */
static void greeted(struct s3_operation *operation)
{
    struct courier *c = operation->context;
    tell_news(c, &operation->error);
    free(steal_pointer(operation->entries));
}

static void greet(struct courier *c)
{
    c->greeting = (struct s3_operation){
        .verb = ORIGIN_LIST, .name = "snapshots/", .fd = -1, .done = greeted, .context = c};
    s3_start(c->s3, &c->greeting);
}

static int begin(struct courier *c, struct error *err)
{
    STAILQ_INIT(&c->urgent);
    STAILQ_INIT(&c->unhurried);
    CLEANUP_FREE char *address = courier_address(&c->options->s3);
    origin_mark_id(c->mark_id, address);
    c->s3 = s3_new(c->loop, &c->options->s3, c->options->credentials, err);
    if (c->s3 == NULL)
        return -1;
    c->control_watch = loop_watch_fd(c->loop, c->options->control_fd, EPOLLIN, courier_control_event, c, err);
    if (c->control_watch == NULL)
        return -1;
    greet(c);
    courier_signs_of_life(c);
    return 0;
}

int courier_run(const struct courier_options *options, struct error *err)
{
    static struct courier courier;
    struct courier *c = &courier;
    *c = (struct courier){.options = options};
    c->loop = loop_new(err);
    if (c->loop == NULL)
        return -1;
    int result = begin(c, err);
    if (result == 0)
        result = loop_run(c->loop, err);
    courier_free_clients(c);
    /* What still runs ends with the process. */
    return result;
}
