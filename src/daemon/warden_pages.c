#include "daemon/warden_pages.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "store/origin.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pages {
    struct pager_source source;
    struct store *store;
    struct store_reader *reader;
    struct store_hot *hot; /* in the pager; NULL: there is none, or it is damaged */
    struct store_hot_worker **hot_workers;
    int control_fd;
    struct origin *origin;
    int fds[STORE_READER_FDS + 2 + ORIGIN_FDS];
};

static struct pager_chunk chunk(void *context, size_t i)
{
    const struct pages *p = context;
    struct store_chunk_place place = store_reader_chunk(p->reader, i);
    return (struct pager_chunk){place.offset, place.bytes};
}

static int read_chunk(void *context, size_t i, void *out, struct error *err)
{
    struct pages *p = context;
    return store_reader_read_chunk(p->reader, i, out, err);
}

/* The workers live as long as the pager. */
static int hot_begin(void *context, size_t workers, struct error *err)
{
    struct pages *p = context;
    p->hot_workers = xcalloc(workers, sizeof(struct store_hot_worker *));
    for (size_t i = 0; i < workers; i++) {
        p->hot_workers[i] = store_hot_worker_new(p->hot, err);
        if (p->hot_workers[i] == NULL)
            return -1;
    }
    return 0;
}

static int hot_take(void *context, size_t worker, struct error *err)
{
    const struct pages *p = context;
    return store_hot_take(p->hot_workers[worker], err);
}

static int hot_decode(void *context, size_t worker, struct pager_hot_piece *piece, struct error *err)
{
    const struct pages *p = context;
    struct store_hot_piece stored;
    if (store_hot_decode(p->hot_workers[worker], piece->data, &stored, err) < 0)
        return -1;
    for (size_t i = 0; i < stored.run_count; i++)
        piece->runs[i] = (struct pager_run){stored.runs[i].offset, stored.runs[i].bytes};
    piece->run_count = stored.run_count;
    if (stored.pages != piece->data) /* it is not compressed */
        memcpy(piece->data, stored.pages, stored.bytes);
    return 0;
}

static int fetch(void *context, size_t i, bool damaged, bool urgent, struct error *err)
{
    struct pages *p = context;
    const struct origin_request request = {.verb = ORIGIN_FETCH,
        .flags = (urgent ? ORIGIN_URGENT : 0u) | (damaged ? ORIGIN_REPLACE : 0u),
        .name = store_reader_chunk_name(p->reader, i),
        .context = (void *)(uintptr_t)i};
    return origin_begin(p->origin, &request, err);
}

/* The courier has put it into the local folder, where it is read, and checked, from. */
static int fetched(void *context, size_t *i, struct error *err)
{
    struct pages *p = context;
    struct origin_reply reply;
    if (!origin_next(p->origin, &reply))
        return 0;
    *i = (uintptr_t)reply.context;
    *err = reply.error;
    fd_close(&reply.fd);
    return 1;
}

/* Without a hot set the first clone asks for its pages one by one. */
static void take_hot(struct pages *p, struct store_hot *hot)
{
    p->hot = hot;
    if (hot == NULL)
        return;
    p->source.hot_take = hot_take;
    p->source.hot_bytes = store_hot_bytes(hot);
}

static void forget_master(struct pages *p)
{
    store_forget_master(p->store);
    if (p->control_fd < 0)
        return;
    p->origin = origin_new(p->control_fd);
    p->source.fetch_fd = origin_fd(p->origin);
    origin_fds(p->origin, p->fds + p->source.fd_count); /* fetch_fd is one of them */
    p->source.fd_count += ORIGIN_FDS;
}

/* What only the pager needs is made here, so that the warden has less to do before others can go on beside it. */
static void confine(void *context)
{
    struct pages *p = context;
    struct error ignored; /* reading tries again, and says so */
    (void)!store_reader_prepare(p->reader, &ignored);
    take_hot(p, store_hot_open(p->reader, &ignored));
    if (p->hot != NULL)
        p->fds[p->source.fd_count++] = store_hot_fd(p->hot);
    forget_master(p);
}

struct pages *pages_new(struct store *store, struct store_reader *reader)
{
    struct pages *p = xcalloc(1, sizeof *p);
    *p = (struct pages){.store = store, .reader = reader, .control_fd = store_origin_control(store)};
    size_t count = store_reader_fds(reader, p->fds);
    if (p->control_fd >= 0)
        p->fds[count++] = p->control_fd;
    p->source = (struct pager_source){.context = p,
        .chunk_count = store_reader_chunk_count(reader),
        .chunk = chunk,
        .read = read_chunk,
        .hot_begin = hot_begin,
        .hot_decode = hot_decode,
        .hot_piece_bytes = STORE_HOT_PIECE_BYTES,
        .hot_piece_runs = STORE_HOT_PIECE_RUNS,
        .fetch = p->control_fd >= 0 ? fetch : NULL,
        .fetched = p->control_fd >= 0 ? fetched : NULL,
        .fetch_fd = -1,
        .confine = confine,
        .fds = p->fds,
        .fd_count = count};
    return p;
}

struct pages *pages_new_untold(struct store *store, struct error *err)
{
    struct store_reader *reader = store_reader_new_untold(store, err);
    if (reader == NULL)
        return NULL;
    struct pages *p = pages_new(store, reader);
    p->source.confine = NULL; /* it is done already */
    forget_master(p);
    return p;
}

int pages_told_hot(struct pages *p, struct bytes about, int hot_fd, struct error *err)
{
    CLEANUP_FD int fd = hot_fd;
    struct cursor c = cursor_over(about.data, about.len);
    struct error ignored;
    if (store_reader_told(p->reader, &c, err) < 0)
        return -1;
    if (fd >= 0)
        take_hot(p, store_hot_open_told(p->reader, fd, &ignored));
    return 0;
}

void pages_tell(const struct store_reader *reader, struct bytes manifest, struct buffer *out)
{
    buffer_append_blob(out, manifest.data, (uint32_t)manifest.len);
    store_reader_tell_chunks(reader, out);
}

int pages_told(struct pages *p, struct bytes about, struct image *image, struct error *err)
{
    struct cursor c = cursor_over(about.data, about.len);
    struct bytes manifest = cursor_blob(&c);
    if (!cursor_ok(&c))
        return error_set(err, ERROR_INTERNAL, "what is told of a snapshot is not whole");
    if (store_reader_told_chunks(p->reader, &c, err) < 0)
        return -1;
    p->source.chunk_count = store_reader_chunk_count(p->reader);
    return image_decode(image, manifest, err);
}

void pages_free(struct pages *p)
{
    if (p == NULL)
        return;
    store_hot_close(p->hot);
    store_reader_close(p->reader);
    free(p);
}

const struct pager_source *pages_source(const struct pages *p)
{
    return &p->source;
}
