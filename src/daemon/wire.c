#include "daemon/wire.h"

#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

#define ERROR_KIND_LAST ERROR_INTERNAL
#define ERRNO_MAX 4095

/* A cursor with the first thing that is wrong. */
struct decoder {
    struct cursor c;
    struct error *err;
    bool bad;
};

static void refuse(struct decoder *d, const char *what)
{
    if (!d->bad)
        error_set(d->err, ERROR_INVALID, "a message between the roles has a bad %s", what);
    d->bad = true;
}

static void require(struct decoder *d, bool good, const char *what)
{
    if (!good)
        refuse(d, what);
}

static bool decode_bool(struct decoder *d, const char *what)
{
    uint8_t v = cursor_u8(&d->c);
    require(d, v <= 1, what);
    return v == 1;
}

static uint32_t decode_u32_within(struct decoder *d, uint32_t least, uint32_t most, const char *what)
{
    uint32_t v = cursor_u32(&d->c);
    require(d, v >= least && v <= most, what);
    return v;
}

static uint64_t decode_env_id(struct decoder *d)
{
    uint64_t id = cursor_u64(&d->c);
    require(d, id != 0, "environment id");
    return id;
}

static bool is_hex(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

/* `digits` hex digits, or nothing where that is allowed, as a string into out[digits + 1]. */
static void decode_hex(struct decoder *d, char *out, size_t digits, bool may_be_empty, const char *what)
{
    struct bytes text = cursor_blob(&d->c);
    out[0] = '\0';
    bool right_length = text.len == digits || (may_be_empty && text.len == 0);
    if (!right_length || !is_hex(text)) {
        refuse(d, what);
        return;
    }
    if (text.len > 0)
        memcpy(out, text.data, text.len);
    out[text.len] = '\0';
}

static void decode_snapshot_id(struct decoder *d, char *out)
{
    decode_hex(d, out, WIRE_ID_HEX, false, "snapshot id");
}

/* A block of NUL-terminated strings. */
static struct bytes decode_strings(struct decoder *d, size_t most, const char *what)
{
    struct bytes block = cursor_blob(&d->c);
    size_t count = 0;
    for (size_t i = 0; i < block.len; i++)
        count += block.data[i] == '\0';
    require(d, count <= most && (block.len == 0 || block.data[block.len - 1] == '\0'), what);
    return block;
}

static void encode_error(struct buffer *out, const struct error *e)
{
    buffer_append_u32(out, e->kind);
    buffer_append_u32(out, (uint32_t)e->errno_value);
    buffer_append_string(out, e->kind == ERROR_NONE ? "" : e->text);
}

static void decode_error(struct decoder *d, struct error *e)
{
    e->kind = (enum error_kind)decode_u32_within(d, ERROR_NONE, ERROR_KIND_LAST, "error kind");
    e->errno_value = (int)decode_u32_within(d, 0, ERRNO_MAX, "error number");
    struct bytes text = cursor_blob(&d->c);
    if (text.len >= sizeof e->text || (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)) {
        refuse(d, "error text");
        return;
    }
    if (text.len > 0)
        memcpy(e->text, text.data, text.len);
}

static void encode_env_start(struct buffer *out, const struct wire_env_start *m)
{
    buffer_append_u64(out, m->env_id);
    buffer_append_u32(out, m->mode);
    buffer_append_u32(out, m->memory_mb);
    buffer_append_u32(out, m->tmp_mb);
    buffer_append_u8(out, m->fixed_layout);
    buffer_append_string(out, m->code_id);
    buffer_append_string(out, m->snapshot_id);
    buffer_append_blob(out, m->argv.data, (uint32_t)m->argv.len);
    buffer_append_blob(out, m->env.data, (uint32_t)m->env.len);
}

static void decode_env_start(struct decoder *d, struct wire_env_start *m)
{
    m->env_id = decode_env_id(d);
    m->mode = (enum wire_start_mode)decode_u32_within(d, WIRE_COLD, WIRE_THAW, "start mode");
    m->memory_mb = decode_u32_within(d, LIMIT_MEMORY_MB_MIN, LIMIT_MEMORY_MB_MAX, "memory size");
    m->tmp_mb = decode_u32_within(d, LIMIT_TMP_MB_MIN, LIMIT_TMP_MB_MAX, "/tmp size");
    m->fixed_layout = decode_bool(d, "fixed layout");
    decode_hex(d, m->code_id, WIRE_CODE_HEX, false, "code id");
    decode_hex(d, m->snapshot_id, WIRE_ID_HEX, m->mode == WIRE_COLD, "snapshot id");
    m->argv = decode_strings(d, WIRE_ARGV_MAX, "argument list");
    m->env = decode_strings(d, WIRE_ENV_MAX, "environment");
    if (m->mode == WIRE_COLD)
        require(d, m->argv.len > 1 && m->argv.data[0] == '/', "path of the program");
}

static void encode_env_started(struct buffer *out, const struct wire_env_started *m)
{
    buffer_append_u64(out, m->env_id);
    buffer_append_u64(out, m->shared_memory_bytes);
    buffer_append_u8(out, m->tell_served);
    for (size_t i = 0; i < WIRE_STAMP_COUNT; i++)
        buffer_append_u64(out, m->stamp_ns[i]);
    encode_error(out, &m->error);
}

static void decode_env_started(struct decoder *d, struct wire_env_started *m)
{
    m->env_id = decode_env_id(d);
    m->shared_memory_bytes = cursor_u64(&d->c);
    m->tell_served = decode_bool(d, "tell_served");
    for (size_t i = 0; i < WIRE_STAMP_COUNT; i++)
        m->stamp_ns[i] = cursor_u64(&d->c);
    decode_error(d, &m->error);
}

bool wire_domain_is_valid(struct bytes name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
    if (name.len == 0 || name.len > WIRE_DOMAIN_MAX || name.data[0] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] == '\0' || strchr(allowed, name.data[i]) == NULL)
            return false;
    return true;
}

