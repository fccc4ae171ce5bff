/* Writing a snapshot: cuts the page stream into chunks, and makes all of it durable before it appears. */
#include "base/fault.h"
#include "base/fd.h"
#include "store/private.h"
#include "store/remote.h"
#include "store/sealed_file.h"
#include "store/sealing.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct store_writer {
    struct store *store;
    char id[STORE_ID_HEX + 1], tmp_name[STORE_NAME_BYTES];
    uint8_t raw_id[SEAL_ID_BYTES], data_key[SEAL_KEY_BYTES];
    int dir_fd; /* <id>.tmp */
    struct sealing *sealing;
    struct recipe recipe;
    struct store_written written;
    /* The chunk being filled: */
    struct sealing_place *filling; /* or NULL */
    uint64_t space, block, next_address;
};

static void writer_free(struct store_writer *w)
{
    sealing_free(w->sealing);
    recipe_free(&w->recipe);
    fd_close(&w->dir_fd);
    OPENSSL_cleanse(w, sizeof *w);
    free(w);
}

static int begin_sealing(struct store_writer *w, const char *domain, struct error *err)
{
    struct store *s = w->store;
    uint8_t salt[SEAL_KEY_BYTES];
    if (remote_share_domain(s, domain, err) < 0)
        return -1;
    if (keyring_domain_salt(s->keyring, s->domains_fd, domain, salt, err) < 0)
        return -1;
    w->sealing = sealing_new(s->store_fd, w->dir_fd, salt, err);
    OPENSSL_cleanse(salt, sizeof salt);
    return w->sealing == NULL ? -1 : 0;
}

