/* Templates: which exist, which are being built, which must go. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/warden_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

void template_add_zombie(struct warden *w, pid_t pid, const char *snapshot_id)
{
    struct zombie *zombie = xcalloc(1, sizeof *zombie);
    zombie->pid = pid;
    memcpy(zombie->snapshot_id, snapshot_id, strlen(snapshot_id) + 1);
    LIST_INSERT_HEAD(&w->zombies, zombie, entry);
    warden_tick_soon(w);
}

static void tell_dropped(struct warden *w, const char *snapshot_id)
{
    struct wire_message m = {.type = WIRE_TEMPLATE_DROPPED};
    memcpy(m.snapshot_id, snapshot_id, sizeof m.snapshot_id);
    warden_send(w, &m, NULL, 0);
}

void template_reap(struct warden *w)
{
    struct zombie *next;
    for (struct zombie *zombie = LIST_FIRST(&w->zombies); zombie != NULL; zombie = next) {
        next = LIST_NEXT(zombie, entry);
        if (waitpid(zombie->pid, NULL, WNOHANG) == 0)
            continue;
        if (zombie->snapshot_id[0] != '\0')
            tell_dropped(w, zombie->snapshot_id);
        LIST_REMOVE(zombie, entry);
        free(zombie);
    }
}

bool template_has_pid(struct warden *w, pid_t pid)
{
    const struct template_entry *t;
    const struct zombie *zombie;
    LIST_FOREACH (zombie, &w->zombies, entry)
        if (zombie->pid == pid)
            return true;
    TAILQ_FOREACH (t, &w->templates, entry)
        if (t->state == TEMPLATE_BUILDING ||
            (t->template != NULL &&
                (template_pid(t->template) == pid || template_keeper_pid(t->template) == pid)))
            return true;
    return false;
}

static bool is_damage(const struct error *why)
{
    return why->kind == ERROR_NOT_FOUND || why->kind == ERROR_CORRUPT;
}

/* No new users; it goes when the last one is served. From here on it counts no more. */
static void stop_offering(struct template_entry *t, bool evicted)
{
    if (t->item != NULL)
        budget_let_go(t->warden->budget, steal_pointer(t->item), evicted);
    t->dropping = true;
}

/* `report`: the front is told when it is gone. */
static void reap_template(struct template_entry *t, bool report)
{
    pid_t pid = template_steal_pid(t->template);
    if (pid > 0)
        kill(pid, SIGKILL);
    if (pid > 0)
        template_add_zombie(t->warden, pid, report ? t->snapshot_id : "");
    else if (report)
        tell_dropped(t->warden, t->snapshot_id);
}

/* What is left of its processes, which end by themselves or were killed, is reaped later. */
static void end_processes(struct template_entry *t)
{
    struct warden *w = t->warden;
    pid_t keeper = template_keeper_pid(t->template);
    loop_unwatch(&t->watch);
    loop_unwatch(&t->keeper_watch);
    fd_close(&t->keeper_pidfd);
    reap_template(t, t->report_drop);
    template_free(&t->template);
    if (keeper > 0 && !t->keeper_is_reaped)
        template_add_zombie(w, keeper, "");
}

/* It must have neither users nor clones that its pager serves. */
static void template_entry_free(struct template_entry *t)
{
    struct warden *w = t->warden;
    TAILQ_REMOVE(&w->templates, t, entry);
    stop_offering(t, false);
    w->building -= t->state == TEMPLATE_BUILDING;
    if (t->template != NULL)
        end_processes(t);
    else if (t->report_drop)
        tell_dropped(w, t->snapshot_id);
    blank_kit_free(w, &t->kit);
    fd_close(&t->spare_code_tree);
    working_set_free(&t->usual);
    free(t);
}

/* Its memory is given back now. Its pager goes on serving the clones that were forked before all pages were in, and the entry
 * stays as long as these, to hear when that fails. */
static void end_when_unused(struct template_entry *t)
{
    if (t->users > 0 || !t->dropping)
        return;
    if (t->served == 0) {
        template_entry_free(t);
        return;
    }
    if (!t->ended && template_pid(t->template) > 0)
        kill(template_pid(t->template), SIGKILL);
    t->ended = true;
    if (t->report_drop)
        tell_dropped(t->warden, t->snapshot_id);
    t->report_drop = false;
}

void template_release(struct template_entry **slot)
{
    struct template_entry *t = steal_pointer(*slot);
    if (t == NULL)
        return;
    t->users--;
    end_when_unused(t);
}

