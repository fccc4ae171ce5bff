#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "store/keyring_rotate.h"
#include "store_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
static const char ID[] = "00112233445566778899aabbccddeeff";
static const uint8_t DATA_KEY[SEAL_KEY_BYTES] = "what is wrapped, 32 bytes long.";

struct fixture {
    char path[STORE_FOLDER_PATH];
    int data, store;
    struct master_source file;
};

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->data = store_folder_make(f->path);
    assert_int_equal(mkdirat(f->data, "store", 0700), 0);
    assert_int_equal(mkdirat(f->data, "store/domains", 0700), 0);
    assert_int_equal(mkdirat(f->data, "store/snapshots", 0700), 0);
    f->store = openat(f->data, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(master_source_parse(&f->file, NULL, NULL), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    master_source_free(&f->file);
    close(f->store);
    int result = store_folder_remove(f->path, f->data);
    free(f);
    return result;
}

static void expect_key(const uint8_t key[MASTER_KEY_BYTES])
{
    for (int i = 0; i < MASTER_KEY_BYTES; i++)
        assert_int_equal(key[i], i);
}

static void expect_text(const struct error *err, enum error_kind kind, const char *text)
{
    assert_int_equal(err->kind, kind);
    if (strstr(err->text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err->text, text);
}

static void keys_are_hex_or_base64(void **state)
{
    (void)state;
    uint8_t key[MASTER_KEY_BYTES];
    static const char *const good[] = {HEX, HEX "\n", BASE64, BASE64 " \r\n",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"};
    static const char *const bad[] = {"", "x", " " HEX, HEX "0", HEX HEX,
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", /* bits beyond the key */
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8A", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh-="};
    for (size_t i = 0; i < countof(good); i++) {
        assert_true(master_parse_key(good[i], strlen(good[i]), key));
        expect_key(key);
    }
    for (size_t i = 0; i < countof(bad); i++)
        if (master_parse_key(bad[i], strlen(bad[i]), key))
            fail_msg("\"%s\" was taken", bad[i]);
}

static void a_variable_is_taken_and_overwritten(void **state)
{
    struct fixture *f = *state;
    struct master_source source;
    struct error err = {0};
    uint8_t key[MASTER_KEY_BYTES];
    static char variable[] = "THAW_TEST_KEY=" HEX;
    assert_int_equal(putenv(variable), 0);
    assert_int_equal(master_source_parse(&source, "env:THAW_TEST_KEY", &err), 0);
    assert_null(getenv("THAW_TEST_KEY"));
    for (size_t i = strlen("THAW_TEST_KEY="); i < sizeof variable; i++)
        assert_int_equal(variable[i], 0);
    assert_int_equal(master_source_load(&source, f->data, true, key, &err), 0);
    expect_key(key);
    master_source_free(&source);
    assert_int_equal(master_source_parse(&source, "env:THAW_TEST_KEY", &err), -1);
    expect_text(&err, ERROR_NOT_FOUND, "THAW_TEST_KEY");
    master_source_free(&source);
    setenv("THAW_TEST_KEY", "too short to be one", 1);
    assert_int_equal(master_source_parse(&source, "env:THAW_TEST_KEY", &err), -1);
    expect_text(&err, ERROR_INVALID, "64 hex digits");
    assert_null(strstr(err.text, "too short"));
    assert_null(getenv("THAW_TEST_KEY"));
    master_source_free(&source);
}

static int run(const struct fixture *f, const char *text, uint8_t key[MASTER_KEY_BYTES], struct error *err)
{
    struct master_source source;
    int result = master_source_parse(&source, text, err);
    if (result == 0)
        result = master_source_load(&source, f->data, false, key, err);
    master_source_free(&source);
    return result;
}

static const char *script(const struct fixture *f, const char *body)
{
    static char text[128];
    char path[96];
    snprintf(path, sizeof path, "%s/script", f->path);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fprintf(out, "#!/bin/sh\n%s\n", body);
    fclose(out);
    assert_int_equal(chmod(path, 0700), 0);
    snprintf(text, sizeof text, "command:%s one two", path);
    return text;
}

static void a_command_prints_the_key(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    uint8_t key[MASTER_KEY_BYTES];
    assert_int_equal(run(f, script(f, "[ \"$1$2\" = onetwo ] && echo " BASE64), key, &err), 0);
    expect_key(key);
    assert_int_equal(run(f, "command:/bin/echo " HEX, key, &err), 0);
    expect_key(key);
    /* No shell: this is one word. */
    assert_int_equal(run(f, "command:/bin/echo $HOME;" HEX, key, &err), -1);
    expect_text(&err, ERROR_INVALID, "no master key");
}

static void a_command_that_fails_is_a_clear_error(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body, *says;
    } bad[] = {{"exit 3", "status 3"}, {"kill -9 $$", "signal 9"}, {"echo hello", "no master key"},
        {"echo " HEX "; exit 1", "status 1"}, {"head -c 1000000 /dev/zero", "more than 256 bytes"},
        {"cat", "no master key"} /* its input is empty */};
    uint8_t key[MASTER_KEY_BYTES];
    for (size_t i = 0; i < countof(bad); i++) {
        struct error err = {0};
        assert_int_equal(run(f, script(f, bad[i].body), key, &err), -1);
        expect_text(&err, ERROR_INVALID, bad[i].says);
        assert_null(strstr(err.text, "0001020304"));
    }
    struct error err = {0};
    assert_int_equal(run(f, "command:/nonexistent/program", key, &err), -1);
    expect_text(&err, ERROR_SYSTEM, "/nonexistent/program");
    assert_int_equal(run(f, "command:echo " HEX, key, &err), -1);
    expect_text(&err, ERROR_INVALID, "absolute path");
    static const char *const nonsense[] = {"", "file:", "env:", "command:", "/etc/key", "kms:x"};
    for (size_t i = 0; i < countof(nonsense); i++) {
        assert_int_equal(run(f, nonsense[i], key, &err), -1);
        expect_text(&err, ERROR_INVALID, "file:PATH, env:NAME or command:PROGRAM");
    }
}

/* ---- rotation ---- */

static struct keyring *open_ring(
    const struct fixture *f, const struct master_source *current, const struct master_source *older)
{
    const struct keyring_sources sources = {.current = current, .older = older};
    struct error err = {0};
    struct keyring *ring = keyring_open(f->data, f->store, &sources, true, &err);
    if (ring == NULL)
        fail_msg("%s", err.text);
    return ring;
}

static void expect_unopened(
    const struct fixture *f, const struct master_source *current, enum error_kind kind, const char *text)
{
    const struct keyring_sources sources = {.current = current};
    struct error err = {0};
    assert_null(keyring_open(f->data, f->store, &sources, false, &err));
    expect_text(&err, kind, text);
}

/* Two snapshots, one of them being written, and a domain; both are of DATA_KEY, the salt is told. */
static void fill(const struct fixture *f, struct keyring *ring, uint8_t salt[SEAL_KEY_BYTES])
{
    char folder[64];
    for (int i = 0; i < 2; i++) {
        snprintf(folder, sizeof folder, "store/snapshots/%s%s", ID, i == 0 ? "" : ".tmp");
        assert_int_equal(mkdirat(f->data, folder, 0700), 0);
        CLEANUP_FD int fd = openat(f->data, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(keyring_create_file(ring, fd, "key", KEYRING_SNAPSHOT, ID, DATA_KEY, NULL), 0);
    }
    CLEANUP_FD int domains = openat(f->store, "domains", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(keyring_domain_salt(ring, domains, "default", salt, NULL), 0);
}

static void expect_readable(
    const struct fixture *f, struct keyring *ring, const uint8_t salt[SEAL_KEY_BYTES], bool anew)
{
    static const char *const files[] = {"snapshots/00112233445566778899aabbccddeeff/key",
        "snapshots/00112233445566778899aabbccddeeff.tmp/key"};
    uint8_t key[SEAL_KEY_BYTES], wrapped[KEYRING_FILE_BYTES];
    struct error err = {0};
    bool with_older;
    for (size_t i = 0; i < countof(files); i++) {
        CLEANUP_FD int fd = openat(f->store, files[i], O_RDONLY | O_CLOEXEC);
        assert_int_equal(read(fd, wrapped, sizeof wrapped), sizeof wrapped);
        if (keyring_unwrap(ring, KEYRING_SNAPSHOT, ID, wrapped, sizeof wrapped, key, &with_older, &err) < 0)
            fail_msg("%s: %s", files[i], err.text);
        assert_memory_equal(key, DATA_KEY, sizeof key);
        assert_int_equal(with_older, !anew);
    }
    CLEANUP_FD int fd = openat(f->store, "domains/default", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, wrapped, sizeof wrapped), sizeof wrapped);
    assert_int_equal(
        keyring_unwrap(ring, KEYRING_DOMAIN, "default", wrapped, sizeof wrapped, key, &with_older, &err), 0);
    assert_memory_equal(key, salt, sizeof key);
    assert_int_equal(with_older, !anew);
}

static int count_rewrapped(void *context, const char *path, struct error *err)
{
    (void)err;
    assert_true(strcmp(path, "domains/default") == 0 ||
                strcmp(path, "snapshots/00112233445566778899aabbccddeeff/key") == 0);
    ++*(int *)context;
    return 0;
}

static bool exists(const struct fixture *f, const char *path)
{
    return faccessat(f->data, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void finish_rotation(const struct fixture *f, struct keyring *ring)
{
    struct error err = {0};
    int rewrapped = 0;
    assert_int_equal(keyring_sweep(ring, f->store, count_rewrapped, &rewrapped, &err), 0);
    assert_int_equal(rewrapped, 3);
    assert_int_equal(keyring_progress(ring)->total, 3);
    assert_int_equal(keyring_progress(ring)->done, 3);
    assert_int_equal(keyring_finish(ring, f->store, &err), 0);
    assert_false(keyring_has_older(ring));
    assert_false(exists(f, "store/older-key"));
    assert_false(exists(f, "thaw.key.next"));
}

static void a_file_is_rotated(void **state)
{
    struct fixture *f = *state;
    uint8_t salt[SEAL_KEY_BYTES], before[SEAL_KEY_BYTES], after[SEAL_KEY_BYTES];
    struct error err = {0};
    struct keyring *ring = open_ring(f, &f->file, NULL);
    fill(f, ring, salt);
    assert_int_equal(master_source_load(&f->file, f->data, false, before, &err), 0);
    assert_int_equal(keyring_prepare(ring, f->data, &f->file, &err), 0);
    assert_int_equal(keyring_begin(ring, f->data, f->store, &f->file, &err), 0);
    assert_int_equal(keyring_prepare(ring, f->data, &f->file, &err), -1);
    expect_text(&err, ERROR_CONFLICT, "not finished");
    expect_readable(f, ring, salt, false);
    finish_rotation(f, ring);
    expect_readable(f, ring, salt, true);
    assert_int_equal(master_source_load(&f->file, f->data, false, after, &err), 0);
    assert_memory_not_equal(before, after, sizeof before);
    keyring_free(ring);
    ring = open_ring(f, &f->file, NULL);
    expect_readable(f, ring, salt, true);
    keyring_free(ring);
}

/* The daemon ends at each of the four places where a rotation may be cut: what is there is started from. */
static void a_rotation_that_was_cut_goes_on(void **state)
{
    struct fixture *f = *state;
    uint8_t salt[SEAL_KEY_BYTES];
    struct error err = {0};
    struct keyring *ring = open_ring(f, &f->file, NULL);
    fill(f, ring, salt);
    /* Prepared only: as if nothing had been. */
    assert_int_equal(keyring_prepare(ring, f->data, &f->file, &err), 0);
    assert_true(exists(f, "thaw.key.next"));
    keyring_free(ring);
    ring = open_ring(f, &f->file, NULL);
    assert_false(exists(f, "thaw.key.next"));
    assert_false(keyring_has_older(ring));
    expect_readable(f, ring, salt, true);
    /* older-key is there, but not yet the new key in its place. */
    assert_int_equal(keyring_prepare(ring, f->data, &f->file, &err), 0);
    assert_int_equal(linkat(f->data, "thaw.key.next", f->data, "next", 0), 0);
    assert_int_equal(linkat(f->data, "thaw.key", f->data, "first", 0), 0);
    assert_int_equal(keyring_begin(ring, f->data, f->store, &f->file, &err), 0);
    assert_int_equal(renameat(f->data, "next", f->data, "thaw.key.next"), 0);
    assert_int_equal(renameat(f->data, "first", f->data, "thaw.key"), 0);
    keyring_free(ring);
    ring = open_ring(f, &f->file, NULL);
    assert_false(exists(f, "store/older-key"));
    expect_readable(f, ring, salt, true);
    /* Begun. */
    assert_int_equal(keyring_prepare(ring, f->data, &f->file, &err), 0);
    assert_int_equal(keyring_begin(ring, f->data, f->store, &f->file, &err), 0);
    keyring_free(ring);
    ring = open_ring(f, &f->file, NULL);
    assert_true(keyring_has_older(ring));
    expect_readable(f, ring, salt, false);
    finish_rotation(f, ring);
    keyring_free(ring);
    ring = open_ring(f, &f->file, NULL);
    assert_false(keyring_has_older(ring));
    expect_readable(f, ring, salt, true);
    keyring_free(ring);
}

static void another_source_takes_over(void **state)
{
    struct fixture *f = *state;
    struct master_source command, env;
    uint8_t salt[SEAL_KEY_BYTES];
    struct error err = {0};
    assert_int_equal(master_source_parse(&command, "command:/bin/echo " HEX, &err), 0);
    struct keyring *ring = open_ring(f, &f->file, NULL);
    fill(f, ring, salt);
    keyring_free(ring);
    expect_unopened(
        f, &command, ERROR_INVALID, "wrapped by another master key than the one from command:/bin/echo");
    ring = open_ring(f, &command, &f->file);
    expect_readable(f, ring, salt, false);
    keyring_free(ring); /* cut: and now without the old one */
    ring = open_ring(f, &command, NULL);
    assert_true(keyring_has_older(ring));
    finish_rotation(f, ring);
    assert_int_equal(keyring_prepare(ring, f->data, &command, &err), 0);
    assert_int_equal(keyring_begin(ring, f->data, f->store, &command, &err), -1);
    expect_text(&err, ERROR_INVALID, "the one in use");
    keyring_free(ring);
    setenv("THAW_TEST_KEY", HEX, 1);
    assert_int_equal(master_source_parse(&env, "env:THAW_TEST_KEY", &err), 0);
    ring = open_ring(f, &env, NULL);
    expect_readable(f, ring, salt, true);
    assert_int_equal(keyring_prepare(ring, f->data, &env, &err), -1);
    expect_text(&err, ERROR_UNSUPPORTED, "--old-master-key");
    keyring_free(ring);
    expect_unopened(f, &f->file, ERROR_INVALID, "another master key");
    master_source_free(&command);
    master_source_free(&env);
}

static void a_damaged_key_does_not_stop_a_rotation(void **state)
{
    struct fixture *f = *state;
    uint8_t salt[SEAL_KEY_BYTES];
    struct error err = {0};
    struct keyring *ring = open_ring(f, &f->file, NULL);
    fill(f, ring, salt);
    CLEANUP_FD int fd =
        openat(f->store, "snapshots/00112233445566778899aabbccddeeff/key", O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "xxxx", 4, 60), 4);
    assert_int_equal(keyring_prepare(ring, f->data, &f->file, &err), 0);
    assert_int_equal(keyring_begin(ring, f->data, f->store, &f->file, &err), 0);
    assert_int_equal(keyring_sweep(ring, f->store, NULL, NULL, &err), 0);
    assert_int_equal(keyring_progress(ring)->damaged, 1);
    assert_int_equal(keyring_progress(ring)->done, 2);
    keyring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_hex_or_base64),
        cmocka_unit_test_setup_teardown(a_variable_is_taken_and_overwritten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_command_prints_the_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_command_that_fails_is_a_clear_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_is_rotated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rotation_that_was_cut_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_source_takes_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_key_does_not_stop_a_rotation, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
