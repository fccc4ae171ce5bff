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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 1000
static const char ID[] = "00112233445566778899aabbccddeeff";
static const char OTHER[] = "ffeeddccbbaa99887766554433221100";

struct fixture {
    char path[STORE_FOLDER_PATH];
    int dir;
    struct store *store;
    struct store_reader *reader;
    uint8_t *data; /* the stream: PAGES pages */
};

static struct store_reader *publish(struct fixture *f, const char *id)
{
    struct error err = {0};
    struct store_writer *w = store_writer_begin(f->store, id, STORE_DEFAULT_DOMAIN, &err);
    assert_non_null(w);
    assert_int_equal(store_writer_pages(w, 0, 0, f->data, PAGES * PAGE, &err), 0);
    assert_int_equal(store_writer_commit(w, "m", 1, NULL, &err), 0);
    struct store_reader *r = store_reader_open(f->store, id, NULL, &err);
    assert_non_null(r);
    return r;
}

static void open_again(struct fixture *f)
{
    f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->store = store_folder_open(f->dir);
}

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->dir = store_folder_make(f->path);
    f->data = xcalloc(PAGES, PAGE);
    uint32_t seed = 1;
    for (size_t i = 0; i < PAGES * PAGE; i++) {
        seed = seed * 1664525 + 1013904223;
        f->data[i] = i % 512 < 128 ? (uint8_t)(seed >> 24) : (uint8_t)(i / PAGE);
    }
    f->store = store_folder_open(f->dir);
    f->reader = publish(f, ID);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_reader_close(f->reader);
    store_close(f->store);
    free(f->data);
    int result = store_folder_remove(f->path, f->dir);
    free(f);
    return result;
}

