/* What templates are made of: builders, which become them, and feeders, which become their pagers. Made ahead of need, when no start
 * has come for a moment. Where there is none a template makes its own. */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "daemon/warden_pages.h"
#include "daemon/warden_private.h"
#include "sandbox/filter.h"

#include <string.h>

int builders_rights(const struct warden *w, struct template_rights *rights, struct error *err)
{
    *rights = (struct template_rights){.uid = w->options->sandbox_uid,
        .gid = w->options->sandbox_gid,
        .filter = sandbox_filter_template(err)};
    return rights->filter == NULL ? -1 : 0;
}

static void end_builder(struct warden *w, struct builder *b)
{
    template_add_zombie(w, builder_pid(b), "");
    builder_free(&b);
}

void builders_end_feeder(struct warden *w, struct feeder *f)
{
    if (f == NULL)
        return;
    template_add_zombie(w, feeder_pid(f), "");
    feeder_free(&f);
}

/* ---- in a feeder's processes ---- */

static void *prepare_feeder(void *context, const struct pager_source **source, struct error *err)
{
    const struct warden *w = context;
    struct pages *pages = pages_new_untold(w->options->store, err);
    if (pages != NULL)
        *source = pages_source(pages);
    return pages;
}

static int open_feeder(void *prepared, struct bytes about, int hot_fd, struct error *err)
{
    return pages_told_hot(prepared, about, hot_fd, err);
}

static int complete_feeder(void *prepared, struct bytes about, struct image *image, struct error *err)
{
    return pages_told(prepared, about, image, err);
}

/* ---- in the warden ---- */

static int make_feeder(struct warden *w, struct error *err)
{
    struct builders *all = &w->builders;
    const struct feeder_options options = {
        .context = w, .prepare = prepare_feeder, .open = open_feeder, .complete = complete_feeder};
    all->feeders[all->feeder_count] = feeder_start(&options, err);
    if (all->feeders[all->feeder_count] == NULL)
        return -1;
    all->feeder_count++;
    return 0;
}

static int make_builder(struct warden *w, struct error *err)
{
    struct builders *all = &w->builders;
    struct template_rights rights;
    if (builders_rights(w, &rights, err) < 0)
        return -1;
    all->ready[all->count] = builder_start(&rights, err);
    if (all->ready[all->count] == NULL)
        return -1;
    all->count++;
    return 0;
}

static void make_one(struct warden *w)
{
    struct error err = {0};
    bool of_builders = w->builders.count <= w->builders.feeder_count;
    if ((of_builders ? make_builder : make_feeder)(w, &err) < 0)
        log_warning("cannot prepare for the next template: %s", err.text);
}

static struct builder *take_last(struct builders *all)
{
    all->count--;
    return steal_pointer(all->ready[all->count]);
}

static void refill_soon(struct warden *w);

static void refill_timer_fired(void *context)
{
    struct warden *w = context;
    if (clock_monotonic_ns() - w->pool.taken_ns >= WARDEN_QUIET_NS)
        make_one(w);
    refill_soon(w);
}

static void refill_soon(struct warden *w)
{
    struct builders *all = &w->builders;
    if (all->closed || all->timer != NULL ||
        (all->count == WARDEN_BUILDERS && all->feeder_count == WARDEN_BUILDERS))
        return;
    loop_timer_set(w->loop, &all->timer, clock_monotonic_ns() + WARDEN_QUIET_NS, refill_timer_fired, w);
}

struct builder *builders_take(struct warden *w)
{
    struct builders *all = &w->builders;
    struct builder *found = NULL;
    while (found == NULL && all->count > 0) {
        found = take_last(all);
        if (!builder_lives(found)) /* an administrator, or a machine out of memory */
            end_builder(w, steal_pointer(found));
    }
    refill_soon(w);
    return found;
}

static struct feeder *take_last_feeder(struct builders *all)
{
    all->feeder_count--;
    return steal_pointer(all->feeders[all->feeder_count]);
}

static struct feeder *take_feeder(struct warden *w)
{
    struct builders *all = &w->builders;
    struct feeder *found = NULL;
    while (found == NULL && all->feeder_count > 0) {
        found = take_last_feeder(all);
        if (!feeder_lives(found))
            builders_end_feeder(w, steal_pointer(found));
    }
    refill_soon(w);
    return found;
}

bool builders_has_pid(const struct warden *w, pid_t pid)
{
    for (size_t i = 0; i < w->builders.count; i++)
        if (builder_pid(w->builders.ready[i]) == pid)
            return true;
    for (size_t i = 0; i < w->builders.feeder_count; i++)
        if (feeder_pid(w->builders.feeders[i]) == pid)
            return true;
    return false;
}

struct feeder *builders_open_feeder(struct warden *w, const struct store_reader *reader, bool with_hot_set)
{
    CLEANUP_BUFFER struct buffer about = {0};
    struct error ignored;
    struct feeder *feeder = take_feeder(w);
    if (feeder == NULL)
        return NULL;
    CLEANUP_FD int hot_fd = with_hot_set ? store_hot_open_file(reader, &ignored) : -1;
    store_reader_tell(reader, &about);
    if (feeder_open(feeder, (struct bytes){about.data, about.len}, hot_fd, &ignored) < 0)
        builders_end_feeder(w, steal_pointer(feeder));
    explicit_bzero(about.data, about.len);
    return feeder;
}

void builders_open(struct warden *w)
{
    refill_soon(w);
}

void builders_close(struct warden *w)
{
    struct builders *all = &w->builders;
    all->closed = true;
    loop_timer_cancel(&all->timer);
    while (all->count > 0)
        end_builder(w, take_last(all));
    while (all->feeder_count > 0)
        builders_end_feeder(w, take_last_feeder(all));
}
