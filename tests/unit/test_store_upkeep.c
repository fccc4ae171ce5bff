/* Sizes, verification and collection of a store; and a collection beside publishes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "store/rotate.h"
#include "store/upkeep.h"
#include "store_folder.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK STORE_CHUNK_BYTES
#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define PUBLISHES 40 /* of the race */

/* Chunk `i` of a snapshot is a block of the byte blocks[i]. */

static struct store_writer *begin(struct store *store, const char *id, const char *blocks)
{
    struct error err = {0};
    CLEANUP_FREE uint8_t *data = xcalloc(1, BLOCK);
    struct store_writer *w = store_writer_begin(store, id, STORE_DEFAULT_DOMAIN, &err);
    if (w == NULL)
        fail_msg("%s", err.text);
    for (size_t i = 0; blocks[i] != '\0'; i++) {
        memset(data, blocks[i], BLOCK);
        if (store_writer_pages(w, 0, i * BLOCK, data, BLOCK, &err) < 0)
            fail_msg("%s", err.text);
    }
    return w;
}

static void commit(struct store_writer *w)
{
    struct error err = {0};
    if (store_writer_commit(w, "manifest", 8, NULL, &err) < 0)
        fail_msg("%s", err.text);
}

static void write_snapshot(struct store *store, const char *id, const char *blocks)
{
    commit(begin(store, id, blocks));
}

static void delete_snapshot(struct store *store, const char *id)
{
    struct error err = {0};
    if (store_delete(store, id, &err) < 0)
        fail_msg("%s", err.text);
}

static struct store_collected collect(struct store *store)
{
    struct store_collected c;
    struct error err = {0};
    if (store_collect(store, &c, &err) < 0)
        fail_msg("%s", err.text);
    return c;
}

struct told {
    size_t damaged, repaired;
    char file[128], id[STORE_ID_HEX + 1];
    enum error_kind kind;
    uint64_t done, total;
};

static void tell_damage(void *context, const struct store_damage *damage)
{
    struct told *told = context;
    told->damaged++;
    told->repaired += damage->repaired;
    told->kind = damage->reason->kind;
    assert_true(strlen(damage->reason->text) > 0);
    snprintf(told->file, sizeof told->file, "%s", damage->file);
    snprintf(told->id, sizeof told->id, "%s", damage->snapshot_id);
}

static void tell_progress(void *context, uint64_t done, uint64_t total)
{
    struct told *told = context;
    assert_true(done >= told->done && done <= total);
    told->done = done;
    told->total = total;
}

