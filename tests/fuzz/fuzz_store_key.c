/* fuzz: src/base src/store -lcrypto -lzstd -llz4
 * A snapshot's key and a domain's salt as they lie in the folder, and a master key as a command prints it. The first byte
 * chooses: a text, a file as it is, or a good file with the bytes that are not zero changed. */
#include "store/keyring.h"
#include "store/master.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char ID[] = "00112233445566778899aabbccddeeff";
static const uint8_t MASTER[SEAL_KEY_BYTES] = "a master key of 32 bytes, all so",
                     KEY[SEAL_KEY_BYTES] = "what is wrapped";

static bool unwraps(
    struct keyring *ring, enum keyring_kind kind, const char *name, const uint8_t *file, size_t len)
{
    uint8_t key[SEAL_KEY_BYTES];
    struct error err = {0};
    if (keyring_unwrap(ring, kind, name, file, len, key, NULL, &err) == 0)
        return memcmp(key, KEY, sizeof key) == 0 ? true : (abort(), false);
    if ((err.kind != ERROR_CORRUPT && err.kind != ERROR_UNSUPPORTED) || err.text[0] == '\0')
        abort();
    for (size_t i = 0; i < sizeof key; i++)
        if (key[i] != 0)
            abort();
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct keyring *ring;
    static uint8_t good[KEYRING_FILE_BYTES];
    struct error err;
    if (ring == NULL) {
        ring = keyring_new(0, MASTER, NULL, &err);
        if (ring == NULL || keyring_wrap(ring, KEYRING_SNAPSHOT, ID, KEY, good, &err) < 0)
            abort();
    }
    if (size == 0)
        return 0;
    uint8_t key[MASTER_KEY_BYTES];
    if (data[0] == 0) {
        (void)!master_parse_key((const char *)data + 1, size - 1, key);
    } else if (data[0] == 1) {
        /* Nobody can make these without the key. */
        if (unwraps(ring, KEYRING_SNAPSHOT, ID, data + 1, size - 1) &&
            memcmp(data + 1, good, sizeof good) != 0)
            abort();
        (void)unwraps(ring, KEYRING_DOMAIN, "default", data + 1, size - 1);
    } else {
        uint8_t file[KEYRING_FILE_BYTES];
        bool changed = false;
        memcpy(file, good, sizeof file);
        for (size_t i = 0; i < sizeof file && i + 1 < size; i++) {
            file[i] ^= data[i + 1];
            changed |= data[i + 1] != 0;
        }
        if (unwraps(ring, KEYRING_SNAPSHOT, ID, file, sizeof file) == changed)
            abort();
    }
    return 0;
}
