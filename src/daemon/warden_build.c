/* Building a template from a snapshot: everything that needs the store, up to the process being started. */
#include "base/clock.h"
#include "daemon/warden_pages.h"
#include "daemon/warden_private.h"
#include "image/image.h"
#include "sandbox/filter.h"
#include "store/upkeep.h"

#include <string.h>
#include <sys/epoll.h>

static enum pager_recording hot_set_wish(const struct template_entry *t)
{
    return t->item == NULL ? PAGER_RECORD_NEEDED : (enum pager_recording)t->item->hot_set_wish;
}

static int stream_pages(void *context, int fd, struct error *err)
{
    return store_reader_stream(context, fd, err);
}

/* What a template is built from. */
struct plans {
    struct store_reader *reader;
    struct pages *pages; /* where a pager is forked; it has the reader */
    struct feeder *feeder;
    struct buffer manifest;
};

/* A feeder has no copy of our memory, and is told. */
static int start_process(
    struct template_entry *t, struct plans *from, const struct image *image, struct error *err)
{
    CLEANUP_FD int code_tree = env_open_code_tree(t->warden, t->code_id, err);
    CLEANUP_BUFFER struct buffer about = {0};
    struct template_rights rights;
    if (code_tree < 0 || builders_rights(t->warden, &rights, err) < 0)
        return -1;
    if (from->feeder != NULL)
        pages_tell(from->reader, (struct bytes){from->manifest.data, from->manifest.len}, &about);
    struct builder *builder = builders_take(t->warden);
    struct template_options options = {
        .image = image,
        .stream_pages = stream_pages,
        .stream_context = from->reader,
        .pages = pages_source(from->pages),
        .record_hot_set = hot_set_wish(t),
        .init_pidfd = sandbox_init_pidfd(t->kit.sandbox),
        .code_tree_fd = code_tree,
        .code_path = SANDBOX_CODE_PATH,
        .rights = rights,
        .builder = &builder,
        .feeder = &from->feeder,
        .about = {about.data, about.len},
        .clone_filter = sandbox_filter_clone(),
        .early_clone_filter = sandbox_filter_early_clone(),
    };
    t->template = template_start(&options, err);
    if (about.data != NULL)
        explicit_bzero(about.data, about.len);
    return t->template == NULL ? -1 : 0;
}

/* No function has any, so a snapshot that would give some was not made by our freeze. */
static int check_rights(const struct image *image, struct error *err)
{
    return image_gives_rights(image) ? error_set(err, ERROR_CORRUPT,
                                           "the snapshot's threads would keep rights that no function has")
                                     : 0;
}

static int build_from(struct template_entry *t, struct plans *from, struct error *err)
{
    struct image image = {0};
    const struct bytes manifest = {from->manifest.data, from->manifest.len};
    int result = -1;
    if (image_decode(&image, manifest, err) == 0 && check_rights(&image, err) == 0 &&
        image_check_machine(&image, err) == 0)
        result = start_process(t, from, &image, err);
    t->is_single = result == 0 && image.process_count == 1;
    if (t->item != NULL) /* all that it is going to hold */
        budget_set_bytes(t->warden->budget, t->item, image.page_bytes);
    image_free(&image);
    return result;
}

/* A feeder first: while we read the manifest it begins with the hot set. */
static int build(struct template_entry *t, struct error *err)
{
    struct store *store = t->warden->options->store;
    struct plans from = {.reader = store_reader_begin(store, t->snapshot_id, err)};
    if (from.reader == NULL)
        return -1;
    from.feeder = builders_open_feeder(t->warden, from.reader, hot_set_wish(t) != PAGER_RECORD_ANEW);
    int result = sandbox_assign(t->kit.sandbox, t->memory_mb, t->tmp_mb, err);
    if (result == 0)
        result = store_reader_load(from.reader, &from.manifest, err);
    from.pages = pages_new(store, from.reader);
    if (result == 0)
        result = build_from(t, &from, err);
    builders_end_feeder(t->warden, from.feeder); /* where there is no pager */
    pages_free(from.pages);
    buffer_free(&from.manifest);
    return result;
}

int template_build(struct template_entry *t, struct error *err)
{
    struct warden *w = t->warden;
    t->begin_ns = clock_monotonic_ns();
    int result = build(t, err);
    t->forked_ns = clock_monotonic_ns();
    if (result < 0)
        return -1;
    store_mark_used(w->options->store, t->snapshot_id);
    struct error ignored; /* the first clone's; it tries again, and reports it */
    t->spare_code_tree = env_open_code_tree(w, t->code_id, &ignored);
    t->watch = loop_watch_fd(w->loop, template_fd(t->template), EPOLLIN, template_event, t, err);
    return t->watch == NULL ? -1 : 0;
}