static struct told verify(struct store *store, bool repair)
{
    struct told told = {0};
    struct store_verified v;
    struct error err = {0};
    const struct store_verify_callbacks callbacks = {tell_damage, tell_progress, &told};
    if (store_verify(store, repair, &callbacks, &v, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(v.damaged, told.damaged);
    return told;
}

static void each_sizes(void *context, const struct store_snapshot_sizes *s)
{
    struct store_snapshot_sizes *kept = context;
    kept[s->id[0] == 'b'] = *s;
}

static void sizes_tell_what_is_shared(void **state)
{
    struct store_fixture *f = *state;
    struct store_totals t;
    struct store_snapshot_sizes s[2];
    struct error err = {0};
    write_snapshot(f->store, A, "xyzz");
    write_snapshot(f->store, B, "xw");
    assert_int_equal(store_measure(f->store, each_sizes, s, &t, &err), 0);
    assert_int_equal(t.snapshots, 2);
    assert_int_equal(t.logical_bytes, 6 * BLOCK);
    assert_int_equal(t.plain_bytes, 4 * BLOCK);
    assert_int_equal(t.chunks, 4);
    assert_int_equal(t.unreferenced_chunks, 0);
    assert_int_equal(s[0].logical_bytes, 4 * BLOCK);
    assert_int_equal(s[0].chunks, 3);
    assert_int_equal(s[1].chunks, 2);
    assert_true(s[0].shared_bytes > 0 && s[0].shared_bytes == s[1].shared_bytes);
    assert_int_equal(t.chunk_bytes, s[0].own_bytes + s[1].own_bytes + s[0].shared_bytes);
    assert_int_equal(t.stored_bytes, t.chunk_bytes + t.file_bytes);
    delete_snapshot(f->store, A);
    assert_int_equal(store_measure(f->store, each_sizes, s, &t, &err), 0);
    assert_int_equal(t.unreferenced_chunks, 2);
    assert_int_equal(t.unreferenced_bytes, s[0].own_bytes);
}

static void a_collection_takes_what_nobody_needs(void **state)
{
    struct store_fixture *f = *state;
    write_snapshot(f->store, A, "xyz");
    write_snapshot(f->store, B, "xw");
    assert_int_equal(collect(f->store).removed_chunks, 0);
    usleep(20000); /* mtimes are coarse */
    delete_snapshot(f->store, A);
    struct store_collected c = collect(f->store);
    assert_int_equal(c.removed_chunks, 2);
    assert_int_equal(c.kept_chunks, 2);
    assert_int_equal(verify(f->store, false).damaged, 0);
    assert_int_equal(collect(f->store).removed_chunks, 0);
}

static void a_running_publish_keeps_what_it_found(void **state)
{
    struct store_fixture *f = *state;
    write_snapshot(f->store, A, "xyz");
    usleep(20000);
    delete_snapshot(f->store, A);
    struct store_writer *w = begin(f->store, B, "xq");
    struct store_collected c = collect(f->store);
    assert_int_equal(c.removed_chunks, 0); /* its begin, and some slack for clocks */
    assert_true(c.young_chunks >= 3);
    commit(w);
    usleep(20000);
    c = collect(f->store);
    assert_int_equal(c.removed_chunks, 2);
    assert_int_equal(c.kept_chunks, 2);
    assert_int_equal(verify(f->store, false).damaged, 0);
}

static void nothing_goes_while_a_recipe_is_unreadable(void **state)
{
    struct store_fixture *f = *state;
    struct store_collected c;
    struct error err = {0};
    write_snapshot(f->store, A, "xyz");
    write_snapshot(f->store, B, "uvw");
    usleep(20000);
    delete_snapshot(f->store, A);
    int fd = openat(f->dir, "store/snapshots/" B "/manifest", O_WRONLY);
    assert_int_equal(pwrite(fd, "?", 1, 100), 1);
    close(fd);
    assert_int_equal(store_collect(f->store, &c, &err), -1);
    assert_int_equal(err.kind, ERROR_CORRUPT);
    assert_non_null(strstr(err.text, B));
    assert_int_equal(c.removed_chunks, 0);
    /* Without its key nobody can ever read it. */
    assert_int_equal(unlinkat(f->dir, "store/snapshots/" B "/key", 0), 0);
    assert_int_equal(collect(f->store).removed_chunks, 6);
}

static void find_chunk(const struct store_fixture *f, char path[256])
{
    char command[160];
    snprintf(command, sizeof command, "find %s/store/chunks -type f | sort | head -1", f->path);
    FILE *out = popen(command, "r");
    assert_non_null(fgets(path, 256, out));
    path[strcspn(path, "\n")] = '\0';
    pclose(out);
}

static void damage(const char *chunk)
{
    struct stat about;
    assert_int_equal(chmod(chunk, 0600), 0);
    int fd = open(chunk, O_WRONLY);
    assert_int_equal(fstat(fd, &about), 0);
    assert_int_equal(pwrite(fd, "????", 4, about.st_size - 4), 4);
    close(fd);
    assert_int_equal(chmod(chunk, 0444), 0);
}

static void verification_names_what_is_damaged(void **state)
{
    struct store_fixture *f = *state;
    char chunk[256];
    write_snapshot(f->store, A, "xyz");
    struct told told = verify(f->store, false);
    assert_int_equal(told.damaged, 0);
    assert_true(told.total > 0 && told.done == told.total);

    find_chunk(f, chunk);
    damage(chunk);
    told = verify(f->store, false);
    assert_int_equal(told.damaged, 1);
    assert_int_equal(told.kind, ERROR_CORRUPT);
    assert_string_equal(told.id, A);
    assert_non_null(strstr(chunk, told.file));

    assert_int_equal(unlink(chunk), 0);
    told = verify(f->store, false);
    assert_int_equal(told.damaged, 1);
    assert_int_equal(told.kind, ERROR_NOT_FOUND);

    int fd = openat(f->dir, "store/snapshots/" A "/key", O_WRONLY);
    assert_int_equal(ftruncate(fd, 10), 0);
    close(fd);
    assert_string_equal(verify(f->store, false).file, "key");
}

struct replacement {
    struct store_fixture *fixture;
    struct told told;
    int calls; /* of the second: the only chunk was read, and nothing was done about it */
};

static void tell_replaced(void *context, const struct store_damage *damage)
{
    struct replacement *r = context;
    tell_damage(&r->told, damage);
}

static void publish_meanwhile(void *context, uint64_t done, uint64_t total)
{
    struct replacement *r = context;
    assert_true(done <= total);
    if (++r->calls == 2)
        write_snapshot(r->fixture->store, B, "x");
}

/* A repair discards what is damaged, and nothing that a publish has put in its place. */
static void a_chunk_is_replaced_before_it_is_discarded(void **state)
{
    struct replacement r = {.fixture = *state};
    struct store *store = r.fixture->store;
    struct store_verified v;
    struct error err = {0};
    char chunk[256];
    const struct store_verify_callbacks callbacks = {tell_replaced, publish_meanwhile, &r};
    write_snapshot(store, A, "x");
    find_chunk(r.fixture, chunk);
    damage(chunk);
    assert_int_equal(store_verify(store, true, &callbacks, &v, &err), 0);
    assert_int_equal(r.calls, 2);
    assert_int_equal(r.told.damaged, 1);
    assert_int_equal(r.told.repaired, 1);
    assert_int_equal(verify(store, false).damaged, 0);
    damage(chunk); /* and now nobody comes */
    assert_int_equal(verify(store, true).repaired, 0);
    assert_int_equal(access(chunk, F_OK), -1);
}

static void a_domain_without_its_salt_gets_another(void **state)
{
    struct store_fixture *f = *state;
    write_snapshot(f->store, A, "xyz");
    int fd = openat(f->dir, "store/domains/" STORE_DEFAULT_DOMAIN, O_WRONLY);
    assert_int_equal(pwrite(fd, "????", 4, 60), 4);
    close(fd);
    struct told told = verify(f->store, false);
    assert_int_equal(told.damaged, 1);
    assert_string_equal(told.file, "domains/" STORE_DEFAULT_DOMAIN);
    assert_int_equal(verify(f->store, true).repaired, 1);
    assert_int_equal(verify(f->store, false).damaged, 0);
    write_snapshot(f->store, B, "xyz");
    assert_int_equal(verify(f->store, false).damaged, 0);
}

static void what_stands_in_for_a_hot_set_is_removed(void **state)
{
    static const char hot[] = "store/snapshots/" A "/hot";
    struct store_fixture *f = *state;
    write_snapshot(f->store, A, "xyz");
    assert_int_equal(mkdirat(f->dir, hot, 0700), 0);
    assert_int_equal(mkdirat(f->dir, "store/snapshots/" A "/hot/in", 0700), 0);
    assert_int_equal(mknodat(f->dir, "store/snapshots/" A "/hot/in/it", S_IFREG | 0600, 0), 0);
    assert_string_equal(verify(f->store, false).file, "hot");
    assert_int_equal(verify(f->store, true).repaired, 1);
    assert_int_equal(verify(f->store, false).damaged, 0);

    assert_int_equal(mknodat(f->dir, hot, S_IFIFO | 0600, 0), 0);
    assert_int_equal(verify(f->store, true).repaired, 1);
    assert_int_equal(symlinkat("key", f->dir, hot), 0);
    assert_int_equal(verify(f->store, true).repaired, 1);
    assert_int_equal(verify(f->store, false).damaged, 0);
}

/* Publishes that share chunks with snapshots which are just being deleted, in a process of their own as freezes are. */
static _Noreturn void publish_on_and_on(struct store *store)
{
    for (unsigned i = 0; i < PUBLISHES; i++) {
        char id[STORE_ID_HEX + 1], blocks[8];
        snprintf(id, sizeof id, "%032x", i);
        snprintf(blocks, sizeof blocks, "%c%c%c", 'a' + i % 3, 'p' + i % 5, 'A' + i % 20);
        write_snapshot(store, id, blocks);
        if (i > 0) {
            snprintf(id, sizeof id, "%032x", i - 1);
            delete_snapshot(store, id);
        }
        struct told told = verify(store, false);
        if (told.damaged > 0)
            fail_msg("publish %u: %s of %s", i, told.file, told.id);
    }
    _exit(0);
}

static long readdir_fails_after = -1;    /* so many entries; -1: it does not */
static const struct store_fixture *late; /* whose snapshot A, which is being deleted, gets a file late */

/* In the place of the C library's, for all that is linked into this program. */
struct dirent *readdir(DIR *folder)
{
    static struct dirent *(*real)(DIR *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "readdir64");
    if (readdir_fails_after != 0) {
        readdir_fails_after -= readdir_fails_after > 0;
        struct dirent *entry = real(folder);
        if (entry == NULL && late != NULL &&
            mknodat(late->dir, "store/snapshots/" A ".gone/hot", S_IFREG | 0600, 0) == 0)
            late = NULL;
        return entry;
    }
    readdir_fails_after = -1;
    errno = EIO;
    return NULL;
}

/* A snapshot that cannot be listed would look as if nobody needed its chunks. */
static void nothing_goes_when_a_folder_cannot_be_read(void **state)
{
    struct store_fixture *f = *state;
    struct store_collected c;
    size_t failures = 0;
    write_snapshot(f->store, A, "xyz");
    write_snapshot(f->store, B, "uvw");
    usleep(20000); /* no chunk is of this tick of the clock any more */
    for (long after = 0; after < 40; after++) {
        struct error err = {0};
        readdir_fails_after = after;
        failures += store_collect(f->store, &c, &err) < 0;
        readdir_fails_after = -1;
        assert_int_equal(c.removed_chunks, 0);
    }
    assert_true(failures > 4);
    assert_int_equal(verify(f->store, false).damaged, 0);
}

/* Whatever cannot be listed still needs the older key. */
static void a_rotation_is_not_over_when_a_folder_cannot_be_read(void **state)
{
    struct store_fixture *f = *state;
    struct error err = {0};
    size_t failures = 0;
    write_snapshot(f->store, A, "xyz");
    write_snapshot(f->store, B, "uvw");
    assert_int_equal(store_rotate_prepare(f->store, &err), 0);
    assert_int_equal(store_rotate_begin(f->store, &err), 0);
    for (long after = 0;; after++) {
        readdir_fails_after = after;
        int result = store_rotate_sweep(f->store, NULL, NULL, &err);
        bool failed = readdir_fails_after < 0;
        readdir_fails_after = -1;
        assert_int_equal(result, failed ? -1 : 0);
        failures += failed;
        if (!failed)
            break;
    }
    assert_true(failures > 4);
    assert_int_equal(store_rotate_finish(f->store, &err), 0);
    assert_int_equal(verify(f->store, false).damaged, 0);
}

static void another_key_is_noticed_or_nothing_begins(void **state)
{
    struct store_fixture *f = *state;
    write_snapshot(f->store, A, "xyz");
    store_close(steal_pointer(f->store));
    int fd = openat(f->dir, "thaw.key", O_WRONLY);
    assert_int_equal(write(fd, "another key of thirty-two bytes.", 32), 32);
    close(fd);
    for (long after = -1; after < 20; after++) {
        struct error err = {0};
        readdir_fails_after = after;
        assert_null(store_open(f->dir, &err));
        assert_int_not_equal(err.kind, ERROR_NONE);
        readdir_fails_after = -1;
    }
}

static void a_hot_set_comes_while_its_snapshot_is_deleted(void **state)
{
    struct store_fixture *f = *state;
    write_snapshot(f->store, A, "xyz");
    late = f;
    delete_snapshot(f->store, A);
    assert_null(late);
    assert_int_equal(faccessat(f->dir, "store/snapshots/" A ".gone", F_OK, 0), -1);
}

static void collections_beside_publishes(void **state)
{
    struct store_fixture *f = *state;
    pid_t pid = fork();
    if (pid == 0)
        publish_on_and_on(f->store);
    int status;
    uint64_t collections = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        collect(f->store);
        collections++;
    }
    assert_int_equal(status, 0);
    assert_true(collections > 0);
    usleep(20000);
    struct store_collected c = collect(f->store);
    assert_int_equal(c.kept_chunks, 3);
    assert_int_equal(collect(f->store).removed_chunks, 0);
    assert_int_equal(verify(f->store, false).damaged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            sizes_tell_what_is_shared, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_collection_takes_what_nobody_needs, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_running_publish_keeps_what_it_found, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            nothing_goes_while_a_recipe_is_unreadable, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            verification_names_what_is_damaged, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_domain_without_its_salt_gets_another, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            what_stands_in_for_a_hot_set_is_removed, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_chunk_is_replaced_before_it_is_discarded, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            nothing_goes_when_a_folder_cannot_be_read, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(a_rotation_is_not_over_when_a_folder_cannot_be_read,
            store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            another_key_is_noticed_or_nothing_begins, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            a_hot_set_comes_while_its_snapshot_is_deleted, store_fixture_set_up, store_fixture_tear_down),
        cmocka_unit_test_setup_teardown(
            collections_beside_publishes, store_fixture_set_up, store_fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