void template_release_server(struct template_entry **slot)
{
    struct template_entry *t = steal_pointer(*slot);
    if (t == NULL)
        return;
    t->served--;
    end_when_unused(t);
}

bool template_takes_clone(const struct template_entry *t)
{
    return t->state == TEMPLATE_PARKED && t->cloning < WARDEN_CLONES_PER_TEMPLATE;
}

struct template_entry *template_find(struct warden *w, const char *snapshot_id)
{
    struct budget_item *item = budget_find(w->budget, snapshot_id);
    return item == NULL ? NULL : item->user;
}

struct template_entry *template_for(struct warden *w, const struct env *env)
{
    struct template_entry *t = template_find(w, env->snapshot_id);
    if (t == NULL) {
        t = xcalloc(1, sizeof *t);
        t->warden = w;
        t->state = TEMPLATE_WAITS_FOR_BLANK;
        t->kit = BLANK_KIT_NONE;
        t->spare_code_tree = t->keeper_pidfd = -1;
        t->memory_mb = env->memory_mb;
        t->tmp_mb = env->tmp_mb;
        memcpy(t->snapshot_id, env->snapshot_id, sizeof t->snapshot_id);
        memcpy(t->code_id, env->code_id, sizeof t->code_id);
        TAILQ_INSERT_HEAD(&w->templates, t, entry);
    }
    t->item = budget_use(w->budget, env->snapshot_id, clock_monotonic_ns(), t);
    t->users++;
    return t;
}

int template_take_code_tree(struct template_entry *t, struct error *err)
{
    if (t->spare_code_tree >= 0)
        return fd_steal(&t->spare_code_tree);
    return env_open_code_tree(t->warden, t->code_id, err);
}

static void make_spare_code_tree(struct template_entry *t)
{
    struct error ignored; /* the next clone tries again, and reports it */
    if (t->spare_code_tree < 0 && t->state == TEMPLATE_PARKED && !t->dropping)
        t->spare_code_tree = env_open_code_tree(t->warden, t->code_id, &ignored);
}

static struct env *find_user(struct warden *w, const struct template_entry *t)
{
    struct env *env;
    for (size_t i = 0; i < WARDEN_ENV_BUCKETS; i++)
        LIST_FOREACH (env, &w->envs[i], in_bucket)
            if (env->template == t)
                return env;
    return NULL;
}

/* It could not be built, or died. Those that only wait for one that once worked get another. The caller
 * counts as a user, so that it is not freed under our hands. */
void template_failed(struct template_entry *t, const struct error *why)
{
    struct warden *w = t->warden;
    bool worked = t->state == TEMPLATE_PARKED;
    bool may_work = worked || why->kind == ERROR_SYSTEM; /* one of its processes died */
    struct env *env;
    stop_offering(t, false);
    while ((env = find_user(w, t)) != NULL) {
        if (may_work && !is_damage(why))
            env_template_died(env, why);
        else
            env_refuse(env, why);
    }
}

/* Whoever asks for this snapshot next is told instead of being given a template that will meet the same damage. */
static void remember_damage(struct template_entry *t, const struct error *why)
{
    struct warden *w = t->warden;
    memcpy(w->damaged_id, t->snapshot_id, sizeof w->damaged_id);
    w->damage = *why;
}

bool template_refuses(struct warden *w, const char *snapshot_id, struct error *why)
{
    if (strcmp(w->damaged_id, snapshot_id) != 0)
        return false;
    w->damaged_id[0] = '\0';
    *why = w->damage;
    return true;
}

/* Pages of it cannot be had, or its pager is dead: whoever needs one waits for it in vain. */
static void lose_pages(struct template_entry *t, const struct error *lost)
{
    struct error why = *lost;
    if (t->is_lost || (t->ended && t->served == 0))
        return; /* known, or the pager ended as nobody needs it any more */
    t->is_lost = true;
    error_prefix(&why, "the pages of snapshot %s", t->snapshot_id);
    log_warning("%s", why.text);
    if (is_damage(&why))
        remember_damage(t, &why);
    t->users++;
    template_failed(t, &why);
    if (template_pid(t->template) > 0)
        kill(template_pid(t->template), SIGKILL);
    t->ended = true;
    env_lose_pages(t->warden, t, &why);
    template_release(&t);
}

