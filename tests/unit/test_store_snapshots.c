#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "store/store.h"

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

#define SEGMENT (256u * 1024) /* the store's own; known here to aim at its borders */
#define HEADER 112
#define TAG 16
static const char ID[] = "00112233445566778899aabbccddeeff";
static const char OTHER[] = "ffeeddccbbaa99887766554433221100";

struct fixture {
    char path[64];
    int dir;
};

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    strcpy(f->path, "/tmp/thaw-store-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", f->path);
    close(f->dir);
    int result = system(command);
    free(f);
    return result;
}

static struct store *open_store(const struct fixture *f)
{
    struct error err = {0};
    struct store *store = store_open(f->dir, &err);
    if (store == NULL)
        fail_msg("%s", err.text);
    return store;
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

static void write_snapshot(
    struct store *store, const char *id, const char *manifest, const uint8_t *pages, size_t len, size_t piece)
{
    struct error err = {0};
    struct store_writer *w = store_writer_begin(store, id, &err);
    if (w == NULL)
        fail_msg("%s", err.text);
    for (size_t at = 0; at < len; at += piece)
        assert_int_equal(store_writer_pages(w, pages + at, len - at < piece ? len - at : piece, &err), 0);
    uint64_t stored = 0;
    assert_int_equal(store_writer_commit(w, manifest, strlen(manifest), &stored, &err), 0);
    assert_true(stored > len + strlen(manifest));
}

/* 0 when the whole snapshot reads back (into the buffers), else -1 and the error. */
static int read_snapshot(
    struct store *store, const char *id, struct buffer *manifest, struct buffer *pages, struct error *err)
{
    struct store_reader *r = store_reader_open(store, id, manifest, err);
    if (r == NULL)
        return -1;
    int result = 0;
    for (;;) {
        const void *data;
        size_t len;
        result = store_reader_next(r, &data, &len, err);
        if (result < 0 || len == 0)
            break;
        buffer_append(pages, data, len);
    }
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
    static const size_t sizes[] = {
        0, 1, 4096, SEGMENT - 1, SEGMENT, SEGMENT + 1, 4 * SEGMENT, 9 * SEGMENT + 77};
    static const size_t pieces[] = {4096, 100001, SEGMENT, 3 * SEGMENT + 5};
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
    char text[8192];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "a secret of the function "[i % 25];
    write_snapshot(store, ID, "a secret of the function", (const uint8_t *)text, sizeof text, sizeof text);
    char command[128];
    snprintf(command, sizeof command, "grep -rqa 'secret of' %s/snapshots", f->path);
    assert_int_not_equal(system(command), 0);
    struct stat about;
    assert_int_equal(fstatat(f->dir, "snapshots", &about, 0), 0);
    assert_int_equal(about.st_mode & 07777, 0700);
    assert_int_equal(fstatat(f->dir, "thaw.key", &about, 0), 0);
    assert_int_equal(about.st_mode & 07777, 0600);
    assert_int_equal(about.st_size, 32);
    store_close(store);
}

static void pages_stream_to_a_descriptor(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = 3 * SEGMENT + 9;
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

static void every_flipped_bit_is_found(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = 2 * SEGMENT + 4096;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 4);
    write_snapshot(store, ID, "the manifest", data, len, len);
    char path[64];
    /* Every byte of both headers and of the short manifest. */
    for (off_t at = 0; at < HEADER + 12 + TAG; at++) {
        if (at == 8 || at == 9)
            continue; /* the version: below */
        snprintf(path, sizeof path, "snapshots/%s/manifest", ID);
        flip(f, path, at);
        expect_corrupt(store, ID, "manifest");
        flip(f, path, at);
        snprintf(path, sizeof path, "snapshots/%s/pages", ID);
        flip(f, path, at);
        expect_corrupt(store, ID, "pages");
        flip(f, path, at);
    }
    off_t spots[] = {HEADER + SEGMENT - 1, HEADER + SEGMENT, HEADER + SEGMENT + TAG,
        HEADER + 2 * (SEGMENT + TAG), (off_t)(HEADER + len + 3 * TAG - 1)};
    for (size_t i = 0; i < countof(spots); i++) {
        flip(f, path, spots[i]);
        expect_corrupt(store, ID, "pages: segment");
        flip(f, path, spots[i]);
    }
    expect_same(store, ID, "the manifest", data, len);
    store_close(store);
}

static void another_version_says_so(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    char path[64];
    snprintf(path, sizeof path, "snapshots/%s/manifest", ID);
    flip(f, path, 8);
    CLEANUP_BUFFER struct buffer m = {0};
    struct error err = {0};
    assert_null(store_reader_open(store, ID, &m, &err));
    assert_int_equal(err.kind, ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "format version 17"));
    store_close(store);
}

