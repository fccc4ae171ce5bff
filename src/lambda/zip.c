/* The tables of a zip, read through the bounded cursor. libarchive unpacks; this decides whether it may:
 * (1) every name is one we would create, with no NUL hidden in it; (2) no two entries share bytes of the file
 * (the trick of the best bombs); (3) the number of entries is within the limit; (4) nothing is encrypted,
 * nor a device. */
#include "lambda/package.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define END_BYTES 22
#define END_SIGNATURE 0x06054b50u
#define END64_LOCATOR_BYTES 20
#define END64_LOCATOR_SIGNATURE 0x07064b50u
#define END64_SIGNATURE 0x06064b50u
#define ENTRY_SIGNATURE 0x02014b50u
#define LOCAL_SIGNATURE 0x04034b50u
#define LOCAL_BYTES 30
#define COMMENT_MAX 65535
#define EXTRA_ZIP64 1
#define MADE_ON_UNIX 3

/* Where the central directory is, in offsets of the buffer. */
struct directory {
    uint64_t start, size, count;
    uint64_t shift; /* bytes before the archive (a self-extracting head): stored offsets do not count them */
};

struct span {
    uint64_t start, end;
};

static enum package_verdict bad(char why[256], const char *text)
{
    snprintf(why, 256, "%s", text);
    return PACKAGE_BAD;
}

static struct cursor at(struct bytes zip, uint64_t offset)
{
    if (offset > zip.len)
        offset = zip.len;
    return cursor_over(zip.data + offset, zip.len - (size_t)offset);
}

static bool utf8_ok(const uint8_t *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t more = s[i] < 0x80 ? 0 : s[i] >= 0xc2 && s[i] < 0xe0 ? 1 : s[i] >= 0xe0 && s[i] < 0xf0 ? 2 : 3;
        if ((more == 3 && (s[i] < 0xf0 || s[i] > 0xf4)) || more > len - i - 1)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80)
                return false;
        i += more + 1;
    }
    return true;
}

bool zip_name_ok(const char *name, size_t len, char why[256])
{
    if (len == 0 || len > PACKAGE_NAME_MAX)
        return bad(why, "an entry's name is empty or too long"), false;
    if (memchr(name, '\0', len) != NULL || !utf8_ok((const uint8_t *)name, len))
        return bad(why, "an entry's name holds a NUL or is not UTF-8"), false;
    if (name[0] == '/' || memchr(name, '\\', len) != NULL)
        return bad(why, "an entry's name is absolute or holds a backslash"), false;
    size_t depth = 0;
    for (const char *part = name, *end = name + len; part < end;) {
        const char *slash = memchr(part, '/', (size_t)(end - part));
        size_t part_len = (size_t)((slash != NULL ? slash : end) - part);
        if (part_len == 2 && memcmp(part, "..", 2) == 0)
            return bad(why, "an entry's name leaves the package with \"..\""), false;
        if (part_len > 255 || ++depth > PACKAGE_DEPTH_MAX)
            return bad(why, "an entry's name is too long or too deep"), false;
        part += part_len + 1;
    }
    return true;
}

/* The end record: the last place within reach of a longest comment where its signature and length fit. */
static bool find_end(struct bytes zip, uint64_t *end)
{
    if (zip.len < END_BYTES)
        return false;
    uint64_t last = zip.len - END_BYTES;
    uint64_t first = last > COMMENT_MAX ? last - COMMENT_MAX : 0;
    for (uint64_t i = last + 1; i-- > first;) {
        struct cursor c = at(zip, i);
        if (cursor_u32(&c) != END_SIGNATURE)
            continue;
        c = at(zip, i + END_BYTES - 2);
        if (i + END_BYTES + cursor_u16(&c) == zip.len) {
            *end = i;
            return true;
        }
    }
    return false;
}

static bool read_end64(struct bytes zip, uint64_t end, struct directory *directory)
{
    if (end < END64_LOCATOR_BYTES)
        return false;
    struct cursor c = at(zip, end - END64_LOCATOR_BYTES);
    if (cursor_u32(&c) != END64_LOCATOR_SIGNATURE)
        return false;
    cursor_u32(&c);
    uint64_t where = cursor_u64(&c);
    c = at(zip, where);
    if (cursor_u32(&c) != END64_SIGNATURE)
        return false;
    cursor_bytes(&c, 8 + 2 + 2 + 4 + 4 + 8); /* size, versions, disks, entries on this disk */
    directory->count = cursor_u64(&c);
    directory->size = cursor_u64(&c);
    directory->start = cursor_u64(&c);
    directory->shift = 0;
    return cursor_ok(&c) && directory->start <= where && directory->size <= where - directory->start;
}

