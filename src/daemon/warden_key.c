/* Rotations of the master key, one at a time. What may take long is done by children (asking for the new key, wrapping all
 * keys anew); what changes the keys in memory, which all children share, is done here. Says how it goes in lines of
 * JSON, as warden_store.c does, over a socket: a client that has left must not end us. */
#include "base/log.h"
#include "daemon/warden_private.h"
#include "store/rotate.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct rotation {
    struct warden *warden;
    int lines_fd; /* -1: nobody asked; it was begun earlier */
    uint64_t progress_ns;
};

json_t *key_describe(const struct store_key_state *state)
{
    return json_pack("{s:s, s:s, s:b, s:I, s:I, s:I}", "source", state->source, "key_id", state->key_id,
        "rotating", (int)state->unfinished, "files", (json_int_t)state->total, "done",
        (json_int_t)state->done, "damaged", (json_int_t)state->damaged);
}

static void say(const struct rotation *r, json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(line);
    if (r->lines_fd >= 0 && text != NULL) {
        /* Short, into an empty socket; if it does not take it, nobody reads. */
        struct iovec parts[] = {{text, strlen(text)}, {(char *)"\n", 1}};
        const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        (void)!sendmsg(r->lines_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    free(text);
}

static void rotation_over(struct warden *w, const struct error *failure)
{
    struct rotation *r = w->rotation;
    if (failure != NULL) {
        log_warning("the rotation of the master key: %s", failure->text);
        say(r, json_pack("{s:s}", "error", failure->text));
    }
    fd_close(&r->lines_fd);
    free(r);
    w->rotation = NULL;
}

/* ---- the third and the fourth step ---- */

static void say_progress(void *context, uint64_t done, uint64_t total)
{
    struct rotation *r = context;
    json_t *line = warden_progress_line(&r->progress_ns, done, total);
    if (line != NULL)
        say(r, line);
}

static void sweep_body(void *context, struct worker_result *result)
{
    struct rotation *r = context;
    (void)!store_rotate_sweep(r->warden->options->store, say_progress, r, &result->error);
}

static void sweep_ended(struct warden *w, void *context, const struct worker_result *result)
{
    (void)context;
    struct error err = result->error;
    struct store_key_state state;
    if (err.kind == ERROR_NONE)
        (void)!store_rotate_finish(w->options->store, &err);
    if (err.kind != ERROR_NONE) {
        error_prefix(&err, "it is not finished, and goes on when it is asked for again");
        rotation_over(w, &err);
        return;
    }
    store_key_state(w->options->store, &state);
    log_info("the master key was rotated: %lu keys were wrapped anew with %.8s from %s", state.done,
        state.key_id, state.source);
    if (state.damaged > 0)
        log_warning("%lu keys are damaged, and were left as they are", state.damaged);
    say(w->rotation, json_pack("{s:o}", "totals", key_describe(&state)));
    rotation_over(w, NULL);
}

static void sweep(struct warden *w)
{
    struct error err = {0};
    const struct worker_job work = {.body = sweep_body, .done = sweep_ended, .context = w->rotation};
    if (worker_start(w, &work, &err) < 0)
        rotation_over(w, &err);
}

/* ---- the first and the second step ---- */

static void prepare_body(void *context, struct worker_result *result)
{
    const struct rotation *r = context;
    (void)!store_rotate_prepare(r->warden->options->store, &result->error);
}

static void prepare_ended(struct warden *w, void *context, const struct worker_result *result)
{
    (void)context;
    struct error err = result->error;
    if (err.kind == ERROR_NONE && store_rotate_begin(w->options->store, &err) == 0)
        sweep(w);
    else
        rotation_over(w, &err);
}

static int start(struct warden *w, int lines_fd, struct error *err)
{
    struct store_key_state state;
    if (w->rotation != NULL)
        return error_set(err, ERROR_BUSY, "a rotation of the master key is running already");
    struct rotation *r = xcalloc(1, sizeof *r);
    *r = (struct rotation){.warden = w, .lines_fd = lines_fd};
    w->rotation = r;
    store_key_state(w->options->store, &state);
    if (state.unfinished) {
        sweep(w);
        return 0;
    }
    const struct worker_job work = {.body = prepare_body, .done = prepare_ended, .context = r};
    if (worker_start(w, &work, err) == 0)
        return 0;
    free(r);
    w->rotation = NULL;
    return -1;
}

void key_rotate(struct warden *w, const struct wire_store_run *request)
{
    struct wire_message m = {
        .type = WIRE_STORE_RUNNING, .store_running = {.request_id = request->request_id}};
    struct error *err = &m.store_running.error;
    int pair[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
        error_system(err, "cannot make a socket");
    /* The front hears first that it runs: what is said waits in the socket. */
    else if (start(w, pair[1], err) < 0)
        fd_close(&pair[1]);
    warden_send(w, &m, &pair[0], err->kind == ERROR_NONE ? 1 : 0);
    fd_close(&pair[0]);
}

void key_resume_rotation(struct warden *w)
{
    struct store_key_state state;
    struct error err = {0};
    store_key_state(w->options->store, &state);
    if (!state.unfinished)
        return;
    log_info(
        "the master key is being rotated: what an earlier daemon has left is wrapped anew with %.8s from %s",
        state.key_id, state.source);
    if (start(w, -1, &err) < 0)
        log_warning("cannot go on with the rotation of the master key: %s", err.text);
}

void key_free(struct warden *w)
{
    if (w->rotation != NULL)
        rotation_over(w, NULL);
}
