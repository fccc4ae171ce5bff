#include "base/fd.h"
#include "store/private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEALED_SEGMENT_BYTES (SEAL_SEGMENT_BYTES + SEAL_TAG_BYTES)

/* A sealed file being read. `left` counts the sealed bytes still to come, by the length that the file had
 * when it was opened; `ended` once the last segment has verified. */
struct unsealed_file {
    int fd;
    uint64_t left;
    bool ended, failed;
    struct sealer sealer;
    uint8_t *sealed, *plain;
    uint8_t data_key[SEAL_KEY_BYTES];
};

struct store_reader {
    struct store *store;
    char id[STORE_ID_HEX + 1];
    uint8_t raw_id[SEAL_ID_BYTES];
    int dir_fd;
    struct unsealed_file pages;
};

static int file_open(
    struct store_reader *r, struct unsealed_file *f, const char *name, enum seal_kind kind, struct error *err)
{
    uint8_t header[SEAL_HEADER_BYTES];
    struct stat about;
    f->fd = openat(r->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (f->fd < 0 && errno == ENOENT)
        return error_set(err, ERROR_CORRUPT, "the file is missing");
    if (f->fd < 0 || fstat(f->fd, &about) < 0)
        return error_system(err, "cannot open it");
    if (!S_ISREG(about.st_mode))
        return error_set(err, ERROR_CORRUPT, "it is not a regular file");
    if (about.st_size < SEAL_HEADER_BYTES + SEAL_TAG_BYTES)
        return error_set(err, ERROR_CORRUPT, "it is cut off after %ld bytes", (long)about.st_size);
    if (fd_read_full(f->fd, header, sizeof header, err) < 0 ||
        seal_header_read(header, r->store->master, f->data_key, r->raw_id, kind, err) < 0 ||
        sealer_init(&f->sealer, f->data_key, r->raw_id, kind, err) < 0)
        return -1;
    f->left = (uint64_t)about.st_size - SEAL_HEADER_BYTES;
    f->sealed = xrealloc(NULL, SEALED_SEGMENT_BYTES);
    f->plain = xrealloc(NULL, SEAL_SEGMENT_BYTES);
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return 0;
}

/* The next segment into f->plain; *len is 0 at the end (an empty last segment and the end look the same). */
static int file_next(struct unsealed_file *f, size_t *len, struct error *err)
{
    *len = 0;
    if (f->ended)
        return 0;
    if (f->failed)
        return error_set(err, ERROR_CORRUPT, "it was found damaged before");
    f->failed = true;
    size_t n = f->left < SEALED_SEGMENT_BYTES ? (size_t)f->left : SEALED_SEGMENT_BYTES;
    bool last = f->left <= SEALED_SEGMENT_BYTES;
    if (fd_read_full(f->fd, f->sealed, n, err) < 0 ||
        unseal_segment(&f->sealer, f->sealed, n, last, f->plain, err) < 0)
        return -1;
    f->failed = false;
    f->ended = last;
    f->left -= n;
    *len = n - SEAL_TAG_BYTES;
    return 0;
}

static void file_close(struct unsealed_file *f)
{
    sealer_free(&f->sealer);
    fd_close(&f->fd);
    free_pointer(&f->sealed);
    free_pointer(&f->plain);
    OPENSSL_cleanse(f, sizeof *f);
    f->fd = -1;
}

static int name_file(const struct store_reader *r, const char *name, struct error *err)
{
    return error_prefix(err, "snapshot %s: %s", r->id, name);
}

static int read_whole(struct unsealed_file *f, struct buffer *out, struct error *err)
{
    if (f->left > STORE_MANIFEST_BYTES_MAX + STORE_MANIFEST_BYTES_MAX / 1024)
        return error_set(err, ERROR_CORRUPT, "it is longer than any manifest");
    while (!f->ended) {
        size_t len;
        if (file_next(f, &len, err) < 0)
            return -1;
        buffer_append(out, f->plain, len);
    }
    return 0;
}

static int read_manifest(
    struct store_reader *r, struct buffer *out, uint8_t data_key[SEAL_KEY_BYTES], struct error *err)
{
    struct unsealed_file f = {.fd = -1};
    size_t before = out->len;
    int result = -1;
    if (file_open(r, &f, "manifest", SEAL_MANIFEST, err) == 0 && read_whole(&f, out, err) == 0)
        result = 0;
    else
        out->len = before;
    memcpy(data_key, f.data_key, SEAL_KEY_BYTES);
    file_close(&f);
    return result;
}

static int reader_open(struct store_reader *r, struct buffer *manifest, struct error *err)
{
    r->dir_fd = openat(r->store->folder_fd, r->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (r->dir_fd < 0 && errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", r->id);
    if (r->dir_fd < 0)
        return error_system(err, "cannot open snapshot %s", r->id);
    uint8_t manifest_key[SEAL_KEY_BYTES];
    if (read_manifest(r, manifest, manifest_key, err) < 0)
        return name_file(r, "manifest", err);
    int result = file_open(r, &r->pages, "pages", SEAL_PAGES, err);
    if (result == 0 && CRYPTO_memcmp(manifest_key, r->pages.data_key, SEAL_KEY_BYTES) != 0)
        result = error_set(err, ERROR_CORRUPT, "it was not written together with the manifest");
    OPENSSL_cleanse(manifest_key, sizeof manifest_key);
    return result < 0 ? name_file(r, "pages", err) : 0;
}

struct store_reader *store_reader_open(
    struct store *store, const char *id, struct buffer *manifest, struct error *err)
{
    struct store_reader *r = xcalloc(1, sizeof *r);
    *r = (struct store_reader){.store = store, .dir_fd = -1, .pages.fd = -1};
    if (store_parse_id(id, r->raw_id, err) == 0) {
        memcpy(r->id, id, sizeof r->id);
        if (reader_open(r, manifest, err) == 0)
            return r;
        /* Somebody may have deleted it under our hands. */
        if (faccessat(store->folder_fd, id, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
            error_set(err, ERROR_NOT_FOUND, "there is no snapshot %s", id);
    }
    store_reader_close(r);
    return NULL;
}

int store_reader_next(struct store_reader *r, const void **data, size_t *len, struct error *err)
{
    *data = r->pages.plain;
    if (file_next(&r->pages, len, err) < 0)
        return name_file(r, "pages", err);
    return 0;
}

int store_reader_stream(struct store_reader *r, int out_fd, struct error *err)
{
    for (;;) {
        const void *data;
        size_t len;
        if (store_reader_next(r, &data, &len, err) < 0)
            return -1;
        if (len == 0)
            return 0;
        if (fd_write_all(out_fd, data, len, err) < 0)
            return error_prefix(err, "snapshot %s", r->id);
    }
}

void store_reader_close(struct store_reader *r)
{
    if (r == NULL)
        return;
    file_close(&r->pages);
    fd_close(&r->dir_fd);
    free(r);
}
