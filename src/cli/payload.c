#include "cli/payload.h"

#include "base/fd.h"
#include "base/limits.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

int payload_read(struct buffer *out, const char *text, struct error *err)
{
    if (!text)
        text = "{}";
    if (strcmp(text, "@-") == 0) {
        if (fd_read_all(STDIN_FILENO, out, LIMIT_PAYLOAD_BYTES, err) < 0)
            return error_prefix(err, "the payload");
    } else if (text[0] == '@') {
        if (file_read(AT_FDCWD, text + 1, out, LIMIT_PAYLOAD_BYTES, err) < 0)
            return error_prefix(err, "the payload");
    } else {
        buffer_append(out, text, strlen(text));
    }
    /* Said here, before anything is sent, with the place of the mistake. */
    json_error_t where;
    json_t *json = json_loadb((const char *)out->data, out->len, JSON_DECODE_ANY, &where);
    if (!json)
        return error_set(err, ERROR_INVALID, "the payload is not JSON: %s (line %d, column %d)", where.text,
            where.line, where.column);
    json_decref(json);
    return 0;
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buffer *out, struct bytes data)
{
    buffer_append_zeros(out, (data.len + 2) / 3 * 4);
    uint8_t *to = out->data + out->len - (data.len + 2) / 3 * 4;
    for (size_t i = 0; i < data.len; i += 3) {
        uint32_t bits = (uint32_t)data.data[i] << 16;
        bits |= i + 1 < data.len ? (uint32_t)data.data[i + 1] << 8 : 0;
        bits |= i + 2 < data.len ? data.data[i + 2] : 0;
        *to++ = (uint8_t)digits[bits >> 18];
        *to++ = (uint8_t)digits[bits >> 12 & 63];
        *to++ = (uint8_t)(i + 1 < data.len ? digits[bits >> 6 & 63] : '=');
        *to++ = (uint8_t)(i + 2 < data.len ? digits[bits & 63] : '=');
    }
}

void base64_decode(struct buffer *out, const char *text)
{
    uint32_t bits = 0;
    int count = 0;
    for (; *text; text++) {
        const char *digit = strchr(digits, *text);
        if (!digit)
            return;
        bits = bits << 6 | (uint32_t)(digit - digits);
        count += 6;
        if (count >= 8) {
            count -= 8;
            buffer_append_u8(out, (uint8_t)(bits >> count));
        }
    }
}
