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
#define SEGMENTS_PER_WRITE 4

/* A file being sealed. The newest segment waits in `plain` until more bytes come or the file ends, since only
 * then it is known whether it is the last. Sealed ones gather in `sealed` for large writes. */
struct sealed_file {
    int fd;
    const char *name;
    struct sealer sealer;
    uint8_t *plain, *sealed;
    size_t plain_len, sealed_len;
    uint64_t written;
};

struct store_writer {
    struct store *store;
    char id[STORE_ID_HEX + 1], tmp_name[STORE_NAME_BYTES];
    uint8_t raw_id[SEAL_ID_BYTES], data_key[SEAL_KEY_BYTES];
    int dir_fd; /* <id>.tmp */
    struct sealed_file pages;
};

static int file_flush(struct sealed_file *f, struct error *err)
{
    if (fd_write_all(f->fd, f->sealed, f->sealed_len, err) < 0)
        return -1;
    f->written += f->sealed_len;
    f->sealed_len = 0;
    return 0;
}

static int file_seal(struct sealed_file *f, const uint8_t *plain, size_t len, bool last, struct error *err)
{
    if (f->sealed_len > (SEGMENTS_PER_WRITE - 1) * SEALED_SEGMENT_BYTES && file_flush(f, err) < 0)
        return -1;
    if (seal_segment(&f->sealer, plain, len, last, f->sealed + f->sealed_len, err) < 0)
        return -1;
    f->sealed_len += len + SEAL_TAG_BYTES;
    return 0;
}

static int file_begin(
    struct store_writer *w, struct sealed_file *f, const char *name, enum seal_kind kind, struct error *err)
{
    f->name = name;
    f->plain = xrealloc(NULL, SEAL_SEGMENT_BYTES);
    f->sealed = xrealloc(NULL, SEGMENTS_PER_WRITE * SEALED_SEGMENT_BYTES);
    f->fd = openat(w->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->fd < 0)
        return error_system(err, "cannot create it");
    if (sealer_init(&f->sealer, w->data_key, w->raw_id, kind, err) < 0 ||
        seal_header_write(f->sealed, w->store->master, w->data_key, w->raw_id, kind, err) < 0)
        return -1;
    f->sealed_len = SEAL_HEADER_BYTES;
    return file_flush(f, err);
}

static int file_append(struct sealed_file *f, const uint8_t *data, size_t len, struct error *err)
{
    while (len > 0) {
        if (f->plain_len == SEAL_SEGMENT_BYTES) {
            if (file_seal(f, f->plain, SEAL_SEGMENT_BYTES, false, err) < 0)
                return -1;
            f->plain_len = 0;
        }
        if (f->plain_len == 0 && len > SEAL_SEGMENT_BYTES) {
            if (file_seal(f, data, SEAL_SEGMENT_BYTES, false, err) < 0)
                return -1;
            data += SEAL_SEGMENT_BYTES;
            len -= SEAL_SEGMENT_BYTES;
            continue;
        }
        size_t room = SEAL_SEGMENT_BYTES - f->plain_len, n = len < room ? len : room;
        memcpy(f->plain + f->plain_len, data, n);
        f->plain_len += n;
        data += n;
        len -= n;
    }
    return 0;
}

static int file_finish(struct sealed_file *f, struct error *err)
{
    if (file_seal(f, f->plain, f->plain_len, true, err) < 0 || file_flush(f, err) < 0)
        return -1;
    if (fsync(f->fd) < 0)
        return error_system(err, "cannot make it durable");
    return 0;
}

static void file_close(struct sealed_file *f)
{
    sealer_free(&f->sealer);
    fd_close(&f->fd);
    free_pointer(&f->plain);
    free_pointer(&f->sealed);
}

static int name_file(const struct store_writer *w, const char *name, struct error *err)
{
    return error_prefix(err, "snapshot %s: %s", w->id, name);
}

static void writer_free(struct store_writer *w)
{
    file_close(&w->pages);
    fd_close(&w->dir_fd);
    OPENSSL_cleanse(w, sizeof *w);
    free(w);
}

