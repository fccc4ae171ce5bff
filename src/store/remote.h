/* What of a snapshot goes to the origin and comes from it. Private to the store.
 *
 * Invariants:
 *   1. A snapshot's manifest goes to the origin last: when it is there, so are its key and all of its chunks.
 *   2. A chunk is relied upon there when its mark is younger than ORIGIN_CONFIRMED_S, or when the origin says that it has stored it
 *      in that time. A collection removes nothing there that is younger than ORIGIN_GRACE_S, so what is relied upon stays until
 *      the manifest is there that names it (when that takes no longer than the difference).
 *   3. A chunk that a publish stores is not removed by a collection that has seen an older one: see burst.h. */
#pragma once

#include "store/origin.h"
#include "store/private.h"

/* Store the chunks of a recipe there that it may not have, read from the local folder. */
MUST_CHECK int remote_push_chunks(struct store *store, const struct recipe *recipe, struct error *err);
/* Then key and manifest from the folder `dir_fd`. When it fails, nothing of the snapshot is left there, as far as can be seen. */
MUST_CHECK int remote_push_snapshot(struct store *store, const char *id, int dir_fd, struct error *err);
/* The hot set: not there is better than an old one, so what fails leaves none. */
MUST_CHECK int remote_push_hot(struct store *store, const char *id, int dir_fd, struct error *err);
/* Note, durably, that a snapshot is about to be put there; that it is to be removed there (see removal.c). */
MUST_CHECK int remote_note_publish(struct store *store, const char *id, struct error *err);
MUST_CHECK int remote_note_removal(struct store *store, const char *id, struct error *err);
/* Key, manifest and hot set, all at once; what is not there is fine. Then the note goes. */
MUST_CHECK int remote_remove_snapshot(struct store *store, const char *id, struct error *err);
/* The domain's salt that the origin has is everybody's: take it over, or give it ours. Before a salt is used for writing. */
MUST_CHECK int remote_share_domain(struct store *store, const char *domain, struct error *err);

/* Machines that share an origin and another's rotation of the master key: foreign.c. ERROR_INVALID, in words that say what to do: a key
 * from the origin was wrapped by a master key that is not ours, and that the origin now goes by. Anything else is not this one's to judge. */
MUST_CHECK int remote_check_key_fd(struct store *store, int fd, struct error *err);
/* The same, before we rotate: two machines that did so would lock each other out. */
MUST_CHECK int remote_check_rotation(struct store *store, struct error *err);
/* That error, of a wrapped key. */
int remote_refuse_foreign(const struct store *store, const uint8_t *wrapped, struct error *err);

/* Chunks of a stream that are not here are brought ahead of their turn, many at once. NULL (without an origin) does nothing. */
struct ahead;
struct ahead *ahead_new(struct store_reader *reader);
void ahead_free(struct ahead *ahead);
/* Before chunk `chunk` is read, in their order: it has come, if it could, and the next ones are on their way. */
void ahead_of(struct ahead *ahead, size_t chunk);