static void decode_domain(struct decoder *d, char out[WIRE_DOMAIN_MAX + 1])
{
    struct bytes name = cursor_blob(&d->c);
    out[0] = '\0';
    if (!wire_domain_is_valid(name)) {
        refuse(d, "trust domain");
        return;
    }
    memcpy(out, name.data, name.len);
    out[name.len] = '\0';
}

static void encode_env_freeze(struct buffer *out, const struct wire_env_freeze *m)
{
    buffer_append_u64(out, m->env_id);
    buffer_append_string(out, m->snapshot_id);
    buffer_append_string(out, m->domain);
    buffer_append_u32(out, m->replay_count);
    for (uint32_t i = 0; i < m->replay_count; i++) {
        buffer_append_u16(out, m->replays[i].port);
        buffer_append_blob(out, m->replays[i].request.data, (uint32_t)m->replays[i].request.len);
    }
}

static void decode_env_freeze(struct decoder *d, struct wire_env_freeze *m)
{
    m->env_id = decode_env_id(d);
    decode_snapshot_id(d, m->snapshot_id);
    decode_domain(d, m->domain);
    uint32_t count = decode_u32_within(d, 0, WIRE_REPLAY_MAX, "count of requests");
    if (d->bad)
        return;
    m->replay_count = count;
    for (uint32_t i = 0; i < count; i++) {
        m->replays[i].port = cursor_u16(&d->c);
        m->replays[i].request = cursor_blob(&d->c);
        require(d, m->replays[i].port != 0, "port");
        require(d, m->replays[i].request.len <= WIRE_REPLAY_BYTES, "length of a request");
    }
}

static void encode_env_frozen(struct buffer *out, const struct wire_env_frozen *m)
{
    buffer_append_u64(out, m->env_id);
    buffer_append_string(out, m->snapshot_id);
    buffer_append_u64(out, m->memory_bytes);
    buffer_append_u64(out, m->stored_bytes);
    buffer_append_blob(out, m->files.data, (uint32_t)m->files.len);
    encode_error(out, &m->error);
}

static void decode_env_frozen(struct decoder *d, struct wire_env_frozen *m)
{
    m->env_id = decode_env_id(d);
    decode_snapshot_id(d, m->snapshot_id);
    m->memory_bytes = cursor_u64(&d->c);
    m->stored_bytes = cursor_u64(&d->c);
    m->files = cursor_blob(&d->c);
    require(d, m->files.len <= WIRE_FILES_BYTES, "length of the list of files");
    decode_error(d, &m->error);
}

