/* What is deployed: a folder's files, a zip, what a Maven project has built, or a single file. */
#include "base/fd.h"
#include "base/limits.h"
#include "cli/deploy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 64 /* folders inside folders, as the server's own limit */

/* Not of a function's concern, and often large. */
static const char *const LEFT_OUT[] = {".git", ".hg", ".svn", ".venv", ".DS_Store"};

void deploy_package_free(struct deploy_package *package)
{
    for (size_t i = 0; i < package->count; i++) {
        free(package->entries[i].name);
        buffer_free(&package->entries[i].content);
    }
    free(package->entries);
    buffer_free(&package->as_zip);
    *package = (struct deploy_package){0};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct deploy_entry *)a)->name, ((const struct deploy_entry *)b)->name);
}

static void sort(struct deploy_package *package)
{
    if (package->count > 0)
        qsort(package->entries, package->count, sizeof *package->entries, by_name);
}

const struct deploy_entry *deploy_package_find(const struct deploy_package *package, const char *name)
{
    struct deploy_entry key = {.name = (char *)name};
    return package->count == 0
               ? NULL
               : bsearch(&key, package->entries, package->count, sizeof *package->entries, by_name);
}

void deploy_package_put(struct deploy_package *package, const char *name, struct bytes content)
{
    struct deploy_entry *there = (struct deploy_entry *)deploy_package_find(package, name);
    struct buffer copy = {0};
    struct error err;
    buffer_append(&copy, content.data, content.len);
    buffer_append_u8(&copy, 0);
    copy.len--;
    buffer_free(&package->as_zip);
    if (there) {
        package->bytes += copy.len - there->content.len;
        buffer_free(&there->content);
        there->content = copy;
        return;
    }
    /* The time is of no meaning; a constant one makes the same package again of the same files. */
    struct deploy_entry about = {.name = (char *)name, .modified_s = 946684800};
    if (deploy_package_add(package, &about, &copy, &err) < 0)
        buffer_free(&copy); /* at the limit already: the server says so about the rest */
    sort(package);
}

/* ---- folders ---- */

static int add_link(struct deploy_package *package, int dir_fd, const char *file, const char *name,
    const struct stat *about, struct error *err)
{
    char target[PATH_MAX];
    ssize_t len = readlinkat(dir_fd, file, target, sizeof target);
    CLEANUP_BUFFER struct buffer content = {0};
    if (len < 0)
        return error_system(err, "%s", name);
    buffer_append(&content, target, (size_t)len);
    struct deploy_entry entry = {.name = (char *)name, .is_link = true, .modified_s = about->st_mtime};
    return deploy_package_add(package, &entry, &content, err);
}

static int add_file(struct deploy_package *package, int dir_fd, const char *file, const char *name,
    const struct stat *about, struct error *err)
{
    CLEANUP_BUFFER struct buffer content = {0};
    struct deploy_entry entry = {
        .name = (char *)name, .is_executable = (about->st_mode & 0111) != 0, .modified_s = about->st_mtime};
    if (about->st_size > LIMIT_UNZIPPED_BYTES)
        return error_set(err, ERROR_LIMIT, "the package is too large: %s alone has more than %d MB", name,
            LIMIT_UNZIPPED_BYTES >> 20);
    if (file_read(dir_fd, file, &content, LIMIT_UNZIPPED_BYTES, err) < 0)
        return error_prefix(err, "%s", name);
    return deploy_package_add(package, &entry, &content, err);
}

static int add_folder(
    struct deploy_package *package, int dir_fd, const char *prefix, unsigned depth, struct error *err);

