/* The pieces of the hot set, decoded ahead of their use: by the pager's own thread, when it has nothing better to do, and by
 * helper threads, where there are more processors and enough to decode. Whoever is free takes the next piece.
 *
 * Invariants:
 *   1. Pieces are taken from the source by one thread at a time, and given out in the order in which they were taken, unless any will
 *      do; what follows a damaged one is not given out once that would be its turn.
 *   2. A piece in its slot belongs to the thread that decodes it until it is done, then to the pager's until that gives it back.
 *   3. Helpers touch nothing of the pager's but this and the source's hot set. They begin when decoding_begin lets them, and
 *      are gone when decoding_end has returned. */
#pragma once

#include "pager/pager.h"

#define DECODING_THREADS_MAX 4 /* the pager's own is one of them */
/* Of a hot set as it is stored: helpers for a smaller one are only in the way of the template, which makes its mappings meanwhile. */
#define DECODING_HELPED_BYTES (4 * 1024 * 1024ull)
#define DECODING_SLOTS_MAX 4096

struct decoding;

/* With so many helpers at most, which wait. The source needs not have its hot set yet. NULL when there is no memory for it. */
struct decoding *decoding_new(const struct pager_source *source, size_t helpers_max);
/* Gets memory for the first pieces, so that they need not wait for it page by page. */
void decoding_warm_up(struct decoding *d);
/* How many helpers there can be use for; and whether they are worth it for the hot set that the source has. */
size_t decoding_helpers_max(void);
bool decoding_is_helped(const struct pager_source *source);
/* The source has its hot set, and, where it is to be helped with, helpers may begin: not before they are confined. False: it cannot be
 * decoded. */
bool decoding_begin(struct decoding *d, bool helped);
/* The next piece, which stays valid until it is given back or all ends; NULL: there are no more, or what follows is damaged, or
 * every slot is the caller's. `any`: one that is ready, though another before it is not: nobody waits for a helper that waits for
 * a processor. */
struct pager_hot_piece *decoding_next(struct decoding *d, bool any);
void decoding_give_back(struct decoding *d, struct pager_hot_piece *piece);
/* Ends the helpers; what was given out stays. */
void decoding_end(struct decoding *d);
void decoding_free(struct decoding *d); /* NULL is fine */
