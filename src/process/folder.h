/* The folder that a freeze leaves: plain files, mode 0600 in a folder of mode 0700, as they hold the program's
 * memory. It is complete when `manifest` is there. Inside the room only.
 *
 *   DIR/settings   what the program's surroundings were, as lines of text
 *   DIR/pages      the page stream, then the bulk area
 *   DIR/manifest   the image */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "image/image.h"

#include <stdbool.h>
#include <stdint.h>

#define FOLDER_MANIFEST_MAX (64u << 20)
#define FOLDER_SETTINGS_MAX 4096
#define FOLDER_WRITE_BYTES (1u << 20)

struct folder_settings {
    char name[16]; /* of the program */
    bool private_network, private_tmp;
};

/* A new folder being filled. */
struct folder_writer {
    int dir_fd, pages_fd;
    bool made; /* by us: removed when it is not finished */
    const char *path;
    uint8_t *pending; /* FOLDER_WRITE_BYTES */
    size_t pending_len;
};

/* `path` must not exist, or be an empty folder. It must outlive the writer. */
MUST_CHECK int folder_create(struct folder_writer *w, const char *path, struct error *err);
MUST_CHECK int folder_put_pages(struct folder_writer *w, const void *data, size_t len, struct error *err);
MUST_CHECK int folder_commit(struct folder_writer *w, const struct buffer *manifest,
    const struct folder_settings *settings, struct error *err);
/* Removes what is there of it; after that (and after a commit) close. */
void folder_discard(struct folder_writer *w);
void folder_close(struct folder_writer *w);

struct folder {
    struct folder_settings settings;
    struct image image;
    int pages_fd;
    uint64_t manifest_bytes;
};
/* Reads and checks all but the pages. A snapshot is a program that we are going to run: the folder and its files
 * must belong to our user, and nobody else may be able to write to them. */
MUST_CHECK int folder_open(struct folder *f, const char *path, struct error *err);
void folder_free(struct folder *f);
