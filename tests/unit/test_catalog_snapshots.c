/* What the catalog keeps about snapshots and uses: written with the version's state, gone with the version, and
 * added to catalogs of the older schema. */
#include "catalog/internal.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define FIRST_ID "0123456789abcdef0123456789abcdef"
#define SECOND_ID "fedcba9876543210fedcba9876543210"

static char folder[64];

static struct catalog *open_catalog(void)
{
    struct error err;
    struct catalog *catalog =
        catalog_open(&(struct catalog_options){folder, "us-east-1", "000000000000"}, &err);
    if (catalog == NULL)
        fail_msg("%s", err.text);
    return catalog;
}

static int setup(void **state)
{
    strcpy(folder, "/tmp/test-catalog-XXXXXX");
    assert_non_null(mkdtemp(folder));
    *state = open_catalog();
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    catalog_close(*state);
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A published version of `name`, Pending. */
static const struct catalog_function *publish(struct catalog *catalog, const char *name)
{
    struct error err;
    bool is_new;
    const struct catalog_function *version = NULL;
    struct catalog_config config = {.runtime = "python3.11",
        .handler = "h",
        .timeout_s = 3,
        .memory_mb = 128,
        .tmp_mb = 512,
        .architecture = "x86_64",
        .snap_start = true};
    struct catalog_code code = {.id = "1", .sha256 = "sha", .size = 1};
    if (catalog_create_function(catalog, name, &config, &code, NULL, NULL, &err) != 0 ||
        catalog_publish(catalog, name, NULL, NULL, &is_new, &version, &err) != 0)
        fail_msg("%s", err.text);
    return version;
}

static struct catalog_snapshot snapshot_of(const char *id, uint64_t frozen_ms)
{
    struct catalog_snapshot snapshot = {.kernel = "6.1",
        .machine = "abc",
        .format = "3",
        .files = "12 34 /usr/bin/python3.11\n",
        .memory_bytes = 7,
        .stored_bytes = 8,
        .frozen_ms = frozen_ms};
    snprintf(snapshot.id, sizeof snapshot.id, "%s", id);
    return snapshot;
}

static struct catalog_snapshot_item only_item(struct catalog *catalog, struct catalog_snapshot_list *list)
{
    struct error err;
    assert_int_equal(catalog_list_snapshots(catalog, "", 0, 10, list, &err), 0);
    assert_int_equal(list->count, 1);
    return list->items[0];
}

static void a_snapshot_is_kept_with_its_stamp(void **state)
{
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *version = publish(*state, "pets"), *now = NULL;
    struct catalog_snapshot_list list;
    assert_string_equal(only_item(*state, &list).snapshot.id, "");
    catalog_snapshot_list_free(&list);
    struct catalog_snapshot first = snapshot_of(FIRST_ID, 1000), second = snapshot_of(SECOND_ID, 2000);
    assert_int_equal(catalog_set_snapshot(*state, version, &first, NULL, &err), 0);
    assert_int_equal(catalog_set_update(
                         *state, version, CATALOG_UPDATE_FAILED, "no database", "FunctionError", &now, &err),
        0);
    assert_int_equal(now->state, CATALOG_ACTIVE);
    assert_string_equal(now->snapshot_id, FIRST_ID);
    catalog_function_unref(&now);
    assert_int_equal(catalog_set_snapshot(*state, version, &second, &now, &err), 0);
    assert_int_equal(now->last_update, CATALOG_UPDATE_SUCCESSFUL);
    catalog_close(*state);
    *state = open_catalog();
    struct catalog_snapshot_item item = only_item(*state, &list);
    assert_string_equal(item.function->snapshot_id, SECOND_ID);
    assert_string_equal(item.snapshot.id, SECOND_ID);
    assert_string_equal(item.snapshot.kernel, "6.1");
    assert_string_equal(item.snapshot.machine, "abc");
    assert_string_equal(item.snapshot.format, "3");
    assert_string_equal(item.snapshot.files, "12 34 /usr/bin/python3.11\n");
    assert_int_equal(item.snapshot.memory_bytes, 7);
    assert_int_equal(item.snapshot.stored_bytes, 8);
    assert_int_equal(item.snapshot.frozen_ms, 2000);
    assert_int_equal(item.used_ms, 1000); /* freezing it anew is no use */
    catalog_snapshot_list_free(&list);
}

static void an_inactive_version_has_none(void **state)
{
    struct error err;
    CLEANUP_FUNCTION const struct catalog_function *version = publish(*state, "pets"), *now = NULL;
    struct catalog_snapshot snapshot = snapshot_of(FIRST_ID, 1000);
    struct catalog_snapshot_list list;
    assert_int_equal(catalog_set_snapshot(*state, version, &snapshot, NULL, &err), 0);
    assert_int_equal(catalog_set_inactive(*state, version, "It is idle.", "Idle", &now, &err), 0);
    assert_int_equal(now->state, CATALOG_INACTIVE);
    assert_string_equal(now->state_reason, "It is idle.");
    assert_string_equal(now->state_reason_code, "Idle");
    assert_string_equal(now->snapshot_id, "");
    assert_false(now->optimized);
    struct catalog_snapshot_item item = only_item(*state, &list);
    assert_string_equal(item.snapshot.id, "");
    assert_int_equal(item.used_ms, 1000);
    catalog_snapshot_list_free(&list);
    assert_int_equal(catalog_delete(*state, "pets", NULL, &err), 0);
    assert_int_equal(catalog_set_inactive(*state, version, NULL, NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static size_t count_unused(struct catalog *catalog, uint64_t before_ms, char *first_name)
{
    struct error err;
    struct catalog_list list;
    assert_int_equal(catalog_list_unused(catalog, before_ms, 10, &list, &err), 0);
    size_t count = list.count;
    if (count > 0)
        strcpy(first_name, list.items[0]->name);
    catalog_list_free(&list);
    return count;
}

static void knows_what_was_not_used_for_longest(void **state)
{
    struct error err;
    char name[LIMIT_FUNCTION_NAME + 1];
    CLEANUP_FUNCTION const struct catalog_function *a = publish(*state, "a"), *b = publish(*state, "b");
    struct catalog_snapshot snapshot = snapshot_of(FIRST_ID, 1000);
    assert_int_equal(catalog_set_snapshot(*state, a, &snapshot, NULL, &err), 0);
    assert_int_equal(catalog_set_snapshot(*state, b, &snapshot, NULL, &err), 0);
    const struct lasting_clock clock = {.lasting_ms = 6000, .wall_ms = 7, .boot_ms = 8, .boot_id = 9};
    const struct catalog_use uses[] = {{a, 5000}, {b, 3000}};
    assert_int_equal(catalog_uses_save(*state, &clock, uses, 2, &err), 0);
    catalog_close(*state);
    *state = open_catalog();
    struct lasting_clock kept;
    assert_int_equal(catalog_clock_read(*state, &kept, &err), 0);
    assert_memory_equal(&kept, &clock, sizeof clock);
    assert_int_equal(catalog_uses_begin(*state, 9000, &err), 0); /* they are known: nothing changes */
    assert_int_equal(count_unused(*state, 3000, name), 0);
    assert_int_equal(count_unused(*state, 3001, name), 1);
    assert_string_equal(name, "b");
    assert_int_equal(count_unused(*state, 5001, name), 2);
    assert_string_equal(name, "b");
    assert_int_equal(catalog_set_inactive(*state, b, NULL, NULL, NULL, &err), 0);
    assert_int_equal(count_unused(*state, 5001, name), 1);
    assert_string_equal(name, "a");
    /* A use of what was deleted meanwhile is no error, and comes to nothing. */
    assert_int_equal(catalog_delete(*state, "a", "1", &err), 0);
    assert_int_equal(catalog_uses_save(*state, &clock, uses, 1, &err), 0);
    assert_int_equal(count_unused(*state, 5001, name), 0);
}

static void postpones_events_that_were_never_tried(void **state)
{
    struct error err;
    bool found;
    uint64_t due_ms;
    CLEANUP_FUNCTION const struct catalog_function *version = publish(*state, "pets");
    struct catalog_event event = {.function_name = (char *)"pets",
        .qualifier = (char *)"1",
        .invoked_arn = (char *)"",
        .client_context = (char *)"",
        .trace_id = (char *)"",
        .enqueued_ms = 10,
        .not_before_ms = 10};
    assert_int_equal(catalog_event_enqueue(*state, &event, &err), 0);
    assert_int_equal(catalog_event_postpone(*state, "pets", "2", 50, &err), 0);
    assert_int_equal(catalog_event_next_due(*state, &due_ms, &found, &err), 0);
    assert_int_equal(due_ms, 10);
    assert_int_equal(catalog_event_postpone(*state, "pets", "1", 50, &err), 0);
    assert_int_equal(catalog_event_next_due(*state, &due_ms, &found, &err), 0);
    assert_int_equal(due_ms, 50);
    struct catalog_event claimed;
    assert_int_equal(catalog_event_claim(*state, 60, &claimed, &found, &err), 0);
    assert_true(found);
    assert_int_equal(catalog_event_retry(*state, claimed.id, 70, true, &err), 0);
    catalog_event_free(&claimed);
    assert_int_equal(catalog_event_postpone(*state, "pets", "1", 20, &err), 0); /* it waits for its retry */
    assert_int_equal(catalog_event_next_due(*state, &due_ms, &found, &err), 0);
    assert_int_equal(due_ms, 70);
}

static void adds_to_a_catalog_of_the_older_schema(void **state)
{
    struct error err;
    char name[LIMIT_FUNCTION_NAME + 1];
    struct catalog *catalog = *state;
    CLEANUP_FUNCTION const struct catalog_function *version = publish(catalog, "pets");
    struct catalog_snapshot snapshot = snapshot_of(FIRST_ID, 1000);
    assert_int_equal(catalog_set_snapshot(catalog, version, &snapshot, NULL, &err), 0);
    assert_int_equal(sqlite3_exec(catalog->db,
                         "DROP TABLE snapshots; DROP TABLE uses; PRAGMA user_version = 1;", NULL, NULL, NULL),
        SQLITE_OK);
    catalog_close(catalog);
    *state = open_catalog();
    struct catalog_snapshot_list list;
    struct catalog_snapshot_item item = only_item(*state, &list);
    assert_string_equal(item.function->snapshot_id, FIRST_ID);
    assert_string_equal(item.snapshot.id, "");
    catalog_snapshot_list_free(&list);
    assert_int_equal(catalog_uses_begin(*state, 4000, &err), 0);
    assert_int_equal(count_unused(*state, 4000, name), 0);
    assert_int_equal(count_unused(*state, 4001, name), 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_snapshot_is_kept_with_its_stamp),
        TEST(an_inactive_version_has_none),
        TEST(knows_what_was_not_used_for_longest),
        TEST(postpones_events_that_were_never_tried),
        TEST(adds_to_a_catalog_of_the_older_schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