static void every_truncation_and_extension_is_found(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = 2 * SEGMENT + 4096;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 5);
    write_snapshot(store, ID, "m", data, len, len);
    char path[128];
    snprintf(path, sizeof path, "%s/snapshots/%s/pages", f->path, ID);
    off_t sizes[] = {(off_t)(HEADER + len + 3 * TAG + 1), (off_t)(HEADER + len + 3 * TAG - 1),
        HEADER + 2 * (SEGMENT + TAG) + 3, HEADER + 2 * (SEGMENT + TAG), HEADER + SEGMENT + TAG, HEADER + TAG,
        HEADER, HEADER - 1, 1, 0};
    for (size_t i = 0; i < countof(sizes); i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        expect_corrupt(store, ID, "pages");
    }
    unlink(path);
    expect_corrupt(store, ID, "pages: the file is missing");
    store_close(store);
}

static void swap(const struct fixture *f, const char *one, const char *two)
{
    char a[64], b[64];
    snprintf(a, sizeof a, "snapshots/%s", one);
    snprintf(b, sizeof b, "snapshots/%s", two);
    assert_int_equal(renameat2(f->dir, a, f->dir, b, RENAME_EXCHANGE), 0);
}

static void swapped_files_and_segments_are_found(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    size_t len = 2 * SEGMENT;
    CLEANUP_FREE uint8_t *data = make_pattern(len, 6);
    write_snapshot(store, ID, "m", data, len, len);
    write_snapshot(store, OTHER, "m", data, len, len);
    char one[64], two[64];
    static const char *const files[] = {"manifest", "pages"};
    for (size_t i = 0; i < countof(files); i++) {
        snprintf(one, sizeof one, "%s/%s", ID, files[i]);
        snprintf(two, sizeof two, "%s/%s", OTHER, files[i]);
        swap(f, one, two);
        expect_corrupt(store, ID, files[i]);
        expect_corrupt(store, OTHER, files[i]);
        swap(f, one, two);
    }
    swap(f, ID, OTHER); /* the folders */
    expect_corrupt(store, ID, "manifest");
    swap(f, ID, OTHER);
    snprintf(one, sizeof one, "%s/manifest", ID);
    snprintf(two, sizeof two, "%s/pages", ID);
    swap(f, one, two);
    expect_corrupt(store, ID, "manifest");
    swap(f, one, two);
    /* Two segments of equal length in each other's place. */
    snprintf(one, sizeof one, "snapshots/%s/pages", ID);
    CLEANUP_FD int fd = openat(f->dir, one, O_RDWR | O_CLOEXEC);
    CLEANUP_FREE uint8_t *both = make_pattern(2 * (SEGMENT + TAG), 0);
    assert_int_equal(pread(fd, both, 2 * (SEGMENT + TAG), HEADER), 2 * (SEGMENT + TAG));
    assert_int_equal(pwrite(fd, both, SEGMENT + TAG, HEADER + SEGMENT + TAG), SEGMENT + TAG);
    assert_int_equal(pwrite(fd, both + SEGMENT + TAG, SEGMENT + TAG, HEADER), SEGMENT + TAG);
    expect_corrupt(store, ID, "pages: segment 0");
    expect_same(store, OTHER, "m", data, len);
    store_close(store);
}

