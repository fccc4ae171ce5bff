/* The durable queue of Event invocations. */
#include "catalog/internal.h"

#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    struct catalog *catalog = open_catalog(&err);
    assert_non_null(catalog);
    struct catalog_config config = {.runtime = "python3.11", .handler = "a.b"};
    struct catalog_code code = {.size = 1};
    *state = catalog;
    return catalog_create_function(catalog, "pets", &config, &code, NULL, NULL, &err);
}

static int teardown(void **state)
{
    catalog_close(*state);
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int64_t enqueue(struct catalog *catalog, const char *payload, uint64_t not_before_ms)
{
    struct error err;
    struct catalog_event event = {.request_id = "11111111-2222-4333-8444-555555555555",
        .function_name = "pets",
        .qualifier = "$LATEST",
        .client_context = "{}",
        .enqueued_ms = 5,
        .not_before_ms = not_before_ms};
    buffer_append(&event.payload, payload, strlen(payload));
    if (catalog_event_enqueue(catalog, &event, &err) != 0)
        fail_msg("%s", err.text);
    buffer_free(&event.payload);
    return event.id;
}

static bool claim(struct catalog *catalog, uint64_t now_ms, struct catalog_event *event)
{
    struct error err;
    bool found;
    if (catalog_event_claim(catalog, now_ms, event, &found, &err) != 0)
        fail_msg("%s", err.text);
    return found;
}

static void claims_in_order_of_their_time(void **state)
{
    struct error err;
    struct catalog_event event;
    enqueue(*state, "late", 300);
    enqueue(*state, "first", 100);
    enqueue(*state, "second", 100);
    assert_false(claim(*state, 99, &event));
    uint64_t due;
    bool found;
    assert_int_equal(catalog_event_next_due(*state, &due, &found, &err), 0);
    assert_true(found);
    assert_int_equal(due, 100);
    assert_true(claim(*state, 200, &event));
    assert_memory_equal(event.payload.data, "first", 5);
    assert_int_equal(event.attempts, 1);
    assert_string_equal(event.function_name, "pets");
    assert_string_equal(event.qualifier, "$LATEST");
    assert_string_equal(event.client_context, "{}");
    assert_string_equal(event.trace_id, "");
    assert_string_equal(event.request_id, "11111111-2222-4333-8444-555555555555");
    int64_t first = event.id;
    catalog_event_free(&event);
    assert_true(claim(*state, 200, &event));
    assert_memory_equal(event.payload.data, "second", 6);
    catalog_event_free(&event);
    assert_false(claim(*state, 200, &event));
    assert_int_equal(catalog_event_retry(*state, first, 250, true, &err), 0);
    assert_true(claim(*state, 1000, &event));
    assert_int_equal(event.id, first);
    assert_int_equal(event.attempts, 2);
    catalog_event_free(&event);
    assert_int_equal(catalog_event_retry(*state, first, 250, false, &err), 0);
    assert_true(claim(*state, 1000, &event));
    assert_int_equal(event.attempts, 2); /* the throttled one did not count */
    catalog_event_free(&event);
    assert_int_equal(catalog_event_remove(*state, first, &err), 0);
    assert_int_equal(catalog_event_remove(*state, first, &err), 0);
    assert_int_equal(catalog_event_retry(*state, first, 250, true, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

static void claims_come_free_when_the_server_died(void **state)
{
    struct error err;
    catalog_close(*state);
    pid_t child = fork();
    if (child == 0) {
        struct catalog *catalog = open_catalog(&err);
        struct catalog_event event;
        enqueue(catalog, "once", 1);
        enqueue(catalog, "", 2);
        claim(catalog, 1, &event);
        raise(SIGKILL);
    }
    waitpid(child, NULL, 0);
    *state = open_catalog(&err);
    struct catalog_event event;
    assert_true(claim(*state, 1, &event));
    assert_memory_equal(event.payload.data, "once", 4);
    assert_int_equal(event.attempts, 2);
    catalog_event_free(&event);
    assert_true(claim(*state, 2, &event));
    assert_int_equal(event.payload.len, 0);
    catalog_event_free(&event);
}

static void go_with_their_function(void **state)
{
    struct error err;
    struct catalog_event event = {.function_name = "nobody", .qualifier = "$LATEST"};
    assert_int_equal(catalog_event_enqueue(*state, &event, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    enqueue(*state, "x", 1);
    assert_int_equal(catalog_delete(*state, "pets", NULL, &err), 0);
    assert_false(claim(*state, 100, &event));
    assert_int_equal(((struct catalog *)*state)->event_count, 0);
    assert_int_equal(((struct catalog *)*state)->event_bytes, 0);
}

static void keep_to_their_limit(void **state)
{
    struct error err;
    struct catalog *catalog = *state;
    struct catalog_event event = {.function_name = "pets", .qualifier = "$LATEST"};
    catalog->event_count = CATALOG_EVENT_LIMIT;
    assert_int_equal(catalog_event_enqueue(catalog, &event, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    catalog->event_count = 0;
    catalog->event_bytes = CATALOG_EVENT_BYTES_LIMIT;
    buffer_append(&event.payload, "1", 1);
    assert_int_equal(catalog_event_enqueue(catalog, &event, &err), -1);
    assert_int_equal(err.kind, ERROR_LIMIT);
    buffer_free(&event.payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(claims_in_order_of_their_time, setup, teardown),
        cmocka_unit_test_setup_teardown(claims_come_free_when_the_server_died, setup, teardown),
        cmocka_unit_test_setup_teardown(go_with_their_function, setup, teardown),
        cmocka_unit_test_setup_teardown(keep_to_their_limit, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
