#include "lambda/package.h"

#include "base/fd.h"
#include "base/limits.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COPY_BYTES 65536

/* The state of one unpacking. */
struct unpacking {
    int root_fd;
    struct archive *archive;
    uint64_t written;
    size_t entries;
    struct package_result *result;
    struct buffer links; /* names of the links made, NUL-terminated, to check once all is there */
};

static int refuse(struct package_result *result, enum package_verdict verdict, const char *format, ...)
    PRINTF_LIKE(3, 4);

static int refuse(struct package_result *result, enum package_verdict verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(result->why, sizeof result->why, format, args);
    va_end(args);
    result->verdict = verdict;
    return -1;
}

static int fail_here(struct package_result *result, const char *what)
{
    return refuse(result, PACKAGE_FAILED, "%s: %s", what, strerror(errno));
}

/* Open the folder that holds the last part of `path`, making folders on the way; no link is followed. *name
 * is the last part, NULL for a folder (whose name ends in a slash). */
static int open_parent(struct unpacking *u, char *path, char **name)
{
    CLEANUP_FD int dir = fcntl(u->root_fd, F_DUPFD_CLOEXEC, 0);
    if (dir < 0)
        return fail_here(u->result, "dup");
    char *part = path;
    for (char *slash; (slash = strchr(part, '/')) != NULL; part = slash + 1) {
        *slash = '\0';
        if (*part == '\0' || strcmp(part, ".") == 0)
            continue;
        if (mkdirat(dir, part, 0755) == 0) {
            if (++u->entries > PACKAGE_ENTRIES_MAX)
                return refuse(u->result, PACKAGE_BAD, "it holds more than %d entries", PACKAGE_ENTRIES_MAX);
        } else if (errno != EEXIST) {
            return fail_here(u->result, "making a folder");
        }
        int next = openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return refuse(u->result, PACKAGE_BAD, "an entry is below something that is no folder");
        fd_close(&dir);
        dir = next;
    }
    *name = *part == '\0' || strcmp(part, ".") == 0 ? NULL : part;
    return fd_steal(&dir);
}

static int write_file(struct unpacking *u, int dir, const char *name, mode_t mode)
{
    CLEANUP_FD int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return refuse(u->result, PACKAGE_BAD, "two entries have the same name");
    if (fd < 0)
        return fail_here(u->result, "making a file");
    uint8_t data[COPY_BYTES];
    ssize_t got;
    while ((got = archive_read_data(u->archive, data, sizeof data)) > 0) {
        u->written += (uint64_t)got;
        if (u->written > LIMIT_UNZIPPED_BYTES)
            return refuse(u->result, PACKAGE_UNZIPPED_TOO_LARGE, "%s", "");
        struct error err;
        if (fd_write_all(fd, data, (size_t)got, &err) != 0)
            return refuse(u->result, PACKAGE_FAILED, "%.200s", err.text);
    }
    if (got < 0)
        return refuse(u->result, PACKAGE_BAD, "the bytes of an entry are damaged");
    /* Readable by the function's own user, never set-uid, whatever the zip says. */
    if (fchmod(fd, (mode & 0111) != 0 ? 0755 : 0644) != 0)
        return fail_here(u->result, "fchmod");
    return 0;
}

/* Whether `target`, seen from the folder of `link`, stays inside by its words alone. */
static bool link_stays_inside(const char *link, const char *target)
{
    if (target[0] == '/' || target[0] == '\0' || strchr(target, '\\') != NULL)
        return false;
    int depth = 0;
    for (const char *s = strchr(link, '/'); s != NULL; s = strchr(s + 1, '/'))
        depth++;
    for (const char *part = target; *part != '\0';) {
        size_t len = strcspn(part, "/");
        if (len == 2 && memcmp(part, "..", 2) == 0)
            depth--;
        else if (len > 0 && !(len == 1 && *part == '.'))
            depth++;
        if (depth < 0)
            return false;
        part += len + (part[len] == '/');
    }
    return true;
}

static int make_link(
    struct unpacking *u, struct archive_entry *entry, const char *path, int dir, const char *name)
{
    const char *target = archive_entry_symlink(entry);
    if (target == NULL || strlen(target) > PACKAGE_LINK_MAX || !link_stays_inside(path, target))
        return refuse(u->result, PACKAGE_BAD, "a symbolic link leaves the package");
    if (symlinkat(target, dir, name) != 0)
        return errno == EEXIST ? refuse(u->result, PACKAGE_BAD, "two entries have the same name")
                               : fail_here(u->result, "making a link");
    buffer_append(&u->links, path, strlen(path) + 1);
    return 0;
}

