/* What the tests of store/ share: a data folder of their own, and the store in it. After cmocka.h. */
#pragma once

#include "store/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STORE_FOLDER_PATH 64

/* Fills in the path, and returns the folder's descriptor. */
static inline int store_folder_make(char path[STORE_FOLDER_PATH])
{
    strcpy(path, "/tmp/thaw-store-XXXXXX");
    assert_non_null(mkdtemp(path));
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* With all that is in it, which nobody may have open any more. What a tear-down returns. */
static inline int store_folder_remove(const char path[STORE_FOLDER_PATH], int dir)
{
    char command[STORE_FOLDER_PATH + 16];
    snprintf(command, sizeof command, "rm -rf %s", path);
    close(dir);
    return system(command);
}

static inline struct store *store_folder_open(int dir)
{
    struct error err = {0};
    struct store *store = store_open(dir, &err);
    if (store == NULL)
        fail_msg("%s", err.text);
    return store;
}

/* Most of them need no more than this. */
struct store_fixture {
    char path[STORE_FOLDER_PATH];
    int dir;
    struct store *store;
};

static inline int store_fixture_set_up(void **state)
{
    struct store_fixture *f = calloc(1, sizeof *f);
    f->dir = store_folder_make(f->path);
    f->store = store_folder_open(f->dir);
    *state = f;
    return 0;
}

static inline int store_fixture_tear_down(void **state)
{
    struct store_fixture *f = *state;
    store_close(f->store);
    int result = store_folder_remove(f->path, f->dir);
    free(f);
    return result;
}
