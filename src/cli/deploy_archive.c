/* Zips of packages, read and written with libarchive. */
#include "base/limits.h"
#include "cli/deploy.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define READ_BYTES 65536

int deploy_package_add(struct deploy_package *package, const struct deploy_entry *about,
    struct buffer *content, struct error *err)
{
    if (package->bytes + content->len > LIMIT_UNZIPPED_BYTES)
        return error_set(err, ERROR_LIMIT,
            "the package is too large: more than %d MB of files; leave out what the function does not need",
            LIMIT_UNZIPPED_BYTES >> 20);
    if (package->count == package->capacity) {
        package->capacity = package->capacity ? 2 * package->capacity : 64;
        package->entries = xrealloc(package->entries, package->capacity * sizeof *package->entries);
    }
    struct deploy_entry *entry = &package->entries[package->count++];
    *entry = *about;
    entry->name = xstrdup(about->name);
    buffer_append_u8(content, 0);
    content->len--;
    entry->content = *content;
    package->bytes += content->len;
    *content = (struct buffer){0};
    return 0;
}

bool deploy_is_zip(struct bytes file)
{
    return file.len >= 4 && (memcmp(file.data, "PK\3\4", 4) == 0 || memcmp(file.data, "PK\5\6", 4) == 0);
}

static int read_content(struct archive *archive, struct buffer *content, struct error *err)
{
    uint8_t piece[READ_BYTES];
    for (la_ssize_t n; (n = archive_read_data(archive, piece, sizeof piece)) != 0;) {
        if (n < 0)
            return error_set(err, ERROR_CORRUPT, "the zip cannot be read: %s", archive_error_string(archive));
        buffer_append(content, piece, (size_t)n);
        if (content->len > LIMIT_UNZIPPED_BYTES)
            return error_set(err, ERROR_LIMIT, "the zip holds more than %d MB", LIMIT_UNZIPPED_BYTES >> 20);
    }
    return 0;
}

static int read_entry(
    struct deploy_package *package, struct archive *archive, struct archive_entry *from, struct error *err)
{
    const char *name = archive_entry_pathname(from);
    const char *target = archive_entry_symlink(from);
    CLEANUP_BUFFER struct buffer content = {0};
    if (!name)
        return error_set(err, ERROR_CORRUPT, "a file in the zip has no name that can be read");
    if (archive_entry_filetype(from) == AE_IFDIR)
        return 0;
    if (target)
        buffer_append(&content, target, strlen(target));
    else if (read_content(archive, &content, err) < 0)
        return -1;
    struct deploy_entry about = {.name = (char *)name,
        .is_link = target != NULL,
        .is_executable = (archive_entry_perm(from) & 0111) != 0,
        .modified_s = archive_entry_mtime(from)};
    return deploy_package_add(package, &about, &content, err);
}

int deploy_archive_read(struct deploy_package *package, struct bytes zip, struct error *err)
{
    struct archive *archive = archive_read_new();
    struct archive_entry *entry;
    archive_read_support_format_zip(archive);
    int code = archive_read_open_memory(archive, zip.data, zip.len), result = 0;
    while (
        code == ARCHIVE_OK && result == 0 && (code = archive_read_next_header(archive, &entry)) == ARCHIVE_OK)
        result = read_entry(package, archive, entry, err);
    if (result == 0 && code != ARCHIVE_EOF)
        result = error_set(err, ERROR_CORRUPT, "the zip cannot be read: %s", archive_error_string(archive));
    archive_read_free(archive);
    return result;
}

static la_ssize_t take(struct archive *archive, void *context, const void *data, size_t len)
{
    (void)archive;
    buffer_append(context, data, len);
    return (la_ssize_t)len;
}

static int write_entry(struct archive *archive, const struct deploy_entry *entry)
{
    struct archive_entry *to = archive_entry_new();
    archive_entry_set_pathname_utf8(to, entry->name);
    archive_entry_set_filetype(to, entry->is_link ? AE_IFLNK : AE_IFREG);
    archive_entry_set_perm(to, entry->is_executable ? 0755 : 0644);
    archive_entry_set_mtime(to, entry->modified_s, 0);
    archive_entry_set_size(to, entry->is_link ? 0 : (la_int64_t)entry->content.len);
    if (entry->is_link)
        archive_entry_set_symlink(to, (const char *)entry->content.data);
    int code = archive_write_header(archive, to);
    archive_entry_free(to);
    if (code == ARCHIVE_OK && !entry->is_link && entry->content.len > 0 &&
        archive_write_data(archive, entry->content.data, entry->content.len) !=
            (la_ssize_t)entry->content.len)
        code = ARCHIVE_FATAL;
    return code;
}

int deploy_archive_write(const struct deploy_package *package, struct buffer *out, struct error *err)
{
    struct archive *archive = archive_write_new();
    archive_write_set_format_zip(archive);
    archive_write_set_options(archive, "zip:compression=deflate,zip:hdrcharset=UTF-8");
    archive_write_set_bytes_per_block(archive, 0);
    int code = archive_write_open(archive, out, NULL, take, NULL);
    for (size_t i = 0; code == ARCHIVE_OK && i < package->count; i++)
        code = write_entry(archive, &package->entries[i]);
    if (code == ARCHIVE_OK)
        code = archive_write_close(archive);
    if (code != ARCHIVE_OK)
        error_set(err, ERROR_SYSTEM, "the package cannot be zipped: %s", archive_error_string(archive));
    archive_write_free(archive);
    return code == ARCHIVE_OK ? 0 : -1;
}
