#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "store/store.h"
#include "store_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK STORE_CHUNK_BYTES
#define KEY_FILE 92 /* the formats' own sizes; known here to aim at their borders */
#define HEADER 64
#define CHUNK_HEADER 24
#define TAG 16
static const char ID[] = "00112233445566778899aabbccddeeff";
static const char OTHER[] = "ffeeddccbbaa99887766554433221100";

struct fixture {
    char path[STORE_FOLDER_PATH];
    int dir;
};

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->dir = store_folder_make(f->path);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    int result = store_folder_remove(f->path, f->dir);
    free(f);
    return result;
}

static struct store *open_store(const struct fixture *f)
{
    return store_folder_open(f->dir);
}

static uint8_t *make_pattern(size_t len, uint32_t seed)
{
    uint8_t *data = xrealloc(NULL, len + 1);
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = (uint8_t)(seed >> 24);
    }
    return data;
}

static struct store_written write_snapshot(
    struct store *store, const char *id, const char *manifest, const uint8_t *pages, size_t len, size_t piece)
{
    struct error err = {0};
    struct store_written written;
    struct store_writer *w = store_writer_begin(store, id, STORE_DEFAULT_DOMAIN, &err);
    if (w == NULL)
        fail_msg("%s", err.text);
    for (size_t at = 0; at < len; at += piece)
        if (store_writer_pages(w, 0, at, pages + at, len - at < piece ? len - at : piece, &err) < 0)
            fail_msg("%s", err.text);
    if (store_writer_commit(w, manifest, strlen(manifest), &written, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(written.plain_bytes, len);
    return written;
}

/* 0 when the whole snapshot reads back (into the buffers), else -1 and the error. */
static int read_snapshot(
    struct store *store, const char *id, struct buffer *manifest, struct buffer *pages, struct error *err)
{
    struct store_reader *r = store_reader_open(store, id, manifest, err);
    if (r == NULL)
        return -1;
    int result = 0;
    CLEANUP_FREE uint8_t *chunk = xcalloc(1, CHUNK);
    for (size_t i = 0; i < store_reader_chunk_count(r) && result == 0; i++) {
        struct store_chunk_place place = store_reader_chunk(r, i);
        assert_int_equal(place.offset, pages->len);
        assert_int_equal(store_reader_find(r, place.offset), i);
        assert_int_equal(store_reader_find(r, place.offset + place.bytes - 1), i);
        result = store_reader_read_chunk(r, i, chunk, err);
        if (result == 0)
            buffer_append(pages, chunk, place.bytes);
    }
    if (result == 0)
        assert_int_equal(store_reader_stream_bytes(r), pages->len);
    store_reader_close(r);
    return result;
}

static void expect_same(
    struct store *store, const char *id, const char *manifest, const uint8_t *data, size_t len)
{
    CLEANUP_BUFFER struct buffer m = {0};
    CLEANUP_BUFFER struct buffer p = {0};
    struct error err = {0};
    if (read_snapshot(store, id, &m, &p, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(m.len, strlen(manifest));
    assert_memory_equal(m.data, manifest, m.len);
    assert_int_equal(p.len, len);
    if (len > 0)
        assert_memory_equal(p.data, data, len);
}

static void expect_corrupt(struct store *store, const char *id, const char *file)
{
    CLEANUP_BUFFER struct buffer m = {0};
    CLEANUP_BUFFER struct buffer p = {0};
    struct error err = {0};
    assert_int_equal(read_snapshot(store, id, &m, &p, &err), -1);
    if (err.kind != ERROR_CORRUPT || strstr(err.text, file) == NULL)
        fail_msg("kind %d: %s", err.kind, err.text);
}

static void snapshots_come_back_as_written(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 41 * CHUNK + 77};
    static const size_t pieces[] = {4096, 100001, CHUNK, 3 * CHUNK + 5};
    struct store *store = open_store(*state);
    for (size_t i = 0; i < countof(sizes); i++) {
        for (size_t j = 0; j < countof(pieces); j++) {
            CLEANUP_FREE uint8_t *data = make_pattern(sizes[i], (uint32_t)(i * 10 + j));
            write_snapshot(store, ID, "manifest", data, sizes[i], pieces[j]);
            expect_same(store, ID, "manifest", data, sizes[i]);
            struct error err = {0};
            assert_int_equal(store_delete(store, ID, &err), 0);
        }
    }
    write_snapshot(store, ID, "", (const uint8_t *)"x", 1, 1);
    expect_same(store, ID, "", (const uint8_t *)"x", 1);
    store_close(store);
    store = open_store(*state);
    expect_same(store, ID, "", (const uint8_t *)"x", 1);
    store_close(store);
}

static void nothing_readable_is_on_the_disk(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    /* What cannot be compressed would be readable without the encryption. */
    CLEANUP_FREE uint8_t *data = make_pattern(8192, 1);
    memcpy(data + 4000, "a secret of the function", 24);
    write_snapshot(store, ID, "a secret of the function", data, 8192, 8192);
    char command[128];
    snprintf(command, sizeof command, "grep -rqa 'secret of' %s/store", f->path);
    assert_int_not_equal(system(command), 0);
    static const struct {
        const char *path;
        mode_t mode;
    } modes[] = {{"store", 0711}, {"store/snapshots", 0700}, {"store/chunks", 0711}, {"store/domains", 0700},
        {"store/tmp", 0700}, {"thaw.key", 0600}};
    struct stat about;
    for (size_t i = 0; i < countof(modes); i++) {
        assert_int_equal(fstatat(f->dir, modes[i].path, &about, 0), 0);
        assert_int_equal(about.st_mode & 07777, modes[i].mode);
    }
    store_close(store);
}

static void pages_stream_to_a_descriptor(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = 3 * CHUNK + 9;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 3);
    write_snapshot(store, ID, "m", data, len, len);
    CLEANUP_FD int out = openat(f->dir, "out", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CLEANUP_BUFFER struct buffer m = {0};
    CLEANUP_BUFFER struct buffer back = {0};
    struct error err = {0};
    struct store_reader *r = store_reader_open(store, ID, &m, &err);
    assert_non_null(r);
    assert_int_equal(store_reader_stream(r, out, &err), 0);
    store_reader_close(r);
    lseek(out, 0, SEEK_SET);
    assert_int_equal(fd_read_all(out, &back, len, &err), 0);
    assert_int_equal(back.len, len);
    assert_memory_equal(back.data, data, len);
    store_close(store);
}

static void flip(const struct fixture *f, const char *path, off_t at)
{
    CLEANUP_FD int fd = openat(f->dir, path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* The chunk's file, below DATA. */
static void chunk_path(struct store *store, const char *id, size_t chunk, char path[128])
{
    struct error err = {0};
    struct store_reader *r = store_reader_open(store, id, NULL, &err);
    if (r == NULL)
        fail_msg("%s", err.text);
    snprintf(path, 128, "store/%s", store_reader_chunk_name(r, chunk));
    store_reader_close(r);
}

static off_t size_of(const struct fixture *f, const char *path)
{
    struct stat about;
    assert_int_equal(fstatat(f->dir, path, &about, 0), 0);
    return about.st_size;
}

/* Every byte of a file but those of its version, which have a test of their own. */
static void flip_every_byte(const struct fixture *f, struct store *store, const char *path, off_t version_at,
    int version_bytes, const char *named)
{
    off_t size = size_of(f, path);
    for (off_t at = 0; at < size; at += at < 4096 || at > size - 64 ? 1 : 997) {
        if (at >= version_at && at < version_at + version_bytes)
            continue;
        flip(f, path, at);
        expect_corrupt(store, ID, named);
        flip(f, path, at);
    }
}

static void every_flipped_bit_is_found(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    CLEANUP_FREE uint8_t *data = make_pattern(CHUNK + 4096, 4);
    memset(data + CHUNK + 1000, 'x', 3000); /* the second chunk is compressed */
    write_snapshot(store, ID, "the manifest", data, CHUNK + 4096, CHUNK);
    char path[128];
    snprintf(path, sizeof path, "store/snapshots/%s/key", ID);
    assert_int_equal(size_of(f, path), KEY_FILE);
    flip_every_byte(f, store, path, 8, 2, "key");
    snprintf(path, sizeof path, "store/snapshots/%s/manifest", ID);
    flip_every_byte(f, store, path, 8, 2, "manifest");
    chunk_path(store, ID, 0, path);
    assert_int_equal(size_of(f, path), CHUNK_HEADER + CHUNK + TAG);
    flip_every_byte(f, store, path, 4, 1, path + 6);
    chunk_path(store, ID, 1, path);
    assert_true(size_of(f, path) < 2000);
    flip_every_byte(f, store, path, 4, 1, path + 6);
    expect_same(store, ID, "the manifest", data, CHUNK + 4096);
    store_close(store);
}

static void another_version_says_so(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    char paths[3][128];
    static const off_t at[] = {8, 8, 4};
    snprintf(paths[0], 128, "store/snapshots/%s/key", ID);
    snprintf(paths[1], 128, "store/snapshots/%s/manifest", ID);
    chunk_path(store, ID, 0, paths[2]);
    for (size_t i = 0; i < countof(paths); i++) {
        CLEANUP_BUFFER struct buffer m = {0};
        CLEANUP_BUFFER struct buffer p = {0};
        struct error err = {0};
        flip(f, paths[i], at[i]);
        assert_int_equal(read_snapshot(store, ID, &m, &p, &err), -1);
        assert_int_equal(err.kind, ERROR_UNSUPPORTED);
        assert_non_null(strstr(err.text, i == 1 ? "format version 18" : "format version 17"));
        flip(f, paths[i], at[i]);
    }
    store_close(store);
}

static void every_truncation_and_extension_is_found(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = CHUNK + 4096;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 5);
    CLEANUP_FREE char *manifest = xcalloc(1, 600001);
    memset(manifest, 'm', 600000); /* several segments */
    write_snapshot(store, ID, manifest, data, len, len);
    char paths[3][128];
    chunk_path(store, ID, 0, paths[0]);
    snprintf(paths[1], 128, "store/snapshots/%s/manifest", ID);
    snprintf(paths[2], 128, "store/snapshots/%s/key", ID);
    const off_t segment = 4 + 256 * 1024 + TAG;
    for (size_t i = 0; i < countof(paths); i++) {
        off_t size = size_of(f, paths[i]);
        off_t sizes[] = {size + 1, size - 1, size - TAG, HEADER + 2 * segment + 3, HEADER + 2 * segment,
            HEADER + segment, HEADER + TAG, HEADER, CHUNK_HEADER, 1, 0};
        CLEANUP_FREE char *path = xasprintf("%s/%s", f->path, paths[i]);
        for (size_t j = 0; j < countof(sizes); j++) {
            if (j > 0 && sizes[j] > size)
                continue;
            assert_int_equal(truncate(path, sizes[j]), 0);
            expect_corrupt(store, ID, i == 0 ? paths[0] + 6 : strrchr(path, '/') + 1);
        }
        unlink(path);
        CLEANUP_BUFFER struct buffer m = {0};
        CLEANUP_BUFFER struct buffer p = {0};
        struct error err = {0};
        assert_int_equal(read_snapshot(store, ID, &m, &p, &err), -1);
        /* A chunk may be elsewhere; the snapshot's own files may not. */
        assert_int_equal(err.kind, i == 0 ? ERROR_NOT_FOUND : ERROR_CORRUPT);
        assert_non_null(strstr(err.text, "missing"));
    }
    store_close(store);
}

static void swap(const struct fixture *f, const char *one, const char *two)
{
    assert_int_equal(renameat2(f->dir, one, f->dir, two, RENAME_EXCHANGE), 0);
}

static void swapped_files_are_found(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = 2 * CHUNK;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 6);
    CLEANUP_FREE uint8_t *others = make_pattern(len, 7);
    write_snapshot(store, ID, "m", data, len, len);
    write_snapshot(store, OTHER, "m", others, len, len);
    char one[128], two[128];
    static const char *const files[] = {"key", "manifest"};
    for (size_t i = 0; i < countof(files); i++) {
        snprintf(one, sizeof one, "store/snapshots/%s/%s", ID, files[i]);
        snprintf(two, sizeof two, "store/snapshots/%s/%s", OTHER, files[i]);
        swap(f, one, two);
        expect_corrupt(store, ID, files[i]);
        expect_corrupt(store, OTHER, files[i]);
        swap(f, one, two);
    }
    snprintf(one, sizeof one, "store/snapshots/%s", ID);
    snprintf(two, sizeof two, "store/snapshots/%s", OTHER);
    swap(f, one, two); /* the folders */
    expect_corrupt(store, ID, "key");
    swap(f, one, two);
    snprintf(one, sizeof one, "store/snapshots/%s/manifest", ID);
    snprintf(two, sizeof two, "store/snapshots/%s/key", ID);
    swap(f, one, two);
    expect_corrupt(store, ID, "key");
    swap(f, one, two);
    /* Chunks of one snapshot, and of two. */
    chunk_path(store, ID, 0, one);
    chunk_path(store, ID, 1, two);
    swap(f, one, two);
    expect_corrupt(store, ID, one + 6);
    swap(f, one, two);
    chunk_path(store, OTHER, 0, two);
    swap(f, one, two);
    expect_corrupt(store, ID, one + 6);
    expect_corrupt(store, OTHER, two + 6);
    swap(f, one, two);
    expect_same(store, ID, "m", data, len);
    expect_same(store, OTHER, "m", others, len);
    store_close(store);
}

static void expect_key_refused(const struct fixture *f, const char *why)
{
    struct error err = {0};
    assert_null(store_open(f->dir, &err));
    if (strstr(err.text, why) == NULL)
        fail_msg("expected \"%s\", got \"%s\"", why, err.text);
}

static void a_wrong_key_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    store_close(store);
    struct error err = {0};
    CLEANUP_FREE uint8_t *wrong = make_pattern(32, 7);
    assert_int_equal(file_write_atomic(f->dir, "thaw.key", wrong, 32, 0600, &err), 0);
    expect_key_refused(f, "another master key");
}

static void a_bad_key_file_is_refused(void **state)
{
    struct fixture *f = *state;
    store_close(open_store(f));
    assert_int_equal(fchmodat(f->dir, "thaw.key", 0640, 0), 0);
    expect_key_refused(f, "mode 0640");
    assert_int_equal(fchmodat(f->dir, "thaw.key", 0600, 0), 0);
    assert_int_equal(fchownat(f->dir, "thaw.key", 12345, 0, 0), 0);
    expect_key_refused(f, "belongs to user 12345");
    assert_int_equal(fchownat(f->dir, "thaw.key", 0, 0, 0), 0);
    struct error err = {0};
    assert_int_equal(file_write_atomic(f->dir, "thaw.key", "short", 5, 0600, &err), 0);
    expect_key_refused(f, "5 bytes long");
    assert_int_equal(unlinkat(f->dir, "thaw.key", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", f->dir, "thaw.key"), 0);
    expect_key_refused(f, "cannot open thaw.key");
    assert_int_equal(unlinkat(f->dir, "thaw.key", 0), 0);
    struct store *store = open_store(f);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    store_close(store);
    assert_int_equal(unlinkat(f->dir, "thaw.key", 0), 0);
    expect_key_refused(f, "thaw.key is missing");
}

static void bad_ids_and_conflicts_are_refused(void **state)
{
    struct store *store = open_store(*state);
    static const char *const bad[] = {"", "..", "../../etc", "00112233445566778899AABBCCDDEEFF",
        "00112233445566778899aabbccddeeff0", "00112233445566778899aabbccddee/f"};
    struct error err = {0};
    CLEANUP_BUFFER struct buffer m = {0};
    for (size_t i = 0; i < countof(bad); i++) {
        assert_null(store_writer_begin(store, bad[i], STORE_DEFAULT_DOMAIN, &err));
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(store_reader_open(store, bad[i], &m, &err));
        assert_int_equal(store_delete(store, bad[i], &err), -1);
    }
    assert_null(store_reader_open(store, ID, &m, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(store_delete(store, ID, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    struct store_writer *w = store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err);
    assert_non_null(w);
    assert_null(store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    store_writer_abort(w);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    assert_null(store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    store_close(store);
}

static size_t count_entries(const struct fixture *f)
{
    int fd = openat(f->dir, "store/snapshots", O_RDONLY | O_DIRECTORY);
    DIR *folder = fdopendir(fd);
    assert_non_null(folder);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void listing_names_every_snapshot(void **state)
{
    struct store *store = open_store(*state);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    write_snapshot(store, OTHER, "m", (const uint8_t *)"xyz", 3, 3);
    struct error err = {0};
    CLEANUP_FREE struct store_entry *entries = NULL;
    size_t count;
    assert_int_equal(store_list(store, &entries, &count, &err), 0);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < 2; i++) {
        size_t manifest = 24 + 68 + 4 + 1; /* the recipe with a chunk, a length, the manifest */
        assert_int_equal(entries[i].stored_bytes, KEY_FILE + HEADER + 4 + manifest + TAG);
    }
    store_close(store);
}

static void a_killed_writer_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        CLEANUP_FREE uint8_t *data = make_pattern(CHUNK, 8);
        struct error err = {0};
        struct store_writer *w = store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err);
        for (size_t i = 0; w != NULL && store_writer_pages(w, i, 0, data, CHUNK, &err) == 0; i++, data[0]++)
            if (i == 40)
                (void)!write(ready[1], "x", 1);
            else if (i > 40)
                pause();
        _exit(1);
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(count_entries(f), 1);
    CLEANUP_BUFFER struct buffer m = {0};
    struct error err = {0};
    assert_null(store_reader_open(store, ID, &m, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    store_close(store);
    store = open_store(f);
    assert_int_equal(count_entries(f), 0);
    struct store_writer *w = store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err);
    assert_non_null(w);
    assert_int_equal(count_entries(f), 1);
    store_discard_unfinished(store, ID);
    assert_int_equal(count_entries(f), 0);
    store_writer_abort(w);
    store_close(store);
    close(ready[0]);
    close(ready[1]);
}

static void a_full_disk_is_a_clear_error_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mount("tmpfs", f->path, "tmpfs", 0, "size=2m,mode=0700"), 0);
    struct fixture small = {.dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    struct store *store = open_store(&small);
    size_t len = 16u << 20;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 9);
    struct error err = {0};
    struct store_writer *w = store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err);
    assert_non_null(w);
    assert_int_equal(store_writer_pages(w, 0, 0, data, len, &err), -1);
    assert_int_equal(err.errno_value, ENOSPC);
    assert_non_null(strstr(err.text, ": cannot write"));
    assert_non_null(strstr(err.text, "No space left"));
    store_writer_abort(w);
    assert_int_equal(count_entries(&small), 0);
    /* Found at the end only. */
    w = store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err);
    assert_non_null(w);
    assert_int_equal(store_writer_pages(w, 0, 0, data, 3u << 20, &err), 0);
    assert_int_equal(store_writer_commit(w, "m", 1, NULL, &err), -1);
    assert_int_equal(err.errno_value, ENOSPC);
    assert_int_equal(count_entries(&small), 0);
    /* And when it is the manifest that has no room. */
    w = store_writer_begin(store, ID, STORE_DEFAULT_DOMAIN, &err);
    assert_non_null(w);
    assert_int_equal(store_writer_pages(w, 0, 0, data, 1u << 20, &err), 0);
    assert_int_equal(store_writer_commit(w, data, 2u << 20, NULL, &err), -1);
    assert_non_null(strstr(err.text, "manifest: cannot write"));
    assert_int_equal(count_entries(&small), 0);
    write_snapshot(store, ID, "m", data, 1u << 20, CHUNK);
    expect_same(store, ID, "m", data, 1u << 20);
    store_close(store);
    close(small.dir);
    assert_int_equal(umount2(f->path, MNT_DETACH), 0);
}

static void a_read_only_disk_is_a_clear_error(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mount("tmpfs", f->path, "tmpfs", MS_RDONLY, "size=1m"), 0);
    CLEANUP_FD int dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error err = {0};
    assert_null(store_open(dir, &err));
    assert_non_null(strstr(err.text, "Read-only file system"));
    fd_close(&dir);
    assert_int_equal(umount2(f->path, MNT_DETACH), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(snapshots_come_back_as_written),
        TEST(nothing_readable_is_on_the_disk),
        TEST(pages_stream_to_a_descriptor),
        TEST(every_flipped_bit_is_found),
        TEST(another_version_says_so),
        TEST(every_truncation_and_extension_is_found),
        TEST(swapped_files_are_found),
        TEST(a_wrong_key_is_refused),
        TEST(a_bad_key_file_is_refused),
        TEST(bad_ids_and_conflicts_are_refused),
        TEST(listing_names_every_snapshot),
        TEST(a_killed_writer_leaves_nothing),
        TEST(a_full_disk_is_a_clear_error_and_leaves_nothing),
        TEST(a_read_only_disk_is_a_clear_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
