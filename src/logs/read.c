/* Reading back: the last lines of a function over all its streams, in order of time. */
#include "logs/internal.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_FILE_BYTES (1u << 20) /* the end of a file that is looked at */
#define READ_FILES_MAX 200         /* the newest files that are looked at */

struct read_line {
    uint64_t wall_ms;
    uint64_t order; /* of reading, which keeps the lines of a file in place */
    char *text, *stream;
    size_t len;
};

struct read_lines {
    struct read_line *items;
    size_t count, capacity;
};

static int compare_lines(const void *a, const void *b)
{
    const struct read_line *first = a, *second = b;
    if (first->wall_ms != second->wall_ms)
        return first->wall_ms < second->wall_ms ? -1 : 1;
    return first->order < second->order ? -1 : first->order > second->order;
}

static void lines_add(struct read_lines *lines, struct read_line line)
{
    if (lines->count == lines->capacity) {
        lines->capacity = lines->capacity ? lines->capacity * 2 : 256;
        lines->items = xrealloc(lines->items, lines->capacity * sizeof *lines->items);
    }
    line.order = lines->count;
    lines->items[lines->count++] = line;
}

/* "<digits>\t<text>" into a line; false for anything else (a file cut short by a crash). */
static bool parse_line(const char *at, size_t len, struct read_line *out)
{
    const char *tab = memchr(at, '\t', len < 21 ? len : 21);
    if (tab == NULL || tab == at)
        return false;
    out->wall_ms = 0;
    for (const char *c = at; c < tab; c++) {
        if (*c < '0' || *c > '9')
            return false;
        out->wall_ms = out->wall_ms * 10 + (uint64_t)(*c - '0');
    }
    out->len = len - (size_t)(tab + 1 - at);
    out->text = xstrndup(tab + 1, out->len);
    return true;
}

/* The last `wanted` lines of one file. */
static void read_file(
    const struct logs *logs, const struct logs_file *file, uint32_t wanted, struct read_lines *lines)
{
    CLEANUP_FD int fd = openat(logs->dir_fd, file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (size <= 0)
        return;
    size_t take = size > (off_t)READ_FILE_BYTES ? READ_FILE_BYTES : (size_t)size;
    CLEANUP_FREE char *text = xcalloc(1, take + 1);
    if (pread(fd, text, take, size - (off_t)take) != (ssize_t)take)
        return;
    const char *begin = text, *end = text + take;
    if ((off_t)take < size) /* begin at a whole line */
        begin = memchr(text, '\n', take) ? (const char *)memchr(text, '\n', take) + 1 : end;
    const char *from = end;
    for (uint32_t seen = 0; from > begin; from--)
        if (from[-1] == '\n' && seen++ == wanted)
            break;
    const char *slash = strchr(file->path, '/');
    for (const char *at = from; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        struct read_line line;
        if (parse_line(at, len, &line)) {
            line.stream = xstrndup(slash + 1, strcspn(slash + 1, "."));
            lines_add(lines, line);
        }
        at += len + 1;
    }
}

static void lines_trim(struct read_lines *lines, uint32_t wanted)
{
    if (lines->count > 1)
        qsort(lines->items, lines->count, sizeof *lines->items, compare_lines);
    if (lines->count <= wanted)
        return;
    size_t gone = lines->count - wanted;
    for (size_t i = 0; i < gone; i++) {
        free(lines->items[i].text);
        free(lines->items[i].stream);
    }
    memmove(lines->items, lines->items + gone, wanted * sizeof *lines->items);
    lines->count = wanted;
}

int logs_read(struct logs *logs, const char *function, uint32_t wanted, logs_line_callback *callback,
    void *context, struct error *err)
{
    if (strchr(function, '/') != NULL || function[0] == '.' || function[0] == '\0')
        return error_set(err, ERROR_INVALID, "'%s' is not the name of a function", function);
    if (wanted > LOGS_READ_LINES_MAX)
        wanted = LOGS_READ_LINES_MAX;
    logs_flush(logs);
    struct logs_files files = {0};
    struct read_lines lines = {0};
    logs_disk_list(logs, function, &files);
    logs_files_sort(&files);
    size_t first = files.count > READ_FILES_MAX ? files.count - READ_FILES_MAX : 0;
    for (size_t i = files.count; i > first && wanted > 0; i--) {
        /* Older files cannot hold newer lines: the wanted number may be complete already. */
        if (lines.count >= wanted && lines.items[0].wall_ms > files.items[i - 1].modified_ns / 1000000)
            break;
        read_file(logs, &files.items[i - 1], wanted, &lines);
        lines_trim(&lines, wanted);
    }
    for (size_t i = 0; i < lines.count; i++) {
        struct read_line *line = &lines.items[i];
        const struct logs_line out = {
            function, line->stream, line->wall_ms, {(const uint8_t *)line->text, line->len}};
        callback(context, &out);
    }
    lines_trim(&lines, 0);
    free(lines.items);
    logs_files_free(&files);
    return 0;
}