static void a_wrong_key_says_so(void **state)
{
    struct fixture *f = *state;
    struct store *store = open_store(f);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    store_close(store);
    struct error err = {0};
    CLEANUP_FREE uint8_t *wrong = make_pattern(32, 7);
    assert_int_equal(file_write_atomic(f->dir, "thaw.key", wrong, 32, 0600, &err), 0);
    store = open_store(f);
    expect_corrupt(store, ID, "another key than the one in thaw.key");
    store_close(store);
}

static void expect_key_refused(const struct fixture *f, const char *why)
{
    struct error err = {0};
    assert_null(store_open(f->dir, &err));
    if (strstr(err.text, why) == NULL)
        fail_msg("expected \"%s\", got \"%s\"", why, err.text);
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
        assert_null(store_writer_begin(store, bad[i], &err));
        assert_int_equal(err.kind, ERROR_INVALID);
        assert_null(store_reader_open(store, bad[i], &m, &err));
        assert_int_equal(store_delete(store, bad[i], &err), -1);
    }
    assert_null(store_reader_open(store, ID, &m, &err));
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(store_delete(store, ID, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    struct store_writer *w = store_writer_begin(store, ID, &err);
    assert_non_null(w);
    assert_null(store_writer_begin(store, ID, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    store_writer_abort(w);
    write_snapshot(store, ID, "m", (const uint8_t *)"x", 1, 1);
    assert_null(store_writer_begin(store, ID, &err));
    assert_int_equal(err.kind, ERROR_CONFLICT);
    store_close(store);
}

static size_t count_entries(const struct fixture *f)
{
    int fd = openat(f->dir, "snapshots", O_RDONLY | O_DIRECTORY);
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
        size_t pages = strcmp(entries[i].id, ID) == 0 ? 1 : 3;
        assert_int_equal(entries[i].stored_bytes, 2 * (HEADER + TAG) + 1 + pages);
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
        CLEANUP_FREE uint8_t *data = make_pattern(SEGMENT, 8);
        struct error err = {0};
        struct store_writer *w = store_writer_begin(store, ID, &err);
        for (size_t i = 0; w != NULL && store_writer_pages(w, data, SEGMENT, &err) == 0; i++)
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
    struct store_writer *w = store_writer_begin(store, ID, &err);
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
    CLEANUP_FREE uint8_t *data = make_pattern(4u << 20, 9);
    struct error err = {0};
    struct store_writer *w = store_writer_begin(store, ID, &err);
    assert_non_null(w);
    assert_int_equal(store_writer_pages(w, data, 4u << 20, &err), -1);
    assert_int_equal(err.errno_value, ENOSPC);
    assert_non_null(strstr(err.text, "pages: cannot write"));
    assert_non_null(strstr(err.text, "No space left"));
    store_writer_abort(w);
    assert_int_equal(count_entries(&small), 0);
    /* And when it is the manifest that has no room. */
    w = store_writer_begin(store, ID, &err);
    assert_non_null(w);
    assert_int_equal(store_writer_pages(w, data, 1u << 20, &err), 0);
    assert_int_equal(store_writer_commit(w, data, 2u << 20, NULL, &err), -1);
    assert_non_null(strstr(err.text, "manifest: cannot write"));
    assert_int_equal(count_entries(&small), 0);
    write_snapshot(store, ID, "m", data, 1u << 20, SEGMENT);
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
        TEST(swapped_files_and_segments_are_found),
        TEST(a_wrong_key_says_so),
        TEST(a_bad_key_file_is_refused),
        TEST(bad_ids_and_conflicts_are_refused),
        TEST(listing_names_every_snapshot),
        TEST(a_killed_writer_leaves_nothing),
        TEST(a_full_disk_is_a_clear_error_and_leaves_nothing),
        TEST(a_read_only_disk_is_a_clear_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
