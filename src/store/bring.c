/* A snapshot's files come from the origin into the local folder; its chunks follow when they are needed. */
#include "base/fd.h"
#include "store/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (1u << 20)

static const char *const FILES[] = {"key", "manifest", "hot"};
#define KEY 0
#define HOT 2
#define AHEAD_CHUNKS 32

struct bringing {
    struct store *store;
    const char *id;
    char tmp_name[STORE_NAME_BYTES];
    int dir_fd;              /* of ID.tmp */
    int fds[countof(FILES)]; /* what came; -1: it is not there */
};

static int fetch_files(struct bringing *b, struct error *err)
{
    struct origin *o = store_origin(b->store);
    struct error failure = {0};
    for (size_t i = 0; i < countof(FILES); i++) {
        char name[ORIGIN_NAME_MAX + 1];
        snprintf(name, sizeof name, "snapshots/%s/%s", b->id, FILES[i]);
        const struct origin_request request = {.verb = ORIGIN_FETCH,
            .name = name,
            .flags = ORIGIN_URGENT,
            .fd = -1,
            .context = (void *)(uintptr_t)i};
        if (origin_begin(o, &request, err) < 0)
            return -1;
    }
    while (origin_in_flight(o) > 0) {
        struct origin_reply reply;
        if (origin_wait(o, &reply, err) < 0)
            return -1;
        size_t i = (uintptr_t)reply.context;
        b->fds[i] = reply.fd;
        /* Without its hot set a snapshot is slower, and that is all. */
        if (reply.error.kind != ERROR_NONE && i != HOT &&
            (failure.kind == ERROR_NONE || failure.kind == ERROR_NOT_FOUND))
            failure = reply.error;
    }
    if (failure.kind == ERROR_NONE)
        return 0;
    *err = failure;
    if (failure.kind == ERROR_NOT_FOUND)
        return error_set(
            err, ERROR_NOT_FOUND, "there is no snapshot %s, neither here nor in the origin", b->id);
    return error_prefix(err, "cannot bring snapshot %s from the origin", b->id);
}

static int copy_file(int from, int to, struct error *err)
{
    struct stat about;
    off_t at = 0;
    if (fstat(from, &about) < 0)
        return error_system(err, "cannot read what came");
    while (at < about.st_size) {
        ssize_t n = copy_file_range(from, &at, to, NULL, COPY_BYTES, 0);
        if (n > 0)
            continue;
        if (n < 0)
            return error_system(err, "cannot copy what came");
        return error_set(err, ERROR_CORRUPT, "what came became shorter");
    }
    return 0;
}

