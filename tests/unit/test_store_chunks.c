#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "store/chunk.h"
#include "store/recipe.h"
#include "store/store.h"
#include "store_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const uint8_t SALT[SEAL_KEY_BYTES] = "a salt of thirty-two bytes, so..";
static const char IDS[][STORE_ID_HEX + 1] = {"00000000000000000000000000000000",
    "11111111111111111111111111111111", "22222222222222222222222222222222",
    "33333333333333333333333333333333"};

static struct chunk_tools *new_tools(void)
{
    struct error err = {0};
    struct chunk_tools *tools = chunk_tools_new(true, &err);
    if (tools == NULL)
        fail_msg("%s", err.text);
    return tools;
}

/* Half of it can be compressed. */
static uint8_t *make_pattern(size_t len, uint32_t seed)
{
    uint8_t *data = xcalloc(1, len + 1);
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = i % 512 < 256 ? (uint8_t)(seed >> 24) : (uint8_t)(i / 4096);
    }
    return data;
}

struct sealed {
    struct chunk_id id;
    uint8_t *data;
    size_t len;
};

static struct sealed seal(struct chunk_tools *tools, enum codec codec, const uint8_t *plain, size_t len)
{
    struct error err = {0};
    struct sealed s;
    const uint8_t *data;
    assert_int_equal(chunk_identify(tools, SALT, plain, len, &s.id, &err), 0);
    assert_int_equal(chunk_seal(tools, &s.id, codec, plain, len, &data, &s.len, &err), 0);
    s.data = xrealloc(NULL, s.len + 1);
    memcpy(s.data, data, s.len);
    return s;
}

static void chunks_come_back_under_every_codec(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 15, 4096, 65536, CHUNK_PLAIN_MAX};
    struct chunk_tools *tools = new_tools();
    CLEANUP_FREE uint8_t *back = xcalloc(1, CHUNK_PLAIN_MAX);
    for (size_t i = 0; i < countof(sizes); i++) {
        CLEANUP_FREE uint8_t *plain = make_pattern(sizes[i], (uint32_t)i);
        for (int codec = 0; codec < CODEC_COUNT; codec++) {
            struct error err = {0};
            struct sealed s = seal(tools, codec, plain, sizes[i]);
            if (codec != CODEC_NONE && sizes[i] >= 4096)
                assert_true(s.len < sizes[i] * 6 / 10);
            if (chunk_open(tools, &s.id, s.data, s.len, back, sizes[i], &err) < 0)
                fail_msg("%s", err.text);
            assert_memory_equal(back, plain, sizes[i]);
            assert_int_equal(chunk_open(tools, &s.id, s.data, s.len, NULL, sizes[i], &err), 0);
            free(s.data);
        }
    }
    chunk_tools_free(tools);
}

static void what_cannot_be_compressed_is_stored_plain(void **state)
{
    (void)state;
    struct chunk_tools *tools = new_tools();
    CLEANUP_FREE uint8_t *plain = xcalloc(1, 65536);
    struct error err = {0};
    assert_int_equal(random_fill(plain, 65536, &err), 0);
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct sealed s = seal(tools, codec, plain, 65536);
        assert_int_equal(s.len, CHUNK_HEADER_BYTES + 65536 + SEAL_TAG_BYTES);
        assert_int_equal(s.data[5], CODEC_NONE);
        free(s.data);
    }
    chunk_tools_free(tools);
}

static void names_tell_contents_only_to_those_who_know_the_salt(void **state)
{
    (void)state;
    struct chunk_tools *tools = new_tools();
    struct error err = {0};
    uint8_t other_salt[SEAL_KEY_BYTES] = {1}, plain[4096] = {2};
    struct chunk_id one, same, other_domain, other_contents;
    assert_int_equal(chunk_identify(tools, SALT, plain, sizeof plain, &one, &err), 0);
    assert_int_equal(chunk_identify(tools, SALT, plain, sizeof plain, &same, &err), 0);
    assert_int_equal(chunk_identify(tools, other_salt, plain, sizeof plain, &other_domain, &err), 0);
    plain[4095] ^= 1;
    assert_int_equal(chunk_identify(tools, SALT, plain, sizeof plain, &other_contents, &err), 0);
    assert_memory_equal(&one, &same, sizeof one);
    const struct chunk_id *others[] = {&other_domain, &other_contents};
    for (size_t i = 0; i < countof(others); i++) {
        assert_memory_not_equal(one.name, others[i]->name, CHUNK_NAME_BYTES);
        assert_memory_not_equal(one.key, others[i]->key, SEAL_KEY_BYTES);
    }
    assert_memory_not_equal(one.name, one.key, 32);
    chunk_tools_free(tools);
}

