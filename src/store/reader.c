/* Reading a snapshot: its key, its manifest with the recipe, and chunks from the local folder. */
#include "base/fd.h"
#include "store/private.h"
#include "store/remote.h"
#include "store/sealed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANIFEST_FILE_BYTES_MAX (STORE_MANIFEST_BYTES_MAX + (uint64_t)STORE_CHUNKS_MAX * RECIPE_CHUNK_BYTES)

static int read_whole(struct sealed_reader *f, struct buffer *out, struct error *err)
{
    if (f->size > MANIFEST_FILE_BYTES_MAX + MANIFEST_FILE_BYTES_MAX / 1024)
        return error_set(err, ERROR_CORRUPT, "it is longer than any manifest");
    for (;;) {
        const uint8_t *plain;
        size_t len;
        if (sealed_reader_next(f, &plain, &len, err) < 0)
            return -1;
        if (plain == NULL)
            return 0;
        buffer_append(out, plain, len);
    }
}

/* From the snapshot's folder, or from the file `fd` where that is not negative. */
static int read_manifest(struct store_reader *r, int fd, struct buffer *out, struct error *err)
{
    struct sealed_reader f = {.fd = -1};
    int result =
        fd < 0 ? sealed_reader_open(&f, r->dir_fd, "manifest", r->data_key, r->raw_id, SEAL_MANIFEST, err)
               : sealed_reader_open_fd(&f, fd, r->data_key, r->raw_id, SEAL_MANIFEST, err);
    if (result == 0)
        result = read_whole(&f, out, err);
    sealed_reader_close(&f);
    return result;
}

static int decode_manifest(
    struct store_reader *r, const struct buffer *plain, struct buffer *manifest, struct error *err)
{
    struct cursor c = cursor_over(plain->data, plain->len);
    if (recipe_decode(&r->recipe, &c, err) < 0)
        return -1;
    struct bytes image = cursor_blob(&c);
    if (!cursor_done(&c))
        return error_set(err, ERROR_CORRUPT, "it does not end where its contents do");
    if (manifest != NULL)
        buffer_append(manifest, image.data, image.len);
    return 0;
}

static int load_manifest(struct store_reader *r, int fd, struct buffer *manifest, struct error *err)
{
    CLEANUP_BUFFER struct buffer plain = {0};
    int result = read_manifest(r, fd, &plain, err);
    if (result == 0)
        result = decode_manifest(r, &plain, manifest, err);
    if (plain.data != NULL)
        OPENSSL_cleanse(plain.data, plain.len);
    return result;
}

/* A file of a snapshot that is missing is damage, not absence. */
static int name_file(const struct store_reader *r, const char *name, struct error *err)
{
    if (err != NULL && err->kind == ERROR_NOT_FOUND)
        err->kind = ERROR_CORRUPT;
    return error_prefix(err, "snapshot %s: %s", r->id, name);
}

