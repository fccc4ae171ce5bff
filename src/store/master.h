/* Where a master key comes from: `--master-key file:PATH | env:NAME | command:PROGRAM [ARGUMENTS]`.
 *
 *   file:     32 raw bytes in a regular file that belongs to us and that nobody else can read; made when the store
 *             is new. The default is the file thaw.key in the data folder.
 *   env:      64 hex digits or base64 of 32 bytes. Overwritten and taken out of the environment as soon as it is
 *             parsed, so that neither a child nor /proc/PID/environ shows it.
 *   command:  the seam for a key service. The program (an absolute path) is run without a shell: words end at
 *             blanks, and there are no quotes, variables or patterns; whoever needs those names a script. Its
 *             standard input is /dev/null and its environment ours. It must print the key (hex or base64 and
 *             nothing else but blanks at the end, at most MASTER_OUTPUT_BYTES_MAX) and exit with 0 within
 *             MASTER_COMMAND_SECONDS; else it and its children are killed. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define MASTER_KEY_BYTES 32
#define MASTER_COMMAND_SECONDS 30
#define MASTER_OUTPUT_BYTES_MAX 256
#define MASTER_DEFAULT_FILE "thaw.key" /* in the data folder */

enum master_kind { MASTER_FILE = 1, MASTER_ENV, MASTER_COMMAND };

/* Start from {0}; master_source_free wipes. */
struct master_source {
    enum master_kind kind;
    char *value;      /* the path, the variable's name, or the command */
    uint8_t *env_key; /* env: the key, on a page of its own that children do not inherit; or NULL */
};

/* `text` NULL is the default. Takes the variable of `env:` out of the environment. */
MUST_CHECK int master_source_parse(struct master_source *source, const char *text, struct error *err);
/* As it was given, for messages: no secret. */
const char *master_source_text(const struct master_source *source, char out[256]);
/* The key. A file is made when it is missing and may be (else ERROR_NOT_FOUND). A relative path is below
 * `data_fd`. */
MUST_CHECK int master_source_load(const struct master_source *source, int data_fd, bool may_create,
    uint8_t key[MASTER_KEY_BYTES], struct error *err);
void master_source_free(struct master_source *source);
void master_source_copy(struct master_source *to, const struct master_source *from);
void master_source_forget(
    struct master_source *source); /* the secret; it cannot be loaded any more if it was env */

/* A rotation of a file's key: PATH.next is written and durable; then put in the file's place; or removed. */
MUST_CHECK int master_next_write(
    const struct master_source *source, int data_fd, const uint8_t key[MASTER_KEY_BYTES], struct error *err);
/* *renamed also when it then could not be made durable. */
MUST_CHECK int master_next_commit(
    const struct master_source *source, int data_fd, bool *renamed, struct error *err);
void master_next_remove(const struct master_source *source, int data_fd);

/* 64 hex digits or base64 (44 characters, or 43 without the =), and blanks after it. */
MUST_CHECK bool master_parse_key(const char *text, size_t len, uint8_t key[MASTER_KEY_BYTES]);
