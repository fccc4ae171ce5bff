/* Functions and versions in the catalog: what is kept, in which order, what is refused, and that everything
 * acknowledged is there after the process was killed. */
#include "catalog/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static struct catalog *open_catalog(struct error *err)
{
    struct catalog_options options = {folder, "us-east-1", "000000000000"};
    return catalog_open(&options, err);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int setup(void **state)
{
    struct error err;
    strcpy(folder, "/tmp/test-catalog-XXXXXX");
    assert_non_null(mkdtemp(folder));
    *state = open_catalog(&err);
    return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    catalog_close(*state);
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static struct catalog_config config_named(const char *handler)
{
    struct catalog_config config = {.runtime = "python3.11",
        .handler = (char *)handler,
        .role = "arn:aws:iam::000000000000:role/any",
        .timeout_s = 3,
        .memory_mb = 128,
        .tmp_mb = 512,
        .architecture = "x86_64"};
    return config;
}

static struct catalog_code code_number(int n)
{
    struct catalog_code code = {.size = (uint64_t)(100 + n)};
    snprintf(code.id, sizeof code.id, "%064d", n);
    snprintf(code.sha256, sizeof code.sha256, "sha-%d", n);
    return code;
}

static void create(struct catalog *catalog, const char *name)
{
    struct error err;
    struct catalog_config config = config_named("app.handler");
    struct catalog_code code = code_number(1);
    if (catalog_create_function(catalog, name, &config, &code, NULL, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

static void keeps_everything_over_a_reopen(void **state)
{
    struct error err;
    struct catalog_config config = config_named("app.handler");
    catalog_map_set(&config.environment, "B", "zwei \"und\" \xc3\xa4");
    catalog_map_set(&config.environment, "A", "1");
    struct catalog_map tags = {0};
    catalog_map_set(&tags, "team", "blue");
    struct catalog_code code = code_number(7);
    CLEANUP_FUNCTION const struct catalog_function *made = NULL, *found = NULL;
    assert_int_equal(catalog_create_function(*state, "pets", &config, &code, &tags, &made, &err), 0);
    catalog_close(*state);
    *state = open_catalog(&err);
    assert_int_equal(catalog_get(*state, "pets", NULL, &found, &err), 0);
    assert_string_equal(found->name, "pets");
    assert_string_equal(found->version, "$LATEST");
    assert_string_equal(found->arn, "arn:aws:lambda:us-east-1:000000000000:function:pets");
    assert_string_equal(found->qualified_arn, "arn:aws:lambda:us-east-1:000000000000:function:pets:$LATEST");
    assert_string_equal(found->config.handler, "app.handler");
    assert_string_equal(found->config.description, "");
    assert_int_equal(found->config.memory_mb, 128);
    assert_string_equal(catalog_map_get(&found->config.environment, "B"), "zwei \"und\" \xc3\xa4");
    assert_int_equal(found->config.environment.count, 2);
    assert_string_equal(found->code.id, code.id);
    assert_int_equal(found->code.size, 107);
    assert_int_equal(found->state, CATALOG_ACTIVE);
    assert_string_equal(found->revision_id, made->revision_id);
    assert_int_equal(found->generation, made->generation);
    assert_int_equal(strlen(found->last_modified), 28);
    struct catalog_map kept = {0};
    assert_int_equal(catalog_tags(*state, "pets", &kept, &err), 0);
    assert_string_equal(catalog_map_get(&kept, "team"), "blue");
    catalog_map_free(&kept);
    catalog_map_free(&tags);
    catalog_map_free(&config.environment);
}

static void refuses_what_exists_and_what_does_not(void **state)
{
    struct error err;
    struct catalog_config config = config_named("h");
    struct catalog_code code = code_number(1);
    const struct catalog_function *f = NULL;
    create(*state, "pets");
    assert_int_equal(catalog_create_function(*state, "pets", &config, &code, NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_string_equal(err.text, "Function already exist: pets");
    assert_int_equal(catalog_get(*state, "dogs", "3", &f, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_string_equal(
        err.text, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:dogs:3");
    const char *const absent[] = {"1", "0", "01", "prod", "-1", "99999999999999999999", "1 "};
    for (size_t i = 0; i < countof(absent); i++)
        assert_int_equal(catalog_get(*state, "pets", absent[i], &f, &err), -1);
    assert_int_equal(catalog_delete(*state, "dogs", NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(catalog_delete(*state, "pets", "$LATEST", &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
}

static void publishes_only_what_changed(void **state)
{
    struct error err;
    bool is_new;
    create(*state, "pets");
    CLEANUP_FUNCTION const struct catalog_function *one = NULL, *again = NULL, *two = NULL, *latest = NULL;
    assert_int_equal(catalog_publish(*state, "pets", "first", NULL, &is_new, &one, &err), 0);
    assert_true(is_new);
    assert_string_equal(one->version, "1");
    assert_string_equal(one->config.description, "first");
    assert_int_equal(one->state, CATALOG_ACTIVE);
    assert_int_equal(catalog_publish(*state, "pets", "other words", NULL, &is_new, &again, &err), 0);
    assert_false(is_new);
    assert_ptr_equal(one, again);

    struct catalog_config config = config_named("app.other");
    config.snap_start = true;
    assert_int_equal(catalog_update_configuration(*state, "pets", &config, NULL, &latest, &err), 0);
    assert_true(latest->generation > one->generation);
    assert_int_equal(catalog_publish(*state, "pets", NULL, latest->revision_id, &is_new, &two, &err), 0);
    assert_true(is_new);
    assert_string_equal(two->version, "2");
    assert_int_equal(two->state, CATALOG_PENDING);
    assert_string_equal(two->state_reason_code, "Creating");
    assert_string_equal(one->config.handler, "app.handler");
    assert_int_equal(catalog_publish(*state, "pets", NULL, "another", &is_new, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
}

static void never_gives_a_version_number_twice(void **state)
{
    struct error err;
    bool is_new;
    create(*state, "pets");
    assert_int_equal(catalog_publish(*state, "pets", NULL, NULL, &is_new, NULL, &err), 0);
    assert_int_equal(catalog_delete(*state, "pets", "1", &err), 0);
    CLEANUP_FUNCTION const struct catalog_function *two = NULL;
    assert_int_equal(catalog_publish(*state, "pets", NULL, NULL, &is_new, &two, &err), 0);
    assert_string_equal(two->version, "2");
    uint64_t generation = two->generation;
    assert_int_equal(catalog_delete(*state, "pets", NULL, &err), 0);
    create(*state, "pets");
    CLEANUP_FUNCTION const struct catalog_function *reborn = NULL;
    assert_int_equal(catalog_get(*state, "pets", NULL, &reborn, &err), 0);
    assert_true(reborn->generation > generation);
}

static void failed_versions_are_published_anew(void **state)
{
    struct error err;
    bool is_new;
    create(*state, "pets");
    CLEANUP_FUNCTION const struct catalog_function *one = NULL, *two = NULL, *failed = NULL;
    assert_int_equal(catalog_publish(*state, "pets", NULL, NULL, &is_new, &one, &err), 0);
    assert_int_equal(
        catalog_set_state(*state, one, CATALOG_FAILED, "init raised", "FunctionError", &failed, &err), 0);
    assert_string_equal(failed->state_reason, "init raised");
    assert_int_equal(one->state, CATALOG_ACTIVE); /* who holds the old structure keeps it */
    assert_int_equal(catalog_publish(*state, "pets", NULL, NULL, &is_new, &two, &err), 0);
    assert_true(is_new);
}

static void snapshots_and_states_follow_their_generation(void **state)
{
    struct error err;
    bool is_new;
    struct catalog_config config = config_named("h");
    struct catalog_code code = code_number(1);
    config.snap_start = true;
    assert_int_equal(catalog_create_function(*state, "pets", &config, &code, NULL, NULL, &err), 0);
    CLEANUP_FUNCTION const struct catalog_function *one = NULL, *frozen = NULL, *latest = NULL, *f = NULL;
    assert_int_equal(catalog_publish(*state, "pets", NULL, NULL, &is_new, &one, &err), 0);
    const char *id = "0123456789abcdef0123456789abcdef";
    const struct catalog_snapshot snapshot = {.id = "0123456789abcdef0123456789abcdef"};
    assert_int_equal(catalog_set_snapshot(*state, one, &snapshot, &frozen, &err), 0);
    assert_int_equal(frozen->state, CATALOG_ACTIVE);
    assert_true(frozen->optimized);
    assert_string_equal(frozen->snapshot_id, id);
    assert_int_equal(frozen->generation, one->generation);
    assert_int_equal(catalog_get(*state, "pets", NULL, &latest, &err), 0);
    assert_int_equal(catalog_update_code(*state, "pets", &code, NULL, NULL, &f, &err), 0);
    assert_int_equal(catalog_set_state(*state, latest, CATALOG_FAILED, NULL, NULL, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(catalog_delete(*state, "pets", "1", &err), 0);
    assert_int_equal(catalog_set_snapshot(*state, one, &snapshot, NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void collect(void *context, const struct catalog_function *function)
{
    strcat(context, function->qualified_arn + strlen("arn:aws:lambda:us-east-1:000000000000:function:"));
    strcat(context, " ");
}

static void finds_pending_and_frozen_versions(void **state)
{
    struct error err;
    bool is_new;
    struct catalog_config config = config_named("h");
    struct catalog_code code = code_number(1);
    config.snap_start = true;
    CLEANUP_FUNCTION const struct catalog_function *one = NULL;
    assert_int_equal(catalog_create_function(*state, "a", &config, &code, NULL, NULL, &err), 0);
    assert_int_equal(catalog_create_function(*state, "b", &config, &code, NULL, NULL, &err), 0);
    assert_int_equal(catalog_publish(*state, "b", NULL, NULL, &is_new, NULL, &err), 0);
    assert_int_equal(catalog_publish(*state, "a", NULL, NULL, &is_new, &one, &err), 0);
    char found[256] = "";
    assert_int_equal(catalog_each_pending(*state, collect, found, &err), 0);
    assert_string_equal(found, "b:1 a:1 ");
    assert_int_equal(catalog_set_snapshot(*state, one,
                         &(struct catalog_snapshot){.id = "0123456789abcdef0123456789abcdef"}, NULL, &err),
        0);
    found[0] = '\0';
    assert_int_equal(catalog_each_pending(*state, collect, found, &err), 0);
    assert_string_equal(found, "b:1 ");
    found[0] = '\0';
    assert_int_equal(catalog_each_snapshot(*state, collect, found, &err), 0);
    assert_string_equal(found, "a:1 ");
}

static void expect_list(struct catalog *catalog, const char *name, bool all, const char *after,
    uint64_t after_number, size_t max, const char *expected, bool more)
{
    struct error err;
    struct catalog_list list;
    char found[256] = "";
    assert_int_equal(catalog_list(catalog, name, all, after, after_number, max, &list, &err), 0);
    for (size_t i = 0; i < list.count; i++)
        collect(found, list.items[i]);
    assert_string_equal(found, expected);
    assert_int_equal(list.more, more);
    catalog_list_free(&list);
}

static void lists_in_pages(void **state)
{
    struct error err;
    bool is_new;
    create(*state, "b");
    create(*state, "a");
    create(*state, "c");
    assert_int_equal(catalog_publish(*state, "b", NULL, NULL, &is_new, NULL, &err), 0);
    expect_list(*state, NULL, false, NULL, 0, 50, "a:$LATEST b:$LATEST c:$LATEST ", false);
    expect_list(*state, NULL, false, NULL, 0, 2, "a:$LATEST b:$LATEST ", true);
    expect_list(*state, NULL, false, "b", 0, 2, "c:$LATEST ", false);
    expect_list(*state, NULL, true, NULL, 0, 50, "a:$LATEST b:$LATEST b:1 c:$LATEST ", false);
    expect_list(*state, NULL, true, "b", 0, 1, "b:1 ", true);
    expect_list(*state, "b", true, NULL, 0, 1, "b:$LATEST ", true);
    expect_list(*state, "b", true, "b", 0, 1, "b:1 ", false);
    struct catalog_list list;
    assert_int_equal(catalog_list(*state, "d", true, NULL, 0, 1, &list, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void counts_use_and_code(void **state)
{
    struct error err;
    bool used, is_new;
    uint64_t bytes, functions;
    create(*state, "pets");
    assert_int_equal(catalog_publish(*state, "pets", NULL, NULL, &is_new, NULL, &err), 0);
    assert_int_equal(catalog_account_usage(*state, &bytes, &functions, &err), 0);
    assert_int_equal(bytes, 202);
    assert_int_equal(functions, 1);
    struct catalog_code old = code_number(1), code = code_number(2);
    assert_int_equal(catalog_update_code(*state, "pets", &code, "arm64", NULL, NULL, &err), 0);
    assert_int_equal(catalog_code_used(*state, old.id, &used, &err), 0);
    assert_true(used); /* by version 1 */
    assert_int_equal(catalog_delete(*state, "pets", "1", &err), 0);
    assert_int_equal(catalog_code_used(*state, old.id, &used, &err), 0);
    assert_false(used);
}

/* Creates functions f0, f1... and tells each name once the catalog has acknowledged it. */
static _Noreturn void create_until_killed(int tell)
{
    struct error err;
    struct catalog *catalog = open_catalog(&err);
    struct catalog_config config = config_named("h");
    struct catalog_code code = code_number(1);
    for (int i = 0; catalog != NULL; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d-%d", (int)getpid(), i);
        if (catalog_create_function(catalog, name, &config, &code, NULL, NULL, &err) != 0)
            break;
        if (write(tell, name, sizeof name) != sizeof name)
            break;
    }
    _exit(1);
}

static void keeps_all_acknowledged_after_kill(void **state)
{
    struct error err;
    catalog_close(*state);
    *state = NULL;
    for (int round = 0; round < 4; round++) {
        int tell[2];
        char name[32];
        assert_int_equal(pipe(tell), 0);
        pid_t child = fork();
        if (child == 0)
            create_until_killed(tell[1]);
        close(tell[1]);
        for (int i = 0; i < 5 + round; i++)
            assert_int_equal(read(tell[0], name, sizeof name), sizeof name);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        struct catalog *catalog = open_catalog(&err);
        assert_non_null(catalog);
        do {
            CLEANUP_FUNCTION const struct catalog_function *f = NULL;
            assert_int_equal(catalog_get(catalog, name, NULL, &f, &err), 0);
        } while (read(tell[0], name, sizeof name) == sizeof name);
        close(tell[0]);
        catalog_close(catalog);
    }
}

static void a_killed_transaction_never_was(void **state)
{
    struct error err;
    create(*state, "before");
    catalog_close(*state);
    *state = NULL;
    pid_t child = fork();
    if (child == 0) {
        struct catalog *catalog = open_catalog(&err);
        if (catalog == NULL || db_begin(catalog, &err) != 0 ||
            db_run(catalog, "DELETE FROM functions", &err, "") != 0)
            _exit(1);
        raise(SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    *state = open_catalog(&err);
    assert_non_null(*state);
    CLEANUP_FUNCTION const struct catalog_function *f = NULL;
    assert_int_equal(catalog_get(*state, "before", NULL, &f, &err), 0);
}

static void one_process_at_a_time(void **state)
{
    struct error err;
    create(*state, "pets"); /* the lock is taken */
    pid_t child = fork();
    if (child == 0) {
        struct error why = {0};
        _exit(open_catalog(&why) == NULL && why.kind == ERROR_BUSY ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    CLEANUP_FUNCTION const struct catalog_function *f = NULL;
    assert_int_equal(catalog_get(*state, "pets", NULL, &f, &err), 0);
}

static void damage_file(off_t at, const void *bytes, size_t len)
{
    char path[128];
    snprintf(path, sizeof path, "%s/catalog.sqlite", folder);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, at), len);
    close(fd);
}

static void expect_refused(enum error_kind kind)
{
    struct error err = {0};
    struct catalog *catalog = open_catalog(&err);
    assert_null(catalog);
    assert_int_equal(err.kind, kind);
    assert_non_null(strstr(err.text, "catalog.sqlite"));
}

static void names_damage_newer_schemas_and_foreign_files(void **state)
{
    create(*state, "pets");
    catalog_close(*state);
    *state = NULL;
    uint8_t newer[4] = {0, 0, 0, CATALOG_SCHEMA_VERSION + 1}, same[4] = {0, 0, 0, CATALOG_SCHEMA_VERSION};
    uint8_t none[4] = {0};
    damage_file(60, newer, 4); /* where SQLite keeps user_version */
    expect_refused(ERROR_UNSUPPORTED);
    damage_file(60, none, 4);
    expect_refused(ERROR_CORRUPT);
    damage_file(60, same, 4);
    char junk[8192];
    memset(junk, 0x5a, sizeof junk);
    damage_file(4096, junk, sizeof junk);
    expect_refused(ERROR_CORRUPT);
    damage_file(0, junk, 100);
    expect_refused(ERROR_CORRUPT);
}

static void says_when_it_cannot_write(void **state)
{
    struct error err;
    struct catalog *catalog = *state;
    create(catalog, "pets");
    sqlite3_exec(catalog->db, "PRAGMA max_page_count=1", NULL, NULL, NULL);
    struct catalog_config config = config_named("h");
    struct catalog_code code = code_number(1);
    int made = 0;
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        if (catalog_create_function(catalog, name, &config, &code, NULL, NULL, &err) != 0)
            break;
        made++;
    }
    assert_int_equal(err.kind, ERROR_SYSTEM);
    assert_non_null(strstr(err.text, "disk is full"));
    sqlite3_exec(catalog->db, "PRAGMA max_page_count=100000", NULL, NULL, NULL);
    uint64_t bytes, functions;
    assert_int_equal(catalog_account_usage(catalog, &bytes, &functions, &err), 0);
    assert_int_equal(functions, made + 1); /* nothing half done, nothing lost */
    sqlite3_exec(catalog->db, "PRAGMA query_only=1", NULL, NULL, NULL);
    assert_int_equal(catalog_delete(catalog, "pets", NULL, &err), -1);
    assert_int_equal(err.kind, ERROR_SYSTEM);
    CLEANUP_FUNCTION const struct catalog_function *f = NULL;
    assert_int_equal(catalog_get(catalog, "pets", NULL, &f, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_everything_over_a_reopen, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_exists_and_what_does_not, setup, teardown),
        cmocka_unit_test_setup_teardown(publishes_only_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(never_gives_a_version_number_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(failed_versions_are_published_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots_and_states_follow_their_generation, setup, teardown),
        cmocka_unit_test_setup_teardown(finds_pending_and_frozen_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_in_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(counts_use_and_code, setup, teardown),
        cmocka_unit_test_setup_teardown(keeps_all_acknowledged_after_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(a_killed_transaction_never_was, setup, teardown),
        cmocka_unit_test_setup_teardown(one_process_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(names_damage_newer_schemas_and_foreign_files, setup, teardown),
        cmocka_unit_test_setup_teardown(says_when_it_cannot_write, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
