#include "store/hot.h"

#include "base/fault.h"
#include "base/fd.h"
#include "store/private.h"
#include "store/remote.h"
#include "store/scratch.h"
#include "store/sealed_file.h"
#include "store/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOT_VERSION 1
#define PIECE_HEADER_BYTES 12
#define RUN_BYTES 12
static const char MAGIC[4] = {'T', 'H', 'H', 'S'};

_Static_assert(
    PIECE_HEADER_BYTES + STORE_HOT_PIECE_RUNS * RUN_BYTES + STORE_HOT_PIECE_BYTES <= SEAL_SEGMENT_BYTES,
    "a piece is a segment");

/* ---- writing ---- */

struct hot_writer {
    struct store_reader *reader;
    store_read_stream *read;
    void *context;
    struct sealed_writer file;
    struct codecs codecs;
    uint32_t pieces_left;
    size_t cached; /* the chunk in `chunk`; count of chunks: none */
    uint8_t *chunk, *pages, *packed, *segment;
};

/* A piece is as many runs as fit; the last may be the front of a longer one. */
struct piece_plan {
    const struct store_hot_run *runs;
    size_t count, at; /* of the caller's runs */
    uint32_t done;    /* bytes of runs[at] */
};

static size_t plan_piece(struct piece_plan *p, struct store_hot_run *piece, uint32_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    while (p->at < p->count && count < STORE_HOT_PIECE_RUNS && *bytes < STORE_HOT_PIECE_BYTES) {
        const struct store_hot_run *run = &p->runs[p->at];
        uint32_t left = run->bytes - p->done, room = STORE_HOT_PIECE_BYTES - *bytes;
        piece[count] = (struct store_hot_run){run->offset + p->done, left < room ? left : room};
        *bytes += piece[count].bytes;
        p->done += piece[count++].bytes;
        if (p->done == run->bytes) {
            p->at++;
            p->done = 0;
        }
    }
    return count;
}

static int check_runs(const struct store_reader *r, const struct store_hot_run *runs, size_t count,
    uint64_t *bytes, struct error *err)
{
    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (runs[i].bytes == 0 || runs[i].offset > r->recipe.stream_bytes ||
            runs[i].bytes > r->recipe.stream_bytes - runs[i].offset)
            return error_set(err, ERROR_INVALID, "run %zu is not in the page stream", i);
        *bytes += runs[i].bytes;
    }
    if (*bytes > r->recipe.stream_bytes)
        return error_set(err, ERROR_INVALID, "the runs are more than the page stream");
    return 0;
}

static int read_from_chunks(void *context, uint64_t offset, void *out, size_t len, struct error *err)
{
    struct hot_writer *w = context;
    uint8_t *at = out;
    while (len > 0) {
        size_t index = store_reader_find(w->reader, offset);
        const struct recipe_chunk *c = &w->reader->recipe.chunks[index];
        if (w->cached != index) {
            w->cached = SIZE_MAX;
            if (store_reader_read_chunk(w->reader, index, w->chunk, err) < 0)
                return -1;
            w->cached = index;
        }
        size_t from = (size_t)(offset - c->offset), n = c->bytes - from < len ? c->bytes - from : len;
        memcpy(at, w->chunk + from, n);
        at += n;
        offset += n;
        len -= n;
    }
    return 0;
}

static int write_piece(
    struct hot_writer *w, const struct store_hot_run *runs, size_t count, uint32_t bytes, struct error *err)
{
    struct buffer b = {.data = w->segment, .capacity = SEAL_SEGMENT_BYTES};
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        if (w->read(w->context, runs[i].offset, w->pages + done, runs[i].bytes, err) < 0)
            return -1;
        done += runs[i].bytes;
    }
    size_t packed_len = codec_compress(&w->codecs, STORE_HOT_CODEC, w->pages, bytes, w->packed);
    buffer_append_u32(&b, (uint32_t)count);
    buffer_append_u32(&b, bytes);
    buffer_append_u32(&b, packed_len > 0 ? STORE_HOT_CODEC : CODEC_NONE);
    for (size_t i = 0; i < count; i++) {
        buffer_append_u64(&b, runs[i].offset);
        buffer_append_u32(&b, runs[i].bytes);
    }
    buffer_append(&b, packed_len > 0 ? w->packed : w->pages, packed_len > 0 ? packed_len : bytes);
    return sealed_writer_segment(&w->file, b.data, b.len, --w->pieces_left == 0, err);
}