static void write_hot(struct fixture *f, const struct store_hot_run *runs, size_t count)
{
    struct error err = {0};
    if (store_hot_write(f->store, f->reader, runs, count, NULL, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

/* 0 when all of it verifies and is what the stream has; `pages` counts. */
static int read_hot(struct fixture *f, struct store_reader *reader, size_t *pages, struct error *err)
{
    struct store_hot *hot = store_hot_open(reader, err);
    *pages = 0;
    if (hot == NULL)
        return -1;
    struct store_hot_piece piece = {.run_count = 1};
    int result = 0;
    while (result == 0 && piece.run_count > 0) {
        result = store_hot_next(hot, &piece, err);
        size_t done = 0;
        for (size_t i = 0; result == 0 && i < piece.run_count; i++) {
            assert_true(piece.runs[i].offset + piece.runs[i].bytes <= PAGES * PAGE);
            assert_memory_equal(piece.pages + done, f->data + piece.runs[i].offset, piece.runs[i].bytes);
            done += piece.runs[i].bytes;
        }
        if (result == 0)
            assert_int_equal(done, piece.bytes);
        *pages += piece.bytes / PAGE;
    }
    if (result < 0) { /* and there is no way on */
        struct error again = {0};
        assert_int_equal(store_hot_next(hot, &piece, &again), -1);
    }
    store_hot_close(hot);
    return result;
}

static void expect_pages(struct fixture *f, size_t expected)
{
    struct error err = {0};
    size_t pages;
    if (read_hot(f, f->reader, &pages, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(pages, expected);
}

static void expect_corrupt(struct fixture *f)
{
    struct error err = {0};
    size_t pages;
    assert_int_equal(read_hot(f, f->reader, &pages, &err), -1);
    if (err.kind != ERROR_CORRUPT || strstr(err.text, "hot") == NULL)
        fail_msg("kind %d: %s", err.kind, err.text);
}

static void a_hot_set_comes_back_in_its_order(void **state)
{
    struct fixture *f = *state;
    static const struct store_hot_run runs[] = {{500 * PAGE, PAGE}, {3 * PAGE, 2 * PAGE}, {0, PAGE},
        {100 * PAGE, 300 * PAGE} /* more than a piece */, {999 * PAGE, PAGE}};
    struct error err = {0};
    size_t pages;
    assert_int_equal(read_hot(f, f->reader, &pages, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    write_hot(f, runs, countof(runs));
    expect_pages(f, 305);
    struct store_hot *hot = store_hot_open(f->reader, &err);
    struct store_hot_piece piece;
    assert_non_null(hot);
    assert_true(store_hot_bytes(hot) < 305 * PAGE); /* it is compressed */
    assert_int_equal(store_hot_next(hot, &piece, &err), 0);
    assert_int_equal(piece.bytes, STORE_HOT_PIECE_BYTES);
    assert_int_equal(piece.run_count, 4);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(piece.runs[i].offset, runs[i].offset);
    store_hot_close(hot);
}

static void sets_of_many_runs_and_of_none(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE struct store_hot_run *runs = xcalloc(8 * PAGES, sizeof *runs);
    for (size_t i = 0; i < 8 * PAGES; i++) /* small ones, backwards: limited by their number */
        runs[i] = (struct store_hot_run){(8 * PAGES - 1 - i) * (PAGE / 8), PAGE / 16};
    write_hot(f, runs, 8 * PAGES);
    struct error err = {0};
    size_t pages;
    assert_int_equal(read_hot(f, f->reader, &pages, &err), 0);
    write_hot(f, runs, 0);
    expect_pages(f, 0);
}

static void a_new_set_takes_the_old_ones_place(void **state)
{
    struct fixture *f = *state;
    static const struct store_hot_run one[] = {{0, 10 * PAGE}}, two[] = {{20 * PAGE, 30 * PAGE}};
    write_hot(f, one, 1);
    struct error err = {0};
    struct store_hot *old = store_hot_open(f->reader, &err);
    assert_non_null(old);
    write_hot(f, two, 1);
    expect_pages(f, 30);
    /* One that is being read stays whole. */
    struct store_hot_piece piece;
    assert_int_equal(store_hot_next(old, &piece, &err), 0);
    assert_int_equal(piece.bytes, 10 * PAGE);
    store_hot_close(old);
    /* Across a restart, too. */
    store_reader_close(f->reader);
    store_close(f->store);
    close(f->dir);
    open_again(f);
    f->reader = store_reader_open(f->store, ID, NULL, &err);
    assert_non_null(f->reader);
    expect_pages(f, 30);
}

static int give_pages(void *context, uint64_t offset, void *out, size_t len, struct error *err)
{
    struct fixture *f = context;
    if (offset == 77 * PAGE)
        return error_set(err, ERROR_BUSY, "not that one");
    memcpy(out, f->data + offset, len);
    return 0;
}

static size_t count_tmp(const struct fixture *f)
{
    CLEANUP_FREE char *path = xasprintf("%s/store/tmp", f->path);
    DIR *folder = opendir(path);
    size_t count = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static void a_set_that_cannot_be_written_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;
    static const struct store_hot_run good[] = {{0, 10 * PAGE}},
                                      bad[] = {{5 * PAGE, PAGE}, {77 * PAGE, PAGE}};
    static const struct store_hot_run outside[][1] = {
        {{(PAGES - 1) * PAGE, 2 * PAGE}}, {{PAGES * PAGE, PAGE}}, {{UINT64_MAX - 4095, PAGE}}, {{0, 0}}};
    struct error err = {0};
    assert_int_equal(store_hot_write(f->store, f->reader, good, 1, give_pages, f, &err), 0);
    assert_int_equal(store_hot_write(f->store, f->reader, bad, 2, give_pages, f, &err), -1);
    assert_int_equal(err.kind, ERROR_BUSY);
    for (size_t i = 0; i < countof(outside); i++) {
        assert_int_equal(store_hot_write(f->store, f->reader, outside[i], 1, give_pages, f, &err), -1);
        assert_int_equal(err.kind, ERROR_INVALID);
    }
    assert_int_equal(count_tmp(f), 0);
    expect_pages(f, 10);
}

static void a_full_disk_leaves_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const struct store_hot_run one[] = {{0, 10 * PAGE}}, all[] = {{0, PAGES * PAGE}};
    write_hot(f, one, 1);
    store_reader_close(f->reader);
    store_close(f->store);
    close(f->dir);
    CLEANUP_FREE char *command =
        xasprintf("cp -a %s %s.copy && mount -t tmpfs -o size=3m tmpfs %s && cp -a %s.copy/. %s", f->path,
            f->path, f->path, f->path, f->path);
    assert_int_equal(system(command), 0);
    open_again(f);
    f->reader = store_reader_open(f->store, ID, NULL, &err);
    assert_non_null(f->reader);
    CLEANUP_FREE char *fill = xasprintf("head -c 3m /dev/urandom > %s/fill 2>/dev/null || true", f->path);
    assert_int_equal(system(fill), 0);
    assert_int_equal(store_hot_write(f->store, f->reader, all, 1, NULL, NULL, &err), -1);
    assert_int_equal(err.errno_value, ENOSPC);
    assert_int_equal(count_tmp(f), 0);
    expect_pages(f, 10);
    assert_int_equal(umount2(f->path, MNT_DETACH), 0);
    CLEANUP_FREE char *remove = xasprintf("rm -rf %s.copy", f->path);
    assert_int_equal(system(remove), 0);
}

static void a_set_of_a_snapshot_that_is_gone_is_not_written(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    static const struct store_hot_run one[] = {{0, 10 * PAGE}};
    assert_int_equal(store_delete(f->store, ID, &err), 0);
    assert_int_equal(store_hot_write(f->store, f->reader, one, 1, give_pages, f, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(count_tmp(f), 0);
}

static void every_damage_is_found(void **state)
{
    struct fixture *f = *state;
    static const struct store_hot_run runs[] = {{0, 2 * PAGE}, {40 * PAGE, 100 * PAGE}};
    write_hot(f, runs, 2);
    CLEANUP_FREE char *path = xasprintf("%s/store/snapshots/%s/hot", f->path, ID);
    CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat about;
    assert_int_equal(fstat(fd, &about), 0);
    for (off_t at = 0; at < about.st_size; at += at < 300 || at > about.st_size - 40 ? 1 : 499) {
        uint8_t byte, flipped;
        if (at == 8 || at == 9)
            continue; /* the version */
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        flipped = byte ^ 4;
        assert_int_equal(pwrite(fd, &flipped, 1, at), 1);
        expect_corrupt(f);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    expect_pages(f, 102);
    assert_int_equal(ftruncate(fd, about.st_size + 1), 0);
    expect_corrupt(f);
    for (off_t size = about.st_size - 1; size > 0; size -= size > 300 ? 1009 : 1) {
        assert_int_equal(ftruncate(fd, size), 0);
        expect_corrupt(f);
    }
}

static void the_set_of_another_snapshot_is_refused(void **state)
{
    struct fixture *f = *state;
    static const struct store_hot_run runs[] = {{0, 2 * PAGE}};
    struct store_reader *other = publish(f, OTHER);
    struct error err = {0};
    assert_int_equal(store_hot_write(f->store, other, runs, 1, NULL, NULL, &err), 0);
    store_reader_close(other);
    CLEANUP_FREE char *one = xasprintf("%s/store/snapshots/%s/hot", f->path, ID);
    CLEANUP_FREE char *two = xasprintf("%s/store/snapshots/%s/hot", f->path, OTHER);
    CLEANUP_FREE char *manifest = xasprintf("%s/store/snapshots/%s/manifest", f->path, ID);
    assert_int_equal(rename(two, one), 0);
    expect_corrupt(f);
    assert_int_equal(unlink(one), 0);
    assert_int_equal(link(manifest, one), 0); /* and a file of another kind */
    expect_corrupt(f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_hot_set_comes_back_in_its_order),
        TEST(sets_of_many_runs_and_of_none),
        TEST(a_new_set_takes_the_old_ones_place),
        TEST(a_set_that_cannot_be_written_leaves_the_old_one),
        TEST(a_full_disk_leaves_the_old_one),
        TEST(a_set_of_a_snapshot_that_is_gone_is_not_written),
        TEST(every_damage_is_found),
        TEST(the_set_of_another_snapshot_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
