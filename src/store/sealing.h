/* Sealing chunks in threads: hash, look whether it is there already, else compress, encrypt and write it. Private to the
 * store.
 *
 *   FREE --(sealing_take: the writer fills it)--> WRITER --(sealing_give)--> WAITING --(a thread)--> WORKING
 *    ^                                                                                                  |
 *    +----(collected by the writer: sealing_take, sealing_wait)---- DONE <------------------------------+
 *
 * Invariants:
 *   1. Places are used in turn, so chunks are collected in the order in which they were given.
 *   2. A thread touches a place only in WORKING, the writer only in FREE, WRITER and DONE; states change under the lock. */
#pragma once

#include "store/private.h"

#define SEALING_THREADS_MAX 4
#define SEALING_PLACES 32 /* chunks under way */

struct sealing_place {
    int state;
    uint8_t *plain; /* STORE_CHUNK_BYTES */
    size_t len;
    size_t index; /* the caller's */
    /* Results: */
    struct chunk_id id;
    bool is_new;
    size_t stored_bytes; /* when new */
};

struct sealing;
/* `store_fd`: the store, whose chunks need no second copy; `dir_fd`: where new ones are written to, named by their 64 hex
 * digits. Both stay the caller's. */
MUST_CHECK struct sealing *sealing_new(
    int store_fd, int dir_fd, const uint8_t salt[SEAL_KEY_BYTES], struct error *err);
void sealing_free(struct sealing *sealing); /* NULL is fine; ends the threads first */

/* Called for every chunk that was sealed, in their order, by take and wait. */
typedef void sealing_collect(void *context, const struct sealing_place *place);
/* The next free place. NULL and the error of the first chunk that failed. */
MUST_CHECK struct sealing_place *sealing_take(
    struct sealing *sealing, sealing_collect *collect, void *context, struct error *err);
void sealing_give(struct sealing *sealing, struct sealing_place *place);
/* Until all that were given are collected. */
MUST_CHECK int sealing_wait(
    struct sealing *sealing, sealing_collect *collect, void *context, struct error *err);
