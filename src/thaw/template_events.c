/* What a template and its pager tell, as events; and failures in words. */
#include "base/fd.h"
#include "thaw/blob/blob.h"
#include "thaw/template_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_OP 0xffffffff /* a failure outside any operation */

void template_reap_feeder(struct template *t)
{
    if (t->feeder <= 0)
        return;
    kill(t->feeder, SIGKILL);
    waitpid(t->feeder, NULL, 0);
    t->feeder = 0;
}

static const char *extra_plan_name(uint32_t which)
{
    switch (which & 0xff) {
    case PLAN_TEMPLATE:
        return "template";
    case PLAN_PROCESS:
        return "process";
    case PLAN_THREAD:
        return "thread";
    case PLAN_RELEASE:
        return "release";
    case BLOB_CLEAR:
        return "clear";
    case BLOB_ENTER:
        return "enter";
    case BLOB_STASH:
        return "stash";
    default:
        return "settle";
    }
}

static struct template_event event_of_failure(const struct blob_reply *reply)
{
    struct template_event event = {.pidfd = -1, .hot_set_fd = -1, .cookie = reply->cookie};
    event.kind = reply->plan == PLAN_PROCESS ? TEMPLATE_CLONE_FAILED : TEMPLATE_GONE;
    if (reply->plan == BLOB_FILES)
        error_set(&event.error, ERROR_UNSUPPORTED,
            reply->failed < 0 ? "%s, which the snapshot maps, is gone"
                              : "%s was changed since the snapshot was frozen",
            reply->text);
    else if (reply->plan == BLOB_TAKE_OVER)
        error_set(&event.error, ERROR_SYSTEM, "a template's builder cannot take over its memory: %s",
            strerror(-reply->failed));
    else if (reply->text[0] != '\0')
        error_set(&event.error, (enum error_kind)reply->pid, "%s", reply->text);
    else if (reply->op == NO_OP)
        error_set(&event.error, ERROR_SYSTEM, "cannot fork into the sandbox: %s", strerror(-reply->failed));
    else
        error_set(&event.error, ERROR_SYSTEM, "operation %u of the %s plan failed: %s", reply->op,
            extra_plan_name(reply->plan), strerror(-reply->failed));
    event.error.errno_value = -reply->failed;
    return event;
}

/* One message, at most one descriptor beside it; as recvmsg. */
static ssize_t receive(int socket, void *message, size_t size, int *fd)
{
    struct iovec part = {message, size};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(FD_MESSAGE_MAX * sizeof(int))];
    } control;
    struct msghdr header = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = n < 0 ? NULL : CMSG_FIRSTHDR(&header);
    if (rights != NULL && rights->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(rights), sizeof *fd);
    return n;
}

/* Once. A template that was not ready never will be. */
static struct template_event event_of_loss(struct template *t, struct template_event event)
{
    event.kind = t->lost ? TEMPLATE_NOTHING : t->ready ? TEMPLATE_PAGES_LOST : TEMPLATE_GONE;
    t->lost = true;
    return event;
}

static struct template_event event_of_word(struct template *t, const struct pager_word *word, int fd)
{
    struct template_event event = {.pidfd = -1, .hot_set_fd = -1, .figures = word->figures};
    if (word->kind == PAGER_HOT_SET)
        event.hot_set_fd = fd;
    else
        fd_close(&fd);
    switch (word->kind) {
    case PAGER_WAITS: /* it was told before it had said so */
        return event;
    case PAGER_READY:
        t->ready = true;
        event.kind = TEMPLATE_READY;
        return event;
    case PAGER_SERVING:
        event.kind = TEMPLATE_SERVING;
        return event;
    case PAGER_HOT_SET:
        event.kind = TEMPLATE_HOT_SET;
        return event;
    case PAGER_DRIFTED:
        event.kind = TEMPLATE_HOT_SET_DRIFTED;
        return event;
    case PAGER_LACKING:
        event.kind = TEMPLATE_HOT_SET_LACKING;
        return event;
    case PAGER_COMPLETE:
        event.kind = TEMPLATE_COMPLETE;
        t->complete = true;
        t->served = t->asked;
        return event;
    default:
        error_set(&event.error, (enum error_kind)word->error, "%.*s", (int)sizeof word->text, word->text);
        return event_of_loss(t, event);
    }
}