/* In order when nothing is left that needs it. Else it is no more there to keep the descriptors when the pager dies, too. */
static void keeper_ended(void *context, uint32_t events)
{
    (void)events;
    struct template_entry *t = context;
    struct warden *w = t->warden;
    struct error why;
    siginfo_t how = {0};
    loop_unwatch(&t->keeper_watch);
    t->keeper_is_reaped = waitid(P_PIDFD, (id_t)t->keeper_pidfd, &how, WEXITED | WNOHANG) == 0;
    if (t->keeper_is_reaped && how.si_code == CLD_EXITED && how.si_status == 0)
        return;
    error_set(&why, ERROR_SYSTEM, "the process that keeps the pager's memory is dead");
    lose_pages(t, &why);
    env_advance_waiting(w);
}

static int watch_keeper(struct template_entry *t, struct error *err)
{
    t->keeper_pidfd = pidfd_open(template_keeper_pid(t->template), 0);
    if (t->keeper_pidfd < 0)
        return error_system(err, "cannot watch the keeper of a template");
    t->keeper_watch = loop_watch_fd(t->warden->loop, t->keeper_pidfd, EPOLLIN, keeper_ended, t, err);
    return t->keeper_watch == NULL ? -1 : 0;
}

static bool may_go(const struct budget_item *item)
{
    const struct template_entry *t = item->user;
    return t->users == 0 && t->state == TEMPLATE_PARKED;
}

/* Evict what is worth least, but nothing that is in use. */
static void keep_to_budget(struct warden *w)
{
    struct budget_item *item;
    while ((item = budget_victim(w->budget, may_go, clock_monotonic_ns())) != NULL) {
        struct template_entry *t = item->user;
        log_debug("evicting the template of snapshot %s to save memory", t->snapshot_id);
        stop_offering(t, true);
        end_when_unused(t);
    }
}

bool template_may_build(const struct warden *w)
{
    /* Where the templates in use alone fill the budget, one is built after the other. */
    return w->building < WARDEN_BUILDS_MAX && (w->building == 0 || !budget_is_exceeded(w->budget));
}

static struct template_entry *next_to_build(struct warden *w)
{
    struct template_entry *t;
    keep_to_budget(w);
    if (!template_may_build(w))
        return NULL;
    TAILQ_FOREACH_REVERSE(t, &w->templates, template_list, entry) /* the oldest first */
    if (t->state == TEMPLATE_WAITS_FOR_BLANK)
        return t;
    return NULL;
}

void template_build_waiting(struct warden *w)
{
    struct template_entry *t;
    while ((t = next_to_build(w)) != NULL) {
        if (template_bring(t, NULL))
            continue;
        if (!pool_take(w, &t->kit))
            return;
        struct error err = {0};
        t->users++;
        t->state = TEMPLATE_BUILDING;
        w->building++;
        if (template_build(t, &err) < 0 && !template_bring(t, &err))
            template_failed(t, &err);
        template_release(&t);
    }
}

static void template_is_ready(struct template_entry *t, const struct template_event *event)
{
    struct warden *w = t->warden;
    struct error err = {0};
    t->state = TEMPLATE_PARKED;
    w->building--;
    t->ready_ns = clock_monotonic_ns();
    t->mapped_ns = event->figures.mapped_ns;
    t->is_complete = template_keeper_pid(t->template) == 0;
    if (!t->is_complete && watch_keeper(t, &err) < 0)
        log_warning("%s", err.text);
    if (t->item == NULL)
        return;
    budget_is_ready(w->budget, t->item, t->ready_ns - t->begin_ns);
    if (t->is_complete)
        budget_set_bytes(w->budget, t->item, template_memory_held(t));
}

static void template_is_complete(struct template_entry *t, const struct template_event *event)
{
    const struct pager_figures *f = &event->figures;
    t->is_complete = true;
    log_debug("the template of snapshot %s has all its pages after %lu ms: %lu faults, %lu of %lu pages "
              "before its first clone",
        t->snapshot_id, (f->complete_ns - f->began_ns) / 1000000, f->faults, f->hot_pages, f->lazy_pages);
    if (t->item != NULL)
        budget_set_bytes(t->warden->budget, t->item, template_memory_held(t));
}

static void template_is_gone(struct template_entry *t, const struct template_event *event)
{
    reap_template(t, false); /* its pager may have clones to serve for long */
    if (t->ended)
        return;
    struct error why = event->error;
    error_prefix(&why, "cannot thaw from snapshot %s", t->snapshot_id);
    log_warning("%s", why.text);
    template_failed(t, &why);
    t->ended = true;
}

static void template_drifted(struct template_entry *t)
{
    if (t->item == NULL)
        return;
    t->item->hot_set_wish = PAGER_RECORD_ANEW;
    t->item->hot_set_wishes_for_more = 0;
}

