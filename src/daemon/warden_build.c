/* Building a template from a snapshot: everything that needs the store, up to the process being started. */
#include "base/clock.h"
#include "daemon/warden_pages.h"
#include "daemon/warden_private.h"
#include "image/image.h"
#include "sandbox/filter.h"
#include "store/upkeep.h"

#include <sys/epoll.h>
#include <sys/mman.h>

struct page_stream {
    struct store_reader *reader;
    struct error *error; /* shared memory */
};

static int stream_pages(void *context, int fd, struct error *err)
{
    struct page_stream *stream = context;
    if (store_reader_stream(stream->reader, fd, err) == 0)
        return 0;
    *stream->error = *err;
    return -1;
}

static int start_process(struct template_entry *t, const struct image *image, struct page_stream *stream,
    const struct pages *pages, struct error *err)
{
    CLEANUP_FD int code_tree = env_open_code_tree(t->warden, t->code_id, err);
    if (code_tree < 0)
        return -1;
    struct template_options options = {
        .image = image,
        .stream_pages = stream_pages,
        .stream_context = stream,
        .pages = pages_source(pages),
        .record_hot_set = t->item != NULL && t->item->wants_hot_set,
        .init_pidfd = sandbox_init_pidfd(t->kit.sandbox),
        .code_tree_fd = code_tree,
        .code_path = SANDBOX_CODE_PATH,
        .uid = t->warden->options->sandbox_uid,
        .gid = t->warden->options->sandbox_gid,
        .template_filter = sandbox_filter_template(err),
        .clone_filter = sandbox_filter_clone(),
    };
    if (options.template_filter == NULL)
        return -1;
    t->template = template_start(&options, err);
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
    struct page_stream stream = {.reader = reader, .error = t->stream_error};
    int result = -1;
    if (image_decode(&image, manifest, err) == 0 && check_rights(&image, err) == 0 &&
        image_check_machine(&image, err) == 0)
        result = start_process(t, &image, &stream, pages, err);
    t->is_single = result == 0 && image.process_count == 1;
    if (t->item != NULL) /* all that it is going to hold */
        budget_set_bytes(t->warden->budget, t->item, image.page_bytes);
    image_free(&image);
    return result;
}

static int map_stream_error(struct template_entry *t, struct error *err)
{
    if (t->stream_error != NULL) /* it was tried before */
        return 0;
    t->stream_error =
        mmap(NULL, sizeof *t->stream_error, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t->stream_error != MAP_FAILED)
        return 0;
    t->stream_error = NULL;
    return error_system(err, "cannot map shared memory");
}

int template_build(struct template_entry *t, struct error *err)
{
    struct warden *w = t->warden;
    CLEANUP_BUFFER struct buffer manifest = {0};
    t->begin_ns = clock_monotonic_ns();
    if (sandbox_assign(t->kit.sandbox, t->memory_mb, t->tmp_mb, err) < 0 || map_stream_error(t, err) < 0)
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