static void the_same_chunk_is_never_sealed_the_same_way_twice(void **state)
{
    (void)state;
    struct chunk_tools *tools = new_tools();
    CLEANUP_FREE uint8_t *plain = make_pattern(4096, 1);
    struct sealed one = seal(tools, CODEC_NONE, plain, 4096), two = seal(tools, CODEC_NONE, plain, 4096);
    assert_int_equal(one.len, two.len);
    assert_memory_not_equal(one.data + 12, two.data + 12, SEAL_NONCE_BYTES);
    assert_memory_not_equal(one.data + CHUNK_HEADER_BYTES, two.data + CHUNK_HEADER_BYTES, 4096);
    free(one.data);
    free(two.data);
    chunk_tools_free(tools);
}

static void expect_refused(struct chunk_tools *tools, const struct sealed *s, size_t len, size_t plain_len)
{
    struct error err = {0};
    uint8_t back[8192];
    assert_int_equal(chunk_open(tools, &s->id, s->data, len, back, plain_len, &err), -1);
    if (err.kind != ERROR_CORRUPT && err.kind != ERROR_UNSUPPORTED)
        fail_msg("kind %d: %s", err.kind, err.text);
}

static void every_altered_chunk_is_refused(void **state)
{
    (void)state;
    struct chunk_tools *tools = new_tools();
    CLEANUP_FREE uint8_t *plain = make_pattern(4096, 1);
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct sealed s = seal(tools, codec, plain, 4096);
        for (size_t bit = 0; bit < s.len * 8; bit++) {
            s.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            expect_refused(tools, &s, s.len, 4096);
            s.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t len = 0; len < s.len; len++)
            expect_refused(tools, &s, len, 4096);
        expect_refused(tools, &s, s.len + 1, 4096);
        expect_refused(tools, &s, s.len, 4095);
        expect_refused(tools, &s, s.len, 4097);
        s.id.name[0] ^= 1;
        expect_refused(tools, &s, s.len, 4096);
        s.id.name[0] ^= 1;
        s.id.key[31] ^= 1;
        expect_refused(tools, &s, s.len, 4096);
        free(s.data);
    }
    chunk_tools_free(tools);
}

static void expect_no_recipe(const uint8_t *data, size_t len, enum error_kind kind)
{
    struct recipe r = {0};
    struct error err = {0};
    struct cursor c = cursor_over(data, len);
    assert_int_equal(recipe_decode(&r, &c, &err), -1);
    if (err.kind != kind)
        fail_msg("kind %d: %s", err.kind, err.text);
    recipe_free(&r);
}

static void bad_recipes_are_refused(void **state)
{
    (void)state;
    struct error err = {0};
    struct recipe r = {0}, back = {0};
    CLEANUP_BUFFER struct buffer b = {0};
    size_t index;
    for (uint32_t i = 1; i <= 100; i++)
        assert_int_equal(recipe_add(&r, i, &index, &err), 0);
    memset(r.chunks[7].id.key, 7, SEAL_KEY_BYTES);
    recipe_encode(&b, &r);
    assert_int_equal(b.len, RECIPE_HEADER_BYTES + 100 * RECIPE_CHUNK_BYTES);
    struct cursor c = cursor_over(b.data, b.len);
    assert_int_equal(recipe_decode(&back, &c, &err), 0);
    assert_true(cursor_done(&c));
    assert_int_equal(back.count, 100);
    assert_int_equal(back.stream_bytes, 5050);
    assert_int_equal(back.chunks[99].offset, 4950);
    assert_memory_equal(&back.chunks[7].id, &r.chunks[7].id, sizeof r.chunks[7].id);
    for (size_t len = 0; len < b.len; len++)
        expect_no_recipe(b.data, len, ERROR_CORRUPT);
    static const struct {
        size_t at;
        enum error_kind kind;
    } flips[] = {{0, ERROR_CORRUPT}, {4, ERROR_UNSUPPORTED}, {6, ERROR_CORRUPT}, {11, ERROR_CORRUPT},
        {12, ERROR_CORRUPT}, {19, ERROR_CORRUPT}, {20, ERROR_CORRUPT}, {23, ERROR_CORRUPT},
        {24, ERROR_CORRUPT}, {27, ERROR_CORRUPT}};
    for (size_t i = 0; i < countof(flips); i++) {
        b.data[flips[i].at] ^= 0x81;
        expect_no_recipe(b.data, b.len, flips[i].kind);
        b.data[flips[i].at] ^= 0x81;
    }
    memset(b.data + 24, 0, 4); /* a chunk of no bytes */
    expect_no_recipe(b.data, b.len, ERROR_CORRUPT);
    recipe_free(&r);
    recipe_free(&back);
}

