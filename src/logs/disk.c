/* The files of log streams: opened late, rotated by size, the oldest removed. */
#include "logs/internal.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 4 /* function, year, month, day */
#define REMOVED_AT_A_TIME 4

void logs_files_free(struct logs_files *files)
{
    free(files->items);
    *files = (struct logs_files){0};
}

static void files_add(struct logs_files *files, const char *path, const struct stat *st)
{
    if (files->count == files->capacity) {
        files->capacity = files->capacity ? files->capacity * 2 : 64;
        files->items = xrealloc(files->items, files->capacity * sizeof *files->items);
    }
    struct logs_file *file = &files->items[files->count++];
    snprintf(file->path, sizeof file->path, "%s", path);
    file->bytes = (uint64_t)st->st_size;
    file->modified_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

static void list_folder(int dir_fd, const char *path, int depth, struct logs_files *files)
{
    int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        char below[LOGS_PATH_BYTES];
        if ((size_t)snprintf(below, sizeof below, "%s/%s", path, entry->d_name) >= sizeof below)
            continue;
        struct stat st;
        if (fstatat(dir_fd, below, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (S_ISREG(st.st_mode))
            files_add(files, below, &st);
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            list_folder(dir_fd, below, depth + 1, files);
    }
    closedir(dir);
}

void logs_disk_list(const struct logs *logs, const char *function, struct logs_files *files)
{
    list_folder(logs->dir_fd, function, 1, files);
}

static int compare_age(const void *a, const void *b)
{
    const struct logs_file *first = a, *second = b;
    if (first->modified_ns != second->modified_ns)
        return first->modified_ns < second->modified_ns ? -1 : 1;
    return strcmp(first->path, second->path);
}

void logs_files_sort(struct logs_files *files)
{
    if (files->count > 1)
        qsort(files->items, files->count, sizeof *files->items, compare_age);
}

void logs_disk_scan(struct logs *logs, struct logs_function *function)
{
    struct logs_files files = {0};
    logs_disk_list(logs, function->name, &files);
    function->files = (uint32_t)files.count;
    function->bytes = 0;
    for (size_t i = 0; i < files.count; i++)
        function->bytes += files.items[i].bytes;
    logs_files_free(&files);
}

static void stream_path(const struct logs_stream *stream, const char *suffix, char out[LOGS_PATH_BYTES])
{
    snprintf(out, LOGS_PATH_BYTES, "%s/%s%s", stream->function->name, stream->name, suffix);
}

static bool file_is_open(const struct logs *logs, const struct logs_function *function, const char *path)
{
    const struct logs_stream *stream;
    LIST_FOREACH (stream, &logs->streams, entry) {
        char current[LOGS_PATH_BYTES];
        if (stream->function != function || stream->fd < 0)
            continue;
        stream_path(stream, ".log", current);
        if (strcmp(current, path) == 0)
            return true;
    }
    return false;
}

/* The folders above a removed file, as far as they are empty. */
static void remove_empty_folders(const struct logs *logs, const char *path)
{
    char folder[LOGS_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash; (slash = strrchr(folder, '/')) != NULL;) {
        *slash = '\0';
        if (unlinkat(logs->dir_fd, folder, AT_REMOVEDIR) < 0)
            return;
    }
}

void logs_disk_prune(struct logs *logs, struct logs_function *function)
{
    struct logs_files *files = &function->doomed;
    if (files->count > 0)
        return; /* the last choice is still being removed */
    logs_disk_list(logs, function->name, files);
    logs_files_sort(files);
    uint64_t bytes = 0, bytes_goal = logs->options.function_bytes / 10 * 9;
    uint32_t count = (uint32_t)files->count, count_goal = logs->options.function_files / 10 * 9;
    for (size_t i = 0; i < files->count; i++)
        bytes += files->items[i].bytes;
    size_t doomed = 0;
    for (size_t i = 0; i < files->count && (bytes > bytes_goal || count > count_goal); i++) {
        if (file_is_open(logs, function, files->items[i].path))
            continue;
        bytes -= files->items[i].bytes;
        count--;
        files->items[doomed++] = files->items[i];
    }
    files->count = doomed;
    function->bytes = bytes;
    function->files = count;
}

static void remove_doomed(struct logs *logs, struct logs_function *function, size_t most)
{
    struct logs_files *files = &function->doomed;
    for (; most > 0 && function->doomed_gone < files->count; most--) {
        const char *path = files->items[function->doomed_gone++].path;
        if (unlinkat(logs->dir_fd, path, 0) == 0)
            remove_empty_folders(logs, path);
    }
    if (function->doomed_gone < files->count)
        return;
    logs_files_free(files);
    function->doomed_gone = 0;
}

void logs_disk_forget(struct logs *logs, const char *function)
{
    struct logs_files files = {0};
    logs_disk_list(logs, function, &files);
    for (size_t i = 0; i < files.count; i++) {
        unlinkat(logs->dir_fd, files.items[i].path, 0);
        remove_empty_folders(logs, files.items[i].path);
    }
    logs_files_free(&files);
}

static void make_folders(const struct logs *logs, const char *path)
{
    char folder[LOGS_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdirat(logs->dir_fd, folder, 0750);
        *slash = '/';
    }
}

static bool file_open(struct logs_stream *stream)
{
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
    struct logs *logs = stream->logs;
    char path[LOGS_PATH_BYTES];
    stream_path(stream, ".log", path);
    stream->fd = openat(logs->dir_fd, path, flags, 0640);
    if (stream->fd < 0 && errno == ENOENT) {
        make_folders(logs, path);
        stream->fd = openat(logs->dir_fd, path, flags, 0640);
    }
    if (stream->fd < 0)
        return false;
    stream->file_bytes = 0;
    if (++stream->function->files > logs->options.function_files)
        logs_disk_prune(logs, stream->function);
    return true;
}

/* X.log becomes X.1.log; what X.1.log was is gone. */
static void file_rotate(struct logs_stream *stream)
{
    struct logs *logs = stream->logs;
    char now[LOGS_PATH_BYTES], old[LOGS_PATH_BYTES];
    struct stat st;
    stream_path(stream, ".log", now);
    stream_path(stream, ".1.log", old);
    if (fstatat(logs->dir_fd, old, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        uint64_t bytes = (uint64_t)st.st_size;
        stream->function->bytes -= bytes < stream->function->bytes ? bytes : stream->function->bytes;
        stream->function->files -= stream->function->files > 0;
    }
    renameat(logs->dir_fd, now, logs->dir_fd, old);
    fd_close(&stream->fd);
}

void logs_disk_write(struct logs_stream *stream)
{
    struct logs *logs = stream->logs;
    size_t done = 0;
    if (stream->forgotten) {
        stream->out.len = 0;
        return;
    }
    while (done < stream->out.len) {
        if (stream->fd < 0 && !file_open(stream))
            break;
        ssize_t n = write(stream->fd, stream->out.data + done, stream->out.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
        stream->file_bytes += (uint64_t)n;
        stream->function->bytes += (uint64_t)n;
    }
    stream->dropped += stream->out.len - done; /* a full disk: said when there is room again */
    stream->out.len = 0;
    if (stream->fd >= 0 && stream->file_bytes >= logs->options.file_bytes)
        file_rotate(stream);
    if (stream->function->bytes > logs->options.function_bytes)
        logs_disk_prune(logs, stream->function);
    remove_doomed(logs, stream->function, REMOVED_AT_A_TIME);
}