static int write_files(struct bringing *b, struct error *err)
{
    if (mkdirat(b->store->snapshots_fd, b->tmp_name, 0700) < 0 && errno != EEXIST)
        return error_system(err, "cannot make the folder of snapshot %s", b->id);
    b->dir_fd = openat(b->store->snapshots_fd, b->tmp_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (b->dir_fd < 0)
        return error_system(err, "cannot open the folder of snapshot %s", b->id);
    for (size_t i = 0; i < countof(FILES); i++) {
        if (b->fds[i] < 0)
            continue;
        CLEANUP_FD int out =
            openat(b->dir_fd, FILES[i], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (out < 0)
            return error_system(err, "cannot create the file %s", FILES[i]);
        if (copy_file(b->fds[i], out, err) < 0)
            return error_prefix(err, "%s", FILES[i]);
    }
    return 0; /* not made durable: what a crash spoils is brought again */
}

/* The folder as a whole; or, when there is one already (with files that are damaged), file by file. */
static int place_files(struct bringing *b, struct error *err)
{
    int snapshots = b->store->snapshots_fd;
    if (renameat2(snapshots, b->tmp_name, snapshots, b->id, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST)
        return error_system(err, "cannot put snapshot %s in its place", b->id);
    CLEANUP_FD int there = openat(snapshots, b->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (there < 0)
        return error_system(err, "cannot open snapshot %s", b->id);
    for (size_t i = 0; i < countof(FILES); i++)
        if (b->fds[i] >= 0 && renameat(b->dir_fd, FILES[i], there, FILES[i]) < 0)
            return error_system(err, "cannot put %s in its place", FILES[i]);
    folder_remove(snapshots, b->tmp_name);
    return 0;
}

bool store_has(const struct store *s, const char *id)
{
    return faccessat(s->snapshots_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int store_bring(struct store *s, const char *id, struct error *err)
{
    uint8_t raw[SEAL_ID_BYTES];
    struct bringing b = {.store = s, .id = id, .dir_fd = -1, .fds = {-1, -1, -1}};
    if (store_parse_id(id, raw, err) < 0)
        return -1;
    if (store_origin(s) == NULL)
        return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", id);
    snprintf(b.tmp_name, sizeof b.tmp_name, "%s%s", id, STORE_TMP_SUFFIX);
    int result = fetch_files(&b, err);
    if (result == 0)
        result = remote_check_key_fd(
            s, b.fds[KEY], err); /* another machine's is not put in the place of what is here */
    if (result == 0) {
        result = write_files(&b, err);
        if (result == 0)
            result = place_files(&b, err);
        if (result < 0)
            folder_remove(s->snapshots_fd, b.tmp_name);
    }
    for (size_t i = 0; i < countof(FILES); i++)
        fd_close(&b.fds[i]);
    fd_close(&b.dir_fd);
    return result;
}

struct store_reader *store_reader_open_or_bring(
    struct store *s, const char *id, struct buffer *manifest, struct error *err)
{
    struct error first = {0};
    struct store_reader *r = store_reader_open(s, id, manifest, &first);
    bool may_help = first.kind == ERROR_NOT_FOUND || first.kind == ERROR_CORRUPT;
    if (r != NULL)
        return r;
    if (may_help && store_origin(s) != NULL) {
        if (manifest != NULL)
            manifest->len = 0;
        return store_bring(s, id, err) == 0 ? store_reader_open(s, id, manifest, err) : NULL;
    }
    if (err != NULL)
        *err = first;
    return NULL;
}

int store_reader_bring_chunk(struct store_reader *r, size_t chunk, bool damaged, void *out, struct error *err)
{
    struct origin *o = store_origin(r->store);
    const char *name = store_reader_chunk_name(r, chunk);
    const struct recipe_chunk *c = &r->recipe.chunks[chunk];
    if (o == NULL)
        return error_set(err, ERROR_NOT_FOUND, "snapshot %s: %s is missing", r->id, name);
    CLEANUP_FD int fd = -1;
    unsigned flags = ORIGIN_URGENT | (damaged ? ORIGIN_REPLACE : 0u);
    if (origin_fetch(o, name, flags, &fd, err) < 0)
        return error_prefix(err, "snapshot %s", r->id);
    if (store_reader_prepare(r, err) < 0)
        return -1;
    if (chunk_read_fd(r->tools, &c->id, fd, out, c->bytes, err) < 0)
        return error_prefix(err, "snapshot %s: %s from the origin", r->id, name);
    return 0;
}

/* ---- ahead of a stream ---- */

struct ahead {
    struct store_reader *reader;
    struct origin *origin;
    size_t next;               /* the first chunk that was not looked at */
    bool coming[AHEAD_CHUNKS]; /* of chunk i at i % AHEAD_CHUNKS */
};

struct ahead *ahead_new(struct store_reader *r)
{
    int control_fd = store_origin_control(r->store);
    if (control_fd < 0)
        return NULL;
    struct ahead *a = xcalloc(1, sizeof *a);
    a->reader = r;
    a->origin = origin_new(control_fd); /* of its own: the process's is for one request at a time */
    return a;
}

void ahead_free(struct ahead *a)
{
    if (a == NULL)
        return;
    origin_free(a->origin);
    free(a);
}

/* What fails here is asked for again when its turn comes, and then it is told why. */
static void take_reply(struct ahead *a)
{
    struct error ignored;
    struct origin_reply reply;
    if (origin_wait(a->origin, &reply, &ignored) < 0)
        return;
    a->coming[(uintptr_t)reply.context % AHEAD_CHUNKS] = false;
    fd_close(&reply.fd);
}

void ahead_of(struct ahead *a, size_t chunk)
{
    struct error ignored;
    if (a == NULL)
        return;
    for (; a->next < chunk + AHEAD_CHUNKS && a->next < a->reader->recipe.count; a->next++) {
        const char *name = store_reader_chunk_name(a->reader, a->next);
        const struct origin_request request = {.verb = ORIGIN_FETCH,
            .name = name,
            .flags = ORIGIN_URGENT,
            .fd = -1,
            .context = (void *)(uintptr_t)a->next};
        if (faccessat(a->reader->store_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
            a->coming[a->next % AHEAD_CHUNKS] = origin_begin(a->origin, &request, &ignored) == 0;
    }
    while (a->coming[chunk % AHEAD_CHUNKS] && origin_in_flight(a->origin) > 0)
        take_reply(a);
}
