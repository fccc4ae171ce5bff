#include "store/sealed_file.h"
#include "store/scratch.h"

#include "base/fd.h"
#include "store/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char MAGIC[8] = {'T', 'H', 'A', 'W', 'S', 'E', 'A', 'L'};

enum header_at {
    AT_VERSION = 8,
    AT_KIND = 10,
    AT_SEGMENT_BYTES = 12,
    AT_SNAPSHOT_ID = 16,
    AT_SALT = 32,
};

#define LENGTH_BYTES 4
#define SEALED_SEGMENT_BYTES (LENGTH_BYTES + SEAL_SEGMENT_BYTES + SEAL_TAG_BYTES)

static void header_fill(
    uint8_t header[SEALED_HEADER_BYTES], const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind)
{
    memset(header, 0, SEALED_HEADER_BYTES);
    memcpy(header, MAGIC, sizeof MAGIC);
    header[AT_VERSION] = SEALED_VERSION;
    header[AT_KIND] = (uint8_t)kind;
    seal_put_u32(header + AT_SEGMENT_BYTES, SEAL_SEGMENT_BYTES);
    memcpy(header + AT_SNAPSHOT_ID, snapshot_id, SEAL_ID_BYTES);
}

static int start_sealer(struct sealer *sealer, const uint8_t header[SEALED_HEADER_BYTES],
    const uint8_t data_key[SEAL_KEY_BYTES], const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind,
    struct error *err)
{
    static const char label[] = "thaw sealed file";
    uint8_t text[sizeof label - 1 + SEALED_HEADER_BYTES - AT_VERSION], key[SEAL_KEY_BYTES];
    unsigned key_len = 0;
    memcpy(text, label, sizeof label - 1);
    memcpy(text + sizeof label - 1, header + AT_VERSION, SEALED_HEADER_BYTES - AT_VERSION);
    int result;
    if (HMAC(EVP_sha256(), data_key, SEAL_KEY_BYTES, text, sizeof text, key, &key_len) == NULL)
        result = error_set(err, ERROR_INTERNAL, "libcrypto refuses HMAC-SHA256");
    else
        result = sealer_init(sealer, key, snapshot_id, kind, err);
    OPENSSL_cleanse(key, sizeof key);
    return result;
}

int sealed_writer_open(struct sealed_writer *w, int dir_fd, const char *name,
    const uint8_t data_key[SEAL_KEY_BYTES], const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind,
    struct error *err)
{
    uint8_t header[SEALED_HEADER_BYTES];
    header_fill(header, snapshot_id, kind);
    if (random_fill(header + AT_SALT, SEALED_HEADER_BYTES - AT_SALT, err) < 0 ||
        start_sealer(&w->sealer, header, data_key, snapshot_id, kind, err) < 0)
        return -1;
    w->sealed = xcalloc(1, SEALED_SEGMENT_BYTES);
    w->fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->fd < 0)
        return error_system(err, "cannot create it");
    w->written = sizeof header;
    return fd_write_all(w->fd, header, sizeof header, err);
}

int sealed_writer_segment(
    struct sealed_writer *w, const void *plain, size_t len, bool last, struct error *err)
{
    if (len > SEAL_SEGMENT_BYTES)
        return error_set(err, ERROR_INTERNAL, "a segment cannot hold %zu bytes", len);
    seal_put_u32(w->sealed, (uint32_t)len);
    if (seal_segment(&w->sealer, plain, len, last, w->sealed + LENGTH_BYTES, err) < 0)
        return -1;
    size_t sealed_len = LENGTH_BYTES + len + SEAL_TAG_BYTES;
    w->written += sealed_len;
    return fd_write_all(w->fd, w->sealed, sealed_len, err);
}

int sealed_writer_rest(struct sealed_writer *w, const void *plain, size_t len, struct error *err)
{
    const uint8_t *at = plain;
    for (; len > SEAL_SEGMENT_BYTES; at += SEAL_SEGMENT_BYTES, len -= SEAL_SEGMENT_BYTES)
        if (sealed_writer_segment(w, at, SEAL_SEGMENT_BYTES, false, err) < 0)
            return -1;
    return sealed_writer_segment(w, at, len, true, err);
}

void sealed_writer_close(struct sealed_writer *w)
{
    sealer_free(&w->sealer);
    fd_close(&w->fd);
    free_pointer(&w->sealed);
}

