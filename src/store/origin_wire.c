#include "store/origin_wire.h"

#include <stdlib.h>
#include <string.h>

#define ERROR_KIND_LAST ERROR_INTERNAL
#define ENTRY_BYTES_MIN (4 + 1 + 8 + 8)

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* `may_end`: with a slash, as a prefix does. */
static bool is_name(const char *name, size_t len, bool may_end)
{
    if (len == 0 || len > ORIGIN_NAME_MAX)
        return false;
    bool begins = true; /* a part */
    for (size_t i = 0; i < len; i++) {
        if (begins ? name[i] == '.' || !is_name_byte(name[i]) : name[i] != '/' && !is_name_byte(name[i]))
            return false;
        begins = name[i] == '/';
    }
    return !begins || may_end;
}

bool origin_name_is_valid(const char *name)
{
    return is_name(name, strnlen(name, ORIGIN_NAME_MAX + 1), false);
}

static int bad(struct error *err, const char *what)
{
    return error_set(err, ERROR_INVALID, "a message of the courier's socket has a bad %s", what);
}

/* A name, or with `may_be_empty` none, into out[ORIGIN_NAME_MAX + 1]. */
static bool decode_name(struct cursor *c, char *out, bool may_end, bool may_be_empty)
{
    struct bytes text = cursor_blob(c);
    out[0] = '\0';
    if (!cursor_ok(c))
        return false;
    if (text.len == 0)
        return may_be_empty;
    if (!is_name((const char *)text.data, text.len, may_end))
        return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

void origin_wire_encode_request(struct buffer *out, const struct origin_wire_request *r)
{
    buffer_append_u64(out, r->id);
    buffer_append_u8(out, (uint8_t)r->verb);
    buffer_append_u8(out, (uint8_t)r->flags);
    buffer_append_u64(out, r->bytes_max);
    buffer_append_u64(out, r->before_ns);
    buffer_append_string(out, r->name);
    buffer_append_string(out, r->after);
}

int origin_wire_decode_request(struct origin_wire_request *r, struct bytes packet, struct error *err)
{
    struct cursor c = cursor_over(packet.data, packet.len);
    *r = (struct origin_wire_request){.id = cursor_u64(&c), .verb = (enum origin_verb)cursor_u8(&c)};
    r->flags = cursor_u8(&c);
    r->bytes_max = cursor_u64(&c);
    r->before_ns = cursor_u64(&c);
    if (r->id == 0)
        return bad(err, "id");
    if (r->verb < ORIGIN_FETCH || r->verb > ORIGIN_LOOK)
        return bad(err, "verb");
    if (r->flags & ~(unsigned)ORIGIN_FLAGS)
        return bad(err, "flag");
    if (r->bytes_max > ORIGIN_OBJECT_BYTES_MAX)
        return bad(err, "size");
    if (!decode_name(&c, r->name, r->verb == ORIGIN_LIST, false) || !decode_name(&c, r->after, false, true))
        return bad(err, "name");
    return cursor_done(&c) ? 0 : bad(err, "length");
}

void origin_wire_encode_reply(struct buffer *out, const struct origin_wire_reply *r)
{
    buffer_append_u64(out, r->id);
    buffer_append_u32(out, r->error.kind);
    buffer_append_string(out, r->error.kind == ERROR_NONE ? "" : r->error.text);
    buffer_append_u64(out, r->bytes);
    buffer_append_u64(out, r->modified_s);
    buffer_append_u8(out, r->more);
    buffer_append_u32(out, (uint32_t)r->entry_count);
    for (size_t i = 0; i < r->entry_count; i++) {
        buffer_append_string(out, r->entries[i].name);
        buffer_append_u64(out, r->entries[i].bytes);
        buffer_append_u64(out, r->entries[i].modified_s);
    }
}

static bool decode_error(struct cursor *c, struct error *e)
{
    uint32_t kind = cursor_u32(c);
    struct bytes text = cursor_blob(c);
    if (!cursor_ok(c) || kind > ERROR_KIND_LAST || text.len >= sizeof e->text)
        return false;
    if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)
        return false;
    e->kind = (enum error_kind)kind;
    if (text.len > 0)
        memcpy(e->text, text.data, text.len);
    e->text[text.len] = '\0';
    return true;
}

static int decode_entries(struct cursor *c, struct origin_wire_reply *r, struct error *err)
{
    uint32_t count = cursor_u32(c);
    if (count > ORIGIN_LIST_MAX || count > c->left / ENTRY_BYTES_MIN)
        return bad(err, "count of entries");
    if (count == 0)
        return 0;
    CLEANUP_FREE struct origin_entry *entries = xcalloc(count, sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        if (!decode_name(c, entries[i].name, false, false))
            return bad(err, "name");
        entries[i].bytes = cursor_u64(c);
        entries[i].modified_s = cursor_u64(c);
    }
    if (!cursor_done(c))
        return bad(err, "length");
    r->entries = steal_pointer(entries);
    r->entry_count = count;
    return 0;
}

int origin_wire_decode_reply(struct origin_wire_reply *r, struct bytes packet, struct error *err)
{
    struct cursor c = cursor_over(packet.data, packet.len);
    *r = (struct origin_wire_reply){.id = cursor_u64(&c)};
    if (!decode_error(&c, &r->error))
        return bad(err, "error");
    r->bytes = cursor_u64(&c);
    r->modified_s = cursor_u64(&c);
    uint8_t more = cursor_u8(&c);
    if (more > 1)
        return bad(err, "flag");
    r->more = more == 1;
    if (decode_entries(&c, r, err) < 0)
        return -1;
    return cursor_done(&c) ? 0 : bad(err, "length");
}