static int open_key(struct store_reader *r, struct error *err)
{
    const struct store *s = r->store;
    r->dir_fd = openat(s->snapshots_fd, r->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (r->dir_fd < 0 && errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", r->id);
    if (r->dir_fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return error_set(err, ERROR_CORRUPT, "snapshot %s is not a folder", r->id);
    r->store_fd = fcntl(s->store_fd, F_DUPFD_CLOEXEC, 3);
    if (r->dir_fd < 0 || r->store_fd < 0)
        return error_system(err, "cannot open snapshot %s", r->id);
    if (keyring_read_file(s->keyring, r->dir_fd, "key", KEYRING_SNAPSHOT, r->id, r->data_key, err) < 0)
        return name_file(r, "key", err);
    return 0;
}

int store_reader_prepare(struct store_reader *r, struct error *err)
{
    if (r->tools == NULL)
        r->tools = chunk_tools_new(false, err);
    return r->tools == NULL ? -1 : 0;
}

/* Somebody may have deleted it under our hands. */
static int name_loss(const struct store_reader *r, struct error *err)
{
    if (faccessat(r->store->snapshots_fd, r->id, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
        error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", r->id);
    return -1;
}

struct store_reader *store_reader_begin(struct store *store, const char *id, struct error *err)
{
    struct store_reader *r = xcalloc(1, sizeof *r);
    *r = (struct store_reader){.store = store, .dir_fd = -1, .store_fd = -1};
    if (store_parse_id(id, r->raw_id, err) == 0) {
        memcpy(r->id, id, sizeof r->id);
        if (open_key(r, err) == 0)
            return r;
        name_loss(r, err);
    }
    store_reader_close(r);
    return NULL;
}

int store_reader_load(struct store_reader *r, struct buffer *manifest, struct error *err)
{
    if (load_manifest(r, -1, manifest, err) == 0)
        return 0;
    name_file(r, "manifest", err);
    return name_loss(r, err);
}

struct store_reader *store_reader_open(
    struct store *store, const char *id, struct buffer *manifest, struct error *err)
{
    struct store_reader *r = store_reader_begin(store, id, err);
    if (r == NULL || store_reader_load(r, manifest, err) == 0)
        return r;
    store_reader_close(r);
    return NULL;
}

static int open_files(struct store_reader *r, int key_fd, int manifest_fd, struct error *err)
{
    uint8_t wrapped[KEYRING_FILE_BYTES + 1];
    ssize_t len = pread(key_fd, wrapped, sizeof wrapped, 0);
    if (len < 0)
        return error_system(err, "cannot read the key of snapshot %s", r->id);
    if (keyring_unwrap(
            r->store->keyring, KEYRING_SNAPSHOT, r->id, wrapped, (size_t)len, r->data_key, NULL, err) < 0)
        return name_file(r, "key", err);
    if (load_manifest(r, manifest_fd, NULL, err) < 0)
        return name_file(r, "manifest", err);
    return 0;
}

struct store_reader *store_reader_open_files(
    struct store *store, const char *id, int key_fd, int manifest_fd, struct error *err)
{
    struct store_reader *r = xcalloc(1, sizeof *r);
    *r = (struct store_reader){.store = store, .dir_fd = -1, .store_fd = -1};
    if (store_parse_id(id, r->raw_id, err) == 0) {
        memcpy(r->id, id, sizeof r->id);
        if (open_files(r, key_fd, manifest_fd, err) == 0)
            return r;
    }
    store_reader_close(r);
    return NULL;
}

void store_reader_tell(const struct store_reader *r, struct buffer *out)
{
    buffer_append(out, r->id, sizeof r->id);
    buffer_append(out, r->raw_id, sizeof r->raw_id);
    buffer_append(out, r->data_key, sizeof r->data_key);
}

void store_reader_tell_chunks(const struct store_reader *r, struct buffer *out)
{
    recipe_encode(out, &r->recipe);
}

struct store_reader *store_reader_new_untold(struct store *store, struct error *err)
{
    struct store_reader *r = xcalloc(1, sizeof *r);
    *r = (struct store_reader){.store = store, .dir_fd = -1};
    r->store_fd = fcntl(store->store_fd, F_DUPFD_CLOEXEC, 3);
    if (r->store_fd >= 0 && store_reader_prepare(r, err) == 0)
        return r;
    if (r->store_fd < 0)
        error_system(err, "cannot open the store once more");
    store_reader_close(r);
    return NULL;
}

static int not_whole(struct error *err)
{
    return error_set(err, ERROR_INTERNAL, "what is told of a snapshot is not whole");
}

int store_reader_told(struct store_reader *r, struct cursor *from, struct error *err)
{
    struct bytes id = cursor_bytes(from, sizeof r->id), raw_id = cursor_bytes(from, sizeof r->raw_id);
    struct bytes data_key = cursor_bytes(from, sizeof r->data_key);
    if (!cursor_ok(from))
        return not_whole(err);
    memcpy(r->id, id.data, id.len);
    memcpy(r->raw_id, raw_id.data, raw_id.len);
    memcpy(r->data_key, data_key.data, data_key.len);
    return 0;
}

int store_reader_told_chunks(struct store_reader *r, struct cursor *from, struct error *err)
{
    return recipe_decode(&r->recipe, from, err) < 0 ? not_whole(err) : 0;
}

void store_reader_close(struct store_reader *r)
{
    if (r == NULL)
        return;
    chunk_tools_free(r->tools);
    recipe_free(&r->recipe);
    fd_close(&r->dir_fd);
    fd_close(&r->store_fd);
    OPENSSL_cleanse(r, sizeof *r);
    free(r);
}

size_t store_reader_fds(const struct store_reader *r, int fds[STORE_READER_FDS])
{
    fds[0] = r->store_fd;
    fds[1] = r->dir_fd;
    return r->dir_fd >= 0 ? 2 : 1;
}

const char *store_reader_id(const struct store_reader *r)
{
    return r->id;
}

uint64_t store_reader_stream_bytes(const struct store_reader *r)
{
    return r->recipe.stream_bytes;
}

size_t store_reader_chunk_count(const struct store_reader *r)
{
    return r->recipe.count;
}

struct store_chunk_place store_reader_chunk(const struct store_reader *r, size_t chunk)
{
    const struct recipe_chunk *c = &r->recipe.chunks[chunk];
    return (struct store_chunk_place){.offset = c->offset, .bytes = c->bytes};
}

size_t store_reader_find(const struct store_reader *r, uint64_t offset)
{
    size_t low = 0, high = r->recipe.count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (r->recipe.chunks[middle].offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const char *store_reader_chunk_name(struct store_reader *r, size_t chunk)
{
    folder_chunk_name(r->chunk_name, r->recipe.chunks[chunk].id.name);
    return r->chunk_name;
}

int store_reader_read_chunk(struct store_reader *r, size_t chunk, void *out, struct error *err)
{
    const struct recipe_chunk *c = &r->recipe.chunks[chunk];
    const char *name = store_reader_chunk_name(r, chunk);
    if (store_reader_prepare(r, err) < 0)
        return -1;
    if (chunk_read_file(r->tools, &c->id, r->store_fd, name, out, c->bytes, err) == 0)
        return 0;
    return error_prefix(err, "snapshot %s: %s", r->id, name);
}

static int read_or_bring(struct store_reader *r, size_t chunk, void *out, struct error *err)
{
    struct error why = {0};
    if (store_reader_read_chunk(r, chunk, out, &why) == 0)
        return 0;
    bool is_damaged = why.kind == ERROR_CORRUPT;
    if ((is_damaged || why.kind == ERROR_NOT_FOUND) && r->store->origin_control_fd >= 0)
        return store_reader_bring_chunk(r, chunk, is_damaged, out, err);
    if (err != NULL)
        *err = why;
    return -1;
}

static int stream_chunk(struct store_reader *r, size_t i, int out_fd, uint8_t *plain, struct error *err)
{
    if (read_or_bring(r, i, plain, err) < 0) {
        if (err != NULL && err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_CORRUPT; /* the snapshot is there, but not whole */
        return -1;
    }
    if (fd_write_all(out_fd, plain, r->recipe.chunks[i].bytes, err) < 0)
        return error_prefix(err, "snapshot %s", r->id);
    return 0;
}

int store_reader_stream(struct store_reader *r, int out_fd, struct error *err)
{
    CLEANUP_FREE uint8_t *plain = xcalloc(1, CHUNK_PLAIN_MAX);
    struct ahead *ahead = ahead_new(r);
    int result = 0;
    for (size_t i = 0; i < r->recipe.count && result == 0; i++) {
        ahead_of(ahead, i);
        result = stream_chunk(r, i, out_fd, plain, err);
    }
    ahead_free(ahead);
    return result;
}
