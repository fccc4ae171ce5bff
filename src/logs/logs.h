/* Function logs: one stream for each environment, PATH/<function>/<YYYY>/<MM>/<DD>/[<version>]<32 hex>.log.
 *
 * A file is lines "<milliseconds since the epoch, UTC>\t<text>\n". Text is what the function printed, as it
 * was (a NUL becomes a space), or a line of the platform (START, END, REPORT...). A stream that reaches
 * LOGS_FILE_BYTES is renamed to .1.log (replacing an older one) and begun anew. When a function's files
 * exceed LOGS_FUNCTION_BYTES or LOGS_FUNCTION_FILES, the oldest go. What a function prints faster than
 * LOGS_RATE_BYTES a second is read and dropped, and a line says how many bytes.
 *
 * Nothing here syncs to disk, and nothing waits. A write that fails (disk full) is dropped and counted. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define LOGS_FILE_BYTES (16u << 20)
#define LOGS_FUNCTION_BYTES (256u << 20)
#define LOGS_FUNCTION_FILES 2000u
#define LOGS_LINE_BYTES (16u << 10) /* a longer line is cut into several */
#define LOGS_RATE_BYTES (4u << 20)  /* a second, per stream, sustained */
#define LOGS_BURST_BYTES (8u << 20) /* what a stream may print at once beyond that */
#define LOGS_TURN_BYTES (64u << 10) /* read from one pipe in one turn of the loop */
#define LOGS_TAIL_BYTES 4096u       /* kept for X-Amz-Log-Result */
#define LOGS_READ_LINES_MAX 10000u  /* what logs_read gives at most */

struct logs;
struct logs_stream;
struct logs_follower;

/* The caps as values, so that tests can make them small; 0 means the limit above. */
struct logs_options {
    const char *path; /* made when it is missing */
    uint64_t file_bytes, function_bytes, rate_bytes, burst_bytes;
    uint32_t function_files;
};

MUST_CHECK struct logs *logs_open(const struct logs_options *options, struct error *err);
void logs_close(struct logs *logs); /* flushes; streams and followers must be gone */
/* Write what is buffered. The front calls it at the end of every turn of its loop. */
void logs_flush(struct logs *logs);
/* Remove all files of a deleted function. Streams still open write no more. */
void logs_forget_function(struct logs *logs, const char *function);

/* `function` and `version` are names that Lambda allows; ERROR_INVALID when they could leave the folder. The
 * file is made with the first line. */
MUST_CHECK struct logs_stream *logs_stream_new(
    struct logs *logs, const char *function, const char *version, uint64_t wall_ms, struct error *err);
void logs_stream_free(struct logs_stream **stream, uint64_t wall_ms);
const char *logs_stream_name(const struct logs_stream *stream); /* "2026/01/31/[1]0123..." */

/* A line of the platform. Never dropped for its rate. */
void logs_stream_line(struct logs_stream *stream, uint64_t wall_ms, const char *text, size_t len);
/* Bytes the function printed, in any pieces. */
void logs_stream_print(struct logs_stream *stream, uint64_t wall_ms, const void *data, size_t len);
/* A line without its newline so far becomes a line (before END, and at the end of the stream). */
void logs_stream_complete(struct logs_stream *stream, uint64_t wall_ms);

enum logs_drained { LOGS_DRAINED_EMPTY, LOGS_DRAINED_MORE, LOGS_DRAINED_END };
/* Reads at most LOGS_TURN_BYTES from a non-blocking pipe into the stream. */
enum logs_drained logs_stream_drain(struct logs_stream *stream, int fd, uint64_t wall_ms);

/* The tail: what was logged since the mark, its last LOGS_TAIL_BYTES, as text without stamps. A new stream is
 * marked at its beginning. */
void logs_stream_mark(struct logs_stream *stream);
size_t logs_stream_tail(const struct logs_stream *stream, char out[LOGS_TAIL_BYTES]);

/* One logged line. The pointers live until the callback returns. */
struct logs_line {
    const char *function, *stream;
    uint64_t wall_ms;
    struct bytes text;
};
typedef void logs_line_callback(void *context, const struct logs_line *line);

/* Every new line of `function` (all functions when NULL) from now on, until logs_unfollow. The callback may
 * not call back into logs. */
struct logs_follower *logs_follow(
    struct logs *logs, const char *function, logs_line_callback *callback, void *context);
void logs_unfollow(struct logs_follower **follower);
/* The last `lines` (at most LOGS_READ_LINES_MAX) of a function over all its streams, by time. */
MUST_CHECK int logs_read(struct logs *logs, const char *function, uint32_t lines,
    logs_line_callback *callback, void *context, struct error *err);

/* The stamped lines, exactly as Lambda formats them; each writes a text without newline into `out`. */
struct logs_report {
    const char *request_id;
    uint64_t duration_ns;
    uint32_t memory_mb, used_mb;
    bool has_init, has_restore;
    uint64_t init_ns, restore_ns, billed_restore_ns;
    const char *status;     /* NULL, "timeout" or "error" */
    const char *error_type; /* NULL, or beside status "error" */
};
void logs_format_report(struct buffer *out, const struct logs_report *report);
