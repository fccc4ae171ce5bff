#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/wire.h"

#include <stdlib.h>
#include <string.h>

static const char ID[] = "00112233445566778899aabbccddeeff";
static const char CODE[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char ARGV[] = "/usr/bin/python3.11\0/var/runtime/bootstrap.py";
static const char ENVIRONMENT[] = "A=1\0PATH=/usr/bin";

#define block_of(text) ((struct bytes){(const uint8_t *)text, sizeof text})

static struct wire_message make(enum wire_type type)
{
    struct wire_message m;
    memset(&m, 0, sizeof m);
    m.type = type;
    switch (type) {
    case WIRE_ENV_START:
        m.env_start = (struct wire_env_start){
            .env_id = 7, .mode = WIRE_COLD, .memory_mb = 512, .tmp_mb = 512, .fixed_layout = true};
        strcpy(m.env_start.code_id, CODE);
        m.env_start.argv = block_of(ARGV);
        m.env_start.env = block_of(ENVIRONMENT);
        break;
    case WIRE_ENV_STARTED:
        m.env_started.env_id = 7;
        m.env_started.shared_memory_bytes = 1u << 20;
        m.env_started.tell_served = true;
        for (unsigned i = 0; i < WIRE_STAMP_COUNT; i++)
            m.env_started.stamp_ns[i] = 1000000007ull * i;
        error_set(&m.env_started.error, ERROR_CORRUPT, "it is damaged");
        break;
    case WIRE_ENV_FREEZE:
        m.env_freeze.env_id = 9;
        strcpy(m.env_freeze.snapshot_id, ID);
        strcpy(m.env_freeze.domain, "team-7_x.eu");
        m.env_freeze.replay_count = 2;
        m.env_freeze.replays[0] = (struct wire_replay){40001, {(const uint8_t *)"GET /", 5}};
        m.env_freeze.replays[1] = (struct wire_replay){40002, {(const uint8_t *)"", 0}};
        break;
    case WIRE_ENV_FROZEN:
        m.env_frozen = (struct wire_env_frozen){.env_id = 9,
            .memory_bytes = 5,
            .stored_bytes = 6,
            .files = {(const uint8_t *)"12 34 /bin/sh\n", 14}};
        strcpy(m.env_frozen.snapshot_id, ID);
        break;
    case WIRE_ENV_EXITED:
        m.env_exited = (struct wire_env_exited){
            .env_id = 9, .wait_status = 0x8b, .out_of_memory = true, .pages_lost = true};
        error_set(&m.env_exited.error, ERROR_CORRUPT, "it is damaged");
        break;
    case WIRE_SNAPSHOT_INSPECT:
        m.snapshot_inspect = (struct wire_snapshot_inspect){.request_id = 3, .plan = true};
        strcpy(m.snapshot_inspect.snapshot_id, ID);
        break;
    case WIRE_SNAPSHOT_INSPECTED:
        m.snapshot_inspected.request_id = 3;
        break;
    case WIRE_ENV_KILL:
    case WIRE_ENV_SERVED:
        m.env_id = 11;
        break;
    case WIRE_STATUS:
        m.request_id = 12;
        break;
    case WIRE_STATUS_TOLD:
        m.status_told = (struct wire_status_told){.request_id = 12, .templates = 2, .bytes = 5, .hits = 9};
        break;
    case WIRE_STORE_RUN:
        m.store_run = (struct wire_store_run){.request_id = 13, .verb = WIRE_STORE_VERIFY, .repair = true};
        break;
    case WIRE_STORE_RUNNING:
        m.store_running.request_id = 13;
        error_set(&m.store_running.error, ERROR_BUSY, "it runs already");
        break;
    case WIRE_FRONT_READY:
    case WIRE_TYPE_COUNT:
        break;
    default:
        strcpy(m.snapshot_id, ID);
    }
    return m;
}

static void encode(struct buffer *out, enum wire_type type)
{
    struct wire_message m = make(type);
    wire_encode(out, &m);
}

static void every_message_comes_back(void **state)
{
    (void)state;
    for (enum wire_type type = WIRE_ENV_START; type < WIRE_TYPE_COUNT; type++) {
        CLEANUP_BUFFER struct buffer b = {0};
        CLEANUP_BUFFER struct buffer again = {0};
        struct wire_message back;
        struct error err = {0};
        encode(&b, type);
        if (wire_decode(&back, (struct bytes){b.data, b.len}, &err) < 0)
            fail_msg("type %d: %s", type, err.text);
        assert_int_equal(back.type, type);
        wire_encode(&again, &back);
        assert_int_equal(again.len, b.len);
        assert_memory_equal(again.data, b.data, b.len);
    }
}

static void fields_come_back(void **state)
{
    (void)state;
    CLEANUP_BUFFER struct buffer b = {0};
    struct wire_message back;
    struct error err = {0};
    encode(&b, WIRE_ENV_START);
    assert_int_equal(wire_decode(&back, (struct bytes){b.data, b.len}, &err), 0);
    assert_int_equal(back.env_start.env_id, 7);
    assert_string_equal(back.env_start.code_id, CODE);
    assert_string_equal(back.env_start.snapshot_id, "");
    assert_int_equal(back.env_start.argv.len, sizeof ARGV);
    assert_memory_equal(back.env_start.argv.data, ARGV, sizeof ARGV);
    b.len = 0;
    encode(&b, WIRE_ENV_STARTED);
    assert_int_equal(wire_decode(&back, (struct bytes){b.data, b.len}, &err), 0);
    assert_int_equal(back.env_started.error.kind, ERROR_CORRUPT);
    assert_string_equal(back.env_started.error.text, "it is damaged");
}

static void short_and_long_messages_are_refused(void **state)
{
    (void)state;
    for (enum wire_type type = WIRE_ENV_START; type < WIRE_TYPE_COUNT; type++) {
        CLEANUP_BUFFER struct buffer b = {0};
        struct wire_message back;
        struct error err = {0};
        encode(&b, type);
        for (size_t len = 0; len < b.len; len++) {
            /* A copy of just that length, so that a checker of memory sees a read beyond it. */
            CLEANUP_FREE uint8_t *part = xrealloc(NULL, len + (len == 0));
            memcpy(part, b.data, len);
            assert_int_equal(wire_decode(&back, (struct bytes){part, len}, &err), -1);
            assert_int_equal(err.kind, ERROR_INVALID);
        }
        buffer_append_u8(&b, 0);
        assert_int_equal(wire_decode(&back, (struct bytes){b.data, b.len}, &err), -1);
    }
}

static void expect_refused(const struct wire_message *m, const char *why)
{
    CLEANUP_BUFFER struct buffer b = {0};
    struct wire_message back;
    struct error err = {0};
    wire_encode(&b, m);
    assert_int_equal(wire_decode(&back, (struct bytes){b.data, b.len}, &err), -1);
    if (strstr(err.text, why) == NULL)
        fail_msg("expected \"%s\", got \"%s\"", why, err.text);
}

static void values_beyond_the_limits_are_refused(void **state)
{
    (void)state;
    struct wire_message m = make(WIRE_ENV_START);
    m.env_start.memory_mb = 127;
    expect_refused(&m, "memory size");
    m = make(WIRE_ENV_START);
    m.env_start.tmp_mb = 10241;
    expect_refused(&m, "/tmp size");
    m = make(WIRE_ENV_START);
    m.env_start.code_id[3] = '/';
    expect_refused(&m, "code id");
    m = make(WIRE_ENV_START);
    m.env_start.mode = WIRE_THAW; /* needs a snapshot id */
    expect_refused(&m, "snapshot id");
    m = make(WIRE_ENV_START);
    m.env_start.argv.len -= 1; /* no NUL at its end */
    expect_refused(&m, "argument list");
    m = make(WIRE_ENV_START);
    m.env_start.argv = block_of("relative");
    expect_refused(&m, "path of the program");
    m = make(WIRE_ENV_START);
    m.env_start.env_id = 0;
    expect_refused(&m, "environment id");
    m = make(WIRE_ENV_FREEZE);
    static const uint8_t long_request[WIRE_REPLAY_BYTES + 1];
    m.env_freeze.replays[0].request = (struct bytes){long_request, sizeof long_request};
    expect_refused(&m, "length of a request");
    static const char *const domains[] = {"", ".", "../x", "a/b", "a b"};
    for (size_t i = 0; i < countof(domains); i++) {
        m = make(WIRE_ENV_FREEZE);
        strcpy(m.env_freeze.domain, domains[i]);
        expect_refused(&m, "trust domain");
    }
    m = make(WIRE_TEMPLATE_DROP);
    m.snapshot_id[31] = 'X';
    expect_refused(&m, "snapshot id");
}

/* Whatever the bytes: no crash, no read out of bounds, and what is accepted is within the limits. */
static void random_mutations_are_survived(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 200000; round++) {
        CLEANUP_BUFFER struct buffer b = {0};
        struct wire_message back;
        struct error err = {0};
        encode(&b, (enum wire_type)(1 + rand() % (WIRE_TYPE_COUNT - 1)));
        for (int i = rand() % 4; i >= 0; i--)
            b.data[(size_t)rand() % b.len] = (uint8_t)(rand() % 3 == 0 ? 255 : rand());
        if (wire_decode(&back, (struct bytes){b.data, b.len}, &err) < 0) {
            assert_int_equal(err.kind, ERROR_INVALID);
            continue;
        }
        if (back.type == WIRE_ENV_FREEZE)
            assert_true(back.env_freeze.replay_count <= WIRE_REPLAY_MAX);
        CLEANUP_BUFFER struct buffer again = {0};
        wire_encode(&again, &back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back),
        cmocka_unit_test(fields_come_back),
        cmocka_unit_test(short_and_long_messages_are_refused),
        cmocka_unit_test(values_beyond_the_limits_are_refused),
        cmocka_unit_test(random_mutations_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
