#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fd.h"
#include "store/keyring.h"
#include "store_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char ID[] = "00112233445566778899aabbccddeeff";
static const char OTHER[] = "ffeeddccbbaa99887766554433221100";
static const uint8_t MASTER[SEAL_KEY_BYTES] = "the first master key, 32 bytes.";
static const uint8_t NEXT[SEAL_KEY_BYTES] = "another master key of 32 bytes.";
static const uint8_t DATA_KEY[SEAL_KEY_BYTES] = "what is wrapped, 32 bytes long.";

struct fixture {
    char path[STORE_FOLDER_PATH];
    int dir;
    struct keyring *ring;
};

static struct keyring *new_ring(int dir, const uint8_t *key, const uint8_t *older)
{
    struct error err = {0};
    struct keyring *ring = keyring_new(dir, key, older, &err);
    if (ring == NULL)
        fail_msg("%s", err.text);
    return ring;
}

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof *f);
    f->dir = store_folder_make(f->path);
    f->ring = new_ring(f->dir, MASTER, NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    keyring_free(f->ring);
    int result = store_folder_remove(f->path, f->dir);
    free(f);
    return result;
}

static void wrap(struct keyring *ring, uint8_t out[KEYRING_FILE_BYTES])
{
    struct error err = {0};
    if (keyring_wrap(ring, KEYRING_SNAPSHOT, ID, DATA_KEY, out, &err) < 0)
        fail_msg("%s", err.text);
}