static bool read_end(struct bytes zip, struct directory *directory)
{
    uint64_t end;
    if (!find_end(zip, &end))
        return false;
    struct cursor c = at(zip, end + 4);
    uint16_t disk = cursor_u16(&c), directory_disk = cursor_u16(&c);
    uint16_t here = cursor_u16(&c), count = cursor_u16(&c);
    uint32_t size = cursor_u32(&c), start = cursor_u32(&c);
    if (count == 0xffff || size == 0xffffffff || start == 0xffffffff)
        return read_end64(zip, end, directory);
    if (disk != 0 || directory_disk != 0 || here != count || (uint64_t)start + size > end)
        return false;
    uint64_t shift = end - size - start;
    *directory = (struct directory){start + shift, size, count, shift};
    return true;
}

/* Sizes and offsets that do not fit 32 bits are in an extra field, in this order, only where needed. */
static bool read_zip64_extra(struct bytes extra, uint32_t plain, uint64_t *packed, uint64_t *offset)
{
    bool wanted = *packed == 0xffffffff || *offset == 0xffffffff;
    struct cursor c = cursor_over(extra.data, extra.len);
    while (wanted && cursor_ok(&c) && c.left >= 4) {
        uint16_t tag = cursor_u16(&c);
        struct bytes field = cursor_bytes(&c, cursor_u16(&c));
        if (tag != EXTRA_ZIP64 || !cursor_ok(&c))
            continue;
        struct cursor f = cursor_over(field.data, field.len);
        if (plain == 0xffffffff)
            cursor_u64(&f);
        if (*packed == 0xffffffff)
            *packed = cursor_u64(&f);
        if (*offset == 0xffffffff)
            *offset = cursor_u64(&f);
        return cursor_ok(&f);
    }
    return !wanted;
}

static enum package_verdict read_entry(
    struct bytes zip, const struct directory *directory, struct cursor *c, struct span *span, char why[256])
{
    static const char damaged[] = "its directory is damaged";
    if (cursor_u32(c) != ENTRY_SIGNATURE)
        return bad(why, damaged);
    uint16_t made_by = cursor_u16(c);
    cursor_u16(c); /* version needed */
    uint16_t flags = cursor_u16(c);
    cursor_bytes(c, 2 + 4 + 4); /* method, time, CRC */
    uint64_t packed = cursor_u32(c);
    uint32_t plain = cursor_u32(c);
    uint16_t name_len = cursor_u16(c), extra_len = cursor_u16(c), comment_len = cursor_u16(c);
    cursor_bytes(c, 2 + 2); /* disk, internal attributes */
    uint32_t attributes = cursor_u32(c);
    uint64_t offset = cursor_u32(c);
    struct bytes name = cursor_bytes(c, name_len);
    struct bytes extra = cursor_bytes(c, extra_len);
    cursor_bytes(c, comment_len);
    if (!cursor_ok(c) || !read_zip64_extra(extra, plain, &packed, &offset))
        return bad(why, damaged);
    if (!zip_name_ok((const char *)name.data, name.len, why))
        return PACKAGE_BAD;
    if ((flags & 1) != 0)
        return bad(why, "it is encrypted");
    mode_t type = made_by >> 8 == MADE_ON_UNIX ? attributes >> 16 & S_IFMT : 0;
    if (type != 0 && type != S_IFREG && type != S_IFDIR && type != S_IFLNK)
        return bad(why, "it holds a device, pipe or socket");
    if (offset > zip.len || packed > zip.len)
        return bad(why, damaged);
    struct cursor local = at(zip, offset + directory->shift);
    if (cursor_u32(&local) != LOCAL_SIGNATURE)
        return bad(why, damaged);
    cursor_bytes(&local, LOCAL_BYTES - 4 - 4);
    uint16_t local_name = cursor_u16(&local), local_extra = cursor_u16(&local);
    span->start = offset + directory->shift;
    span->end = span->start + LOCAL_BYTES + local_name + local_extra + packed;
    if (!cursor_ok(&local) || span->end > directory->start)
        return bad(why, damaged);
    return PACKAGE_OK;
}

static int compare_spans(const void *a, const void *b)
{
    uint64_t x = ((const struct span *)a)->start, y = ((const struct span *)b)->start;
    return x < y ? -1 : x > y;
}

enum package_verdict zip_check(struct bytes zip, char why[256])
{
    struct directory directory = {0};
    why[0] = '\0';
    if (!read_end(zip, &directory))
        return PACKAGE_BAD; /* not a zip at all: Lambda's sentence says it */
    if (directory.count == 0)
        return PACKAGE_EMPTY;
    if (directory.count > PACKAGE_ENTRIES_MAX)
        return bad(why, "it holds more than 65535 entries");
    CLEANUP_FREE struct span *spans = xcalloc(directory.count, sizeof *spans);
    struct cursor c = at(zip, directory.start);
    c.left = c.left < directory.size ? c.left : (size_t)directory.size;
    for (uint64_t i = 0; i < directory.count; i++) {
        enum package_verdict verdict = read_entry(zip, &directory, &c, &spans[i], why);
        if (verdict != PACKAGE_OK)
            return verdict;
    }
    qsort(spans, directory.count, sizeof *spans, compare_spans);
    for (uint64_t i = 1; i < directory.count; i++)
        if (spans[i].start < spans[i - 1].end)
            return bad(why, "two of its entries overlap");
    return PACKAGE_OK;
}
