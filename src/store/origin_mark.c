#include "store/origin_mark.h"

#include <openssl/evp.h>
#include <string.h>
#include <sys/xattr.h>

#define ATTRIBUTE "user.thaw.origin"
#define MARK_BYTES (ORIGIN_MARK_ID_BYTES + 8)

void origin_mark_id(uint8_t id[ORIGIN_MARK_ID_BYTES], const char *address)
{
    uint8_t digest[EVP_MAX_MD_SIZE] = {0};
    (void)!EVP_Digest(address, strlen(address), digest, NULL, EVP_sha256(), NULL);
    memcpy(id, digest, ORIGIN_MARK_ID_BYTES);
}

void origin_mark_set(int fd, const struct origin_mark *mark)
{
    CLEANUP_BUFFER struct buffer value = {0};
    buffer_append(&value, mark->origin_id, sizeof mark->origin_id);
    buffer_append_u64(&value, mark->at_s);
    (void)!fsetxattr(fd, ATTRIBUTE, value.data, value.len, 0);
}

uint64_t origin_mark_get(int fd, const uint8_t id[ORIGIN_MARK_ID_BYTES])
{
    uint8_t value[MARK_BYTES];
    if (fgetxattr(fd, ATTRIBUTE, value, sizeof value) != sizeof value)
        return 0;
    struct cursor c = cursor_over(value, sizeof value);
    struct bytes of = cursor_bytes(&c, ORIGIN_MARK_ID_BYTES);
    return memcmp(of.data, id, ORIGIN_MARK_ID_BYTES) == 0 ? cursor_u64(&c) : 0;
}