static struct template_event next_of_pager(struct template *t)
{
    struct template_event event = {.pidfd = -1, .hot_set_fd = -1};
    struct pager_word word = {0};
    int fd = -1;
    ssize_t n = receive(t->pager, &word, sizeof word, &fd);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return event;
    if (n == sizeof word)
        return event_of_word(t, &word, fd);
    fd_close(&fd);
    epoll_ctl(t->both, EPOLL_CTL_DEL, t->pager, NULL); /* other processes may have it open for a while */
    fd_close(&t->pager);                               /* it has ended */
    if (t->complete)
        return event;
    error_set(&event.error, ERROR_SYSTEM, "the pager died");
    return event_of_loss(t, event);
}

/* What the reader of the pages found says more than what the template saw of it, unless it found only that the template was
 * gone. */
static struct template_event event_of_end(const struct template *t, struct template_event event)
{
    const struct error *found = t->feeder_error;
    if (event.kind == TEMPLATE_GONE && found != NULL && found->kind != ERROR_NONE &&
        found->errno_value != EPIPE)
        event.error = *found;
    return event;
}

struct template_event template_next(struct template *t)
{
    struct blob_reply reply = {0};
    struct template_event event = {.pidfd = -1, .hot_set_fd = -1};
    if (t->pager >= 0) {
        event = next_of_pager(t);
        if (event.kind != TEMPLATE_NOTHING)
            return event;
    }
    ssize_t n = t->gone ? -1 : receive(t->socket, &reply, sizeof reply, &event.pidfd);
    if (n == sizeof reply && reply.kind == BLOB_WAITING) /* it has been told what to build already */
        n = receive(t->socket, &reply, sizeof reply, &event.pidfd);
    if (n < 0 && (t->gone || errno == EAGAIN || errno == EINTR))
        return event;
    if (n != sizeof reply) {
        t->gone = true;
        if (t->both >= 0)
            epoll_ctl(t->both, EPOLL_CTL_DEL, t->socket, NULL);
        event.kind = TEMPLATE_GONE;
        error_set(&event.error, ERROR_SYSTEM, "the template process died");
        return event_of_end(t, event);
    }
    t->answered += reply.kind == BLOB_CLONED || reply.plan == PLAN_PROCESS;
    if (reply.kind == BLOB_FAILED)
        return event_of_end(t, event_of_failure(&reply));
    if (reply.kind == BLOB_READY)
        template_reap_feeder(t);
    event.kind = reply.kind == BLOB_READY ? TEMPLATE_READY : TEMPLATE_CLONED;
    event.served = t->keeper > 0 && (!t->complete || t->answered <= t->served);
    event.cookie = reply.cookie;
    event.pid = reply.pid;
    event.forked_ns = reply.forked_ns;
    return event;
}

static const struct plan *plan_of(const struct image *image, uint32_t index, uint32_t which)
{
    const struct image_process *process = &image->processes[index];
    uint32_t thread = which >> 8;
    switch (which & 0xff) {
    case PLAN_PROCESS:
        return &process->process_plan;
    case PLAN_RELEASE:
        return &process->release_plan;
    case PLAN_THREAD:
        return thread < process->thread_count ? &process->threads[thread].plan : NULL;
    default:
        return NULL;
    }
}

void template_explain_failure(
    const struct image *image, const struct plan_report *report, char *text, size_t size)
{
    bool known = report->process < image->process_count;
    const struct plan *plan = known ? plan_of(image, report->process, report->plan) : NULL;
    char subject[32] = "", process[32] = "";
    if (known && image->process_count > 1)
        snprintf(process, sizeof process, "process %d: ", image->processes[report->process].pid);
    if (plan != NULL && report->op < plan->count && plan->ops[report->op].subject != PLAN_NO_SUBJECT)
        snprintf(subject, sizeof subject, " (descriptor %u)", plan->ops[report->op].subject);
    if (report->op == NO_OP)
        snprintf(text, size, "%sthe %s plan failed: %s", process, extra_plan_name(report->plan),
            report->failed < 0 ? strerror(-report->failed) : "unexpected result");
    else
        snprintf(text, size, "%soperation %d of the %s plan%s failed: %s", process, (int)report->op,
            extra_plan_name(report->plan), subject,
            report->failed < 0 ? strerror(-report->failed) : "unexpected result");
}
