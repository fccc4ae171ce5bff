/* The master keys in memory, and wrapping with them. */
#include "store/keyring.h"

#include "base/fd.h"
#include "store/keyring_private.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char MAGIC[8] = {'T', 'H', 'A', 'W', 'K', 'E', 'Y', 'S'};

enum wrapped_at {
    AT_VERSION = 8,
    AT_KIND = 10,
    AT_ZERO = 12,
    AT_KEY_ID = 16,
    AT_NONCE = 32, /* what stands before it is authenticated */
    AT_KEY = 44,
    AT_TAG = 76,
};

#define NAME_BYTES_MAX 64
_Static_assert(KEYRING_DOMAIN_NAME_MAX <= NAME_BYTES_MAX, "a domain's name fits");

/* `changes` is odd while the keys change: who copies them meanwhile copies them again. */
struct keyring_page {
    _Atomic uint32_t changes;
    uint32_t count; /* keys[0] is the current one */
    struct seal_master keys[2];
    uint8_t offered[SEAL_KEY_BYTES];
    _Atomic bool is_offered;
    struct keyring_progress progress;
};

static struct keyring_page *allocate_page(struct error *err)
{
    /* Shared, so that children see a rotation: see the header. */
    struct keyring_page *page =
        mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        error_system(err, "cannot allocate memory for the key");
        return NULL;
    }
    /* Best effort: a machine without RLIMIT_MEMLOCK for us still works. */
    (void)!mlock(page, sizeof *page);
    madvise(page, sizeof *page, MADV_DONTDUMP);
    return page;
}

struct keyring *keyring_new(
    int lock_fd, const uint8_t key[SEAL_KEY_BYTES], const uint8_t older[SEAL_KEY_BYTES], struct error *err)
{
    struct keyring *ring = xcalloc(1, sizeof *ring);
    ring->lock_fd = fcntl(lock_fd, F_DUPFD_CLOEXEC, 3);
    ring->owner = getpid();
    if (ring->lock_fd < 0)
        error_system(err, "cannot hold the store's folder");
    else
        ring->page = allocate_page(err);
    if (ring->page == NULL) {
        keyring_free(ring);
        return NULL;
    }
    seal_master_init(&ring->page->keys[0], key);
    ring->page->count = 1;
    if (older != NULL)
        seal_master_init(&ring->page->keys[ring->page->count++], older);
    return ring;
}

void keyring_free(struct keyring *ring)
{
    if (ring == NULL)
        return;
    if (ring->page != NULL) {
        if (ring->owner == getpid())
            OPENSSL_cleanse(ring->page, sizeof *ring->page);
        munmap(ring->page, sizeof *ring->page);
    }
    fd_close(&ring->lock_fd);
    free(ring);
}

static void begin_change(struct keyring *ring)
{
    atomic_fetch_add(&ring->page->changes, 1);
    atomic_thread_fence(memory_order_seq_cst);
}

static void end_change(struct keyring *ring)
{
    atomic_thread_fence(memory_order_seq_cst);
    atomic_fetch_add(&ring->page->changes, 1);
}

/* A copy of the keys as they are at one moment; for the caller to wipe. */
static size_t copy_keys(const struct keyring *ring, struct seal_master keys[2])
{
    const struct keyring_page *page = ring->page;
    for (;;) {
        uint32_t before = atomic_load(&page->changes);
        atomic_thread_fence(memory_order_seq_cst);
        size_t count = page->count;
        memcpy(keys, page->keys, sizeof page->keys);
        atomic_thread_fence(memory_order_seq_cst);
        if (before % 2 == 0 && atomic_load(&page->changes) == before)
            return count;
    }
}

int keyring_advance(struct keyring *ring, const uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    if (keyring_has_older(ring))
        return error_set(err, ERROR_CONFLICT, "an earlier rotation of the master key is not finished");
    struct seal_master next;
    seal_master_init(&next, key);
    bool same = CRYPTO_memcmp(next.key, ring->page->keys[0].key, SEAL_KEY_BYTES) == 0;
    CLEANUP_FD int lock = same ? -1 : keyring_lock(ring, LOCK_EX, err);
    if (lock >= 0) {
        begin_change(ring);
        ring->page->keys[1] = ring->page->keys[0];
        ring->page->keys[0] = next;
        ring->page->count = 2;
        end_change(ring);
    }
    OPENSSL_cleanse(&next, sizeof next);
    if (same)
        return error_set(err, ERROR_INVALID, "the new master key is the one in use");
    return lock < 0 ? -1 : 0;
}