static void expect_refused(const struct keyring *ring, enum keyring_kind kind, const char *name,
    const uint8_t *wrapped, size_t len, enum error_kind error, const char *text)
{
    static const uint8_t zeros[SEAL_KEY_BYTES];
    struct error err = {0};
    uint8_t key[SEAL_KEY_BYTES];
    memset(key, 0xaa, sizeof key);
    assert_int_equal(keyring_unwrap(ring, kind, name, wrapped, len, key, NULL, &err), -1);
    assert_int_equal(err.kind, error);
    assert_memory_equal(key, zeros, sizeof key);
    if (strstr(err.text, text) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static void comes_back_as_it_went_in(void **state)
{
    struct fixture *f = *state;
    uint8_t wrapped[KEYRING_FILE_BYTES], again[KEYRING_FILE_BYTES], key[SEAL_KEY_BYTES];
    wrap(f->ring, wrapped);
    wrap(f->ring, again);
    assert_memory_not_equal(wrapped + 32, again + 32, SEAL_NONCE_BYTES);
    assert_memory_not_equal(wrapped + 44, again + 44, SEAL_KEY_BYTES);
    bool with_older = true;
    assert_int_equal(
        keyring_unwrap(f->ring, KEYRING_SNAPSHOT, ID, again, sizeof again, key, &with_older, NULL), 0);
    assert_memory_equal(key, DATA_KEY, sizeof key);
    assert_false(with_older);
}

static void every_flipped_bit_is_told(void **state)
{
    struct fixture *f = *state;
    uint8_t wrapped[KEYRING_FILE_BYTES], key[SEAL_KEY_BYTES];
    wrap(f->ring, wrapped);
    for (size_t bit = 0; bit < sizeof wrapped * 8; bit++) {
        struct error err = {0};
        wrapped[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(
            keyring_unwrap(f->ring, KEYRING_SNAPSHOT, ID, wrapped, sizeof wrapped, key, NULL, &err), -1);
        assert_true(err.kind == ERROR_CORRUPT || (err.kind == ERROR_UNSUPPORTED && bit / 16 == 4));
        wrapped[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t len = 0; len < sizeof wrapped; len++)
        expect_refused(f->ring, KEYRING_SNAPSHOT, ID, wrapped, len, ERROR_CORRUPT, "");
    uint8_t longer[KEYRING_FILE_BYTES + 1] = {0};
    memcpy(longer, wrapped, sizeof wrapped);
    expect_refused(f->ring, KEYRING_SNAPSHOT, ID, longer, sizeof longer, ERROR_CORRUPT, "93 bytes long");
}

static void another_key_kind_or_name_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t wrapped[KEYRING_FILE_BYTES];
    wrap(f->ring, wrapped);
    expect_refused(
        f->ring, KEYRING_SNAPSHOT, OTHER, wrapped, sizeof wrapped, ERROR_CORRUPT, "the key of ffee");
    expect_refused(f->ring, KEYRING_DOMAIN, ID, wrapped, sizeof wrapped, ERROR_CORRUPT, "another kind");
    struct keyring *stranger = new_ring(f->dir, NEXT, NULL);
    expect_refused(
        stranger, KEYRING_SNAPSHOT, ID, wrapped, sizeof wrapped, ERROR_CORRUPT, "another master key");
    keyring_free(stranger);
}

static void a_rotation_keeps_everything_readable(void **state)
{
    struct fixture *f = *state;
    uint8_t key[SEAL_KEY_BYTES];
    struct error err = {0};
    bool rewrapped = false;
    assert_int_equal(keyring_create_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, DATA_KEY, &err), 0);
    assert_int_equal(keyring_create_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, DATA_KEY, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_int_equal(keyring_advance(f->ring, MASTER, &err), -1);
    assert_int_equal(err.kind, ERROR_INVALID);
    assert_int_equal(keyring_advance(f->ring, NEXT, &err), 0);
    assert_int_equal(keyring_advance(f->ring, MASTER, &err), -1);
    assert_int_equal(err.kind, ERROR_CONFLICT);
    assert_true(keyring_has_older(f->ring));
    assert_int_equal(keyring_read_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, key, &err), 0);
    assert_int_equal(keyring_rewrap_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, &rewrapped, &err), 0);
    assert_true(rewrapped);
    assert_int_equal(keyring_rewrap_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, &rewrapped, &err), 0);
    assert_false(rewrapped);
    keyring_drop_older(f->ring);
    assert_int_equal(keyring_read_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, key, &err), 0);
    assert_memory_equal(key, DATA_KEY, sizeof key);
    struct keyring *only_new = new_ring(f->dir, NEXT, NULL), *only_old = new_ring(f->dir, MASTER, NULL);
    assert_int_equal(keyring_read_file(only_new, f->dir, "key", KEYRING_SNAPSHOT, ID, key, &err), 0);
    assert_int_equal(keyring_read_file(only_old, f->dir, "key", KEYRING_SNAPSHOT, ID, key, &err), -1);
    assert_int_equal(err.kind, ERROR_CORRUPT);
    keyring_free(only_new);
    keyring_free(only_old);
}

static void wait_for(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* A child that was forked before the rotation wraps with the new key, and one that forgets the keys takes them from
 * nobody else. */
static void forked_children_follow(void **state)
{
    struct fixture *f = *state;
    int go[2];
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(go[1]);
        int ok = read(go[0], &byte, 1) == 0 &&
                 keyring_create_file(f->ring, f->dir, "late", KEYRING_SNAPSHOT, ID, DATA_KEY, NULL) == 0;
        keyring_free(f->ring);
        _exit(!ok);
    }
    struct error err = {0};
    assert_int_equal(keyring_advance(f->ring, NEXT, &err), 0);
    keyring_drop_older(f->ring);
    close(go[1]);
    wait_for(child);
    close(go[0]);
    uint8_t key[SEAL_KEY_BYTES];
    assert_int_equal(keyring_read_file(f->ring, f->dir, "late", KEYRING_SNAPSHOT, ID, key, &err), 0);
}

