/* Learns which pages the clones of a template write to in their first request: those that the first few of them have all
 * written to are copied for every later one when it is forked (see thaw/working_set.h). */
#include "base/log.h"
#include "daemon/warden_private.h"

#define LOOKS 3         /* at clones, before the template is told */
#define WORTH_PAGES 384 /* fewer save about as much time after the fork as they cost in it */
/* The kernel takes a page with 1,024 users for a pinned one: forks would copy them all, and be slow. A thousand
 * environments that serve, of one version, and more that just end come close to it, but no more may be configured. */
#define ENVIRONMENTS_MAX 1128

bool working_set_is_wanted(const struct template_entry *t)
{
    return t->looks < LOOKS && t->is_single && t->is_complete && !t->dropping &&
           t->warden->options->environments <= ENVIRONMENTS_MAX;
}

static int look(struct template_entry *t, pid_t clone, struct error *err)
{
    struct working_set own;
    if (working_set_read(&own, clone, err) < 0) {
        working_set_free(&own);
        return -1;
    }
    if (t->looks == 0) {
        t->usual = own;
    } else {
        working_set_intersect(&t->usual, &own);
        working_set_free(&own);
    }
    return 0;
}

static int tell_template(struct template_entry *t, struct error *err)
{
    if (working_set_keep_ownable(&t->usual, template_pid(t->template), err) < 0)
        return -1;
    if (t->usual.pages >= WORTH_PAGES && template_own_pages(t->template, &t->usual, err) < 0)
        return -1;
    log_debug("the clones of snapshot %s all write to %u pages", t->snapshot_id, t->usual.pages);
    working_set_free(&t->usual);
    return 0;
}

void working_set_served(struct warden *w, struct env *env)
{
    struct template_entry *t = template_find(w, env->snapshot_id);
    struct error err = {0};
    if (t == NULL || t->state != TEMPLATE_PARKED || template_pid(t->template) != env->template_pid ||
        !working_set_is_wanted(t))
        return;
    int result = look(t, env->pid, &err);
    if (result == 0 && ++t->looks == LOOKS)
        result = tell_template(t, &err);
    if (result == 0)
        return;
    /* Clones are only slower without. */
    log_debug("the pages that clones of snapshot %s use are not known: %s", t->snapshot_id, err.text);
    working_set_free(&t->usual);
    t->looks = LOOKS;
}
