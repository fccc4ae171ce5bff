/* Streams: lines are stamped into a buffer, which is written once in a turn of the loop. */
#include "logs/internal.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OUT_BYTES_MAX (128u << 10) /* buffered lines of one stream before they are written in mid-turn */

struct logs *logs_open(const struct logs_options *options, struct error *err)
{
    if (mkdir(options->path, 0750) < 0 && errno != EEXIST) {
        error_system(err, "cannot make the log folder %s", options->path);
        return NULL;
    }
    int fd = open(options->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        error_system(err, "cannot open the log folder %s", options->path);
        return NULL;
    }
    struct logs *logs = xcalloc(1, sizeof *logs);
    logs->dir_fd = fd;
    logs->options = (struct logs_options){
        .file_bytes = options->file_bytes ? options->file_bytes : LOGS_FILE_BYTES,
        .function_bytes = options->function_bytes ? options->function_bytes : LOGS_FUNCTION_BYTES,
        .rate_bytes = options->rate_bytes ? options->rate_bytes : LOGS_RATE_BYTES,
        .burst_bytes = options->burst_bytes ? options->burst_bytes : LOGS_BURST_BYTES,
        .function_files = options->function_files ? options->function_files : LOGS_FUNCTION_FILES,
    };
    LIST_INIT(&logs->functions);
    LIST_INIT(&logs->streams);
    LIST_INIT(&logs->followers);
    SIMPLEQ_INIT(&logs->dirty);
    return logs;
}

void logs_close(struct logs *logs)
{
    if (logs == NULL)
        return;
    while (!LIST_EMPTY(&logs->functions)) {
        struct logs_function *function = LIST_FIRST(&logs->functions);
        LIST_REMOVE(function, entry);
        logs_files_free(&function->doomed);
        free(function);
    }
    close(logs->dir_fd);
    free(logs);
}

void logs_flush(struct logs *logs)
{
    while (!SIMPLEQ_EMPTY(&logs->dirty)) {
        struct logs_stream *stream = SIMPLEQ_FIRST(&logs->dirty);
        SIMPLEQ_REMOVE_HEAD(&logs->dirty, in_dirty);
        stream->dirty = false;
        logs_disk_write(stream);
    }
}

/* ---- functions and streams ---- */

/* Names become folders: only what Lambda allows in them, so nothing with a slash, a dot or nothing. */
static bool name_is_plain(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_$");
    return len > 0 && len < LOGS_NAME_BYTES && name[len] == '\0';
}

static struct logs_function *function_find(struct logs *logs, const char *name)
{
    struct logs_function *function;
    LIST_FOREACH (function, &logs->functions, entry)
        if (strcmp(function->name, name) == 0)
            return function;
    function = xcalloc(1, sizeof *function);
    snprintf(function->name, sizeof function->name, "%s", name);
    LIST_INSERT_HEAD(&logs->functions, function, entry);
    logs_disk_scan(logs, function);
    return function;
}

void logs_forget_function(struct logs *logs, const char *name)
{
    if (!name_is_plain(name))
        return;
    struct logs_stream *stream;
    LIST_FOREACH (stream, &logs->streams, entry) {
        if (strcmp(stream->function->name, name) != 0)
            continue;
        stream->forgotten = true;
        fd_close(&stream->fd);
    }
    logs_disk_forget(logs, name);
    struct logs_function *function;
    LIST_FOREACH (function, &logs->functions, entry)
        if (strcmp(function->name, name) == 0)
            function->bytes = function->files = 0;
}

static int stream_name(struct logs_stream *stream, const char *version, uint64_t wall_ms, struct error *err)
{
    uint8_t random[16];
    char hex[33];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return error_system(err, "cannot draw the name of a log stream");
    hex_encode(hex, random, sizeof random);
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm day;
    gmtime_r(&seconds, &day);
    snprintf(stream->name, sizeof stream->name, "%04d/%02d/%02d/[%s]%s", day.tm_year + 1900, day.tm_mon + 1,
        day.tm_mday, version, hex);
    return 0;
}