static int write_all_pieces(
    struct hot_writer *w, const struct store_hot_run *runs, size_t count, uint64_t bytes, struct error *err)
{
    CLEANUP_FREE struct store_hot_run *piece = xcalloc(STORE_HOT_PIECE_RUNS, sizeof *piece);
    CLEANUP_BUFFER struct buffer header = {0};
    uint32_t piece_bytes;
    size_t piece_runs;
    w->pieces_left = 0;
    for (struct piece_plan plan = {.runs = runs, .count = count}; plan_piece(&plan, piece, &piece_bytes) > 0;)
        w->pieces_left++;
    buffer_append(&header, MAGIC, sizeof MAGIC);
    buffer_append_u16(&header, HOT_VERSION);
    buffer_append_u16(&header, 0);
    buffer_append_u32(&header, w->pieces_left);
    buffer_append_u64(&header, bytes);
    if (sealed_writer_segment(&w->file, header.data, header.len, w->pieces_left == 0, err) < 0)
        return -1;
    struct piece_plan plan = {.runs = runs, .count = count};
    while ((piece_runs = plan_piece(&plan, piece, &piece_bytes)) > 0)
        if (write_piece(w, piece, piece_runs, piece_bytes, err) < 0)
            return -1;
    if (fault_fails("hot.sync") || fsync(w->file.fd) < 0)
        return error_system(err, "cannot make it durable");
    fault_point("hot.written");
    return 0;
}

static int put_in_place(
    struct store *s, const struct store_reader *r, const char *tmp_name, struct error *err)
{
    if (folder_replace(s->tmp_fd, tmp_name, r->dir_fd, "hot") < 0) {
        if (errno == ENOENT)
            return error_set(err, ERROR_NOT_FOUND, "the snapshot is gone");
        return error_system(err, "cannot put it in its place");
    }
    fault_point("hot.placed");
    if (fsync(r->dir_fd) < 0)
        return error_system(err, "cannot make it durable");
    return 0;
}

static void hot_writer_init(
    struct hot_writer *w, struct store_reader *r, store_read_stream *read, void *context)
{
    *w =
        (struct hot_writer){.reader = r, .read = read, .context = context, .file.fd = -1, .cached = SIZE_MAX};
    if (read == NULL) {
        w->read = read_from_chunks;
        w->context = w;
        w->chunk = xcalloc(1, CHUNK_PLAIN_MAX);
    }
    w->pages = xcalloc(1, STORE_HOT_PIECE_BYTES);
    w->packed = xcalloc(1, STORE_HOT_PIECE_BYTES);
    w->segment = xcalloc(1, SEAL_SEGMENT_BYTES);
}

static void hot_writer_free(struct hot_writer *w)
{
    sealed_writer_close(&w->file);
    codecs_free(&w->codecs);
    free(w->chunk);
    free(w->pages);
    free(w->packed);
    free(w->segment);
}

int store_hot_write(struct store *s, struct store_reader *r, const struct store_hot_run *runs, size_t count,
    store_read_stream *read, void *context, struct error *err)
{
    struct hot_writer w;
    char tmp_name[64];
    uint64_t bytes;
    snprintf(tmp_name, sizeof tmp_name, "hot-%s-%d", r->id, getpid());
    hot_writer_init(&w, r, read, context);
    int result = check_runs(r, runs, count, &bytes, err);
    if (result == 0)
        result = codecs_init(&w.codecs, true, err);
    if (result == 0)
        result = sealed_writer_open(&w.file, s->tmp_fd, tmp_name, r->data_key, r->raw_id, SEAL_HOT, err);
    if (result == 0)
        result = write_all_pieces(&w, runs, count, bytes, err);
    if (result == 0)
        result = put_in_place(s, r, tmp_name, err);
    if (result < 0 && w.file.fd >= 0)
        unlinkat(s->tmp_fd, tmp_name, 0);
    hot_writer_free(&w);
    /* Where it does not get there, others record one of their own. */
    if (result == 0)
        (void)!remote_push_hot(s, r->id, r->dir_fd, NULL);
    return result < 0 ? error_prefix(err, "snapshot %s: hot", r->id) : 0;
}

/* ---- reading ---- */