/* A few times: what uses other pages in each start would else have all of them in the end. */
static void hot_set_lacks(struct template_entry *t)
{
    if (t->item == NULL || t->item->hot_set_wishes_for_more == WARDEN_HOT_SET_MORE_MAX)
        return;
    t->item->hot_set_wish = PAGER_RECORD_MORE;
    t->item->hot_set_wishes_for_more++;
}

static void first_has_served(struct template_entry *t, const struct pager_figures *f)
{
    log_debug("the first clone of snapshot %s has served: %lu pages were missing, %lu faults found none",
        t->snapshot_id, f->missed_pages, f->zero_faults);
    if (t->item != NULL && t->item->hot_set_wish == PAGER_RECORD_MORE)
        t->item->hot_set_wish = PAGER_RECORD_NEEDED;
}

static void hot_set_is_there(struct template_entry *t, const struct template_event *event)
{
    if (t->item != NULL)
        t->item->hot_set_wish = PAGER_RECORD_NEEDED;
    hot_store(t->warden, t->snapshot_id, event->hot_set_fd);
}

/* It was made before its template was given up; who asked for it has asked another. */
static void end_late_clone(struct warden *w, const struct template_event *event)
{
    if (event->kind != TEMPLATE_CLONED)
        return;
    pidfd_send_signal(event->pidfd, SIGKILL, NULL, 0);
    close(event->pidfd);
    template_add_zombie(w, event->pid, "");
}

/* False: it was the last one. */
static bool handle_event(struct template_entry *t, const struct template_event *event)
{
    switch (event->kind) {
    case TEMPLATE_READY:
        template_is_ready(t, event);
        return true;
    case TEMPLATE_COMPLETE:
        template_is_complete(t, event);
        return true;
    case TEMPLATE_HOT_SET:
        hot_set_is_there(t, event);
        return true;
    case TEMPLATE_HOT_SET_DRIFTED:
        template_drifted(t);
        return true;
    case TEMPLATE_HOT_SET_LACKING:
        hot_set_lacks(t);
        return true;
    case TEMPLATE_SERVING:
        first_has_served(t, &event->figures);
        return true;
    case TEMPLATE_PAGES_LOST:
        lose_pages(t, &event->error);
        return true;
    case TEMPLATE_GONE:
        template_is_gone(t, event);
        return false;
    case TEMPLATE_CLONED:
    case TEMPLATE_CLONE_FAILED:
        if (t->ended) {
            end_late_clone(t->warden, event);
            return true;
        }
        env_clone_answered(t->warden, event);
        make_spare_code_tree(t);
        return true;
    case TEMPLATE_NOTHING:
        break;
    }
    return false;
}

void template_event(void *context, uint32_t events)
{
    (void)events;
    struct template_entry *t = context;
    struct warden *w = t->warden;
    t->users++; /* an answer may end its last use */
    struct template_event event;
    do
        event = template_next(t->template);
    while (handle_event(t, &event));
    env_advance_waiting(w); /* clones first: what follows can wait */
    if (t->state == TEMPLATE_PARKED)
        blank_kit_free(w, &t->kit);
    template_release(&t);
    keep_to_budget(w);
}

void template_clone_served(struct warden *w, uint64_t env_id)
{
    struct env *env = env_find(w, env_id);
    if (env == NULL || env->exited)
        return;
    if (env->server == NULL)
        working_set_served(w, env);
    else if (env->is_first && !env->server->ended)
        template_served(env->server->template);
}

void template_drop(struct warden *w, const char *snapshot_id, bool report)
{
    struct template_entry *t = template_find(w, snapshot_id);
    if (t == NULL) {
        if (report)
            tell_dropped(w, snapshot_id);
        return;
    }
    stop_offering(t, false);
    t->report_drop = report;
    end_when_unused(t);
}

void template_free_all(struct warden *w, uint64_t deadline_ns)
{
    struct template_entry *next_template;
    for (struct template_entry *t = TAILQ_FIRST(&w->templates); t != NULL; t = next_template) {
        next_template = TAILQ_NEXT(t, entry);
        template_entry_free(t);
    }
    struct zombie *next_zombie;
    for (struct zombie *zombie = LIST_FIRST(&w->zombies); zombie != NULL; zombie = next_zombie) {
        next_zombie = LIST_NEXT(zombie, entry);
        warden_reap_killed(zombie->pid, "a template", deadline_ns);
        free(zombie);
    }
    LIST_INIT(&w->zombies);
}