struct logs_stream *logs_stream_new(
    struct logs *logs, const char *function, const char *version, uint64_t wall_ms, struct error *err)
{
    if (!name_is_plain(function) || !name_is_plain(version)) {
        error_set(err, ERROR_INVALID, "no log stream can be named after function '%s', version '%s'",
            function, version);
        return NULL;
    }
    struct logs_stream *stream = xcalloc(1, sizeof *stream);
    if (stream_name(stream, version, wall_ms, err) < 0) {
        free(stream);
        return NULL;
    }
    stream->logs = logs;
    stream->function = function_find(logs, function);
    stream->function->streams++;
    stream->fd = -1;
    stream->tokens = logs->options.burst_bytes;
    stream->tokens_at_ms = wall_ms;
    LIST_INSERT_HEAD(&logs->streams, stream, entry);
    return stream;
}

void logs_stream_free(struct logs_stream **slot, uint64_t wall_ms)
{
    struct logs_stream *stream = *slot;
    if (stream == NULL)
        return;
    *slot = NULL;
    logs_stream_complete(stream, wall_ms);
    if (stream->dirty) {
        SIMPLEQ_REMOVE(&stream->logs->dirty, stream, logs_stream, in_dirty);
        logs_disk_write(stream);
    }
    LIST_REMOVE(stream, entry);
    stream->function->streams--;
    fd_close(&stream->fd);
    buffer_free(&stream->out);
    buffer_free(&stream->line);
    free(stream);
}

const char *logs_stream_name(const struct logs_stream *stream)
{
    return stream->name;
}

/* ---- lines ---- */

static void tail_append(struct logs_stream *stream, const uint8_t *data, size_t len)
{
    if (len > LOGS_TAIL_BYTES) {
        stream->total += len - LOGS_TAIL_BYTES;
        data += len - LOGS_TAIL_BYTES;
        len = LOGS_TAIL_BYTES;
    }
    size_t at = stream->total % LOGS_TAIL_BYTES;
    size_t first = len < LOGS_TAIL_BYTES - at ? len : LOGS_TAIL_BYTES - at;
    memcpy(stream->tail + at, data, first);
    memcpy(stream->tail, data + first, len - first);
    stream->total += len;
}

static void append_stamp(struct buffer *out, uint64_t wall_ms)
{
    char digits[24];
    size_t at = sizeof digits;
    digits[--at] = '\t';
    do {
        digits[--at] = (char)('0' + wall_ms % 10);
        wall_ms /= 10;
    } while (wall_ms > 0);
    buffer_append(out, digits + at, sizeof digits - at);
}

static void tell_followers(const struct logs_stream *stream, uint64_t wall_ms, struct bytes text)
{
    struct logs_follower *follower, *next;
    const struct logs_line line = {stream->function->name, stream->name, wall_ms, text};
    for (follower = LIST_FIRST(&stream->logs->followers); follower != NULL; follower = next) {
        next = LIST_NEXT(follower, entry);
        if (follower->function[0] == '\0' || strcmp(follower->function, line.function) == 0)
            follower->callback(follower->context, &line);
    }
}

static void stream_emit(struct logs_stream *stream, uint64_t wall_ms, const uint8_t *text, size_t len)
{
    struct logs *logs = stream->logs;
    if (!stream->dirty) {
        stream->dirty = true;
        SIMPLEQ_INSERT_TAIL(&logs->dirty, stream, in_dirty);
    }
    append_stamp(&stream->out, wall_ms);
    size_t at = stream->out.len;
    buffer_append(&stream->out, text, len);
    for (uint8_t *c = stream->out.data + at; (c = memchr(c, '\0', stream->out.data + at + len - c)) != NULL;)
        *c = ' ';
    buffer_append_u8(&stream->out, '\n');
    tail_append(stream, stream->out.data + at, len + 1);
    if (!LIST_EMPTY(&logs->followers))
        tell_followers(stream, wall_ms, (struct bytes){stream->out.data + at, len});
    if (stream->out.len >= OUT_BYTES_MAX)
        logs_disk_write(stream);
}

static void note_dropped(struct logs_stream *stream, uint64_t wall_ms)
{
    if (stream->dropped == 0)
        return;
    char note[160];
    int len = snprintf(note, sizeof note,
        "[thaw] %llu bytes of log were dropped here: more than %llu bytes a second, or no room on disk",
        (unsigned long long)stream->dropped, (unsigned long long)stream->logs->options.rate_bytes);
    stream->dropped = 0;
    stream_emit(stream, wall_ms, (const uint8_t *)note, (size_t)len);
}

void logs_stream_line(struct logs_stream *stream, uint64_t wall_ms, const char *text, size_t len)
{
    stream_emit(stream, wall_ms, (const uint8_t *)text, len);
}