struct store_hot {
    struct store_reader *reader;
    struct sealed_reader file;
    uint64_t stream_bytes; /* UINT64_MAX: not known */
    uint32_t pieces_left;
    uint64_t bytes_left;
    struct store_hot_worker *own; /* of store_hot_next; made when that is first called */
    uint8_t *pages;               /* its */
};

struct store_hot_worker {
    struct store_hot *hot;
    struct hot_decoder decoder;
    uint8_t *plain; /* a segment: the piece that was taken, */
    size_t len;     /* and its length */
};

static int read_header(struct store_hot *h, struct error *err)
{
    const uint8_t *plain;
    size_t len;
    if (sealed_reader_next(&h->file, &plain, &len, err) < 0)
        return -1;
    struct cursor c = cursor_over(plain, len);
    struct bytes magic = cursor_bytes(&c, sizeof MAGIC);
    unsigned version = cursor_u16(&c), zero = cursor_u16(&c);
    h->pieces_left = cursor_u32(&c);
    h->bytes_left = cursor_u64(&c);
    if (!cursor_ok(&c) || memcmp(magic.data, MAGIC, sizeof MAGIC) != 0)
        return error_set(err, ERROR_CORRUPT, "it is not a hot set");
    if (version != HOT_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "it is of format version %u, and this program knows only %d",
            version, HOT_VERSION);
    if (zero != 0 || !cursor_done(&c) || h->bytes_left > h->stream_bytes)
        return error_set(err, ERROR_CORRUPT, "its header is not what was written");
    return 0;
}

/* A hot set that is not there is no damage. */
static int name_hot(const struct store_hot *h, struct error *err)
{
    return error_prefix(err, "snapshot %s: hot", h->reader->id);
}

int store_hot_open_file(const struct store_reader *r, struct error *err)
{
    uint64_t size;
    int fd = -1;
    return stored_open(r->dir_fd, "hot", &fd, &size, err) < 0 ? -1 : fd;
}

/* Of a file that is open, or in the snapshot's folder. */
static struct store_hot *open_hot(struct store_reader *r, int fd, uint64_t stream_bytes, struct error *err)
{
    struct store_hot *h = xcalloc(1, sizeof *h);
    *h = (struct store_hot){.reader = r, .file.fd = -1, .stream_bytes = stream_bytes};
    int result = fd < 0
                     ? sealed_reader_open(&h->file, r->dir_fd, "hot", r->data_key, r->raw_id, SEAL_HOT, err)
                     : sealed_reader_open_fd(&h->file, fd, r->data_key, r->raw_id, SEAL_HOT, err);
    if (result == 0 && read_header(h, err) == 0)
        return h;
    name_hot(h, err);
    store_hot_close(h);
    return NULL;
}

struct store_hot *store_hot_open(struct store_reader *r, struct error *err)
{
    return open_hot(r, -1, r->recipe.stream_bytes, err);
}

struct store_hot *store_hot_open_told(struct store_reader *r, int fd, struct error *err)
{
    return open_hot(r, fd, r->recipe.count > 0 ? r->recipe.stream_bytes : UINT64_MAX, err);
}

static int decode_runs(struct cursor *c, const struct store_hot_piece *piece, struct store_hot_run *runs,
    uint64_t stream_bytes, struct error *err)
{
    size_t sum = 0;
    for (size_t i = 0; i < piece->run_count; i++) {
        struct store_hot_run *run = &runs[i];
        run->offset = cursor_u64(c);
        run->bytes = cursor_u32(c);
        if (run->bytes == 0 || run->bytes > piece->bytes - sum || run->offset > stream_bytes ||
            run->bytes > stream_bytes - run->offset)
            return error_set(err, ERROR_CORRUPT, "a run is not in the page stream");
        sum += run->bytes;
    }
    if (!cursor_ok(c) || sum != piece->bytes)
        return error_set(err, ERROR_CORRUPT, "its runs are not its pages");
    return 0;
}