/* ---- chunks in a store ---- */

struct piece {
    uint64_t space, address;
    size_t from, len; /* of the data */
};

static struct store_written publish(const struct store_fixture *f, const char *id, const char *domain,
    const uint8_t *data, const struct piece *pieces, size_t count)
{
    struct error err = {0};
    struct store_written written = {0};
    struct store_writer *w = store_writer_begin(f->store, id, domain, &err);
    if (w == NULL)
        fail_msg("%s", err.text);
    for (size_t i = 0; i < count; i++)
        if (store_writer_pages(
                w, pieces[i].space, pieces[i].address, data + pieces[i].from, pieces[i].len, &err) < 0)
            fail_msg("%s", err.text);
    if (store_writer_commit(w, "m", 1, &written, &err) < 0)
        fail_msg("%s", err.text);
    return written;
}

static void expect_stream(const struct store_fixture *f, const char *id, const uint8_t *data, size_t len)
{
    struct error err = {0};
    CLEANUP_BUFFER struct buffer back = {0};
    struct store_reader *r = store_reader_open(f->store, id, NULL, &err);
    if (r == NULL)
        fail_msg("%s", err.text);
    CLEANUP_FD int out = openat(f->dir, "out", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (store_reader_stream(r, out, &err) < 0)
        fail_msg("%s", err.text);
    store_reader_close(r);
    lseek(out, 0, SEEK_SET);
    assert_int_equal(fd_read_all(out, &back, len, &err), 0);
    assert_int_equal(back.len, len);
    assert_memory_equal(back.data, data, len);
}

#define C STORE_CHUNK_BYTES

static void snapshots_share_what_they_have_in_common(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(8 * C, 1);
    const struct piece all = {0, 16 * C, 0, 8 * C};
    struct store_written one = publish(f, IDS[0], "default", data, &all, 1);
    assert_int_equal(one.chunks, 8);
    assert_int_equal(one.chunks_shared, 0);
    data[3 * C + 5] ^= 1;
    struct store_written two = publish(f, IDS[1], "default", data, &all, 1);
    assert_int_equal(two.chunks_shared, 7);
    assert_int_equal(two.shared_bytes, 7 * C);
    assert_true(two.stored_bytes < one.stored_bytes / 4);
    /* Equal chunks of one snapshot are stored once, too; another domain shares nothing. */
    const struct piece twice[] = {{0, 0, 0, C}, {0, C, 0, C}, {1, 0, 0, C}};
    assert_int_equal(publish(f, IDS[2], "other", data, twice, 3).chunks_shared, 2);
    expect_stream(f, IDS[1], data, 8 * C);
    data[3 * C + 5] ^= 1;
    expect_stream(f, IDS[0], data, 8 * C);
}

static void a_page_more_shifts_nothing(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(4 * C, 1);
    publish(f, IDS[0], "default", data, &(struct piece){0, 16 * C, 0, 4 * C}, 1);
    /* A page before it all, and one that is missing in the third chunk. */
    const struct piece pieces[] = {
        {0, 4096, 0, 4096}, {0, 16 * C, 0, 2 * C}, {0, 18 * C + 4096, 2 * C + 4096, 2 * C - 4096}};
    struct store_written w = publish(f, IDS[1], "default", data, pieces, 3);
    assert_int_equal(w.chunks, 5);
    assert_int_equal(w.chunks_shared, 3);
}

static void chunks_are_cut_by_address_and_space(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(C, 1);
    const struct piece pieces[] = {{0, C - 4096, 0, 8192}, /* over a border: two */
        {0, C + 8192, 8192, 4096},                         /* goes on in the second */
        {1, C + 12288, 12288, 4096},                       /* of another process */
        {1, C + 4096, 16384, 4096},                        /* backwards */
        {STORE_BULK_SPACE, C + 8192, 20480, 100}, {STORE_BULK_SPACE, C + 8292, 20580, 100}};
    struct store_written w = publish(f, IDS[0], "default", data, pieces, countof(pieces));
    static const uint32_t sizes[] = {4096, 8192, 4096, 4096, 200};
    struct error err = {0};
    struct store_reader *r = store_reader_open(f->store, IDS[0], NULL, &err);
    assert_non_null(r);
    assert_int_equal(w.chunks, countof(sizes));
    assert_int_equal(store_reader_chunk_count(r), countof(sizes));
    for (size_t i = 0; i < countof(sizes); i++)
        assert_int_equal(store_reader_chunk(r, i).bytes, sizes[i]);
    store_reader_close(r);
    expect_stream(f, IDS[0], data, 20680);
}

static void a_damaged_chunk_is_not_relied_on_but_replaced(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(2 * C, 1);
    const struct piece all = {0, 0, 0, 2 * C};
    struct error err = {0};
    publish(f, IDS[0], "default", data, &all, 1);
    struct store_reader *r = store_reader_open(f->store, IDS[0], NULL, &err);
    assert_non_null(r);
    CLEANUP_FREE char *path = xasprintf("%s/store/%s", f->path, store_reader_chunk_name(r, 1));
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(store_reader_read_chunk(r, 1, data, &err), -1);
    assert_int_equal(err.kind, ERROR_CORRUPT);
    assert_int_equal(publish(f, IDS[1], "default", data, &all, 1).chunks_shared, 1);
    expect_stream(f, IDS[0], data, 2 * C);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(store_reader_read_chunk(r, 1, data, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    store_reader_close(r);
}

static void a_shared_chunk_is_in_use_again(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(C, 1);
    const struct piece all = {0, 0, 0, C};
    struct error err = {0};
    struct stat about;
    publish(f, IDS[0], "default", data, &all, 1);
    struct store_reader *r = store_reader_open(f->store, IDS[0], NULL, &err);
    assert_non_null(r);
    CLEANUP_FREE char *path = xasprintf("%s/store/%s", f->path, store_reader_chunk_name(r, 0));
    store_reader_close(r);
    static const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
    publish(f, IDS[1], "default", data, &all, 1);
    assert_int_equal(stat(path, &about), 0);
    assert_true(about.st_mtim.tv_sec > 1000);
    assert_int_equal(about.st_mode & 07777, 0444);
}

static bool count_chunk(void *context, const char *name, uint64_t stored_bytes, int64_t mtime_ns)
{
    size_t *count = context;
    assert_true(strncmp(name, "chunks/", 7) == 0 && stored_bytes > 0 && mtime_ns > 0);
    return ++*count < 3;
}

static void chunks_are_listed(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(5 * C, 1);
    struct error err = {0};
    size_t count = 0;
    publish(f, IDS[0], "default", data, &(struct piece){0, 0, 0, 2 * C}, 1);
    assert_int_equal(store_chunks(f->store, count_chunk, &count, &err), 0);
    assert_int_equal(count, 2);
    publish(f, IDS[1], "default", data, &(struct piece){0, 0, 0, 5 * C}, 1);
    count = 0;
    assert_int_equal(store_chunks(f->store, count_chunk, &count, &err), 0);
    assert_int_equal(count, 3); /* stopped there */
}

static void publishes_at_the_same_time_share_and_stay_whole(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(40 * C, 1);
    pid_t pids[countof(IDS)];
    for (size_t i = 0; i < countof(IDS); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            publish(f, IDS[i], "default", data, &(struct piece){0, 0, 0, 40 * C}, 1);
            _exit(0);
        }
    }
    for (size_t i = 0; i < countof(IDS); i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    for (size_t i = 0; i < countof(IDS); i++)
        expect_stream(f, IDS[i], data, 40 * C);
}

static void a_writer_that_is_given_up_leaves_nothing(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(100 * C, 1);
    struct error err = {0};
    size_t count = 0;
    for (size_t chunks = 0; chunks <= 100; chunks += 25) {
        struct store_writer *w = store_writer_begin(f->store, IDS[0], "default", &err);
        assert_non_null(w);
        if (chunks > 0)
            assert_int_equal(store_writer_pages(w, 0, 0, data, chunks * C - 1, &err), 0);
        store_writer_abort(w);
    }
    assert_int_equal(store_chunks(f->store, count_chunk, &count, &err), 0);
    assert_int_equal(count, 0);
    CLEANUP_FREE char *path = xasprintf("%s/store/snapshots", f->path);
    assert_int_equal(rmdir(path), 0); /* which it is only when empty */
}

static void a_reader_works_without_the_master_key(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(C, 1);
    CLEANUP_FREE uint8_t *back = xcalloc(1, C);
    struct error err = {0};
    publish(f, IDS[0], "default", data, &(struct piece){0, 0, 0, C}, 1);
    struct store_reader *r = store_reader_open(f->store, IDS[0], NULL, &err);
    assert_non_null(r);
    store_close(steal_pointer(f->store));
    assert_int_equal(store_reader_read_chunk(r, 0, back, &err), 0);
    assert_memory_equal(back, data, C);
    store_reader_close(r);
}

/* A reader that is told the first `len` bytes. */
static struct store_reader *tell(
    struct store_fixture *f, const struct buffer *about, size_t len, int *result, struct error *err)
{
    struct store_reader *told = store_reader_new_untold(f->store, err);
    struct cursor c = cursor_over(about->data, len);
    assert_non_null(told);
    *result = store_reader_told(told, &c, err);
    if (*result == 0)
        *result = store_reader_told_chunks(told, &c, err);
    assert_true(*result < 0 || cursor_done(&c));
    return told;
}

static void another_store_can_be_told_of_a_reader(void **state)
{
    struct store_fixture *f = *state;
    CLEANUP_FREE uint8_t *data = make_pattern(C, 1);
    CLEANUP_FREE uint8_t *back = xcalloc(1, C);
    CLEANUP_BUFFER struct buffer about = {0};
    struct error err = {0};
    int result;
    publish(f, IDS[0], "default", data, &(struct piece){0, 0, 0, C}, 1);
    struct store_reader *r = store_reader_begin(f->store, IDS[0], &err);
    assert_non_null(r);
    store_reader_tell(r, &about); /* its manifest is not read yet */
    assert_int_equal(store_reader_load(r, NULL, &err), 0);
    store_reader_tell_chunks(r, &about);
    store_forget_master(f->store);
    struct store_reader *told = tell(f, &about, about.len, &result, &err);
    assert_int_equal(result, 0);
    assert_string_equal(store_reader_id(told), IDS[0]);
    assert_int_equal(store_reader_read_chunk(told, 0, back, &err), 0);
    assert_memory_equal(back, data, C);
    store_reader_close(told);
    for (size_t len = 0; len < about.len; len++) {
        told = tell(f, &about, len, &result, &err);
        assert_int_equal(result, -1);
        assert_int_equal(err.kind, ERROR_INTERNAL);
        store_reader_close(told);
    }
    store_reader_close(r);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_set_up, store_fixture_tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_come_back_under_every_codec),
        cmocka_unit_test(what_cannot_be_compressed_is_stored_plain),
        cmocka_unit_test(names_tell_contents_only_to_those_who_know_the_salt),
        cmocka_unit_test(the_same_chunk_is_never_sealed_the_same_way_twice),
        cmocka_unit_test(every_altered_chunk_is_refused),
        cmocka_unit_test(bad_recipes_are_refused),
        TEST(snapshots_share_what_they_have_in_common),
        TEST(a_page_more_shifts_nothing),
        TEST(chunks_are_cut_by_address_and_space),
        TEST(a_damaged_chunk_is_not_relied_on_but_replaced),
        TEST(a_shared_chunk_is_in_use_again),
        TEST(chunks_are_listed),
        TEST(publishes_at_the_same_time_share_and_stay_whole),
        TEST(a_writer_that_is_given_up_leaves_nothing),
        TEST(a_reader_works_without_the_master_key),
        TEST(another_store_can_be_told_of_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