void logs_stream_complete(struct logs_stream *stream, uint64_t wall_ms)
{
    if (stream->line.len > 0)
        stream_emit(stream, wall_ms, stream->line.data, stream->line.len);
    stream->line.len = 0;
    note_dropped(stream, wall_ms);
}

/* A bucket that fills at rate_bytes a second up to burst_bytes. Once it was empty it must be half full again,
 * so that a flood leaves long gaps with a note each, and not a note for every line. */
static bool take_tokens(struct logs_stream *stream, uint64_t wall_ms, size_t len)
{
    const struct logs_options *options = &stream->logs->options;
    if (wall_ms > stream->tokens_at_ms) {
        uint64_t elapsed_ms = wall_ms - stream->tokens_at_ms;
        uint64_t more = elapsed_ms > 3600000 ? options->burst_bytes : elapsed_ms * options->rate_bytes / 1000;
        stream->tokens =
            stream->tokens + more < options->burst_bytes ? stream->tokens + more : options->burst_bytes;
    }
    stream->tokens_at_ms = wall_ms;
    uint64_t half =
        (options->rate_bytes < options->burst_bytes ? options->rate_bytes : options->burst_bytes) / 2;
    if (stream->tokens < len || (stream->dropped > 0 && stream->tokens < half))
        return false;
    stream->tokens -= len;
    return true;
}

void logs_stream_print(struct logs_stream *stream, uint64_t wall_ms, const void *data, size_t len)
{
    if (!take_tokens(stream, wall_ms, len)) {
        stream->dropped += len;
        return;
    }
    if (stream->dropped > 0)
        logs_stream_complete(stream, wall_ms);
    const uint8_t *at = data, *end = at + len;
    while (at < end) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
        size_t piece = (size_t)((newline ? newline : end) - at);
        size_t room = LOGS_LINE_BYTES - stream->line.len;
        bool cut = piece > room;
        if (cut)
            piece = room;
        if (newline == NULL || cut || stream->line.len > 0)
            buffer_append(&stream->line, at, piece);
        if (stream->line.len > 0 && (newline != NULL || cut)) {
            stream_emit(stream, wall_ms, stream->line.data, stream->line.len);
            stream->line.len = 0;
        } else if (newline != NULL) {
            stream_emit(stream, wall_ms, at, piece);
        }
        at += piece + (newline != NULL && !cut);
    }
}

enum logs_drained logs_stream_drain(struct logs_stream *stream, int fd, uint64_t wall_ms)
{
    static uint8_t chunk[LOGS_TURN_BYTES]; /* one loop, one thread: too large for every stack */
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? LOGS_DRAINED_EMPTY : LOGS_DRAINED_END;
        if (n == 0)
            return LOGS_DRAINED_END;
        logs_stream_print(stream, wall_ms, chunk, (size_t)n);
        /* A short read of a pipe does not prove it empty, but the loop says when there is more. */
        return (size_t)n < sizeof chunk ? LOGS_DRAINED_EMPTY : LOGS_DRAINED_MORE;
    }
}

void logs_stream_mark(struct logs_stream *stream)
{
    stream->mark = stream->total;
}

size_t logs_stream_tail(const struct logs_stream *stream, char out[LOGS_TAIL_BYTES])
{
    uint64_t from = stream->mark;
    if (stream->total - from > LOGS_TAIL_BYTES)
        from = stream->total - LOGS_TAIL_BYTES;
    size_t len = (size_t)(stream->total - from), at = from % LOGS_TAIL_BYTES;
    size_t first = len < LOGS_TAIL_BYTES - at ? len : LOGS_TAIL_BYTES - at;
    memcpy(out, stream->tail + at, first);
    memcpy(out + first, stream->tail, len - first);
    return len;
}

/* ---- followers ---- */

struct logs_follower *logs_follow(
    struct logs *logs, const char *function, logs_line_callback *callback, void *context)
{
    struct logs_follower *follower = xcalloc(1, sizeof *follower);
    follower->logs = logs;
    snprintf(follower->function, sizeof follower->function, "%s", function ? function : "");
    follower->callback = callback;
    follower->context = context;
    LIST_INSERT_HEAD(&logs->followers, follower, entry);
    return follower;
}

void logs_unfollow(struct logs_follower **slot)
{
    if (*slot == NULL)
        return;
    LIST_REMOVE(*slot, entry);
    free(steal_pointer(*slot));
}