/* Links may lead through other links, so words alone do not prove where they end: the kernel says. A link to
 * nothing is harmless, as nothing can be made below a package later. */
static int check_links(struct unpacking *u)
{
    for (size_t i = 0; i < u->links.len; i += strlen((char *)u->links.data + i) + 1) {
        struct open_how how = {
            .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
        CLEANUP_FD int fd = (int)syscall(SYS_openat2, u->root_fd, u->links.data + i, &how, sizeof how);
        if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
            return refuse(u->result, PACKAGE_BAD, "a symbolic link leaves the package");
    }
    return 0;
}

static int unpack_entry(struct unpacking *u, struct archive_entry *entry)
{
    const char *given = archive_entry_pathname(entry);
    if (given == NULL)
        return refuse(u->result, PACKAGE_BAD, "an entry has no name that can be read");
    if (!zip_name_ok(given, strlen(given), u->result->why)) {
        u->result->verdict = PACKAGE_BAD;
        return -1;
    }
    while (strncmp(given, "./", 2) == 0)
        given += 2;
    if (archive_entry_hardlink(entry) != NULL || archive_entry_is_encrypted(entry))
        return refuse(u->result, PACKAGE_BAD, "it holds a hard link or an encrypted entry");
    CLEANUP_FREE char *path = xstrdup(given);
    CLEANUP_FREE char *link_path = xstrdup(given);
    char *name = NULL;
    CLEANUP_FD int dir = open_parent(u, path, &name);
    if (dir < 0)
        return -1;
    if (name == NULL) /* "folder/": open_parent has made it */
        return 0;
    if (++u->entries > PACKAGE_ENTRIES_MAX)
        return refuse(u->result, PACKAGE_BAD, "it holds more than %d entries", PACKAGE_ENTRIES_MAX);
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        return write_file(u, dir, name, archive_entry_mode(entry));
    case AE_IFLNK:
        return make_link(u, entry, link_path, dir, name);
    case AE_IFDIR:
        return mkdirat(dir, name, 0755) == 0 || errno == EEXIST ? 0 : fail_here(u->result, "making a folder");
    default:
        return refuse(u->result, PACKAGE_BAD, "it holds a device, pipe or socket");
    }
}

static int unpack_all(struct unpacking *u)
{
    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(u->archive, &entry);
        if (status == ARCHIVE_EOF)
            return check_links(u);
        if (status != ARCHIVE_OK)
            return refuse(u->result, PACKAGE_BAD, "an entry cannot be read");
        if (unpack_entry(u, entry) != 0)
            return -1;
    }
}

static int unpack(int root_fd, struct bytes zip, struct package_result *result)
{
    struct unpacking u = {.root_fd = root_fd, .archive = archive_read_new(), .result = result};
    int status = -1;
    if (u.archive == NULL || archive_read_support_format_zip_seekable(u.archive) != ARCHIVE_OK ||
        archive_read_open_memory(u.archive, zip.data, zip.len) != ARCHIVE_OK)
        refuse(result, PACKAGE_BAD, "%s", "");
    else
        status = unpack_all(&u);
    archive_read_free(u.archive);
    buffer_free(&u.links);
    result->unzipped_bytes = u.written;
    return status;
}

