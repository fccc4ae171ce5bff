/* Packages: what is unpacked and how, and every hostile zip that must be refused with nothing left behind. */
#include "lambda_fixture.h"

#include "base/fd.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <locale.h>

#define TEMP "tmp-test"

static int code_fd;
static char code_folder[64];

static int setup(void **state)
{
    (void)state;
    strcpy(code_folder, "/tmp/test-package-XXXXXX");
    assert_non_null(mkdtemp(code_folder));
    code_fd = open(code_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return code_fd < 0;
}

static int teardown(void **state)
{
    (void)state;
    close(code_fd);
    return nftw(code_folder, fixture_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static struct package_result install(const void *zip, size_t len)
{
    char *text = base64_of(zip, len);
    struct package_result result;
    package_install(code_fd, (struct bytes){(const uint8_t *)text, strlen(text)}, TEMP, true, &result);
    free(text);
    return result;
}

static struct package_result install_made(struct zip_maker *zip)
{
    zip_end(zip);
    struct package_result result = install(zip->data.data, zip->data.len);
    buffer_free(&zip->data);
    return result;
}

static unsigned entries_left(void)
{
    unsigned count = 0;
    DIR *dir = opendir(code_folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void expect_refused(struct package_result result, enum package_verdict verdict, const char *why)
{
    assert_int_equal(result.verdict, verdict);
    if (strstr(result.why, why) == NULL)
        fail_msg("refused for another reason: '%s'", result.why);
    assert_int_equal(entries_left(), 0);
    assert_int_equal(access("/tmp/thaw-escaped", F_OK), -1);
}

static void refuse_entry(
    const char *name, size_t name_len, uint32_t mode, const char *content, const char *why)
{
    struct zip_maker zip = {0};
    zip_add(&zip, "app.py", 0100644, "x = 1\n");
    zip_add_bytes(&zip, name, name_len, mode, content, strlen(content));
    expect_refused(install_made(&zip), PACKAGE_BAD, why);
}

static char *path_in(const struct package_result *result, const char *name)
{
    return xasprintf("%s/%s/%s", code_folder, result->code.id, name);
}

static mode_t mode_of(const struct package_result *result, const char *name)
{
    struct stat st;
    CLEANUP_FREE char *path = path_in(result, name);
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode;
}

static void unpacks_files_folders_and_links(void **state)
{
    (void)state;
    struct zip_maker zip = {0};
    zip_add(&zip, "app.py", 0100600, "x = 1\n");
    zip_add(&zip, "bin/", 040700, "");
    zip_add(&zip, "bin/tool", 0104711, "#!/bin/sh\n");
    zip_add(&zip, "./deep/er/file", 0100444, "");
    zip_add(&zip, "deep/link", 0120777, "../app.py");
    zip_add(&zip, "deep/nowhere", 0120777, "later/maybe");
    zip_add(&zip, "na\xc3\xafve.txt", 0100644, "utf-8");
    struct package_result result = install_made(&zip);
    assert_int_equal(result.verdict, PACKAGE_OK);
    assert_int_equal(mode_of(&result, "app.py"), 0100644);
    assert_int_equal(mode_of(&result, "bin"), 040755);
    assert_int_equal(mode_of(&result, "bin/tool"), 0100755);
    assert_int_equal(mode_of(&result, "deep/er/file"), 0100644);
    assert_int_equal(mode_of(&result, "na\xc3\xafve.txt"), 0100644);
    assert_true(S_ISLNK(mode_of(&result, "deep/link")));
    assert_int_equal(mode_of(&result, "."), 040755);
    assert_int_equal(result.unzipped_bytes, 6 + 10 + 5);
    assert_int_equal(strlen(result.code.id), 64);
    assert_int_equal(strlen(result.code.sha256), 44);
    assert_int_equal(entries_left(), 2); /* the folder and its zip */
    CLEANUP_FREE char *linked = path_in(&result, "deep/link");
    CLEANUP_BUFFER struct buffer content = {0};
    assert_int_equal(file_read(AT_FDCWD, linked, &content, 100, NULL), 0);
    assert_memory_equal(content.data, "x = 1\n", 6);
}

static void the_same_zip_is_there_already(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct zip_maker zip = {0};
        zip_add(&zip, "app.py", 0100644, "x = 1\n");
        struct package_result result = install_made(&zip);
        assert_int_equal(result.verdict, PACKAGE_OK);
        assert_int_equal(entries_left(), 2);
    }
}

static void a_dry_run_leaves_nothing(void **state)
{
    (void)state;
    CLEANUP_FREE char *text = small_package("x");
    struct package_result result;
    package_install(code_fd, (struct bytes){(const uint8_t *)text, strlen(text)}, TEMP, false, &result);
    assert_int_equal(result.verdict, PACKAGE_OK);
    assert_int_equal(entries_left(), 0);
}

static void refuses_what_is_no_zip(void **state)
{
    (void)state;
    expect_refused(install("not a zip", 9), PACKAGE_BAD, "");
    expect_refused(install("", 0), PACKAGE_BAD, "");
    static const char empty[22] = "PK\5\6";
    expect_refused(install(empty, sizeof empty), PACKAGE_EMPTY, "");
    static const char tar[1024] = "app.py";
    expect_refused(install(tar, sizeof tar), PACKAGE_BAD, "");
    struct package_result result;
    package_install(code_fd, (struct bytes){(const uint8_t *)"UEsFB*==", 8}, TEMP, true, &result);
    expect_refused(result, PACKAGE_NOT_BASE64, "");
    package_install(code_fd, (struct bytes){(const uint8_t *)"UEsFB", 5}, TEMP, true, &result);
    expect_refused(result, PACKAGE_NOT_BASE64, "");
}

static void refuses_every_truncation_and_many_flips(void **state)
{
    (void)state;
    struct zip_maker zip = {0};
    zip_add(&zip, "app.py", 0100644, "x = 1\n");
    zip_add(&zip, "bin/tool", 0100755, "#!/bin/sh\n");
    zip_end(&zip);
    for (size_t len = 0; len < zip.data.len; len++) {
        struct package_result result = install(zip.data.data, len);
        assert_int_not_equal(result.verdict, PACKAGE_OK);
        assert_int_equal(entries_left(), 0);
    }
    /* A flipped bit may leave another good zip; it must never leave half of one, nor kill us. */
    for (size_t i = 0; i < zip.data.len; i++) {
        zip.data.data[i] ^= 1u << i % 8;
        struct package_result result = install(zip.data.data, zip.data.len);
        if (result.verdict == PACKAGE_OK) {
            CLEANUP_FREE char *kept = xasprintf("%s.zip", result.code.id);
            struct error err;
            assert_int_equal(package_remove_tree(code_fd, result.code.id, &err), 0);
            assert_int_equal(unlinkat(code_fd, kept, 0), 0);
        }
        assert_int_equal(entries_left(), 0);
        zip.data.data[i] ^= 1u << i % 8;
    }
    buffer_free(&zip.data);
}

static void refuses_names_that_escape_or_confuse(void **state)
{
    (void)state;
    refuse_entry("../thaw-escaped", 15, 0100644, "x", "\"..\"");
    refuse_entry("a/../../thaw-escaped", 20, 0100644, "x", "\"..\"");
    refuse_entry("a/..", 4, 0100644, "x", "\"..\"");
    refuse_entry("/tmp/thaw-escaped", 17, 0100644, "x", "absolute");
    refuse_entry("..\\thaw-escaped", 15, 0100644, "x", "backslash");
    refuse_entry("good\0../thaw-escaped", 20, 0100644, "x", "NUL");
    refuse_entry("bad\xff", 4, 0100644, "x", "UTF-8");
    refuse_entry("", 0, 0100644, "x", "empty");
    char long_name[1100];
    memset(long_name, 'n', sizeof long_name);
    refuse_entry(long_name, 256, 0100644, "x", "too long");
    refuse_entry(long_name, 1025, 0100644, "x", "too long");
    char deep[200];
    for (size_t i = 0; i < sizeof deep; i += 2)
        memcpy(deep + i, "d/", 2);
    refuse_entry(deep, 199, 0100644, "x", "too deep");
}

static void refuses_links_that_escape(void **state)
{
    (void)state;
    refuse_entry("l", 1, 0120777, "/etc/passwd", "link leaves");
    refuse_entry("l", 1, 0120777, "../x", "link leaves");
    refuse_entry("d/l", 3, 0120777, "../../x", "link leaves");
    refuse_entry("d/l", 3, 0120777, "..\\x", "link leaves");
    refuse_entry("l", 1, 0120777, "", "link leaves");
    /* Inside by its words, outside by way of another link. */
    struct zip_maker zip = {0};
    zip_add(&zip, "d/e/up", 0120777, "../..");
    zip_add(&zip, "d/out", 0120777, "e/up/..");
    expect_refused(install_made(&zip), PACKAGE_BAD, "link leaves");
    /* A file through a link to a folder. */
    zip = (struct zip_maker){0};
    zip_add(&zip, "real/", 040755, "");
    zip_add(&zip, "link", 0120777, "real");
    zip_add(&zip, "link/file", 0100644, "x");
    expect_refused(install_made(&zip), PACKAGE_BAD, "no folder");
}

static void refuses_devices_and_pipes(void **state)
{
    (void)state;
    refuse_entry("fifo", 4, 0010644, "", "device, pipe");
    refuse_entry("disk", 4, 0060644, "", "device, pipe");
    refuse_entry("tty", 3, 0020644, "", "device, pipe");
    refuse_entry("sock", 4, 0140644, "", "device, pipe");
}

static void refuses_duplicates_and_overlaps(void **state)
{
    (void)state;
    refuse_entry("app.py", 6, 0100644, "other", "same name");
    refuse_entry("./app.py", 8, 0100644, "other", "same name");
    refuse_entry("app.py/x", 8, 0100644, "other", "no folder");
    struct zip_maker zip = {0};
    zip_add(&zip, "one", 0100644, "shared bytes");
    zip_directory_entry(&zip, "two", 3, 0100644, zip_crc("shared bytes", 12), 12, zip.last_offset);
    expect_refused(install_made(&zip), PACKAGE_BAD, "overlap");
}

static void refuses_a_bomb_by_what_it_writes(void **state)
{
    (void)state;
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    size_t capacity = 4 << 20, used = 0;
    char *zip = xcalloc(1, capacity);
    static char zeros[1 << 20];
    assert_int_equal(archive_write_set_format_zip(a), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(a, zip, capacity, &used), ARCHIVE_OK);
    archive_entry_set_pathname(entry, "zeros");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, LIMIT_UNZIPPED_BYTES + 1);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    for (size_t left = LIMIT_UNZIPPED_BYTES + 1; left > 0;) {
        size_t part = left < sizeof zeros ? left : sizeof zeros;
        assert_int_equal(archive_write_data(a, zeros, part), part);
        left -= part;
    }
    archive_write_close(a);
    archive_write_free(a);
    archive_entry_free(entry);
    expect_refused(install(zip, used), PACKAGE_UNZIPPED_TOO_LARGE, "");
    free(zip);
}

static void refuses_too_large_a_zip_and_too_many_entries(void **state)
{
    (void)state;
    char *large = xcalloc(1, LIMIT_ZIP_BYTES + 1);
    expect_refused(install(large, LIMIT_ZIP_BYTES + 1), PACKAGE_TOO_LARGE, "");
    free(large);
    struct zip_maker zip = {0};
    /* Folders cost no entry of the zip but count all the same: 2,000 entries with 40 folders each. */
    for (int i = 0; i < 2000; i++) {
        char name[256];
        size_t len = (size_t)snprintf(name, sizeof name, "%d/", i);
        for (int k = 0; k < 40; k++)
            len += (size_t)snprintf(name + len, sizeof name - len, "%d/", k % 10);
        zip_add(&zip, name, 040755, "");
    }
    expect_refused(install_made(&zip), PACKAGE_BAD, "more than 65535 entries");
}

static void escaped_slashes_are_base64(void **state)
{
    (void)state;
    struct package_result plain, escaped;
    struct zip_maker zip = {0};
    zip_add(&zip, "a", 0100644, "\xff\xff\xff\xff\xff\xff\xff\xff\xff"); /* slashes */
    zip_end(&zip);
    char *text = base64_of(zip.data.data, zip.data.len), *more = xcalloc(1, strlen(text) * 2 + 1), *to = more;
    assert_non_null(strchr(text, '/'));
    for (char *c = text; *c != '\0'; c++) {
        if (*c == '/')
            *to++ = '\\';
        *to++ = *c;
    }
    package_install(code_fd, (struct bytes){(const uint8_t *)text, strlen(text)}, TEMP, true, &plain);
    package_install(code_fd, (struct bytes){(const uint8_t *)more, strlen(more)}, TEMP, true, &escaped);
    assert_int_equal(plain.verdict, PACKAGE_OK);
    assert_int_equal(escaped.verdict, PACKAGE_OK);
    assert_string_equal(plain.code.id, escaped.code.id);
    free(text);
    free(more);
    buffer_free(&zip.data);
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8"); /* as the child that unpacks does */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(unpacks_files_folders_and_links, setup, teardown),
        cmocka_unit_test_setup_teardown(the_same_zip_is_there_already, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dry_run_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_zip, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_every_truncation_and_many_flips, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_names_that_escape_or_confuse, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_links_that_escape, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_devices_and_pipes, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_duplicates_and_overlaps, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_a_bomb_by_what_it_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_too_large_a_zip_and_too_many_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(escaped_slashes_are_base64, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
