/* What the versions of one function have in common when they are initialised to be frozen (--address-layout fixed):
 * the places in memory, which the warden sees to, and the hash seed of Python's, which is chosen here. Without both
 * hardly a page of a republished version is as it was in the one before. Runs in the front. */
#include "base/fd.h"
#include "daemon/front_private.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define SECRET_PATH \
    "catalog/hash-secret" /* in the data folder; 32 random bytes, made when it is first wanted */

static int make_secret(struct front *front, struct error *err)
{
    uint8_t *secret = front->hash_secret;
    if (getrandom(secret, sizeof front->hash_secret, 0) != (ssize_t)sizeof front->hash_secret)
        return error_system(err, "cannot get random bytes");
    return file_write_atomic(
        front->options->data_fd, SECRET_PATH, secret, sizeof front->hash_secret, 0600, err);
}

int front_layout_open(struct front *front, struct error *err)
{
    if (!front->options->fixed_layout)
        return 0;
    CLEANUP_FD int fd = openat(front->options->data_fd, SECRET_PATH, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return make_secret(front, err);
    if (fd < 0)
        return error_system(err, "cannot open " SECRET_PATH);
    if (fd_read_full(fd, front->hash_secret, sizeof front->hash_secret, err) < 0)
        return error_prefix(err, SECRET_PATH);
    return 0;
}

/* Python takes 1 to 4294967295; 0 would be the same as everywhere. */
static uint32_t hash_seed(const struct front *front, const char *function)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint32_t seed = 0;
    if (HMAC(EVP_sha256(), front->hash_secret, sizeof front->hash_secret, (const uint8_t *)function,
            strlen(function), digest, NULL) != NULL)
        memcpy(&seed, digest, sizeof seed);
    return seed != 0 ? seed : 1;
}

/* Of texts of one letter Python has one each for ever, others are made: so from version 10 on there is one object more ahead of all
 * others, which then lie elsewhere. With this one there are as many in each version, and as many letters up to version 999,
 * which lie at the top of the stack. */
static void put_spare(const char *version, struct buffer *block)
{
    size_t digits = strlen(version);
    front_spec_put_pair(block, "THAW_SPARE", digits < 3 ? &"xxx"[digits] : "");
}

void front_layout_put_variables(
    const struct front *front, const struct catalog_function *function, struct buffer *block)
{
    char text[16];
    if (strncmp(function->config.runtime, "python", 6) != 0 ||
        catalog_map_get(&function->config.environment, "PYTHONHASHSEED"))
        return;
    snprintf(text, sizeof text, "%u", hash_seed(front, function->name));
    front_spec_put_pair(block, "PYTHONHASHSEED", text);
    front_spec_put_pair(
        block, "THAW_HASH_SEED", text); /* so that the bootstrap knows it for ours, and drops it */
    put_spare(function->version, block);
}