int hot_decode_piece(struct hot_decoder *d, const uint8_t *plain, size_t len, uint64_t stream_bytes,
    uint8_t *pages, struct store_hot_piece *piece, struct error *err)
{
    struct cursor c = cursor_over(plain, len);
    *piece = (struct store_hot_piece){.runs = d->runs, .run_count = cursor_u32(&c), .bytes = cursor_u32(&c)};
    uint32_t codec = cursor_u32(&c);
    if (!cursor_ok(&c) || piece->run_count == 0 || piece->run_count > STORE_HOT_PIECE_RUNS ||
        piece->bytes > STORE_HOT_PIECE_BYTES || codec >= CODEC_COUNT)
        return error_set(
            err, ERROR_CORRUPT, "a piece has %zu runs of %zu bytes", piece->run_count, piece->bytes);
    if (decode_runs(&c, piece, d->runs, stream_bytes, err) < 0)
        return -1;
    piece->pages = c.at;
    if (codec == CODEC_NONE && c.left == piece->bytes)
        return 0;
    piece->pages = pages;
    return codec_decompress(&d->codecs, codec, c.at, c.left, pages, piece->bytes, err);
}

int hot_decoder_init(struct hot_decoder *d, struct error *err)
{
    d->runs = xcalloc(STORE_HOT_PIECE_RUNS, sizeof *d->runs);
    return codecs_init(&d->codecs, false, err);
}

void hot_decoder_free(struct hot_decoder *d)
{
    codecs_free(&d->codecs);
    free_pointer(&d->runs);
}

struct store_hot_worker *store_hot_worker_new(struct store_hot *h, struct error *err)
{
    struct store_hot_worker *w = xcalloc(1, sizeof *w);
    w->hot = h;
    w->plain = scratch_new(SEAL_SEGMENT_BYTES);
    if (hot_decoder_init(&w->decoder, err) == 0)
        return w;
    store_hot_worker_free(w);
    return NULL;
}

void store_hot_worker_free(struct store_hot_worker *w)
{
    if (w == NULL)
        return;
    hot_decoder_free(&w->decoder);
    scratch_free(&w->plain, SEAL_SEGMENT_BYTES);
    free(w);
}

/* One more than the header told is damage, too. What else a piece says is for its decoder to judge. */
static int count_piece(struct store_hot *h, const struct store_hot_worker *w, struct error *err)
{
    struct cursor c = cursor_over(w->plain, w->len);
    cursor_u32(&c); /* runs */
    uint32_t bytes = cursor_u32(&c);
    if (h->pieces_left == 0 || bytes > h->bytes_left) {
        h->file.failed = true;
        return error_set(err, ERROR_CORRUPT, "it has more pieces than it tells");
    }
    h->pieces_left--;
    h->bytes_left -= bytes;
    return 1;
}

int store_hot_take(struct store_hot_worker *w, struct error *err)
{
    struct store_hot *h = w->hot;
    int result = sealed_reader_take(&h->file, w->plain, &w->len, err);
    if (result > 0)
        result = count_piece(h, w, err);
    else if (result == 0 && (h->pieces_left > 0 || h->bytes_left > 0))
        result = error_set(err, ERROR_CORRUPT, "it ends %u pieces too early", h->pieces_left);
    return result < 0 ? name_hot(h, err) : result;
}

int store_hot_decode(
    struct store_hot_worker *w, void *pages, struct store_hot_piece *piece, struct error *err)
{
    const struct store_hot *h = w->hot;
    if (hot_decode_piece(&w->decoder, w->plain, w->len, h->stream_bytes, pages, piece, err) < 0)
        return name_hot(h, err);
    return 0;
}

int store_hot_next(struct store_hot *h, struct store_hot_piece *piece, struct error *err)
{
    *piece = (struct store_hot_piece){0};
    if (h->own == NULL) {
        h->own = store_hot_worker_new(h, err);
        if (h->own == NULL)
            return name_hot(h, err);
        h->pages = scratch_new(STORE_HOT_PIECE_BYTES);
    }
    int result = store_hot_take(h->own, err);
    if (result <= 0)
        return result;
    result = store_hot_decode(h->own, h->pages, piece, err);
    if (result < 0)
        h->file.failed = true; /* there is no way on */
    return result;
}

int store_hot_fd(const struct store_hot *h)
{
    return h->file.fd;
}

uint64_t store_hot_bytes(const struct store_hot *h)
{
    return h->file.size;
}

void store_hot_close(struct store_hot *h)
{
    if (h == NULL)
        return;
    sealed_reader_close(&h->file);
    store_hot_worker_free(h->own);
    scratch_free(&h->pages, STORE_HOT_PIECE_BYTES);
    free(h);
}