static void encode_env_exited(struct buffer *out, const struct wire_env_exited *m)
{
    buffer_append_u64(out, m->env_id);
    buffer_append_u32(out, (uint32_t)m->wait_status);
    buffer_append_u8(out, m->out_of_memory);
    buffer_append_u8(out, m->pages_lost);
    encode_error(out, &m->error);
}

static void decode_env_exited(struct decoder *d, struct wire_env_exited *m)
{
    m->env_id = decode_env_id(d);
    m->wait_status = (int32_t)decode_u32_within(d, 0, 0xffff, "wait status");
    m->out_of_memory = decode_bool(d, "out-of-memory flag");
    m->pages_lost = decode_bool(d, "flag of lost pages");
    decode_error(d, &m->error);
    require(d, m->pages_lost == (m->error.kind != ERROR_NONE), "reason of an end");
}

static void encode_snapshot_inspect(struct buffer *out, const struct wire_snapshot_inspect *m)
{
    buffer_append_u64(out, m->request_id);
    buffer_append_string(out, m->snapshot_id);
    buffer_append_u8(out, m->plan);
    buffer_append_u8(out, m->json);
}

static void decode_snapshot_inspect(struct decoder *d, struct wire_snapshot_inspect *m)
{
    m->request_id = cursor_u64(&d->c);
    decode_snapshot_id(d, m->snapshot_id);
    m->plan = decode_bool(d, "plan flag");
    m->json = decode_bool(d, "JSON flag");
}

static void encode_snapshot_inspected(struct buffer *out, const struct wire_snapshot_inspected *m)
{
    buffer_append_u64(out, m->request_id);
    encode_error(out, &m->error);
}

static void decode_snapshot_inspected(struct decoder *d, struct wire_snapshot_inspected *m)
{
    m->request_id = cursor_u64(&d->c);
    decode_error(d, &m->error);
}

static void encode_status_told(struct buffer *out, const struct wire_status_told *m)
{
    buffer_append_u64(out, m->request_id);
    buffer_append_u32(out, m->templates);
    buffer_append_u64(out, m->bytes);
    buffer_append_u64(out, m->budget_bytes);
    buffer_append_u64(out, m->hits);
    buffer_append_u64(out, m->misses);
    buffer_append_u64(out, m->builds);
    buffer_append_u64(out, m->evictions);
}

static void decode_status_told(struct decoder *d, struct wire_status_told *m)
{
    m->request_id = cursor_u64(&d->c);
    m->templates = cursor_u32(&d->c);
    m->bytes = cursor_u64(&d->c);
    m->budget_bytes = cursor_u64(&d->c);
    m->hits = cursor_u64(&d->c);
    m->misses = cursor_u64(&d->c);
    m->builds = cursor_u64(&d->c);
    m->evictions = cursor_u64(&d->c);
}

static void encode_store_run(struct buffer *out, const struct wire_store_run *m)
{
    buffer_append_u64(out, m->request_id);
    buffer_append_u32(out, m->verb);
    buffer_append_u8(out, m->repair);
}

static void decode_store_run(struct decoder *d, struct wire_store_run *m)
{
    m->request_id = cursor_u64(&d->c);
    m->verb =
        (enum wire_store_verb)decode_u32_within(d, WIRE_STORE_STATS, WIRE_STORE_ROTATE, "verb of the store");
    m->repair = decode_bool(d, "repair flag");
}

static void encode_store_running(struct buffer *out, const struct wire_store_running *m)
{
    buffer_append_u64(out, m->request_id);
    encode_error(out, &m->error);
}

static void decode_store_running(struct decoder *d, struct wire_store_running *m)
{
    m->request_id = cursor_u64(&d->c);
    decode_error(d, &m->error);
}