void keyring_drop_older(struct keyring *ring)
{
    begin_change(ring);
    ring->page->count = 1;
    OPENSSL_cleanse(&ring->page->keys[1], sizeof ring->page->keys[1]);
    end_change(ring);
}

bool keyring_has_older(const struct keyring *ring)
{
    return ring->page->count > 1;
}

struct keyring_progress *keyring_progress(struct keyring *ring)
{
    return &ring->page->progress;
}

void keyring_offer(struct keyring *ring, const uint8_t key[SEAL_KEY_BYTES])
{
    memcpy(ring->page->offered, key, SEAL_KEY_BYTES);
    atomic_store(&ring->page->is_offered, true);
}

bool keyring_take_offer(struct keyring *ring, uint8_t key[SEAL_KEY_BYTES])
{
    if (!atomic_exchange(&ring->page->is_offered, false))
        return false;
    memcpy(key, ring->page->offered, SEAL_KEY_BYTES);
    OPENSSL_cleanse(ring->page->offered, SEAL_KEY_BYTES);
    return true;
}

void keyring_current_id(const struct keyring *ring, uint8_t id[SEAL_ID_BYTES])
{
    struct seal_master keys[2];
    copy_keys(ring, keys);
    memcpy(id, keys[0].key_id, SEAL_ID_BYTES);
    OPENSSL_cleanse(keys, sizeof keys);
}

#define ASSOCIATED_BYTES_MAX (AT_NONCE + NAME_BYTES_MAX)

/* Both directions of the wrapping; `associated` is where the header and the name are put together. */
static int describe(const uint8_t *wrapped, const char *name, uint8_t associated[ASSOCIATED_BYTES_MAX],
    struct sealed_piece *piece, struct error *err)
{
    size_t name_len = strnlen(name, NAME_BYTES_MAX + 1);
    if (name_len == 0 || name_len > NAME_BYTES_MAX)
        return error_set(err, ERROR_INVALID, "a key's name has 1 to %d characters", NAME_BYTES_MAX);
    memcpy(associated, wrapped, AT_NONCE);
    memcpy(associated + AT_NONCE, name, name_len);
    *piece = (struct sealed_piece){.nonce = wrapped + AT_NONCE, .associated = associated};
    piece->associated_len = AT_NONCE + name_len;
    piece->len = SEAL_KEY_BYTES;
    return 0;
}

static void fill_header(uint8_t *header, enum keyring_kind kind)
{
    memset(header, 0, AT_NONCE);
    memcpy(header, MAGIC, sizeof MAGIC);
    header[AT_VERSION] = KEYRING_VERSION;
    header[AT_KIND] = (uint8_t)kind;
}

static int wrap_with(const struct seal_master *master, const char *name, const uint8_t key[SEAL_KEY_BYTES],
    uint8_t out[KEYRING_FILE_BYTES], struct error *err)
{
    uint8_t associated[ASSOCIATED_BYTES_MAX];
    struct sealed_piece piece;
    memcpy(out + AT_KEY_ID, master->key_id, SEAL_ID_BYTES);
    if (random_fill(out + AT_NONCE, SEAL_NONCE_BYTES, err) < 0 ||
        describe(out, name, associated, &piece, err) < 0)
        return -1;
    piece.in = key;
    piece.out = out + AT_KEY;
    EVP_CIPHER_CTX *cipher;
    if (seal_cipher_new(&cipher, master->key, err) < 0)
        return -1;
    int result = seal_encrypt(cipher, &piece, out + AT_TAG, err);
    EVP_CIPHER_CTX_free(cipher);
    return result;
}

int keyring_wrap(struct keyring *ring, enum keyring_kind kind, const char *name,
    const uint8_t key[SEAL_KEY_BYTES], uint8_t out[KEYRING_FILE_BYTES], struct error *err)
{
    struct seal_master keys[2];
    copy_keys(ring, keys);
    fill_header(out, kind);
    int result = wrap_with(&keys[0], name, key, out, err);
    OPENSSL_cleanse(keys, sizeof keys);
    return result;
}

int keyring_wrap_older(struct keyring *ring, uint8_t out[KEYRING_FILE_BYTES], struct error *err)
{
    struct seal_master keys[2];
    int result = -1;
    if (copy_keys(ring, keys) == 2)
        result = keyring_wrap(ring, KEYRING_OLDER, KEYRING_OLDER_FILE, keys[1].key, out, err);
    else
        error_set(err, ERROR_INTERNAL, "there is no older master key");
    OPENSSL_cleanse(keys, sizeof keys);
    return result;
}