static int check_header(
    const uint8_t *header, const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind, struct error *err)
{
    uint8_t expected[SEALED_HEADER_BYTES];
    header_fill(expected, snapshot_id, kind);
    if (memcmp(header, expected, AT_VERSION) != 0)
        return error_set(err, ERROR_CORRUPT, "the header is not that of a sealed file");
    unsigned version = header[AT_VERSION] | header[AT_VERSION + 1] << 8;
    if (version != SEALED_VERSION)
        return error_set(err, ERROR_UNSUPPORTED,
            "the header is of format version %u, and this program knows only %d", version, SEALED_VERSION);
    if (memcmp(header, expected, AT_SNAPSHOT_ID) != 0)
        return error_set(err, ERROR_CORRUPT, "the header is that of another kind of file");
    if (memcmp(header, expected, AT_SALT) != 0)
        return error_set(err, ERROR_CORRUPT, "the header is that of another snapshot");
    return 0;
}

/* Of the file r->fd, which is `size` bytes long. */
static int reader_start(struct sealed_reader *r, uint64_t size, const uint8_t data_key[SEAL_KEY_BYTES],
    const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind, struct error *err)
{
    uint8_t header[SEALED_HEADER_BYTES];
    if (size < SEALED_HEADER_BYTES + LENGTH_BYTES + SEAL_TAG_BYTES)
        return error_set(err, ERROR_CORRUPT, "it is cut off after %llu bytes", (unsigned long long)size);
    if (stored_read(r->fd, header, sizeof header, err) < 0 ||
        check_header(header, snapshot_id, kind, err) < 0 ||
        start_sealer(&r->sealer, header, data_key, snapshot_id, kind, err) < 0)
        return -1;
    r->size = size;
    r->left = r->size - SEALED_HEADER_BYTES;
    r->sealed = scratch_new(SEALED_SEGMENT_BYTES);
    r->plain = scratch_new(SEAL_SEGMENT_BYTES);
    posix_fadvise(r->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return 0;
}

int sealed_reader_open(struct sealed_reader *r, int dir_fd, const char *name,
    const uint8_t data_key[SEAL_KEY_BYTES], const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind,
    struct error *err)
{
    uint64_t size;
    if (stored_open(dir_fd, name, &r->fd, &size, err) < 0)
        return -1;
    return reader_start(r, size, data_key, snapshot_id, kind, err);
}

int sealed_reader_open_fd(struct sealed_reader *r, int fd, const uint8_t data_key[SEAL_KEY_BYTES],
    const uint8_t snapshot_id[SEAL_ID_BYTES], enum seal_kind kind, struct error *err)
{
    uint64_t size;
    r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (r->fd < 0 || lseek(r->fd, 0, SEEK_SET) < 0)
        return error_system(err, "cannot read it");
    if (stored_size(r->fd, &size, err) < 0)
        return -1;
    return reader_start(r, size, data_key, snapshot_id, kind, err);
}

/* The length is believed only when the tag fits, which authenticates it. */
static int read_length(struct sealed_reader *r, size_t *sealed_len, struct error *err)
{
    uint8_t length[LENGTH_BYTES];
    if (r->left < LENGTH_BYTES + SEAL_TAG_BYTES)
        return error_set(err, ERROR_CORRUPT, "segment %lu is cut off", r->sealer.index);
    if (stored_read(r->fd, length, sizeof length, err) < 0)
        return -1;
    struct cursor c = cursor_over(length, sizeof length);
    size_t len = cursor_u32(&c);
    if (len > SEAL_SEGMENT_BYTES || len + LENGTH_BYTES + SEAL_TAG_BYTES > r->left)
        return error_set(
            err, ERROR_CORRUPT, "segment %lu is not what was written, or cut off", r->sealer.index);
    *sealed_len = len + SEAL_TAG_BYTES;
    r->left -= LENGTH_BYTES + *sealed_len;
    return 0;
}

int sealed_reader_take(struct sealed_reader *r, uint8_t *plain, size_t *len, struct error *err)
{
    size_t sealed_len = 0;
    *len = 0;
    if (r->failed)
        return error_set(err, ERROR_CORRUPT, "it was found damaged before");
    if (r->ended)
        return 0;
    r->failed = true;
    if (read_length(r, &sealed_len, err) < 0 || stored_read(r->fd, r->sealed, sealed_len, err) < 0 ||
        unseal_segment(&r->sealer, r->sealed, sealed_len, r->left == 0, plain, err) < 0)
        return -1;
    r->failed = false;
    r->ended = r->left == 0;
    *len = sealed_len - SEAL_TAG_BYTES;
    return 1;
}

int sealed_reader_next(struct sealed_reader *r, const uint8_t **plain, size_t *len, struct error *err)
{
    int result = sealed_reader_take(r, r->plain, len, err);
    *plain = result > 0 ? r->plain : NULL;
    return result < 0 ? -1 : 0;
}

void sealed_reader_close(struct sealed_reader *r)
{
    sealer_free(&r->sealer);
    fd_close(&r->fd);
    scratch_free(&r->sealed, SEALED_SEGMENT_BYTES);
    scratch_free(&r->plain, SEAL_SEGMENT_BYTES);
}