static int add_below(struct deploy_package *package, int dir_fd, const char *file, const char *prefix,
    unsigned depth, struct error *err)
{
    CLEANUP_FREE char *name = xasprintf("%s%s", prefix, file);
    struct stat about;
    if (fstatat(dir_fd, file, &about, AT_SYMLINK_NOFOLLOW) < 0)
        return error_system(err, "%s", name);
    if (S_ISLNK(about.st_mode))
        return add_link(package, dir_fd, file, name, &about, err);
    if (S_ISREG(about.st_mode))
        return add_file(package, dir_fd, file, name, &about, err);
    if (!S_ISDIR(about.st_mode))
        return error_set(
            err, ERROR_INVALID, "%s is neither a file, a folder nor a link: move it elsewhere", name);
    CLEANUP_FD int below = openat(dir_fd, file, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CLEANUP_FREE char *below_prefix = xasprintf("%s/", name);
    if (below < 0)
        return error_system(err, "%s", name);
    return add_folder(package, below, below_prefix, depth + 1, err);
}

static bool is_left_out(const char *file)
{
    if (strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return true;
    for (size_t i = 0; i < countof(LEFT_OUT); i++)
        if (strcmp(file, LEFT_OUT[i]) == 0)
            return true;
    return false;
}

static int add_folder(
    struct deploy_package *package, int dir_fd, const char *prefix, unsigned depth, struct error *err)
{
    if (depth > DEPTH_MAX)
        return error_set(err, ERROR_LIMIT, "%s: more than %d folders inside each other", prefix, DEPTH_MAX);
    int own = dup(dir_fd);
    DIR *dir = own < 0 ? NULL : fdopendir(own);
    if (!dir) {
        fd_close(&own);
        return error_system(err, "%s", prefix);
    }
    int result = 0;
    struct dirent *entry = NULL;
    while (result == 0 && (errno = 0, entry = readdir(dir)) != NULL)
        if (!is_left_out(entry->d_name))
            result = add_below(package, dir_fd, entry->d_name, prefix, depth, err);
    if (result == 0 && errno != 0)
        result = error_system(err, "cannot list all of %s", prefix);
    closedir(dir);
    return result;
}

/* ---- Maven ---- */

/* The files of one folder of the project's, under `prefix`; false when there is no such folder. */
static int add_built(struct deploy_package *package, int project, const char *folder, const char *prefix,
    bool *found, struct error *err)
{
    CLEANUP_FD int fd = openat(project, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *found = fd >= 0;
    return *found ? add_folder(package, fd, prefix, 0, err) : 0;
}

/* Classes where the class loader looks for them, and the libraries that a plugin copied beside. */
static int load_maven(struct deploy_package *package, int project, struct error *err)
{
    static const char *const libraries[] = {"target/dependency", "target/lib", "target/package/lib"};
    bool found;
    if (add_built(package, project, "target/classes", "", &found, err) < 0)
        return -1;
    if (!found)
        return error_set(err, ERROR_NOT_FOUND,
            "this Maven project has not been built: run 'mvn package dependency:copy-dependencies "
            "-DincludeScope=runtime' in it first");
    found = false;
    for (size_t i = 0; !found && i < countof(libraries); i++)
        if (add_built(package, project, libraries[i], "lib/", &found, err) < 0)
            return -1;
    return 0;
}

/* ---- all of them ---- */

static int load_folder(struct deploy_package *package, int fd, struct error *err)
{
    if (faccessat(fd, "pom.xml", F_OK, 0) == 0)
        return load_maven(package, fd, err);
    return add_folder(package, fd, "", 0, err);
}

static int load_file(
    struct deploy_package *package, int fd, const char *path, const struct stat *about, struct error *err)
{
    CLEANUP_BUFFER struct buffer content = {0};
    if (fd_read_all(fd, &content, LIMIT_UNZIPPED_BYTES, err) < 0)
        return error_prefix(err, "%s", path);
    if (deploy_is_zip((struct bytes){content.data, content.len})) {
        package->as_zip = content;
        content = (struct buffer){0};
        return deploy_archive_read(package, (struct bytes){package->as_zip.data, package->as_zip.len}, err);
    }
    const char *slash = strrchr(path, '/');
    struct deploy_entry entry = {.name = (char *)(slash ? slash + 1 : path),
        .is_executable = (about->st_mode & 0111) != 0,
        .modified_s = about->st_mtime};
    return deploy_package_add(package, &entry, &content, err);
}

int deploy_package_load(struct deploy_package *package, const char *path, struct error *err)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) < 0)
        return error_system(err, "%s", path);
    int result =
        S_ISDIR(about.st_mode) ? load_folder(package, fd, err) : load_file(package, fd, path, &about, err);
    if (result == 0 && package->count == 0)
        result = error_set(err, ERROR_INVALID, "there is nothing to deploy in %s", path);
    sort(package);
    return result;
}

int deploy_package_zip(struct deploy_package *package, struct buffer *out, struct error *err)
{
    if (package->as_zip.len > 0)
        buffer_append(out, package->as_zip.data, package->as_zip.len);
    else if (deploy_archive_write(package, out, err) < 0)
        return -1;
    if (out->len > LIMIT_ZIP_BYTES)
        return error_set(err, ERROR_LIMIT,
            "the package is too large: %zu MB zipped, and %d MB are the most; leave out what the function "
            "does "
            "not need",
            out->len >> 20, LIMIT_ZIP_BYTES >> 20);
    return 0;
}
