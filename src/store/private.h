/* What the files of the store share. Private to the store. */
#pragma once

#include "store/seal.h"
#include "store/store.h"

#define STORE_KEY_FILE "thaw.key"
#define STORE_FOLDER "snapshots"
#define STORE_TMP_SUFFIX ".tmp"
#define STORE_NAME_BYTES (STORE_ID_HEX + sizeof STORE_TMP_SUFFIX)

struct store {
    int folder_fd;              /* DATA/snapshots */
    struct seal_master *master; /* on a page of its own that is locked and left out of core dumps */
};

/* ERROR_INVALID unless `id` is STORE_ID_HEX lower-case hex digits. */
MUST_CHECK int store_parse_id(const char *id, uint8_t raw[SEAL_ID_BYTES], struct error *err);
/* Make or read DATA/thaw.key. */
MUST_CHECK int store_load_key(
    int data_dir_fd, bool may_create, uint8_t key[SEAL_KEY_BYTES], struct error *err);
/* Remove a folder of the store and the files in it; a missing one is fine. */
void store_remove_folder(int folder_fd, const char *name);
