#include "pages.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct pager_chunk chunk(void *context, size_t i)
{
    const struct pages *p = context;
    uint64_t left = p->bytes - i * PAGES_CHUNK_BYTES;
    return (struct pager_chunk){
        i * PAGES_CHUNK_BYTES, left < PAGES_CHUNK_BYTES ? (uint32_t)left : PAGES_CHUNK_BYTES};
}

static int read_at(const struct pages *p, uint64_t offset, void *out, size_t len, struct error *err)
{
    if (pread(p->fd, out, len, (off_t)offset) != (ssize_t)len)
        return error_system(err, "cannot read the pages");
    return 0;
}

static int read_chunk(void *context, size_t i, void *out, struct error *err)
{
    struct pages *p = context;
    struct pager_chunk place = chunk(p, i);
    if (p->break_after > 0 && p->reads >= p->break_after)
        return error_set(err, ERROR_CORRUPT, "chunk %zu is damaged", i);
    if (p->slow_ms > 0 && !p->here[i])
        return error_set(err, ERROR_NOT_FOUND, "chunk %zu is not here", i);
    p->reads++;
    return read_at(p, place.offset, out, place.bytes, err);
}

/* A process far away, which takes its time to send a chunk. */
static void __attribute__((noreturn)) bring(int socket, uint32_t slow_ms)
{
    size_t i;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(socket, &i, sizeof i) == sizeof i) {
        usleep(slow_ms * 1000);
        if (write(socket, &i, sizeof i) != sizeof i)
            break;
    }
    _exit(0);
}

static int fetch(void *context, size_t i, bool damaged, bool urgent, struct error *err)
{
    const struct pages *p = context;
    (void)urgent;
    if (damaged)
        return error_set(err, ERROR_CORRUPT, "chunk %zu is damaged", i);
    return fd_write_all(p->far[0], &i, sizeof i, err);
}

static int fetched(void *context, size_t *i, struct error *err)
{
    struct pages *p = context;
    (void)err;
    if (recv(p->far[0], i, sizeof *i, MSG_DONTWAIT) != sizeof *i)
        return 0;
    p->here[*i] = true;
    return 1;
}

static int hot_begin(void *context, size_t workers, struct error *err)
{
    struct pages *p = context;
    (void)err;
    p->taken = xcalloc(workers, sizeof *p->taken);
    return 0;
}

/* A piece is a run, or a part of a longer one. */
static int hot_take(void *context, size_t worker, struct error *err)
{
    struct pages *p = context;
    (void)err;
    if (p->hot_next == p->hot_count)
        return 0;
    const struct pager_run *run = &p->hot[p->hot_next];
    uint64_t left = run->bytes - p->hot_done;
    p->taken[worker] = (struct pager_run){
        run->offset + p->hot_done, left < PAGES_HOT_PIECE_BYTES ? left : PAGES_HOT_PIECE_BYTES};
    p->hot_done += p->taken[worker].bytes;
    if (p->hot_done == run->bytes) {
        p->hot_next++;
        p->hot_done = 0;
    }
    return 1;
}

static int hot_decode(void *context, size_t worker, struct pager_hot_piece *piece, struct error *err)
{
    const struct pages *p = context;
    piece->runs[0] = p->taken[worker];
    piece->run_count = 1;
    return read_at(p, piece->runs[0].offset, piece->data, piece->runs[0].bytes, err);
}

void pages_source(struct pages *p, struct pager_source *source)
{
    p->bytes = (uint64_t)lseek(p->fd, 0, SEEK_END);
    size_t count = (p->bytes + PAGES_CHUNK_BYTES - 1) / PAGES_CHUNK_BYTES;
    p->here = xrealloc(p->here, count + 1);
    memset(p->here, 0, count + 1);
    *source = (struct pager_source){.context = p,
        .chunk_count = count,
        .chunk = chunk,
        .read = read_chunk,
        .hot_begin = hot_begin,
        .hot_take = p->hot_count > 0 ? hot_take : NULL,
        .hot_decode = hot_decode,
        .hot_bytes = UINT64_MAX, /* helpers are to be tried */
        .hot_piece_bytes = PAGES_HOT_PIECE_BYTES,
        .hot_piece_runs = 1,
        .fetch_fd = -1,
        .stream_pause_ms = p->streams ? 0 : 3600 * 1000,
        .fds = &p->fd,
        .fd_count = 1};
    if (p->slow_ms == 0)
        return;
    static int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->far) < 0)
        abort();
    if (fork() == 0)
        bring(p->far[1], p->slow_ms);
    close(p->far[1]);
    fds[0] = p->fd;
    fds[1] = p->far[0];
    source->fetch = fetch;
    source->fetched = fetched;
    source->fetch_fd = p->far[0];
    source->fds = fds;
    source->fd_count = 2;
}

int pages_stream(void *context, int fd, struct error *err)
{
    const struct pages *p = context;
    size_t piece = 1 << 20;
    uint8_t *data = xcalloc(1, piece);
    int result = 0;
    for (uint64_t at = 0; at < p->bytes && result == 0; at += piece) {
        size_t len = p->bytes - at < piece ? (size_t)(p->bytes - at) : piece;
        result = read_at(p, at, data, len, err) < 0 || fd_write_all(fd, data, len, err) < 0 ? -1 : 0;
    }
    free(data);
    return result;
}