static void a_shredded_key_is_gone(void **state)
{
    struct fixture *f = *state;
    uint8_t key[SEAL_KEY_BYTES], left[KEYRING_FILE_BYTES];
    static const uint8_t zeros[KEYRING_FILE_BYTES];
    struct error err = {0};
    assert_int_equal(keyring_create_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, DATA_KEY, &err), 0);
    CLEANUP_FD int fd = openat(f->dir, "key", O_RDONLY | O_CLOEXEC);
    assert_int_equal(keyring_shred_file(f->ring, f->dir, "key", &err), 0);
    assert_int_equal(keyring_shred_file(f->ring, f->dir, "key", &err), 0);
    assert_int_equal(pread(fd, left, sizeof left, 0), sizeof left);
    assert_memory_equal(left, zeros, sizeof left);
    bool rewrapped;
    assert_int_equal(keyring_read_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, key, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
    assert_int_equal(keyring_rewrap_file(f->ring, f->dir, "key", KEYRING_SNAPSHOT, ID, &rewrapped, &err), -1);
    assert_int_equal(err.kind, ERROR_NOT_FOUND);
}

#define RACERS 8

static void racing_makers_of_a_domain_agree(void **state)
{
    struct fixture *f = *state;
    int out[2], go[2];
    assert_int_equal(pipe(out), 0);
    assert_int_equal(pipe(go), 0);
    pid_t children[RACERS];
    for (int i = 0; i < RACERS; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        uint8_t salt[SEAL_KEY_BYTES];
        char byte;
        close(go[1]);
        _exit(read(go[0], &byte, 1) != 0 || keyring_domain_salt(f->ring, f->dir, "default", salt, NULL) < 0 ||
              write(out[1], salt, sizeof salt) != sizeof salt);
    }
    close(go[0]);
    close(go[1]);
    uint8_t first[SEAL_KEY_BYTES], salt[SEAL_KEY_BYTES];
    for (int i = 0; i < RACERS; i++) {
        wait_for(children[i]);
        assert_int_equal(read(out[0], i == 0 ? first : salt, sizeof salt), sizeof salt);
        assert_true(i == 0 || memcmp(first, salt, sizeof salt) == 0);
    }
    close(out[0]);
    close(out[1]);
    assert_int_equal(keyring_domain_salt(f->ring, f->dir, "other", salt, NULL), 0);
    assert_memory_not_equal(first, salt, sizeof salt);
    /* One domain's file in another's place is damage: another salt is made, and kept. */
    uint8_t other[SEAL_KEY_BYTES], again[SEAL_KEY_BYTES];
    assert_int_equal(renameat(f->dir, "default", f->dir, "other"), 0);
    assert_int_equal(keyring_domain_salt(f->ring, f->dir, "other", other, NULL), 0);
    assert_memory_not_equal(other, first, sizeof other);
    assert_memory_not_equal(other, salt, sizeof other);
    assert_int_equal(keyring_domain_salt(f->ring, f->dir, "other", again, NULL), 0);
    assert_memory_equal(other, again, sizeof other);
    /* That of a stranger's master key is not ours to replace. */
    struct keyring *stranger = new_ring(f->dir, NEXT, NULL);
    struct error err = {0};
    assert_int_equal(keyring_domain_salt(stranger, f->dir, "other", again, &err), -1);
    assert_int_equal(err.kind, ERROR_CORRUPT);
    keyring_free(stranger);
}

static void domains_have_plain_names(void **state)
{
    (void)state;
    static const char *const good[] = {"default", "a", "team-7_x.eu", "9"};
    static const char *const bad[] = {"", ".", "..", ".x", "a/b", "a b", "Team", "\xc3\xa4"};
    for (size_t i = 0; i < countof(good); i++)
        assert_int_equal(keyring_check_domain(good[i], NULL), 0);
    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(keyring_check_domain(bad[i], NULL), -1);
    char longest[KEYRING_DOMAIN_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[KEYRING_DOMAIN_NAME_MAX + 1] = '\0';
    assert_int_equal(keyring_check_domain(longest, NULL), -1);
    assert_int_equal(keyring_check_domain(longest + 1, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(comes_back_as_it_went_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_flipped_bit_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_key_kind_or_name_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rotation_keeps_everything_readable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(forked_children_follow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shredded_key_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(racing_makers_of_a_domain_agree, set_up, tear_down),
        cmocka_unit_test(domains_have_plain_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