/* The zip beside the folder, for GetFunction's Code.Location. */
static int keep_zip(int code_fd, const char *temp, struct bytes zip, struct package_result *result)
{
    CLEANUP_FREE char *temp_zip = xasprintf("%s.zip", temp);
    CLEANUP_FREE char *final_zip = xasprintf("%s.zip", result->code.id);
    struct error err;
    CLEANUP_FD int fd = openat(code_fd, temp_zip, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_here(result, "keeping the zip");
    int status = fd_write_all(fd, zip.data, zip.len, &err) == 0
                     ? 0
                     : refuse(result, PACKAGE_FAILED, "%.200s", err.text);
    if (status == 0 && fsync(fd) != 0)
        status = fail_here(result, "fsync");
    if (status == 0 && renameat(code_fd, temp_zip, code_fd, final_zip) != 0)
        status = fail_here(result, "rename");
    if (status != 0)
        unlinkat(code_fd, temp_zip, 0);
    return status;
}

/* One flush of the file system instead of one for each of thousands of files; the folder takes its name only
 * once its contents are on the disk. */
static int publish(int code_fd, const char *temp, struct bytes zip, struct package_result *result)
{
    if (keep_zip(code_fd, temp, zip, result) != 0)
        return -1;
    if (syncfs(code_fd) != 0)
        return fail_here(result, "syncfs");
    if (renameat(code_fd, temp, code_fd, result->code.id) != 0) {
        if (errno != EEXIST && errno != ENOTEMPTY)
            return fail_here(result, "rename");
        struct error err; /* another child was faster with the same package */
        if (package_remove_tree(code_fd, temp, &err) != 0)
            return refuse(result, PACKAGE_FAILED, "%.200s", err.text);
    }
    return fsync(code_fd) == 0 ? 0 : fail_here(result, "fsync");
}

static int install(int code_fd, struct bytes zip, const char *temp, bool keep, struct package_result *result)
{
    result->verdict = zip_check(zip, result->why);
    if (result->verdict != PACKAGE_OK)
        return -1;
    if (mkdirat(code_fd, temp, 0755) != 0)
        return fail_here(result, "making the package's folder");
    CLEANUP_FD int root = openat(code_fd, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root < 0 || fchmod(root, 0755) != 0)
        return fail_here(result, "opening the package's folder");
    if (unpack(root, zip, result) != 0)
        return -1;
    return keep ? publish(code_fd, temp, zip, result) : 0;
}

/* In place would do, but the source is the request's body. Whitespace is not base64 here, as for Lambda. */
static bool decode_base64(struct bytes in, struct buffer *out)
{
    static int8_t values[256];
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    memset(values, -1, sizeof values);
    for (int i = 0; i < 64; i++)
        values[(uint8_t)digits[i]] = (int8_t)i;
    out->data = xrealloc(NULL, in.len / 4 * 3 + 8);
    out->capacity = in.len / 4 * 3 + 8;
    uint32_t bits = 0;
    size_t count = 0, pads = 0;
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.data[i];
        if (c == '\\' && i + 1 < in.len && in.data[i + 1] == '/')
            continue;
        if (c == '=') {
            pads++;
            continue;
        }
        if (values[c] < 0 || pads > 0)
            return false;
        bits = bits << 6 | (uint32_t)values[c];
        if (++count % 4 == 0) {
            out->data[out->len++] = (uint8_t)(bits >> 16);
            out->data[out->len++] = (uint8_t)(bits >> 8);
            out->data[out->len++] = (uint8_t)bits;
        }
    }
    if (count % 4 == 1 || pads > 2 || (pads > 0 && (count + pads) % 4 != 0))
        return false;
    if (count % 4 >= 2)
        out->data[out->len++] = (uint8_t)(bits >> (count % 4 == 2 ? 4 : 10));
    if (count % 4 == 3)
        out->data[out->len++] = (uint8_t)(bits >> 2);
    return true;
}

static void describe(struct bytes zip, struct catalog_code *code)
{
    uint8_t digest[32];
    unsigned len = sizeof digest;
    if (EVP_Digest(zip.data, zip.len, digest, &len, EVP_sha256(), NULL) != 1)
        abort();
    hex_encode(code->id, digest, sizeof digest);
    EVP_EncodeBlock((uint8_t *)code->sha256, digest, sizeof digest);
    code->size = zip.len;
}

void package_install(
    int code_fd, struct bytes base64, const char *temp, bool keep, struct package_result *result)
{
    CLEANUP_BUFFER struct buffer decoded = {0};
    *result = (struct package_result){0};
    if (!decode_base64(base64, &decoded)) {
        result->verdict = PACKAGE_NOT_BASE64;
        return;
    }
    struct bytes zip = {decoded.data, decoded.len};
    if (zip.len > LIMIT_ZIP_BYTES) {
        result->verdict = PACKAGE_TOO_LARGE;
        return;
    }
    describe(zip, &result->code);
    if (keep && faccessat(code_fd, result->code.id, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        result->verdict = PACKAGE_OK;
        return;
    }
    struct error err;
    bool done = install(code_fd, zip, temp, keep, result) == 0;
    if (done)
        result->verdict = PACKAGE_OK;
    if ((!done || !keep) && package_remove_tree(code_fd, temp, &err) != 0 && done)
        refuse(result, PACKAGE_FAILED, "%.200s", err.text);
}

static int remove_below(int dir_fd, struct error *err)
{
    CLEANUP_FD int own = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own >= 0 ? fdopendir(own) : NULL;
    if (dir == NULL)
        return error_system(err, "reading a folder");
    fd_steal(&own);
    int result = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = package_remove_tree(dirfd(dir), entry->d_name, err);
    closedir(dir);
    return result;
}

int package_remove_tree(int dir_fd, const char *name, struct error *err)
{
    if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return error_system(err, "removing %s", name);
    CLEANUP_FD int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_system(err, "removing %s", name);
    if (remove_below(fd, err) != 0)
        return -1;
    return unlinkat(dir_fd, name, AT_REMOVEDIR) == 0 ? 0 : error_system(err, "removing %s", name);
}