static int writer_begin(struct store_writer *w, struct error *err)
{
    int folder = w->store->folder_fd;
    if (faccessat(folder, w->id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERROR_CONFLICT, "there is a snapshot %s already", w->id);
    if (mkdirat(folder, w->tmp_name, 0700) < 0) {
        if (errno == EEXIST)
            return error_set(err, ERROR_CONFLICT, "snapshot %s is being written already", w->id);
        return error_system(err, "cannot make the folder of snapshot %s", w->id);
    }
    w->dir_fd = openat(folder, w->tmp_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (w->dir_fd < 0)
        return error_system(err, "cannot open the folder of snapshot %s", w->id);
    if (random_fill(w->data_key, sizeof w->data_key, err) < 0)
        return -1;
    if (file_begin(w, &w->pages, "pages", SEAL_PAGES, err) < 0)
        return name_file(w, "pages", err);
    return 0;
}

struct store_writer *store_writer_begin(struct store *store, const char *id, struct error *err)
{
    struct store_writer *w = xcalloc(1, sizeof *w);
    *w = (struct store_writer){.store = store, .dir_fd = -1, .pages.fd = -1};
    if (store_parse_id(id, w->raw_id, err) < 0) {
        writer_free(w);
        return NULL;
    }
    memcpy(w->id, id, sizeof w->id);
    snprintf(w->tmp_name, sizeof w->tmp_name, "%s%s", id, STORE_TMP_SUFFIX);
    if (writer_begin(w, err) == 0)
        return w;
    if (w->dir_fd >= 0)
        store_writer_abort(w);
    else
        writer_free(w);
    return NULL;
}

int store_writer_pages(struct store_writer *w, const void *data, size_t len, struct error *err)
{
    if (file_append(&w->pages, data, len, err) < 0)
        return name_file(w, "pages", err);
    return 0;
}

static int write_manifest(
    struct store_writer *w, const void *manifest, size_t len, uint64_t *written, struct error *err)
{
    struct sealed_file f = {.fd = -1};
    int result = -1;
    if (len > STORE_MANIFEST_BYTES_MAX)
        error_set(err, ERROR_LIMIT, "%zu bytes are more than %u", len, STORE_MANIFEST_BYTES_MAX);
    else if (file_begin(w, &f, "manifest", SEAL_MANIFEST, err) == 0 &&
             file_append(&f, manifest, len, err) == 0 && file_finish(&f, err) == 0)
        result = 0;
    *written = f.written;
    file_close(&f);
    return result;
}

static int writer_commit(struct store_writer *w, const void *manifest, size_t manifest_len,
    uint64_t *stored_bytes, struct error *err)
{
    uint64_t manifest_written;
    if (file_finish(&w->pages, err) < 0)
        return name_file(w, "pages", err);
    if (write_manifest(w, manifest, manifest_len, &manifest_written, err) < 0)
        return name_file(w, "manifest", err);
    if (fsync(w->dir_fd) < 0)
        return error_system(err, "cannot make the folder of snapshot %s durable", w->id);
    int folder = w->store->folder_fd;
    if (renameat(folder, w->tmp_name, folder, w->id) < 0)
        return error_system(err, "cannot put snapshot %s in its place", w->id);
    if (fsync(folder) < 0) {
        error_system(err, "cannot make snapshot %s durable", w->id);
        store_remove_folder(folder, w->id);
        return -1;
    }
    if (stored_bytes != NULL)
        *stored_bytes = w->pages.written + manifest_written;
    return 0;
}

int store_writer_commit(struct store_writer *w, const void *manifest, size_t manifest_len,
    uint64_t *stored_bytes, struct error *err)
{
    if (writer_commit(w, manifest, manifest_len, stored_bytes, err) < 0) {
        store_writer_abort(w);
        return -1;
    }
    writer_free(w);
    return 0;
}

void store_writer_abort(struct store_writer *w)
{
    if (w == NULL)
        return;
    store_remove_folder(w->store->folder_fd, w->tmp_name);
    writer_free(w);
}
