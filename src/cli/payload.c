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

void base64_decode(struct buffer *out, const char *text)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
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
