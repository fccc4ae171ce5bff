/* What the files of this room share. */
#pragma once

#include "base/bytes.h"
#include "logs/logs.h"

#include <sys/queue.h>

#define LOGS_STREAM_NAME_BYTES 128 /* YYYY/MM/DD/[version]32hex */
#define LOGS_PATH_BYTES 256        /* function/stream.1.log */
#define LOGS_NAME_BYTES 65         /* of a function or a version, with its NUL */

/* Files on disk, with a path below the logs' folder. */
struct logs_file {
    char path[LOGS_PATH_BYTES]; /* below the logs' folder */
    uint64_t bytes, modified_ns;
};
struct logs_files {
    struct logs_file *items;
    size_t count, capacity;
};

/* What is on disk of one function, as far as we know: exact after a scan, kept up as we write. */
struct logs_function {
    LIST_ENTRY(logs_function) entry;
    char name[LOGS_NAME_BYTES];
    uint64_t bytes;
    uint32_t files;
    uint32_t streams; /* open */
    /* Chosen to go and no longer counted: removed a few at a time, as removing many stops the server's loop. */
    struct logs_files doomed;
    size_t doomed_gone; /* how many of them are removed already */
};

struct logs_stream {
    struct logs *logs;
    struct logs_function *function;
    LIST_ENTRY(logs_stream) entry;
    SIMPLEQ_ENTRY(logs_stream) in_dirty;
    bool dirty;
    bool forgotten;      /* its function was deleted: nothing of it goes to disk any more */
    int fd;              /* -1 until the first write, and after a failed one */
    uint64_t file_bytes; /* of the file that is open */
    struct buffer out;   /* stamped lines not written yet */
    struct buffer line;  /* what was printed without its newline yet */
    uint64_t tokens;     /* bytes it may print now */
    uint64_t tokens_at_ms;
    uint64_t dropped;     /* bytes, since the last note */
    uint64_t total, mark; /* bytes of text that went through the tail */
    char name[LOGS_STREAM_NAME_BYTES];
    char tail[LOGS_TAIL_BYTES]; /* a ring: byte i of the text is at i % LOGS_TAIL_BYTES */
};

struct logs_follower {
    struct logs *logs;
    LIST_ENTRY(logs_follower) entry;
    char function[LOGS_NAME_BYTES]; /* "": all */
    logs_line_callback *callback;
    void *context;
};

struct logs {
    int dir_fd;
    struct logs_options options; /* limits filled in; path is NULL */
    LIST_HEAD(, logs_function) functions;
    LIST_HEAD(, logs_stream) streams;
    LIST_HEAD(, logs_follower) followers;
    SIMPLEQ_HEAD(, logs_stream) dirty;
};

/* disk.c */
void logs_files_free(struct logs_files *files);
/* All files of a function, in no order. A function without a folder has none. */
void logs_disk_list(const struct logs *logs, const char *function, struct logs_files *files);
void logs_files_sort(struct logs_files *files); /* the oldest first */
/* Count what is there. */
void logs_disk_scan(struct logs *logs, struct logs_function *function);
/* Choose the oldest files to go, until a tenth below the limits. Open streams' current files stay. */
void logs_disk_prune(struct logs *logs, struct logs_function *function);
/* Write out what the stream has buffered: opens, rotates, prunes. What cannot be written is dropped. */
void logs_disk_write(struct logs_stream *stream);
void logs_disk_forget(struct logs *logs, const char *function);