static void encode_body(struct buffer *out, const struct wire_message *m)
{
    switch (m->type) {
    case WIRE_ENV_START:
        return encode_env_start(out, &m->env_start);
    case WIRE_ENV_STARTED:
        return encode_env_started(out, &m->env_started);
    case WIRE_ENV_FREEZE:
        return encode_env_freeze(out, &m->env_freeze);
    case WIRE_ENV_FROZEN:
        return encode_env_frozen(out, &m->env_frozen);
    case WIRE_ENV_KILL:
    case WIRE_ENV_SERVED:
        return buffer_append_u64(out, m->env_id);
    case WIRE_ENV_EXITED:
        return encode_env_exited(out, &m->env_exited);
    case WIRE_TEMPLATE_DROP:
    case WIRE_TEMPLATE_DROPPED:
    case WIRE_SNAPSHOT_DELETE:
    case WIRE_SNAPSHOT_KEEP:
        return buffer_append_string(out, m->snapshot_id);
    case WIRE_SNAPSHOT_INSPECT:
        return encode_snapshot_inspect(out, &m->snapshot_inspect);
    case WIRE_SNAPSHOT_INSPECTED:
        return encode_snapshot_inspected(out, &m->snapshot_inspected);
    case WIRE_STATUS:
        return buffer_append_u64(out, m->request_id);
    case WIRE_STATUS_TOLD:
        return encode_status_told(out, &m->status_told);
    case WIRE_STORE_RUN:
        return encode_store_run(out, &m->store_run);
    case WIRE_STORE_RUNNING:
        return encode_store_running(out, &m->store_running);
    case WIRE_FRONT_READY:
        return;
    case WIRE_TYPE_COUNT:
        break;
    }
    abort();
}

static void decode_body(struct decoder *d, struct wire_message *m)
{
    switch (m->type) {
    case WIRE_ENV_START:
        return decode_env_start(d, &m->env_start);
    case WIRE_ENV_STARTED:
        return decode_env_started(d, &m->env_started);
    case WIRE_ENV_FREEZE:
        return decode_env_freeze(d, &m->env_freeze);
    case WIRE_ENV_FROZEN:
        return decode_env_frozen(d, &m->env_frozen);
    case WIRE_ENV_KILL:
    case WIRE_ENV_SERVED:
        m->env_id = decode_env_id(d);
        return;
    case WIRE_ENV_EXITED:
        return decode_env_exited(d, &m->env_exited);
    case WIRE_TEMPLATE_DROP:
    case WIRE_TEMPLATE_DROPPED:
    case WIRE_SNAPSHOT_DELETE:
    case WIRE_SNAPSHOT_KEEP:
        return decode_snapshot_id(d, m->snapshot_id);
    case WIRE_SNAPSHOT_INSPECT:
        return decode_snapshot_inspect(d, &m->snapshot_inspect);
    case WIRE_SNAPSHOT_INSPECTED:
        return decode_snapshot_inspected(d, &m->snapshot_inspected);
    case WIRE_STATUS:
        m->request_id = cursor_u64(&d->c);
        return;
    case WIRE_STATUS_TOLD:
        return decode_status_told(d, &m->status_told);
    case WIRE_STORE_RUN:
        return decode_store_run(d, &m->store_run);
    case WIRE_STORE_RUNNING:
        return decode_store_running(d, &m->store_running);
    case WIRE_FRONT_READY:
        return;
    case WIRE_TYPE_COUNT:
        break;
    }
    refuse(d, "type");
}

void wire_encode(struct buffer *out, const struct wire_message *message)
{
    size_t before = out->len;
    buffer_append_u32(out, message->type);
    encode_body(out, message);
    if (out->len - before > WIRE_MESSAGE_BYTES)
        abort();
}

int wire_decode(struct wire_message *message, struct bytes packet, struct error *err)
{
    struct decoder d = {.c = cursor_over(packet.data, packet.len), .err = err};
    memset(message, 0, sizeof *message);
    uint32_t type = cursor_u32(&d.c);
    if (type == 0 || type >= WIRE_TYPE_COUNT)
        return error_set(err, ERROR_INVALID, "a message between the roles has the unknown type %u", type);
    message->type = (enum wire_type)type;
    decode_body(&d, message);
    if (d.bad)
        return -1;
    if (!cursor_done(&d.c))
        return error_set(err, ERROR_INVALID, "a message of type %u between the roles is too %s", type,
            cursor_ok(&d.c) ? "long" : "short");
    return 0;
}