static int writer_begin(struct store_writer *w, const char *domain, struct error *err)
{
    struct store *s = w->store;
    if (faccessat(s->snapshots_fd, w->id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(err, ERROR_CONFLICT, "there is a snapshot %s already", w->id);
    if (fault_fails("publish.folder") || mkdirat(s->snapshots_fd, w->tmp_name, 0700) < 0) {
        if (errno == EEXIST)
            return error_set(err, ERROR_CONFLICT, "snapshot %s is being written already", w->id);
        return error_system(err, "cannot make the folder of snapshot %s", w->id);
    }
    w->dir_fd = openat(s->snapshots_fd, w->tmp_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (w->dir_fd < 0)
        return error_system(err, "cannot open the folder of snapshot %s", w->id);
    fault_point("publish.begun");
    if (random_fill(w->data_key, sizeof w->data_key, err) < 0 ||
        keyring_create_file(s->keyring, w->dir_fd, "key", KEYRING_SNAPSHOT, w->id, w->data_key, err) < 0 ||
        begin_sealing(w, domain, err) < 0)
        return error_prefix(err, "snapshot %s", w->id);
    return 0;
}

struct store_writer *store_writer_begin(
    struct store *store, const char *id, const char *domain, struct error *err)
{
    struct store_writer *w = xcalloc(1, sizeof *w);
    *w = (struct store_writer){.store = store, .dir_fd = -1};
    if (store_parse_id(id, w->raw_id, err) < 0) {
        writer_free(w);
        return NULL;
    }
    memcpy(w->id, id, sizeof w->id);
    snprintf(w->tmp_name, sizeof w->tmp_name, "%s%s", id, STORE_TMP_SUFFIX);
    if (writer_begin(w, domain, err) == 0)
        return w;
    if (w->dir_fd >= 0)
        store_writer_abort(w);
    else
        writer_free(w);
    return NULL;
}

/* ---- chunks ---- */

static void collect(void *context, const struct sealing_place *p)
{
    struct store_writer *w = context;
    struct recipe_chunk *chunk = &w->recipe.chunks[p->index];
    chunk->id = p->id;
    chunk->is_new = p->is_new;
    w->written.chunks++;
    w->written.plain_bytes += p->len;
    w->written.stored_bytes += p->stored_bytes;
    if (!p->is_new) {
        w->written.chunks_shared++;
        w->written.shared_bytes += p->len;
    }
}

static int finish_chunk(struct store_writer *w, struct error *err)
{
    if (w->filling == NULL)
        return 0;
    if (recipe_add(&w->recipe, (uint32_t)w->filling->len, &w->filling->index, err) < 0)
        return -1;
    sealing_give(w->sealing, steal_pointer(w->filling));
    return 0;
}

/* A chunk is of one aligned block of addresses of one space, in ascending order. */
static bool continues_chunk(const struct store_writer *w, uint64_t space, uint64_t address)
{
    return w->filling != NULL && space == w->space && address / STORE_CHUNK_BYTES == w->block &&
           address >= w->next_address;
}

static int put_block(struct store_writer *w, uint64_t space, uint64_t address, const uint8_t *data,
    size_t len, struct error *err)
{
    if (!continues_chunk(w, space, address)) {
        if (finish_chunk(w, err) < 0)
            return -1;
        w->filling = sealing_take(w->sealing, collect, w, err);
        if (w->filling == NULL)
            return -1;
        w->space = space;
        w->block = address / STORE_CHUNK_BYTES;
    }
    memcpy(w->filling->plain + w->filling->len, data, len);
    w->filling->len += len;
    w->next_address = address + len;
    return 0;
}

int store_writer_pages(
    struct store_writer *w, uint64_t space, uint64_t address, const void *data, size_t len, struct error *err)
{
    const uint8_t *at = data;
    while (len > 0) {
        size_t room = STORE_CHUNK_BYTES - address % STORE_CHUNK_BYTES, n = len < room ? len : room;
        if (put_block(w, space, address, at, n, err) < 0)
            return error_prefix(err, "snapshot %s", w->id);
        address += n;
        at += n;
        len -= n;
    }
    return 0;
}

/* ---- the end ---- */

static int seal_manifest(struct store_writer *w, const struct buffer *plain, struct error *err)
{
    struct sealed_writer f = {.fd = -1};
    int result = sealed_writer_open(&f, w->dir_fd, "manifest", w->data_key, w->raw_id, SEAL_MANIFEST, err);
    if (result == 0 && fault_fails("publish.manifest_write"))
        result = error_system(err, "cannot write");
    if (result == 0)
        result = sealed_writer_rest(&f, plain->data, plain->len, err);
    w->written.stored_bytes += f.written + KEYRING_FILE_BYTES;
    sealed_writer_close(&f);
    return result;
}

static int write_manifest(struct store_writer *w, const void *manifest, size_t len, struct error *err)
{
    CLEANUP_BUFFER struct buffer plain = {0};
    int result;
    recipe_encode(&plain, &w->recipe);
    if (len > STORE_MANIFEST_BYTES_MAX) {
        result = error_set(err, ERROR_LIMIT, "%zu bytes are more than %u", len, STORE_MANIFEST_BYTES_MAX);
    } else {
        buffer_append_blob(&plain, manifest, (uint32_t)len);
        result = seal_manifest(w, &plain, err);
    }
    OPENSSL_cleanse(plain.data, plain.len); /* the chunks' keys */
    return result < 0 ? error_prefix(err, "manifest") : 0;
}

static int place_chunks(struct store_writer *w, struct error *err)
{
    for (size_t i = 0; i < w->recipe.count; i++) {
        const struct recipe_chunk *chunk = &w->recipe.chunks[i];
        char name[STORE_CHUNK_NAME_BYTES], file[2 * CHUNK_NAME_BYTES + 1];
        if (!chunk->is_new)
            continue;
        hex_encode(file, chunk->id.name, CHUNK_NAME_BYTES);
        folder_chunk_name(name, chunk->id.name);
        if (folder_place_chunk(w->dir_fd, file, w->store->store_fd, name, err) < 0)
            return -1;
        fault_point("publish.chunk_placed");
    }
    return 0;
}

/* All contents are on the disk before a name of the store leads to them, and all chunks have their names before the snapshot
 * has its own: one flush of the file system each is cheaper than one for each of thousands of files. */
static int writer_commit(struct store_writer *w, const void *manifest, size_t manifest_len, struct error *err)
{
    struct store *s = w->store;
    if (finish_chunk(w, err) < 0 || sealing_wait(w->sealing, collect, w, err) < 0 ||
        write_manifest(w, manifest, manifest_len, err) < 0)
        return -1;
    if (fault_fails("publish.contents_sync") || syncfs(w->dir_fd) < 0)
        return error_system(err, "cannot make its contents durable");
    fault_point("publish.contents_synced");
    if (place_chunks(w, err) < 0)
        return -1;
    if (fault_fails("publish.chunks_sync") || syncfs(w->dir_fd) < 0)
        return error_system(err, "cannot make its chunks durable");
    fault_point("publish.chunks_synced");
    if (remote_push_chunks(s, &w->recipe, err) < 0 || remote_push_snapshot(s, w->id, w->dir_fd, err) < 0)
        return -1;
    if (fault_fails("publish.rename") || renameat(s->snapshots_fd, w->tmp_name, s->snapshots_fd, w->id) < 0)
        return error_system(err, "cannot put it in its place");
    fault_point("publish.renamed");
    if (fault_fails("publish.rename_sync") || fsync(s->snapshots_fd) < 0) {
        error_system(err, "cannot make it durable");
        folder_remove(s->snapshots_fd, w->id);
        return -1;
    }
    fault_point("publish.durable");
    return 0;
}

int store_writer_commit(struct store_writer *w, const void *manifest, size_t manifest_len,
    struct store_written *written, struct error *err)
{
    if (writer_commit(w, manifest, manifest_len, err) < 0) {
        error_prefix(err, "snapshot %s", w->id);
        store_writer_abort(w);
        return -1;
    }
    if (written != NULL)
        *written = w->written;
    writer_free(w);
    return 0;
}

void store_writer_abort(struct store_writer *w)
{
    if (w == NULL)
        return;
    sealing_free(steal_pointer(w->sealing)); /* its threads write into the folder */
    folder_remove(w->store->snapshots_fd, w->tmp_name);
    writer_free(w);
}
