#include "process/folder.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETTINGS_FIRST_LINE "thaw-process 1\n"
#define NAME_KEY "\nname "
static const char *const file_names[] = {"manifest", "pages", "settings"};

/* ---- writing ---- */

static int refuse_content(int dir_fd, const char *path, struct error *err)
{
    int fd = dup(dir_fd);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder)
        return error_system(err, "cannot list %s", path);
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(folder));)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    if (empty)
        return 0;
    return error_set(
        err, ERROR_CONFLICT, "%s is there and not empty: remove it, or choose another --out", path);
}

int folder_create(struct folder_writer *w, const char *path, struct error *err)
{
    *w = (struct folder_writer){.dir_fd = -1, .pages_fd = -1, .path = path};
    w->made = mkdir(path, 0700) == 0;
    if (!w->made && errno != EEXIST)
        return error_system(err, "cannot make the folder %s", path);
    w->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->dir_fd < 0)
        return error_system(err, "cannot open the folder %s", path);
    if (!w->made && (refuse_content(w->dir_fd, path, err) < 0))
        return -1;
    if (!w->made && fchmod(w->dir_fd, 0700) < 0)
        return error_system(err, "cannot make %s a folder that only its owner can read", path);
    w->pages_fd = openat(w->dir_fd, "pages", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->pages_fd < 0)
        return error_system(err, "cannot write to the folder %s", path);
    w->pending = xcalloc(1, FOLDER_WRITE_BYTES);
    return 0;
}

static int flush(struct folder_writer *w, struct error *err)
{
    size_t len = w->pending_len;
    w->pending_len = 0;
    return fd_write_all(w->pages_fd, w->pending, len, err);
}

int folder_put_pages(struct folder_writer *w, const void *data, size_t len, struct error *err)
{
    if (w->pending_len + len > FOLDER_WRITE_BYTES && flush(w, err) < 0)
        return -1;
    if (len > FOLDER_WRITE_BYTES)
        return fd_write_all(w->pages_fd, data, len, err);
    memcpy(w->pending + w->pending_len, data, len);
    w->pending_len += len;
    return 0;
}

int folder_commit(struct folder_writer *w, const struct buffer *manifest,
    const struct folder_settings *settings, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    buffer_printf(&text, SETTINGS_FIRST_LINE "network %s\ntmp %s\nname %s\n",
        settings->private_network ? "private" : "host", settings->private_tmp ? "private" : "host",
        settings->name);
    if (flush(w, err) < 0)
        return -1;
    if (fsync(w->pages_fd) < 0)
        return error_system(err, "cannot write %s/pages", w->path);
    if (file_write_atomic(w->dir_fd, "settings", text.data, text.len, 0600, err) < 0)
        return -1;
    return file_write_atomic(w->dir_fd, "manifest", manifest->data, manifest->len, 0600, err);
}

void folder_discard(struct folder_writer *w)
{
    for (size_t i = 0; w->dir_fd >= 0 && w->pages_fd >= 0 && i < countof(file_names); i++)
        unlinkat(w->dir_fd, file_names[i], 0);
    if (w->made)
        rmdir(w->path);
}

void folder_close(struct folder_writer *w)
{
    fd_close(&w->dir_fd);
    fd_close(&w->pages_fd);
    free(steal_pointer(w->pending));
}

/* ---- reading ---- */

/* `folder` is for error texts; `name` "" means the folder itself. */
static int open_own(int dir_fd, const char *folder, const char *name, struct error *err)
{
    struct stat about;
    bool whole = name[0] == '\0';
    CLEANUP_FD int fd = whole ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                              : openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) < 0)
        return error_system(err, "cannot open %s%s%s", folder, whole ? "" : "/", name);
    if (about.st_uid != geteuid() || (about.st_mode & (S_IWGRP | S_IWOTH)))
        return error_set(err, ERROR_INVALID,
            "%s%s%s belongs to or can be written by others than user %u, and a snapshot is a program: not "
            "thawed",
            folder, whole ? "" : "/", name, geteuid());
    return fd_steal(&fd);
}

static int read_settings(struct folder_settings *settings, int dir_fd, const char *path, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    CLEANUP_FD int fd = open_own(dir_fd, path, "settings", err);
    if (fd < 0 || fd_read_all(fd, &text, FOLDER_SETTINGS_MAX, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    const char *all = (const char *)text.data;
    if (strncmp(all, SETTINGS_FIRST_LINE, strlen(SETTINGS_FIRST_LINE)) != 0)
        return error_set(err, ERROR_CORRUPT, "%s/settings is of another version of thaw", path);
    settings->private_network = strstr(all, "\nnetwork private\n") != NULL;
    settings->private_tmp = strstr(all, "\ntmp private\n") != NULL;
    const char *name = strstr(all, NAME_KEY);
    name = name == NULL ? "" : name + strlen(NAME_KEY);
    snprintf(settings->name, sizeof settings->name, "%.*s", (int)strcspn(name, "\n"), name);
    return 0;
}

static int read_image(struct folder *f, int dir_fd, const char *path, struct error *err)
{
    CLEANUP_BUFFER struct buffer manifest = {0};
    struct stat about;
    CLEANUP_FD int fd = open_own(dir_fd, path, "manifest", err);
    if (fd < 0 || fd_read_all(fd, &manifest, FOLDER_MANIFEST_MAX, err) < 0)
        return -1;
    f->manifest_bytes = manifest.len;
    f->pages_fd = open_own(dir_fd, path, "pages", err);
    if (f->pages_fd < 0 || image_decode(&f->image, (struct bytes){manifest.data, manifest.len}, err) < 0)
        return -1;
    if (fstat(f->pages_fd, &about) < 0)
        return error_system(err, "cannot look at %s/pages", path);
    if ((uint64_t)about.st_size != f->image.page_bytes + f->image.bulk_bytes)
        return error_set(err, ERROR_CORRUPT, "%s/pages has %lld bytes, and %llu were written", path,
            (long long)about.st_size, (unsigned long long)(f->image.page_bytes + f->image.bulk_bytes));
    return 0;
}

int folder_open(struct folder *f, const char *path, struct error *err)
{
    *f = (struct folder){.pages_fd = -1};
    CLEANUP_FD int dir_fd = open_own(-1, path, "", err);
    if (dir_fd < 0)
        return -1;
    if (faccessat(dir_fd, "manifest", F_OK, 0) < 0)
        return error_set(err, ERROR_NOT_FOUND,
            "%s is not a folder that 'thaw process freeze' has finished: it holds no manifest", path);
    if (read_settings(&f->settings, dir_fd, path, err) < 0)
        return -1;
    return read_image(f, dir_fd, path, err);
}

void folder_free(struct folder *f)
{
    fd_close(&f->pages_fd);
    image_free(&f->image);
}
