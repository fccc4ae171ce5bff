/* Building a template from a snapshot: everything that needs the store, up to the process being started. */
#include "base/clock.h"
#include "daemon/warden_pages.h"
#include "daemon/warden_private.h"
#include "image/image.h"
#include "sandbox/filter.h"
#include "store/upkeep.h"

#include <string.h>
#include <sys/epoll.h>

static int stream_pages(void *context, int fd, struct error *err)
{
    return store_reader_stream(context, fd, err);
}

/* `about` is for a feeder, which has no copy of our memory. */
static int start_process(struct template_entry *t, const struct image *image, struct store_reader *reader,
    const struct pages *pages, struct bytes about, struct error *err)
{
    CLEANUP_FD int code_tree = env_open_code_tree(t->warden, t->code_id, err);
    struct template_rights rights;
    if (code_tree < 0 || builders_rights(t->warden, &rights, err) < 0)
        return -1;
    int fds[STORE_READER_FDS];
    struct builder *builder = builders_take(t->warden);
    struct feeder *feeder = about.len > 0 ? builders_take_feeder(t->warden) : NULL;
    struct template_options options = {
        .image = image,
        .stream_pages = stream_pages,
        .stream_context = reader,
        .pages = pages_source(pages),
        .record_hot_set = t->item == NULL ? PAGER_RECORD_NEEDED : (enum pager_recording)t->item->hot_set_wish,
        .init_pidfd = sandbox_init_pidfd(t->kit.sandbox),
        .code_tree_fd = code_tree,
        .code_path = SANDBOX_CODE_PATH,
        .rights = rights,
        .builder = &builder,
        .feeder = &feeder,
        .about = about,
        .about_fds = fds,
        .about_fd_count = store_reader_fds(reader, fds),
        .clone_filter = sandbox_filter_clone(),
        .early_clone_filter = sandbox_filter_early_clone(),
    };
    t->template = template_start(&options, err);
    builders_end_feeder(t->warden, feeder); /* where there is no pager */
    return t->template == NULL ? -1 : 0;
}

/* No function has any, so a snapshot that would give some was not made by our freeze. */
static int check_rights(const struct image *image, struct error *err)
{
    return image_gives_rights(image) ? error_set(err, ERROR_CORRUPT,
                                           "the snapshot's threads would keep rights that no function has")
                                     : 0;
}

static int build_from(struct template_entry *t, struct store_reader *reader, const struct pages *pages,
    struct bytes manifest, struct error *err)
{
    struct image image = {0};
    CLEANUP_BUFFER struct buffer about = {0};
    int result = -1;
    if (builders_have_feeder(t->warden))
        pages_tell(reader, manifest, &about);
    if (image_decode(&image, manifest, err) == 0 && check_rights(&image, err) == 0 &&
        image_check_machine(&image, err) == 0)
        result = start_process(t, &image, reader, pages, (struct bytes){about.data, about.len}, err);
    if (about.data != NULL)
        explicit_bzero(about.data, about.len);
    t->is_single = result == 0 && image.process_count == 1;
    if (t->item != NULL) /* all that it is going to hold */
        budget_set_bytes(t->warden->budget, t->item, image.page_bytes);
    image_free(&image);
    return result;
}

int template_build(struct template_entry *t, struct error *err)
{
    struct warden *w = t->warden;
    CLEANUP_BUFFER struct buffer manifest = {0};
    t->begin_ns = clock_monotonic_ns();
    if (sandbox_assign(t->kit.sandbox, t->memory_mb, t->tmp_mb, err) < 0)
        return -1;
    struct store_reader *reader = store_reader_open(w->options->store, t->snapshot_id, &manifest, err);
    if (reader == NULL)
        return -1;
    store_mark_used(w->options->store, t->snapshot_id);
    struct pages *pages = pages_new(w->options->store, reader);
    int result = build_from(t, reader, pages, (struct bytes){manifest.data, manifest.len}, err);
    pages_free(pages);
    t->forked_ns = clock_monotonic_ns();
    if (result < 0)
        return -1;
    struct error ignored; /* the first clone's; it tries again, and reports it */
    t->spare_code_tree = env_open_code_tree(w, t->code_id, &ignored);
    t->watch = loop_watch_fd(w->loop, template_fd(t->template), EPOLLIN, template_event, t, err);
    return t->watch == NULL ? -1 : 0;
}