int keyring_wrap_for(struct keyring *ring, const uint8_t next[SEAL_KEY_BYTES],
    uint8_t out[KEYRING_FILE_BYTES], struct error *err)
{
    struct seal_master keys[2], wrapper;
    int result = -1;
    seal_master_init(&wrapper, next);
    copy_keys(ring, keys);
    fill_header(out, KEYRING_OLDER);
    if (CRYPTO_memcmp(keys[0].key, next, SEAL_KEY_BYTES) == 0)
        error_set(err, ERROR_INVALID, "the new master key is the one in use");
    else
        result = wrap_with(&wrapper, KEYRING_OLDER_FILE, keys[0].key, out, err);
    OPENSSL_cleanse(keys, sizeof keys);
    OPENSSL_cleanse(&wrapper, sizeof wrapper);
    return result;
}

static int check_header(const uint8_t *wrapped, size_t len, enum keyring_kind kind, struct error *err)
{
    uint8_t expected[AT_NONCE];
    fill_header(expected, kind);
    if (len < AT_KIND || memcmp(wrapped, expected, AT_VERSION) != 0)
        return error_set(err, ERROR_CORRUPT, "it is not a wrapped key");
    unsigned version = wrapped[AT_VERSION] | wrapped[AT_VERSION + 1] << 8;
    if (version != KEYRING_VERSION)
        return error_set(err, ERROR_UNSUPPORTED, "it is of format version %u, and this program knows only %d",
            version, KEYRING_VERSION);
    if (len != KEYRING_FILE_BYTES)
        return error_set(err, ERROR_CORRUPT, "it is %zu bytes long, not %d", len, KEYRING_FILE_BYTES);
    if (memcmp(wrapped, expected, AT_ZERO) != 0)
        return error_set(err, ERROR_CORRUPT, "it is a key of another kind");
    if (memcmp(wrapped, expected, AT_KEY_ID) != 0)
        return error_set(err, ERROR_CORRUPT, "it is not what was written");
    return 0;
}

static size_t find_key(const struct seal_master *keys, size_t count, const uint8_t *wrapped)
{
    size_t i = 0;
    while (i < count && memcmp(keys[i].key_id, wrapped + AT_KEY_ID, SEAL_ID_BYTES) != 0)
        i++;
    return i;
}

bool keyring_is_foreign(const struct keyring *ring, const uint8_t *wrapped, size_t len)
{
    struct seal_master keys[2];
    size_t count = copy_keys(ring, keys);
    bool foreign = len == KEYRING_FILE_BYTES && memcmp(wrapped, MAGIC, sizeof MAGIC) == 0 &&
                   find_key(keys, count, wrapped) == count;
    OPENSSL_cleanse(keys, sizeof keys);
    return foreign;
}

static int unwrap_with(const struct seal_master *master, const char *name, const uint8_t *wrapped,
    uint8_t key[SEAL_KEY_BYTES], struct error *err)
{
    uint8_t associated[ASSOCIATED_BYTES_MAX];
    struct sealed_piece piece;
    EVP_CIPHER_CTX *cipher;
    if (describe(wrapped, name, associated, &piece, err) < 0 ||
        seal_cipher_new(&cipher, master->key, err) < 0)
        return -1;
    piece.in = wrapped + AT_KEY;
    piece.out = key;
    bool verified = seal_decrypt(cipher, &piece, wrapped + AT_TAG);
    EVP_CIPHER_CTX_free(cipher);
    if (verified)
        return 0;
    OPENSSL_cleanse(key, SEAL_KEY_BYTES);
    return error_set(err, ERROR_CORRUPT, "it is not what was written, or not the key of %s", name);
}

int keyring_unwrap(const struct keyring *ring, enum keyring_kind kind, const char *name,
    const uint8_t *wrapped, size_t len, uint8_t key[SEAL_KEY_BYTES], bool *with_older, struct error *err)
{
    memset(key, 0, SEAL_KEY_BYTES);
    if (check_header(wrapped, len, kind, err) < 0)
        return -1;
    struct seal_master keys[2];
    size_t count = copy_keys(ring, keys), i = find_key(keys, count, wrapped);
    int result = i < count ? unwrap_with(&keys[i], name, wrapped, key, err)
                           : error_set(err, ERROR_CORRUPT, "it was wrapped by another master key than ours");
    OPENSSL_cleanse(keys, sizeof keys);
    if (with_older != NULL)
        *with_older = i == 1;
    return result;
}
