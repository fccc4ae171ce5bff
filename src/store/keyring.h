/* The master keys, and the small files that hold a key wrapped by one. Private to the store.
 *
 * A keyring holds the current master key and, while a rotation is unfinished, the older one too. It lives on a
 * page of its own that is locked and left out of core dumps, and that forked children *share*: when the process
 * that made the keyring changes it, a child that was forked before wraps with the new key from then on. Only that
 * process may change it.
 *
 * A wrapped key (the whole of `snapshots/ID/key` and of `domains/NAME`) is KEYRING_FILE_BYTES long:
 *
 *    0  magic "THAWKEYS"           32  random nonce of 12 bytes
 *    8  u16 format version         44  the key of 32 bytes, encrypted with AES-256-GCM
 *   10  u16 enum keyring_kind      76  tag of 16 bytes
 *   12  u32 zero
 *   16  id of the master key: it tells another key from damage
 *
 * Authenticated with it: bytes 0-31 and the name (the snapshot's id, or the domain's name), so that a file put in
 * another one's place is refused. */
#pragma once

#include "store/seal.h"

#include <sys/types.h>

#define KEYRING_FILE_BYTES 92
#define KEYRING_VERSION 1
#define KEYRING_OLDER_FILE "older-key" /* in DATA/store */
#define KEYRING_DOMAINS "domains"
#define KEYRING_SNAPSHOTS "snapshots"
#define KEYRING_DOMAIN_NAME_MAX 64 /* characters of a trust domain's name */

/* KEYRING_OLDER: the older master key, wrapped by the current one in DATA/store/older-key while a rotation is
 * unfinished. */
enum keyring_kind { KEYRING_SNAPSHOT = 1, KEYRING_DOMAIN = 2, KEYRING_OLDER = 3 };

struct keyring;

/* `older` may be NULL. `lock_fd` is a folder (DATA/store; duplicated) on which writers of key files and a rotation
 * keep out of each other's way. */
MUST_CHECK struct keyring *keyring_new(
    int lock_fd, const uint8_t key[SEAL_KEY_BYTES], const uint8_t older[SEAL_KEY_BYTES], struct error *err);
/* NULL is fine. Unmaps the page of this process; the last one's wipes it. What a pager calls before it gives up
 * its rights: from then on it has no way to the master keys. */
void keyring_free(struct keyring *ring);

/* Begin a rotation: `key` becomes the current one, the current one becomes the older one (ERROR_CONFLICT when
 * there is one already; ERROR_INVALID when it is the current one). When this returns, nobody wraps with the older
 * one any more, and what they wrapped with it is in its file. In memory only: see keyring_rotate.h. */
MUST_CHECK int keyring_advance(struct keyring *ring, const uint8_t key[SEAL_KEY_BYTES], struct error *err);
/* End it: the older key is wiped. */
void keyring_drop_older(struct keyring *ring);
bool keyring_has_older(const struct keyring *ring);
/* The older key, wrapped by the current one; a key that waits to become the current one, handed by a child to the
 * process that may change the keyring. Private to keyring_rotate.c. */
MUST_CHECK int keyring_wrap_older(struct keyring *ring, uint8_t out[KEYRING_FILE_BYTES], struct error *err);
MUST_CHECK int keyring_wrap_for(struct keyring *ring, const uint8_t next[SEAL_KEY_BYTES],
    uint8_t out[KEYRING_FILE_BYTES], struct error *err); /* the current one, by the one that comes next */
void keyring_offer(struct keyring *ring, const uint8_t key[SEAL_KEY_BYTES]);
MUST_CHECK bool keyring_take_offer(struct keyring *ring, uint8_t key[SEAL_KEY_BYTES]); /* false: none */
/* Whether a wrapped key names a master key that is not ours. */
bool keyring_is_foreign(const struct keyring *ring, const uint8_t *wrapped, size_t len);
/* Of the current key. Not a secret. */
void keyring_current_id(const struct keyring *ring, uint8_t id[SEAL_ID_BYTES]);

/* How far a rotation is; shared with children as the keys are. */
struct keyring_progress {
    _Atomic uint64_t total, done,
        damaged; /* files: of them, wrapped anew or found to be; unreadable anyway */
};
struct keyring_progress *keyring_progress(struct keyring *ring);

/* In memory. `name` is a snapshot's id in hex, or a domain's name. */
MUST_CHECK int keyring_wrap(struct keyring *ring, enum keyring_kind kind, const char *name,
    const uint8_t key[SEAL_KEY_BYTES], uint8_t out[KEYRING_FILE_BYTES], struct error *err);
/* ERROR_CORRUPT (damage, another name or kind, or a master key that we do not have: the text says which),
 * ERROR_UNSUPPORTED for a newer version; `key` is zeros then. `with_older` (may be NULL) says whether it needs
 * to be wrapped anew. */
MUST_CHECK int keyring_unwrap(const struct keyring *ring, enum keyring_kind kind, const char *name,
    const uint8_t *wrapped, size_t len, uint8_t key[SEAL_KEY_BYTES], bool *with_older, struct error *err);

/* Make a new key file: wrapped, fsynced (the folder is not). ERROR_CONFLICT when there is one. */
MUST_CHECK int keyring_create_file(struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, const uint8_t key[SEAL_KEY_BYTES], struct error *err);
/* ERROR_NOT_FOUND when the file is missing; else as keyring_unwrap. */
MUST_CHECK int keyring_read_file(const struct keyring *ring, int dir_fd, const char *file,
    enum keyring_kind kind, const char *name, uint8_t key[SEAL_KEY_BYTES], struct error *err);
/* Wrap a file's key anew when the older master key wraps it: atomic and durable. *rewrapped tells whether it had
 * to. ERROR_NOT_FOUND when it is missing (deleted meanwhile). */
MUST_CHECK int keyring_rewrap_file(struct keyring *ring, int dir_fd, const char *file, enum keyring_kind kind,
    const char *name, bool *rewrapped, struct error *err);
/* Destroy a key file: overwritten, fsynced, unlinked, the folder fsynced. A missing one is fine (0). What it
 * wrapped is unreadable from then on, whatever else is left. */
MUST_CHECK int keyring_shred_file(struct keyring *ring, int dir_fd, const char *file, struct error *err);

/* A trust domain's name: 1 to KEYRING_DOMAIN_NAME_MAX of a-z 0-9 - _ and, not first, a dot. ERROR_INVALID. */
MUST_CHECK int keyring_check_domain(const char *name, struct error *err);
/* The salt of a domain: read, or made and durable when there is none. `domains_fd` is the folder of them. Whoever
 * else makes the same one at the same time gets the same salt. One that is damaged is made anew. */
MUST_CHECK int keyring_domain_salt(
    struct keyring *ring, int domains_fd, const char *name, uint8_t salt[SEAL_KEY_BYTES], struct error *err);
/* Put a domain's file from elsewhere in the place of ours, if one of our master keys has wrapped it (else
 * ERROR_CORRUPT, and nothing is changed). */
MUST_CHECK int keyring_adopt_domain(struct keyring *ring, int domains_fd, const char *name,
    const uint8_t wrapped[KEYRING_FILE_BYTES], struct error *err);
