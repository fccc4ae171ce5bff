/* A template whose snapshot is not here, or whose files are damaged, waits until a worker has brought them from the origin. */
#include "base/log.h"
#include "daemon/warden_private.h"

#include <stdlib.h>
#include <string.h>

struct bring_job {
    struct template_entry *template; /* which counts us as a user */
    struct store *store;
    char snapshot_id[WIRE_ID_HEX + 1];
};

static void bring_body(void *context, struct worker_result *result)
{
    struct bring_job *job = context;
    (void)!store_bring(job->store, job->snapshot_id, &result->error);
}

static void bring_ended(struct warden *w, void *context, const struct worker_result *result)
{
    CLEANUP_FREE struct bring_job *job = context;
    struct template_entry *t = job->template;
    t->state = TEMPLATE_WAITS_FOR_BLANK;
    if (result->error.kind != ERROR_NONE) {
        struct error why = result->error;
        log_warning("%s", why.text);
        template_failed(t, &why);
    }
    template_release(&t);
    env_advance_waiting(w);
}

bool template_bring(struct template_entry *t, const struct error *why)
{
    struct warden *w = t->warden;
    struct store *store = w->options->store;
    bool may_help = why == NULL ? !store_has(store, t->snapshot_id)
                                : why->kind == ERROR_NOT_FOUND || why->kind == ERROR_CORRUPT;
    if (t->brought || !may_help || store_origin_control(store) < 0)
        return false;
    struct error err = {0};
    struct bring_job *job = xcalloc(1, sizeof *job);
    const struct worker_job work = {.body = bring_body, .done = bring_ended, .context = job};
    *job = (struct bring_job){.template = t, .store = store};
    memcpy(job->snapshot_id, t->snapshot_id, sizeof job->snapshot_id);
    if (worker_start(w, &work, &err) < 0) {
        log_warning("cannot bring snapshot %s from the origin: %s", t->snapshot_id, err.text);
        free(job);
        return false;
    }
    t->brought = true;
    t->users++;
    w->building -= t->state == TEMPLATE_BUILDING;
    t->state = TEMPLATE_BRINGING;
    blank_kit_free(w, &t->kit);
    return true;
}
