/* fuzz: src/base src/daemon/wire.c
 * The messages between front and warden. What decodes must encode to something that decodes to the same. */
#include "base/bytes.h"
#include "daemon/wire.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_message message, again;
    struct error err;
    if (wire_decode(&message, (struct bytes){data, size}, &err) < 0) {
        if (err.kind == ERROR_NONE || err.text[0] == 0)
            abort();
        return 0;
    }
    CLEANUP_BUFFER struct buffer first = {0}, second = {0};
    wire_encode(&first, &message);
    if (wire_decode(&again, (struct bytes){first.data, first.len}, &err) < 0)
        abort();
    wire_encode(&second, &again);
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    return 0;
}
