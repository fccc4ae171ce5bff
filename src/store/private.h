/* What the files of the store share. Private to the store. */
#pragma once

#include "store/chunk.h"
#include "store/keyring.h"
#include "store/master.h"
#include "store/origin_mark.h"
#include "store/recipe.h"
#include "store/store.h"

#define STORE_FOLDER "store"
#define STORE_TMP_SUFFIX ".tmp"     /* being written */
#define STORE_GONE_SUFFIX ".gone"   /* being deleted */
#define STORE_FETCH_PREFIX "fetch-" /* of the courier's files in tmp/ (origin/courier_files.c) */
#define STORE_NAME_BYTES (STORE_ID_HEX + sizeof STORE_GONE_SUFFIX)
#define STORE_CHUNK_CODEC CODEC_ZSTD
#define STORE_HOT_CODEC CODEC_LZ4

struct store {
    int store_fd;                    /* DATA/store; the others are its folders */
    int snapshots_fd;                /* 0700 */
    int chunks_fd;                   /* 0711: the pager, who is nobody, opens chunks by their names */
    int domains_fd;                  /* 0700 */
    int tmp_fd;                      /* 0700 */
    int data_fd;                     /* DATA, where a relative key file is */
    struct master_source key_source; /* without a secret: only for rotations */
    struct keyring *keyring;         /* NULL once it was forgotten */
    int origin_control_fd;           /* not ours; -1: there is no origin */
    uint8_t origin_id[ORIGIN_MARK_ID_BYTES];
    struct store_origin_times origin_times;
    struct origin *origin; /* of the process origin_pid */
    pid_t origin_pid;
};

struct store_reader {
    struct store *store; /* once the reader is open, used for what comes from the origin only */
    char id[STORE_ID_HEX + 1];
    uint8_t raw_id[SEAL_ID_BYTES], data_key[SEAL_KEY_BYTES];
    int dir_fd, store_fd;
    struct recipe recipe;
    struct chunk_tools *tools;
    char chunk_name[STORE_CHUNK_NAME_BYTES];
};

/* ERROR_INVALID unless `id` is STORE_ID_HEX lower-case hex digits. */
MUST_CHECK int store_parse_id(const char *id, uint8_t raw[SEAL_ID_BYTES], struct error *err);
/* A snapshot whose files are elsewhere, for its recipe only: no chunk can be read. The descriptors stay the caller's. */
MUST_CHECK struct store_reader *store_reader_open_files(
    struct store *store, const char *id, int key_fd, int manifest_fd, struct error *err);
/* folder.c */

MUST_CHECK int folder_open(int parent_fd, const char *name, mode_t mode, int *fd, struct error *err);
bool folder_has_suffix(const char *name, const char *suffix);
/* Remove a folder and whatever is in it (our own folders hold files only; somebody else may have put another there).
 * A missing one is fine, and so is what is no folder: it stays. */
void folder_remove(int parent_fd, const char *name);
void folder_empty(int folder_fd);
/* Remove what has that name, be it a file, a link, a pipe or a folder. Returns whether nothing has it any more. */
bool folder_discard(int parent_fd, const char *name);
/* Calls `each` for every entry but . and ..; stops when it returns false. */
typedef bool folder_each(void *context, int folder_fd, const char *name);
MUST_CHECK int folder_list(int folder_fd, folder_each *each, void *context, struct error *err);
/* "chunks/ab/REST" */
void folder_chunk_name(char out[STORE_CHUNK_NAME_BYTES], const uint8_t name[CHUNK_NAME_BYTES]);
#define FOLDER_CHUNKS_PREFIX "chunks/"
/* rename(2), and where a folder is in the way it is removed. */
MUST_CHECK int folder_replace(int from_fd, const char *from, int to_fd, const char *to);
/* Where it is said that a chunk is in use now: its mtime becomes the time. A collection does not come between (see
 * collect.c). */
MUST_CHECK int folder_touch_chunk(int store_fd, const char *name, struct error *err);
/* Put a finished file from `from_fd` into the chunks. */
MUST_CHECK int folder_place_chunk(
    int from_fd, const char *file, int store_fd, const char *name, struct error *err);
